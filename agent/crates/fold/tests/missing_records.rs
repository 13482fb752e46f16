//! A fold that goes on without a record that it had when batches were made: what it holds after it gave up what isn't sure is
//! in no batch.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod common;

use std::collections::BTreeMap;

use common::{CONFIGS, SECOND, SERIES, Step, T0, records, run, steps, table};
use fold::{Fold, NoScorer};
use proptest::prelude::*;
use telemetry::{OpenWindows, Record, Rows, SeriesRef};

type Held = BTreeMap<(SeriesRef, i64, i64), u64>;

/// Readings by series, start and length of the windows that are open, which are let go of.
fn let_go(fold: &mut Fold) -> Held {
    let other = Record::Config {
        stamp: Default::default(),
        generation: 99,
        config: br#"{"lateness":"1d"}"#.to_vec(),
    };
    let mut rows = Rows::default();
    fold.apply(u64::MAX, &other, &mut rows);
    let mut held = Held::new();
    let unset = rows.unset.iter().flat_map(|(_, rows)| &rows.windows);
    for row in rows.windows.iter().chain(unset) {
        *held.entry((row.series, row.start, row.length)).or_default() += row.count;
    }
    held
}

fn all_series() -> Vec<usize> {
    (0..SERIES).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_records_are_gone_no_reading_that_has_left_is_held(
        steps in steps(), cut in any::<prop::sample::Index>(), gone in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        with_checkpoint in any::<bool>(),
    ) {
        let (table, refs) = table(&all_series());
        let all = records(&steps, &refs);
        let cut = cut.index(all.len());
        let mut whole = Fold::new(table.clone(), Box::new(NoScorer));
        run(&mut whole, &all[..cut], 1);
        let mut second = match with_checkpoint {
            true => Fold::restore(table.clone(), Box::new(NoScorer), &whole.checkpoint()).unwrap(),
            // It is gone, and the journal begins behind it.
            false => Fold::new(table.clone(), Box::new(NoScorer)),
        };
        run(&mut whole, &all[cut..], cut as u64 + 1);
        let gone: Vec<usize> = gone.into_iter().map(|at| at.index(all.len() - cut)).collect();
        for (at, record) in all[cut..].iter().enumerate() {
            if !gone.contains(&at) {
                second.apply((cut + at) as u64 + 1, record, &mut Rows::default());
            }
        }
        second.give_up(whole.open().as_ref());
        prop_assert!(second.held() <= whole.held());
        let (held, truly) = (let_go(&mut second), let_go(&mut whole));
        for (window, readings) in held {
            prop_assert!(truly.get(&window).is_some_and(|there| readings <= *there), "{window:?}");
        }
    }
}

/// Readings by series and seconds behind the beginning, as records of one reading each.
fn readings(all: &[(usize, i64)]) -> Vec<Step> {
    let one = |(series, second): &(usize, i64)| {
        Step::Intake(0, vec![(*series, T0 + second * SECOND, 1.0, 0)], 0, 0)
    };
    [Step::Config(CONFIGS[0].into())].into_iter().chain(all.iter().map(one)).collect()
}

#[test]
fn a_window_that_ends_later_than_all_that_have_left_is_kept_and_one_that_may_have_left_is_not() {
    let (table, refs) = table(&all_series());
    // Two devices. The last reading closes the first one's window, and rots.
    let all = records(&readings(&[(2, 1), (2, 2), (2, 9), (3, 11), (3, 12), (2, 12)]), &refs);
    let mut whole = Fold::new(table.clone(), Box::new(NoScorer));
    run(&mut whole, &all, 1);
    let mut second = Fold::new(table, Box::new(NoScorer));
    run(&mut second, &all[..all.len() - 1], 1);
    assert_eq!((whole.held(), second.held()), (3, 5), "the first window is open still");
    second.give_up(whole.open().as_ref());
    assert_eq!(second.held(), 2);
    let kept: Vec<_> = let_go(&mut second).into_iter().collect();
    assert_eq!(kept, [((refs[3], T0 + 10 * SECOND, 10 * SECOND), 2)]);
}

#[test]
fn where_nobody_says_what_has_left_or_by_which_routes_all_is_given_up() {
    let (table, refs) = table(&all_series());
    let all = records(&readings(&[(2, 1), (2, 2)]), &refs);
    let held = || {
        let mut fold = Fold::new(table.clone(), Box::new(NoScorer));
        run(&mut fold, &all, 1);
        fold
    };
    let open = held().open().unwrap();
    for said in [None, Some(OpenWindows::of(2)), Some(OpenWindows { routes: open.routes + 1, ..open })] {
        let mut fold = held();
        fold.give_up(said.as_ref());
        assert_eq!(fold.held(), 0, "{said:?}");
        assert!(fold.open().unwrap().left >= T0 + 10 * SECOND, "the next start gives it up too");
    }
    let mut fold = held();
    fold.give_up(Some(&open));
    assert_eq!(fold.held(), 2, "nothing has left");
}
