//! Groups: a cut's rows are divided by class and by clock, and each group makes batches of its own.
//!
//! Nearly every cut is one group: then its rows are passed on as they are.

use telemetry::{Boot, Rows, SeriesTable};

use crate::class::{Class, Classes, Overflow};

/// What the rows of one batch have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What they are worth.
    pub class: Class,
    /// The boot whose clock their times are of, where it wasn't set; `None` for true times.
    pub clock: Option<Boot>,
}

/// Divides rows into groups: those with real times, then those of each boot, in the order of the classes in use. What was
/// counted goes with the first.
pub(crate) fn divide(mut rows: Rows, classes: &mut Classes, table: &SeriesTable) -> Vec<(Group, Rows)> {
    let unset = std::mem::take(&mut rows.unset);
    if unset.is_empty() {
        return by_class(rows, None, classes, table);
    }
    let counts = std::mem::take(&mut rows.counts);
    let mut groups = if rows.has_readings() { by_class(rows, None, classes, table) } else { Vec::new() };
    for (boot, rows) in unset {
        groups.extend(by_class(rows, Some(boot), classes, table));
    }
    if let Some((_, first)) = groups.first_mut() {
        first.counts = counts;
    }
    groups
}

fn by_class(
    rows: Rows,
    clock: Option<Boot>,
    classes: &mut Classes,
    table: &SeriesTable,
) -> Vec<(Group, Rows)> {
    let group = |index: u8, classes: &Classes| Group { class: classes.class(index), clock };
    if let Some(index) = alike(&rows, classes, table) {
        return vec![(group(index, classes), rows)];
    }
    let mut parts: Vec<Rows> = Vec::new();
    parts.resize_with(classes.len(), Rows::default);
    for at in 0..rows.series.len() {
        let flags = rows.flags.get(at).copied().unwrap_or(0);
        let part = &mut parts[usize::from(classes.of_series(rows.series[at], table))];
        part.push_sample(rows.series[at], rows.times[at], rows.values[at], flags);
    }
    for row in rows.windows {
        let index = classes.of_series(row.series, table);
        parts[usize::from(index)].windows.push(row);
    }
    for event in rows.events {
        parts[usize::from(classes.of_event(&event))].events.push(event);
    }
    let mut counts = Some(rows.counts);
    let mut groups = Vec::new();
    for (index, mut part) in parts.into_iter().enumerate().filter(|(_, part)| part.has_readings()) {
        part.counts = counts.take().unwrap_or_default();
        groups.push((group(index as u8, classes), part));
    }
    groups
}

/// True when some of the rows are of a class that blocks.
pub(crate) fn blocks(rows: &Rows, classes: &mut Classes, table: &SeriesTable) -> bool {
    let mut found = false;
    let mut look = |index: u8, classes: &Classes| found |= classes.class(index).overflow == Overflow::Block;
    for series in rows.series.iter().chain(rows.windows.iter().map(|row| &row.series)) {
        let index = classes.of_series(*series, table);
        look(index, classes);
    }
    rows.events.iter().for_each(|event| look(classes.of_event(event), classes));
    found
}

/// The class of all rows, if they have one in common; rows that are counts alone have the default.
fn alike(rows: &Rows, classes: &mut Classes, table: &SeriesTable) -> Option<u8> {
    let mut common = None;
    let mut fits = |index: u8| *common.get_or_insert(index) == index;
    let same = rows.series.iter().all(|series| fits(classes.of_series(*series, table)))
        && rows.windows.iter().all(|row| fits(classes.of_series(row.series, table)))
        && rows.events.iter().all(|event| fits(classes.of_event(event)));
    same.then(|| common.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use telemetry::{Cause, Event, SeriesDef, SeriesKey, Severity};

    use super::*;
    use crate::class::{ClassRule, Priority};

    #[test]
    fn rows_of_several_classes_are_divided_and_none_is_lost_or_doubled() {
        let low = Class { priority: Priority::Low, overflow: Overflow::DropNewest };
        let rule = ClassRule { name: Some("a".into()), labels: [].into(), min_severity: None, class: low };
        let (mut classes, table) = (Classes::new(&[rule]), SeriesTable::new(9));
        let series = |name: &str| {
            let key = SeriesKey::new(name, Vec::<(&str, &str)>::new()).unwrap();
            table.intern(SeriesDef::bare(key)).unwrap()
        };
        let (a, b) = (series("a"), series("b"));
        let mut rows = Rows::default();
        rows.push_sample(a, 1, 10.0, 0);
        rows.push_sample(b, 2, 20.0, 4);
        rows.push_sample(a, 3, 30.0, 0);
        let event = |severity| Event {
            source: "s".into(),
            time: 0,
            severity,
            body: String::new(),
            attributes: vec![],
        };
        rows.events = vec![event(Severity::Info), event(Severity::Fatal)];
        rows.count(Cause::Received, 5);
        let groups = divide(rows, &mut classes, &table);
        let of = |class| &groups.iter().find(|group| group.0.class == class).unwrap().1;
        assert_eq!((&of(low).values, &of(low).flags), (&vec![10.0, 30.0], &vec![]));
        let normal = of(Class::default());
        assert_eq!((&normal.values, &normal.flags, normal.events.len()), (&vec![20.0], &vec![4], 1));
        assert_eq!(of(Class { priority: Priority::High, ..Class::default() }).events.len(), 1);
        let received: u64 = groups.iter().map(|group| group.1.counts.get(Cause::Received)).sum();
        assert_eq!((groups.len(), received), (3, 5));
    }

    #[test]
    fn counts_alone_are_one_group() {
        let mut rows = Rows::default();
        rows.count(Cause::RejectedSyntax, 3);
        let groups = divide(rows.clone(), &mut Classes::new(&[]), &SeriesTable::new(1));
        assert_eq!(groups, vec![(Group::default(), rows)]);
    }
}
