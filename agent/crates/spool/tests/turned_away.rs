//! What drop-newest says in the log. Alone in its program: who listens to one thread's events misses some that threads
//! without a listener meet first.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{class, config, open, rows};
use seglog::sim::SimDisk;
use spool::{Overflow, Priority, SpoolConfig};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn drop_newest_says_how_many_new_readings_it_turned_away_once_a_minute() {
    let sink = Sink::default();
    let writer = sink.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let told = || {
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        log.matches("new readings of a class that keeps its oldest were dropped").count()
    };
    let disk = SimDisk::new(1);
    let classes = vec![class("*", Priority::Normal, Overflow::DropNewest)];
    let (spool, _, table) = open(&disk, SpoolConfig { max_bytes: 20_000, classes, ..config() });
    let mut position = 0;
    let mut put = |at: Duration| {
        position += 1;
        spool.append(position, &rows(&table, position, 50), false).unwrap();
        spool.cut().unwrap();
        spool.cut_if_due(at).unwrap();
        assert!(position < 5_000);
    };
    while told() == 0 {
        put(Duration::from_secs(1));
    }
    for at in 1..50 {
        put(Duration::from_secs(at));
    }
    assert_eq!(told(), 1, "within a minute it is said once");
    for at in 62..100 {
        put(Duration::from_secs(at));
    }
    assert_eq!(told(), 2, "and in the next again");
}
