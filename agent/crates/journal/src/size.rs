//! How many bytes a record will take, before it is encoded: the journal decides by it, under its
//! lock, whether the record fits the cap and its segment.

use std::sync::Arc;

use telemetry::{Attribute, Event, Intake, Origin, Record, SeriesDef, SeriesRef};

/// Kind and version.
const HEAD: usize = 2;
const STAMP: usize = 16;
const COUNT: usize = 4;

fn event(event: &Event) -> usize {
    let attributes: usize = event
        .attributes
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::Bool(_) => 1,
                Attribute::Int(_) | Attribute::Float(_) => 8,
                Attribute::Text(text) => COUNT + text.len(),
            };
            COUNT + name.len() + 1 + value
        })
        .sum();
    COUNT + event.source.len() + 8 + 1 + COUNT + event.body.len() + COUNT + attributes
}

fn intake(intake: &Intake) -> usize {
    let origin = match &intake.origin {
        None => 1,
        Some(Origin::Mqtt { client, publishes }) => 1 + COUNT + client.len() + COUNT + publishes.len() * 19,
        Some(Origin::Http { .. }) => 1 + 16,
    };
    let samples = COUNT + intake.index.len() * 20 + 1 + intake.flags.len();
    let events = COUNT + intake.events.iter().map(event).sum::<usize>();
    let counts = COUNT + intake.counts.iter().count() * 9;
    let trace = intake.trace.map_or(0, |_| 16 + 8 + 8);
    2 + STAMP + COUNT + COUNT + intake.series.len() * 4 + samples + events + counts + origin + trace
}

/// Bytes of a record without definitions.
pub(crate) fn record(record: &Record) -> usize {
    HEAD + match record {
        Record::Intake(it) => intake(it),
        Record::Tick(_) => STAMP + 16 + 1,
        Record::Config { config, .. } => STAMP + 8 + COUNT + config.len(),
        Record::Model { slot, model, .. } => {
            let model = model.as_ref().map_or(0, |(manifest, onnx)| 2 * COUNT + manifest.len() + onnx.len());
            STAMP + COUNT + slot.len() + 1 + model
        }
    }
}

/// Bytes that definitions add to it.
pub(crate) fn defs(defs: &[(SeriesRef, Arc<SeriesDef>)]) -> usize {
    defs.iter()
        .map(|(_, def)| {
            let labels: usize =
                def.key.labels().map(|(name, value)| 2 * COUNT + name.len() + value.len()).sum();
            4 + COUNT + def.key.name().len() + COUNT + def.unit.len() + COUNT + labels
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{Cause, DeviceClock, PublishMark, SeriesKey, SeriesTable, Severity, Stamp};

    #[test]
    fn the_size_foretold_is_the_size_encoded() {
        let table = SeriesTable::new(10);
        let key = SeriesKey::new("temperature", [("device", "p7"), ("site", "north")]).unwrap();
        let def = SeriesDef { key, unit: "Cel".into() };
        let series = table.intern(def).unwrap();
        let known = [(series, table.get(series).unwrap())];
        let mut intake = Intake::new(3, Stamp::default());
        intake.series.push(series);
        intake.push(0, 1, 1.0, 0);
        intake.push(0, 2, 2.0, 2);
        intake.counts.add(Cause::Received, 3);
        intake.events.push(Event {
            source: "app".into(),
            time: 5,
            severity: Severity::Warn,
            body: "it broke".into(),
            attributes: vec![
                ("a".into(), Attribute::Bool(true)),
                ("bb".into(), Attribute::Int(-1)),
                ("ccc".into(), Attribute::Float(0.5)),
                ("dddd".into(), Attribute::Text("text".into())),
            ],
        });
        let mark = PublishMark { packet_id: 1, qos: 1, content: 7 };
        let origins = [
            None,
            Some(Origin::Http { key: 1 }),
            Some(Origin::Mqtt { client: "c".into(), publishes: vec![mark] }),
        ];
        let mut records: Vec<Record> =
            origins.into_iter().map(|origin| Record::Intake(Intake { origin, ..intake.clone() })).collect();
        let context = telemetry::trace::Context { trace: [1; 16], span: [2; 8] };
        let trace = Some(telemetry::Traced { context, parent: [0; 8] });
        records.push(Record::Intake(Intake { trace, ..intake.clone() }));
        records.push(Record::Tick(DeviceClock::default()));
        records.push(Record::Config { stamp: Stamp::default(), generation: 1, config: b"{}".to_vec() });
        for model in [None, Some((b"{}".to_vec(), vec![0; 99]))] {
            records.push(Record::Model { stamp: Stamp::default(), slot: "pump".into(), model });
        }
        for it in &records {
            for known in [&known[..0], &known[..]] {
                let mut out = Vec::new();
                it.encode(&mut out, known);
                let with = if matches!(it, Record::Intake(_)) { defs(known) } else { 0 };
                assert_eq!(out.len(), record(it) + with, "{it:?}");
            }
        }
    }
}
