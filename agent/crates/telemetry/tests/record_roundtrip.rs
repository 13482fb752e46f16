//! A record's bytes: what is encoded comes back, and no other bytes do harm.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::collections::HashMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry::record::Numbering;
use telemetry::trace::{Context, Traced};
use telemetry::{
    Attribute, Cause, DecodeError, DeviceClock, Event, Intake, Origin, PublishMark, Record, SeriesDef,
    SeriesKey, SeriesRef, Severity, Stamp,
};

/// Numbers stand for themselves.
#[derive(Default)]
struct Numbers(HashMap<u32, SeriesDef>);

impl Numbering for Numbers {
    fn define(&mut self, number: u32, def: SeriesDef) {
        self.0.insert(number, def);
    }
    fn resolve(&self, number: u32) -> Option<SeriesRef> {
        self.0.contains_key(&number).then_some(SeriesRef(number))
    }
}

type Defs = Vec<(SeriesRef, Arc<SeriesDef>)>;

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(i64, u64)>().prop_map(|(wall, mono)| Stamp { wall, mono })
}

fn definition() -> impl Strategy<Value = SeriesDef> {
    let labels = prop::collection::btree_map("[a-zA-Z_]{1,12}", "\\PC{1,20}", 0..6);
    ("\\PC{1,30}", labels, "\\PC{0,8}").prop_map(|(name, labels, unit)| SeriesDef {
        key: SeriesKey::new(name, labels).unwrap(),
        unit: unit.into(),
    })
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        any::<bool>().prop_map(Attribute::Bool),
        any::<i64>().prop_map(Attribute::Int),
        any::<f64>().prop_map(Attribute::Float),
        any::<String>().prop_map(Attribute::Text),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let severity = prop::sample::select(vec![
        Severity::Trace,
        Severity::Debug,
        Severity::Info,
        Severity::Warn,
        Severity::Error,
        Severity::Fatal,
    ]);
    let attributes = vec((any::<String>(), attribute()), 0..5);
    (any::<String>(), any::<i64>(), severity, any::<String>(), attributes).prop_map(
        |(source, time, severity, body, attributes)| Event { source, time, severity, body, attributes },
    )
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    let mark = (any::<u16>(), 1u8..=2, any::<u128>());
    let mark = mark.prop_map(|(packet_id, qos, content)| PublishMark { packet_id, qos, content });
    prop_oneof![
        Just(None),
        any::<u128>().prop_map(|key| Some(Origin::Http { key })),
        (any::<String>(), vec(mark, 0..5))
            .prop_map(|(client, publishes)| Some(Origin::Mqtt { client, publishes })),
    ]
}

fn trace() -> impl Strategy<Value = Option<Traced>> {
    let of = |(trace, span, parent)| Traced { context: Context { trace, span }, parent };
    prop::option::of(any::<([u8; 16], [u8; 8], [u8; 8])>().prop_map(of))
}

fn intake() -> impl Strategy<Value = (Record, Defs)> {
    let defs = vec((0u32..1000, definition()), 0..6);
    let counts = vec((prop::sample::select(Cause::ALL), any::<u64>()), 0..5);
    (
        defs,
        any::<u16>(),
        stamp(),
        vec(any::<(u32, i64, f64, u8)>(), 0..40),
        vec(event(), 0..4),
        counts,
        origin(),
        trace(),
    )
        .prop_map(|(mut defs, input, stamp, samples, events, counts, origin, trace)| {
            defs.sort_by_key(|(number, _)| *number);
            defs.dedup_by_key(|(number, _)| *number);
            let defs: Defs =
                defs.into_iter().map(|(number, def)| (SeriesRef(number), Arc::new(def))).collect();
            let mut intake = Intake::new(input, stamp);
            intake.series = defs.iter().map(|(series, _)| *series).collect();
            for (index, time, value, flags) in samples {
                if !defs.is_empty() {
                    // Most samples have no marks.
                    let flags = if flags < 200 { 0 } else { flags };
                    intake.push(index % defs.len() as u32, time, value, flags);
                }
            }
            intake.events = events;
            intake.origin = origin;
            intake.trace = trace;
            for (cause, n) in counts {
                intake.counts.add(cause, n);
            }
            (Record::Intake(intake), defs)
        })
}

fn record() -> impl Strategy<Value = (Record, Defs)> {
    let blob = || vec(any::<u8>(), 0..200);
    let bare = prop_oneof![
        (stamp(), any::<[u8; 16]>(), any::<bool>())
            .prop_map(|(at, boot, synced)| Record::Tick(DeviceClock { at, boot, synced })),
        (stamp(), any::<u64>(), blob()).prop_map(|(stamp, generation, config)| Record::Config {
            stamp,
            generation,
            config
        }),
        (stamp(), any::<String>(), prop::option::of((blob(), blob())))
            .prop_map(|(stamp, slot, model)| Record::Model { stamp, slot, model }),
    ];
    prop_oneof![3 => intake(), 1 => bare.prop_map(|record| (record, Defs::new()))]
}

