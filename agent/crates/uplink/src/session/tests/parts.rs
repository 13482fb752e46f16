//! A large batch that goes in parts.

use super::*;

/// One large batch of the backlog.
fn large(agent: &mut Agent) -> usize {
    let series =
        agent.table.intern(SeriesDef::bare(SeriesKey::new("noise", [("device", "d")]).unwrap())).unwrap();
    agent.position += 1;
    let mut rows = Rows::default();
    let mut value = 1_u64;
    for n in 0..5_000_i64 {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rows.push_sample(series, START - 3_600_000_000_000 + n, f64::from_bits(value >> 2), 0);
    }
    rows.count(Cause::Received, 5_000);
    agent.spool.append(agent.position, &rows, false).unwrap();
    agent.spool.cut_if_due(Duration::from_secs(1000 * agent.position)).unwrap();
    agent.spool.cut().unwrap();
    agent.spool.cut_if_due(Duration::from_secs(1000 * agent.position + 500)).unwrap();
    agent.spool.usage().bytes as usize
}

fn parts(frames: &[from_agent::Frame]) -> Vec<&v1::Part> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            from_agent::Frame::Part(part) => Some(part),
            _ => None,
        })
        .collect()
}

#[test]
fn a_large_batch_goes_in_parts_and_a_fresh_one_passes_between_them() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    let (mut bytes, mut taken, mut fresh) = (Vec::new(), 0, None);
    while bytes.len() < size {
        let frames = agent.frames();
        let now = parts(&frames);
        let batches = frames.iter().filter_map(|frame| match frame {
            from_agent::Frame::Batch(batch) => Some(batch),
            _ => None,
        });
        for batch in batches {
            assert_eq!(batch.seq, 2);
            fresh = Some((bytes.len(), batch.clone()));
        }
        assert!(!now.is_empty(), "stuck at {} of {size}", bytes.len());
        assert!(now.iter().map(|part| part.data.len()).sum::<usize>() < size / 2, "not all of it at once");
        for part in now {
            assert_eq!(part.offset as usize, bytes.len());
            bytes.extend_from_slice(&part.data);
            taken += part.data.len() as u64;
        }
        if fresh.is_none() {
            agent.batch(SECOND);
        }
        agent.pass(SECOND / 10);
        agent.take(from_collector::Frame::Taken(v1::Taken { bytes: taken })).unwrap();
    }
    let old = v1::Batch::decode(bytes.as_slice()).unwrap();
    assert_eq!(old.seq, 1);
    let (at, fresh) = fresh.unwrap();
    assert!(at > 0 && at < bytes.len(), "it went at {at} of {}", bytes.len());
    assert_eq!(agent.spool.usage().batches, 2, "arrived is not stored");
    agent.take(ack(&[old, fresh])).unwrap();
    assert_eq!(agent.spool.usage().batches, 0);
}

#[test]
fn a_batch_in_parts_begins_anew_after_its_session_or_a_pause() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    assert_eq!(parts(&agent.frames())[0].offset, 0);
    agent.session.closed(agent.now, "the link broke");
    agent.open(Vec::new());
    assert_eq!(parts(&agent.frames())[0].offset, 0);
    agent.take(slow_down(1_000, "busy")).unwrap();
    agent.take(from_collector::Frame::Taken(v1::Taken { bytes: 1 << 20 })).unwrap();
    agent.pass(60 * SECOND);
    let frames = agent.frames();
    let again = parts(&frames);
    assert_eq!((again[0].offset, again[0].size as usize > size), (0, true));
}

#[test]
fn a_link_that_is_to_end_ends_the_batch_in_parts_first() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    agent.batch(3600 * SECOND);
    let mut sent: usize = parts(&agent.frames()).iter().map(|part| part.data.len()).sum();
    agent.session.finish(Finish::Settle, agent.now);
    while sent < size {
        agent.take(from_collector::Frame::Taken(v1::Taken { bytes: sent as u64 })).unwrap();
        let frames = agent.frames();
        assert!(
            !frames.iter().any(|frame| matches!(frame, from_agent::Frame::Batch(_))),
            "nothing new begins"
        );
        sent += parts(&frames).iter().map(|part| part.data.len()).sum::<usize>();
    }
    assert!(!agent.session.finished(agent.now), "its ack is waited for");
}

#[test]
fn a_collector_that_knows_no_parts_gets_the_batch_whole() {
    let mut agent = Agent::new(LanesConfig::default());
    large(&mut agent);
    agent.session.opened(agent.now);
    agent.frames();
    let older = v1::Greeting { parts: false, ..greeting(Vec::new(), START) };
    agent.take(from_collector::Frame::Greeting(older)).unwrap();
    assert_eq!(agent.batches().iter().map(|batch| batch.seq).collect::<Vec<_>>(), [1]);
}
