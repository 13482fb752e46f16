//! The fold is pure: replay, permuted numbers and restored checkpoints give the same rows, to the bit.

mod common;

use common::{SERIES, SumScorer, named, records, run, steps, table};
use fold::{Fold, NoScorer, RestoreError};
use proptest::prelude::*;
use telemetry::{Cause, Counts, Record, Rows, SeriesTable};

fn rejected(counts: &Counts) -> u64 {
    counts.iter().filter(|(cause, _)| (16..32).contains(&(*cause as u8))).map(|(_, n)| n).sum()
}

fn reduced(counts: &Counts) -> u64 {
    counts.iter().filter(|(cause, _)| (48..64).contains(&(*cause as u8))).map(|(_, n)| n).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replay_from_any_checkpoint_gives_the_same_rows_and_the_same_state(steps in steps(), cut in any::<prop::sample::Index>()) {
        let forward: Vec<usize> = (0..SERIES).collect();
        let (whole_table, refs) = table(&forward);
        let all = records(&steps, &refs);
        let mut whole = Fold::new(whole_table.clone(), Box::<SumScorer>::default());
        let rows = run(&mut whole, &all, 1);

        let cut = cut.index(all.len() + 1);
        let mut before = Fold::new(whole_table.clone(), Box::<SumScorer>::default());
        run(&mut before, &all[..cut], 1);
        let checkpoint = before.checkpoint();
        // Another process: its table deals numbers in another order, and names come from the checkpoint.
        let backward: Vec<usize> = (0..SERIES).rev().collect();
        let (other_table, other_refs) = table(&backward);
        let mut after = Fold::restore(other_table.clone(), Box::<SumScorer>::default(), &checkpoint).unwrap();
        prop_assert_eq!(after.checkpoint(), checkpoint);
        prop_assert_eq!(after.status(), before.status());
        let rest = records(&steps, &other_refs);
        let tail = run(&mut after, &rest[cut..], cut as u64 + 1);
        prop_assert_eq!(named(&tail, &other_table), named(&rows[cut..], &whole_table));
        prop_assert_eq!(after.checkpoint(), whole.checkpoint());
        prop_assert_eq!(after.status(), whole.status());
    }

    #[test]
    fn permuted_series_numbers_give_the_same_rows(steps in steps(), order in Just((0..SERIES).collect::<Vec<_>>()).prop_shuffle()) {
        let (one, refs) = table(&(0..SERIES).collect::<Vec<_>>());
        let (other, other_refs) = table(&order);
        let mut first = Fold::new(one.clone(), Box::<SumScorer>::default());
        let mut second = Fold::new(other.clone(), Box::<SumScorer>::default());
        let rows = run(&mut first, &records(&steps, &refs), 1);
        let other_rows = run(&mut second, &records(&steps, &other_refs), 1);
        prop_assert_eq!(named(&rows, &one), named(&other_rows, &other));
        prop_assert_eq!(first.checkpoint(), second.checkpoint());
    }

    #[test]
    fn every_reading_is_accounted_for(steps in steps()) {
        let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
        let mut fold = Fold::new(table, Box::<SumScorer>::default());
        let mut counts = Counts::new();
        let (mut shipped, mut windowed) = (0, 0);
        let mut all = records(&steps, &refs);
        // A last config change lets every open window go, so that their samples can be counted.
        all.push(Record::Config { stamp: Default::default(), generation: 99, config: br#"{"lateness":"1d"}"#.to_vec() });
        for rows in run(&mut fold, &all, 1) {
            counts.merge(&rows.counts);
            shipped += rows.len() as u64;
            let unset = rows.unset.iter().flat_map(|(_, rows)| &rows.windows);
            windowed += rows.windows.iter().chain(unset).map(|window| window.count).sum::<u64>();
        }
        prop_assert_eq!(
            counts.get(Cause::Received) + counts.get(Cause::Derived),
            rejected(&counts) + reduced(&counts) + shipped
        );
        prop_assert_eq!(windowed, counts.get(Cause::ReducedWindow));
        prop_assert_eq!(fold.status().open_windows, 0);
        prop_assert_eq!(counts.get(Cause::Damaged), 0);
    }

    #[test]
    fn a_damaged_checkpoint_is_an_error_or_a_fold_but_never_a_panic(steps in steps(), at in any::<prop::sample::Index>(), byte in any::<u8>(), short in any::<prop::sample::Index>()) {
        let (one, refs) = table(&(0..SERIES).collect::<Vec<_>>());
        let mut fold = Fold::new(one, Box::<SumScorer>::default());
        run(&mut fold, &records(&steps, &refs), 1);
        let mut bytes = fold.checkpoint();
        prop_assert!(Fold::restore(SeriesTable::new(99), Box::new(NoScorer), &bytes[..short.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(mut fold) = Fold::restore(SeriesTable::new(99), Box::new(NoScorer), &bytes) {
            fold.checkpoint();
            fold.apply(u64::MAX, &Record::Tick(Default::default()), &mut Rows::default());
        }
    }
}

#[test]
fn a_checkpoint_of_another_format_is_refused_by_number() {
    let fold = Fold::new(SeriesTable::new(9), Box::new(NoScorer));
    let mut bytes = fold.checkpoint();
    bytes[0] = 77;
    let refused = Fold::restore(SeriesTable::new(9), Box::new(NoScorer), &bytes).err();
    assert_eq!(refused, Some(RestoreError::Version(77, 3)));
}