fn encode(record: &Record, defs: &Defs) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes, defs);
    bytes
}

/// NaN is not equal to itself, so values are compared by their bytes.
fn same(a: &Record, b: &Record) -> bool {
    encode(a, &Defs::new()) == encode(b, &Defs::new())
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was_with_its_definitions((record, defs) in record()) {
        let bytes = encode(&record, &defs);
        let mut numbers = Numbers::default();
        let decoded = Record::decode(&bytes, &mut numbers).unwrap();
        prop_assert!(same(&record, &decoded), "{record:?} became {decoded:?}");
        let given: HashMap<u32, SeriesDef> = defs.iter().map(|(n, def)| (n.0, (**def).clone())).collect();
        prop_assert_eq!(numbers.0, given);
    }

    #[test]
    fn a_record_that_is_cut_short_or_too_long_is_refused((record, defs) in record(), at: prop::sample::Index) {
        let mut bytes = encode(&record, &defs);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Record::decode(cut, &mut Numbers::default()).is_err());
        bytes.push(0);
        prop_assert_eq!(Record::decode(&bytes, &mut Numbers::default()).unwrap_err(), DecodeError::Trailing(1));
    }

    /// An agent of before there were traces reads all that isn't sampled, and refuses what is by its version.
    #[test]
    fn only_a_sampled_intake_is_of_another_version((record, defs) in record()) {
        let sampled = matches!(&record, Record::Intake(Intake { trace: Some(_), .. }));
        let bytes = encode(&record, &defs);
        prop_assert_eq!(bytes[1], if sampled { 2 } else { 1 });
        let other = [&[bytes[0], 3], &bytes[2..]].concat();
        let refused = Record::decode(&other, &mut Numbers::default()).unwrap_err();
        prop_assert_eq!(refused, DecodeError::Unknown { what: "record version", number: 3 });
    }

    #[test]
    fn a_changed_byte_never_panics(
        (record, defs) in record(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&record, &defs);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(decoded) = Record::decode(&bytes, &mut Numbers::default()) {
            // What is accepted means something: it can be encoded.
            encode(&decoded, &Defs::new());
        }
    }

    #[test]
    fn a_series_without_its_definition_is_named((record, defs) in intake()) {
        prop_assume!(!defs.is_empty());
        let bytes = encode(&record, &defs[1..].to_vec());
        let refused = Record::decode(&bytes, &mut Numbers::default()).unwrap_err();
        prop_assert_eq!(refused, DecodeError::Undefined(defs[0].0.0));
    }
}

/// As every version so far wrote it: kind, version, input, stamp and empty lists.
#[test]
fn an_intake_of_before_there_were_traces_is_read() {
    let mut bytes = vec![1, 1, 7, 0];
    bytes.extend_from_slice(&5i64.to_le_bytes());
    bytes.extend_from_slice(&6u64.to_le_bytes());
    // Definitions, series, samples; no marks; events, counts; no origin.
    bytes.extend_from_slice(&[0; 12]);
    bytes.push(0);
    bytes.extend_from_slice(&[0; 8]);
    bytes.push(0);
    let read = Record::decode(&bytes, &mut Numbers::default()).unwrap();
    assert_eq!(read, Record::Intake(Intake::new(7, Stamp { wall: 5, mono: 6 })));
    assert_eq!(encode(&read, &Defs::new()), bytes);
}

/// Found by fuzzing: the same cause twice with counts near the end of u64 overflowed.
#[test]
fn counts_that_do_not_fit_stay_at_the_largest_number() {
    let mut intake = Intake::new(0, Stamp::default());
    intake.counts.add(Cause::Received, u64::MAX);
    let mut bytes = encode(&Record::Intake(intake), &Defs::new());
    let origin = bytes.pop().unwrap();
    let entry = bytes[bytes.len() - 9..].to_vec();
    let count = bytes.len() - 9 - 4;
    bytes[count] = 2;
    bytes.extend(entry);
    bytes.push(origin);
    let Record::Intake(intake) = Record::decode(&bytes, &mut Numbers::default()).unwrap() else {
        unreachable!()
    };
    assert_eq!(intake.counts.get(Cause::Received), u64::MAX);
}

/// A claim of four thousand million samples in a few bytes must not make room for them.
#[test]
fn a_claimed_length_is_checked_before_anything_is_allocated() {
    let mut bytes = encode(&Record::Intake(Intake::new(0, Stamp::default())), &Defs::new());
    for at in 0..bytes.len() - 3 {
        let kept = bytes.clone();
        bytes[at..at + 4].fill(0xff);
        _ = Record::decode(&bytes, &mut Numbers::default());
        bytes = kept;
    }
}
