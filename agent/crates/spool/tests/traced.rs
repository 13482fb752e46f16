//! A batch belongs to the trace of the last sampled record in it, whatever happens before it is sent.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{any, class, config, open, rows};
use seglog::sim::SimDisk;
use spool::{Overflow, Priority, Spool, SpoolConfig};
use telemetry::trace::{Context, Span};
use telemetry::{Rows, SeriesTable, Traced, Tracer};

fn traced(number: u8) -> Traced {
    Traced { context: Context { trace: [number; 16], span: [number; 8] }, parent: [0; 8] }
}

fn sampled(table: &SeriesTable, position: u64, number: u8) -> Rows {
    let mut rows = rows(table, position, 3);
    rows.traces.push(traced(number));
    rows
}

fn tracer() -> Arc<Tracer> {
    Arc::new(Tracer::new(0.0, 1, || 1_000))
}

/// Sends everything; the traces of the batches.
fn sent(spool: &Spool) -> Vec<String> {
    spool.greet(&[], &[]).unwrap();
    std::iter::from_fn(|| any(spool)).map(|batch| batch.trace).collect()
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[test]
fn a_batch_names_its_spool_span_whose_parents_lead_to_the_last_sampled_record() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let tracer = tracer();
    spool.trace_with(Arc::clone(&tracer));
    spool.append(1, &sampled(&table, 1, 1), false).unwrap();
    spool.append(2, &sampled(&table, 2, 2), false).unwrap();
    spool.append(3, &rows(&table, 3, 3), false).unwrap();
    assert_eq!(tracer.counted().waiting, 0, "it is not durable yet");
    let key = spool.cut().unwrap().unwrap();
    spool.append(4, &rows(&table, 4, 3), false).unwrap();
    spool.cut().unwrap();

    let spans = tracer.take(9);
    let [other, last] = named(&spans, "fold")[..] else { panic!("{spans:?}") };
    let [batch] = named(&spans, "spool")[..] else { panic!("{spans:?}") };
    assert_eq!((last.context.trace, last.parent), ([2; 16], [2; 8]));
    assert_eq!((batch.context.trace, batch.parent), ([2; 16], last.context.span));
    // The other record's trace ends in this one.
    assert_eq!((other.context.trace, other.parent, &other.links), ([1; 16], [1; 8], &vec![batch.context]));
    assert!(
        last.links.is_empty() && spans.iter().all(|span| span.end >= span.start && span.failed.is_none())
    );
    let said = format!("{:?}", batch.attributes);
    assert!(said.contains(&key.epoch.to_string()) && said.contains("telemetryx.batch.seq"), "{said}");
    assert_eq!(sent(&spool), [batch.context.to_string(), String::new()]);
}

#[test]
fn a_crash_before_the_batch_gives_it_the_same_names_and_one_behind_it_takes_nothing() {
    let mut disk = SimDisk::new(2);
    let mut seen = Vec::new();
    for durable in [false, true, true] {
        let (spool, _, table) = open(&disk, config());
        let tracer = tracer();
        spool.trace_with(Arc::clone(&tracer));
        let position = spool.position();
        // The journal gives it again, for as long as no batch has it.
        spool.append(1, &sampled(&table, 1, 1), position == 0).unwrap();
        if durable {
            spool.cut().unwrap();
            seen.push((sent(&spool), tracer.take(9).len()));
        }
        drop(spool);
        disk.crash();
        disk = disk.clone();
    }
    let [(first, spans), (again, none)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((first.len(), first == again, *spans, *none), (1, true, 2, 0));
    assert!(first[0].starts_with(&format!("00-{}-", "01".repeat(16))), "{first:?}");
}

#[test]
fn without_a_tracer_the_trace_is_handed_on_and_a_spool_with_one_names_it_alike() {
    let of = |tracer: Option<Arc<Tracer>>| {
        let (spool, _, table) = open(&SimDisk::new(3), config());
        if let Some(tracer) = tracer {
            spool.trace_with(tracer);
        }
        spool.append(1, &sampled(&table, 1, 1), false).unwrap();
        spool.cut().unwrap();
        sent(&spool)
    };
    let bare = of(None);
    assert_eq!(bare, of(Some(tracer())));
    assert!(Context::parse(bare[0].as_bytes()).is_some());
}

#[test]
fn a_cut_of_several_batches_is_one_fold_and_each_of_them_is_traced() {
    let rule = class("d1", Priority::Low, Overflow::DropOldest);
    let (spool, _, table) = open(&SimDisk::new(4), SpoolConfig { classes: vec![rule], ..config() });
    let tracer = tracer();
    spool.trace_with(Arc::clone(&tracer));
    spool.append(1, &sampled(&table, 1, 1), false).unwrap();
    spool.cut().unwrap();
    let spans = tracer.take(9);
    let [fold] = named(&spans, "fold")[..] else { panic!("{spans:?}") };
    let batches = named(&spans, "spool");
    assert_eq!(batches.len(), 2);
    assert!(batches.iter().all(|span| span.parent == fold.context.span));
    assert_ne!(batches[0].context, batches[1].context);
    let mut traces = sent(&spool);
    traces.sort();
    let mut names: Vec<String> = batches.iter().map(|span| span.context.to_string()).collect();
    names.sort();
    assert_eq!(traces, names);
}

/// A full disk or a failed fsync: spans end when the batch is durable, however often that was tried.
#[test]
fn the_spool_span_ends_with_the_fsync_that_worked() {
    let disk = SimDisk::new(5);
    let (spool, _, table) = open(&disk, config());
    let tracer = tracer();
    spool.trace_with(Arc::clone(&tracer));
    spool.append(1, &sampled(&table, 1, 1), false).unwrap();
    disk.fail_sync_after(0);
    assert!(spool.cut().is_err());
    assert_eq!(tracer.counted().waiting, 0);
    let mut tries = 0;
    while spool.cut_if_due(Duration::from_secs(10)).is_err() {
        tries += 1;
        assert!(tries < 10);
    }
    assert_eq!(tracer.take(9).len(), 2);
    assert_eq!(sent(&spool).len(), 1);
}
