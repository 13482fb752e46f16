//! Records come back as they were, and old ones are read.

use proptest::prelude::*;

use super::*;

fn counts() -> impl Strategy<Value = Counts> {
    proptest::collection::vec((0..Cause::ALL.len(), 1u64..1 << 50), 0..4).prop_map(|list| {
        let mut counts = Counts::new();
        list.into_iter().for_each(|(cause, n)| counts.add(Cause::ALL[cause], n));
        counts
    })
}

fn key() -> impl Strategy<Value = BatchKey> {
    (any::<[u8; 16]>(), any::<u64>()).prop_map(|(epoch, seq)| BatchKey { epoch: Epoch(epoch), seq })
}

fn group() -> impl Strategy<Value = Group> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    let overflow = prop_oneof![
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
        Just(Overflow::Block),
        any::<i64>().prop_map(Overflow::Thin),
    ];
    (priority, overflow, any::<Option<[u8; 16]>>())
        .prop_map(|(priority, overflow, clock)| Group { class: Class { priority, overflow }, clock })
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(
        key in key(), counts in counts(), before in counts(), numbers in any::<[u64; 5]>(),
        times in any::<[i64; 2]>(), series in proptest::collection::btree_set(any::<u32>(), 0..20),
        bytes in any::<[u8; 16]>(), payload in proptest::collection::vec(any::<u8>(), 0..50),
        moves in proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..9),
        group in group(), samples in any::<u64>(), offered in any::<bool>(), replaced in 0usize..4,
        thinned in prop_oneof![Just(0), any::<u64>()], open in any::<Option<(u32, Option<(u64, i32)>)>>(),
        trace in any::<Option<([u8; 16], [u8; 8])>>(),
    ) {
        let open = open.map(|(readings, left)| {
            let open = OpenWindows::of(u64::from(readings));
            left.map_or(open, |(routes, left)| OpenWindows { routes, left: i64::from(left), ..open })
        });
        let trace = trace.map(|(trace, span)| Context { trace, span });
        let loss = Loss { key, t0: times[0], t1: times[1], counts: counts.clone() };
        let head = Head {
            key, part: numbers[0], parts: numbers[1], first_position: numbers[2], last_position: numbers[3],
            t0: times[0], t1: times[1], rows: numbers[4], counts: counts.clone(), before,
            checksum: bytes, series: series.into_iter().collect(),
            group, samples, offered, replaces: vec![loss.clone(); replaced], thinned, open, trace,
        };
        let standing = Standing { position: numbers[0], before: head.before.clone(), open };
        let mut out = Vec::new();
        put_batch(&mut out, &head, &bytes, &payload);
        // Only what is sampled is of a version that older ones refuse.
        prop_assert_eq!(out[1] == TRACED_VERSION, trace.is_some());
        prop_assert_eq!(Record::decode(&out).unwrap(), Record::Batch { head: head.clone(), definitions: &bytes, payload: &payload });
        out.clear();
        put_moved(&mut out, &head, &bytes, &payload);
        prop_assert_eq!(Record::decode(&out).unwrap(), Record::Moved { head, definitions: &bytes, payload: &payload });
        out.clear();
        let moves: Vec<_> = moves.into_iter().collect();
        put_relabel(&mut out, key.epoch, &moves, &standing);
        let relabel = Record::Relabel { epoch: key.epoch, moves, standing: standing.clone() };
        prop_assert_eq!(Record::decode(&out).unwrap(), relabel);
        out.clear();
        put_loss(&mut out, &loss, &standing);
        prop_assert_eq!(Record::decode(&out).unwrap(), Record::Loss(loss.clone(), standing));
        out.clear();
        let echo = Echo { key, thinned, counts: loss.counts.clone(), after: counts, replaces: vec![loss.clone(); replaced] };
        put_echo(&mut out, &echo);
        prop_assert_eq!(Record::decode(&out).unwrap(), Record::Echo(echo));
        // As it was written before it had a standing.
        out.clear();
        out.extend_from_slice(&[LOSS, VERSION]);
        put_loss_body(&mut out, &loss);
        prop_assert_eq!(Record::decode(&out).unwrap(), Record::Loss(loss, Standing::default()));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind in 0u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Record::decode(&bytes));
        drop(Record::decode(&[&[kind, 1], &bytes[..]].concat()));
        drop(Record::decode(&[&[kind, 2], &bytes[..]].concat()));
        drop(Record::decode(&[&[kind, 3], &bytes[..]].concat()));
        drop(Record::decode(&[&[kind, 4], &bytes[..]].concat()));
        drop(Record::decode(&[&[kind, LEFT_VERSION], &bytes[..]].concat()));
        drop(Record::decode(&[&[kind, TRACED_VERSION], &bytes[..]].concat()));
    }
}

/// As the first released version wrote it.
#[test]
fn a_batch_of_version_1_is_read_as_one_of_the_default_class() {
    let mut bytes = vec![1, 1];
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&5u64.to_le_bytes());
    bytes.extend_from_slice(&[1, 1, 10, 11]);
    bytes.extend_from_slice(&100i64.to_le_bytes());
    bytes.extend_from_slice(&200i64.to_le_bytes());
    // Rows; counts: 2 received, 2 shipped; before: none.
    bytes.extend_from_slice(&[2, 2, 1, 2, 2, 2, 0]);
    bytes.extend_from_slice(&[9; 16]);
    // Series 3 and 4; one byte of definitions; the payload.
    bytes.extend_from_slice(&[2, 3, 1, 1, 0xaa, 0xbb, 0xcc]);
    let Record::Batch { head, definitions, payload } = Record::decode(&bytes).unwrap() else {
        panic!("no batch");
    };
    assert_eq!((definitions, payload), (&[0xaa][..], &[0xbb, 0xcc][..]));
    assert_eq!((head.key.seq, head.first_position, head.last_position), (5, 10, 11));
    assert_eq!((head.rows, head.counts.get(Cause::Shipped), head.series), (2, 2, vec![3, 4]));
    assert_eq!(
        (head.group, head.samples, head.offered, head.replaces, head.thinned),
        (Group::default(), 0, true, vec![], 0)
    );
    assert_eq!((head.open, head.trace), (None, None));
}

/// As versions before those that know which windows have left wrote it.
#[test]
fn a_batch_of_version_4_is_read_as_one_without_a_trace() {
    let key = BatchKey { epoch: Epoch([7; 16]), seq: 5 };
    let head = Head {
        key,
        part: 1,
        parts: 1,
        first_position: 10,
        last_position: 11,
        t0: 100,
        t1: 200,
        rows: 2,
        counts: Counts::new(),
        before: Counts::new(),
        checksum: [9; 16],
        series: vec![3, 4],
        group: Group::default(),
        samples: 2,
        offered: false,
        replaces: Vec::new(),
        thinned: 0,
        open: Some(OpenWindows::of(6)),
        trace: None,
    };
    let mut bytes = Vec::new();
    put_batch(&mut bytes, &head, &[0xaa], &[0xbb]);
    // Group: samples, not offered, priority, overflow, no clock, nothing replaced or thinned, open + 1; then the series.
    let written = [2, 0, 1, 0, 0, 0, 0, 7, 2, 3, 1, 1, 0xaa, 0xbb];
    assert_eq!((&bytes[..2], &bytes[bytes.len() - written.len()..]), (&[1, 4][..], &written[..]));
    let (definitions, payload) = (&[0xaa][..], &[0xbb][..]);
    assert_eq!(Record::decode(&bytes).unwrap(), Record::Batch { head, definitions, payload });
}
