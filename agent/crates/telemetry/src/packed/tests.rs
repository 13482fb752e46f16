//! A rollup's sketch packed and read back, and bytes that nobody has packed.

use proptest::prelude::*;

use super::*;
use crate::sketch;

fn figures(values: &[f64]) -> Figures {
    let min = values.iter().copied().fold(f64::NAN, f64::min);
    let max = values.iter().copied().fold(f64::NAN, f64::max);
    Figures { count: values.len() as u64, sum: values.iter().sum(), min, max }
}

fn known(values: &[f64]) -> Known {
    let (mut builder, mut found) = (Builder::default(), Known::default());
    values.iter().for_each(|value| builder.add(*value));
    builder.take(&mut found);
    found
}

fn packed(known: &Known, figures: &Figures) -> Vec<u8> {
    let mut out = Vec::new();
    pack(known, figures, &mut out);
    out
}

fn unpacked(bytes: &[u8], figures: &Figures) -> Result<Known, Damaged> {
    let (mut builder, mut found) = (Builder::default(), Known::default());
    builder.add_packed(bytes, figures)?;
    builder.take(&mut found);
    Ok(found)
}

fn reading() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0i32..40).prop_map(|n| 20.0 + f64::from(n) / 8.0),
        2 => -1e3..1e3,
        1 => any::<f64>(),
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
        1 => prop_oneof![Just(1e-13), Just(1e-12), Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE)],
    ]
}

proptest! {
    #[test]
    fn readings_give_the_bins_that_a_window_gives(values in prop::collection::vec(reading(), 0..200)) {
        let (mut bins, mut hint) = (Bins::default(), 0);
        for value in values.iter().filter(|value| !value.is_nan()) {
            sketch::add(&mut bins, value.clamp(-f64::MAX, f64::MAX), &mut hint);
        }
        prop_assert_eq!(known(&values), Known { bins, missing: 0 });
    }

    #[test]
    fn what_is_packed_comes_back(values in prop::collection::vec(reading(), 0..200)) {
        let (whole, says) = (known(&values), figures(&values));
        let bytes = packed(&whole, &says);
        prop_assert_eq!(unpacked(&bytes, &says), Ok(whole.clone()));
        prop_assert!(fits(&whole, &says));
    }

    #[test]
    fn parts_add_up_to_the_whole_whatever_they_are_packed_in(
        values in prop::collection::vec(reading(), 0..200), cuts in prop::collection::vec(0usize..200, 0..5),
    ) {
        let mut edges: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).collect();
        edges.extend([0, values.len()]);
        edges.sort_unstable();
        let (mut builder, mut found) = (Builder::default(), Known::default());
        for edge in edges.windows(2).rev() {
            let part = &values[edge[0]..edge[1]];
            let says = figures(part);
            builder.add_packed(&packed(&known(part), &says), &says).unwrap();
        }
        builder.take(&mut found);
        prop_assert_eq!(found, known(&values));
    }

    #[test]
    fn a_changed_byte_is_found(
        values in prop::collection::vec(reading(), 3..100), at in any::<prop::sample::Index>(), bits in 1u8..=255,
    ) {
        let says = figures(&values);
        let mut bytes = packed(&known(&values), &says);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            prop_assert_eq!(unpacked(&bytes, &says), Err(Damaged));
            let (mut builder, mut found) = (Builder::default(), Known::default());
            builder.add(7.0);
            prop_assert_eq!(builder.add_packed(&bytes, &says), Err(Damaged));
            builder.take(&mut found);
            prop_assert_eq!(found, known(&[7.0]));
        }
    }

    #[test]
    fn a_windows_sketch_that_cannot_be_its_own_is_as_good_as_none(
        keys in prop::collection::vec((any::<i32>(), any::<u64>()), 0..20), zero in any::<u64>(), below in any::<bool>(),
    ) {
        let says = figures(&[1.0, 2.0, 3.0]);
        let mut bins = Bins { zero, ..Bins::default() };
        if below { bins.negative = keys } else { bins.positive = keys };
        let (mut builder, mut found) = (Builder::default(), Known::default());
        builder.add_window(&bins, &says);
        builder.take(&mut found);
        prop_assert!(fits(&found, &says));
        prop_assert_eq!(unpacked(&packed(&found, &says), &says), Ok(found));
    }

    #[test]
    fn bytes_from_anywhere_are_refused_or_read_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let says = figures(&[1.0, 2.0, 3.0]);
        let mut whole = vec![crc8(&bytes)];
        whole.extend(&bytes);
        if let Ok(found) = unpacked(&whole, &says) {
            fits(&found, &says);
        }
    }

    #[test]
    fn the_cap_runs_the_lowest_together_as_one_by_one(keys in prop::collection::vec(any::<u16>(), 3000..4000)) {
        let values: Vec<f64> = keys.iter().map(|key| sketch::value(i32::from(key % 30_000) - 1_000)).collect();
        let (mut bins, mut hint) = (Bins::default(), 0);
        values.iter().for_each(|value| sketch::add(&mut bins, *value, &mut hint));
        let says = figures(&values);
        prop_assert_eq!(&known(&values).bins, &bins);
        prop_assert_eq!(unpacked(&packed(&known(&values), &says), &says), Ok(Known { bins, missing: 0 }));
    }
}

