//! Any bytes as the log of the MQTT session store (n*(length u16, entry)): an entry is refused or written again as the
//! same bytes, the sum of the log survives its snapshot, and every session of it can be taken up again.
#![no_main]

use inputs::mqtt::outbox::{Gauge, Next};
use inputs::mqtt::session::Session;
use inputs::mqtt::store::{Entry, State};
use libfuzzer_sys::fuzz_target;

/// Of a session's window and of what is remembered of a client's publishes.
const WINDOW: usize = 3;

fuzz_target!(|data: &[u8]| {
    let mut state = State::default();
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let at = behind.len().min(usize::from(u16::from_le_bytes(*length)));
        let (bytes, behind) = behind.split_at(at);
        rest = behind;
        let Ok(entry) = Entry::decode(bytes) else { continue };
        let mut again = Vec::new();
        entry.encode(&mut again);
        assert_eq!(again, bytes);
        if let Entry::Released { client, pkid, position } = &entry {
            // As the journal's replay does.
            state.mark(client, *position, *pkid, 2, 1, WINDOW);
            state.mark(client, *position, *pkid, 1, 1, WINDOW);
        }
        state.apply(entry);
    }
    let mut again = State::default();
    state.snapshot().into_iter().for_each(|entry| again.apply(entry));
    assert_eq!(again.snapshot(), state.snapshot());
    let gauge = Gauge::default();
    for (client, saved) in again.sessions {
        let session = Session::restored(client, saved, WINDOW, &gauge);
        let mut state = session.state();
        state.outbox.resume();
        while let Some(next) = state.outbox.next(WINDOW, u64::MAX) {
            match next {
                Next::Release(pkid) => drop(state.outbox.completed(pkid)),
                Next::Publish(delivery) if delivery.qos == 1 => drop(state.outbox.acknowledged(delivery.pkid())),
                // Received, released at the next connection.
                Next::Publish(delivery) => drop(state.outbox.received(delivery.pkid())),
            }
        }
        drop(state);
        let _ = session.reserve();
    }
    assert_eq!(gauge.load(std::sync::atomic::Ordering::Relaxed), 0);
});