#[test]
fn a_key_below_all_numbers_is_refused() {
    let mut bytes = vec![0, 1 << 3];
    put_varint(&mut bytes, u64::MAX);
    bytes.push(0);
    bytes[0] = crc8(&bytes[1..]);
    assert_eq!(unpacked(&bytes, &figures(&[1.0, 2.0, 3.0])), Err(Damaged));
}

#[test]
fn the_least_key_that_bytes_can_hold_is_judged_as_any_other() {
    let mut bytes = vec![0, 1 << 1, 1];
    put_varint(&mut bytes, u64::from(u32::MAX));
    bytes.push(0);
    bytes[0] = crc8(&bytes[1..]);
    let says = figures(&[-9.0]);
    let found = unpacked(&bytes, &says).unwrap();
    assert_eq!(found.bins.negative, [(i32::MIN, 1)]);
    assert!(!fits(&found, &says));
    let falling = [Place::Positive(0), Place::Zero, Place::Negative(i32::MIN), Place::Negative(7)];
    assert!(falling.is_sorted_by(|one, next| rank(*one) > rank(*next)));
}

#[test]
fn a_row_whose_figures_tell_it_takes_no_byte() {
    for values in
        [&[][..], &[7.5], &[7.5, -3.0], &[0.0, -0.0, 0.0], &[5.0; 60], &[f64::NAN; 3], &[f64::INFINITY; 3]]
    {
        assert!(packed(&known(values), &figures(values)).is_empty(), "{values:?}");
    }
    assert!(!packed(&known(&[5.0, f64::NAN, 5.0]), &figures(&[5.0, f64::NAN, 5.0])).is_empty());
    assert!(!packed(&known(&[1.0, 2.0, 3.0]), &figures(&[1.0, 2.0, 3.0])).is_empty());
}

#[test]
fn a_row_without_a_sketch_says_that_all_of_its_readings_are_missing() {
    let says = figures(&[1.0, 2.0, 3.0]);
    let found = unpacked(&[], &says).unwrap();
    assert_eq!(found, Known { bins: Bins::default(), missing: 3 });
    assert!(packed(&found, &says).is_empty() && fits(&found, &says));
}

#[test]
fn missing_readings_are_kept_beside_known_ones() {
    let part = figures(&[1.0, 2.0, 3.0]);
    let (mut builder, mut found) = (Builder::default(), Known::default());
    builder.add_packed(&packed(&known(&[1.0, 2.0, 3.0]), &part), &part).unwrap();
    builder.add_packed(&[], &Figures { count: 60, sum: 600.0, min: 5.0, max: 15.0 }).unwrap();
    builder.take(&mut found);
    let says = Figures { count: 63, sum: 606.0, min: 1.0, max: 15.0 };
    assert_eq!(found, Known { bins: known(&[1.0, 2.0, 3.0]).bins, missing: 60 });
    assert_eq!(unpacked(&packed(&found, &says), &says), Ok(found.clone()));
    assert!(fits(&found, &says));
    assert!(!fits(&found, &Figures { count: 64, ..says }) && !fits(&found, &Figures { min: 1.5, ..says }));
}
