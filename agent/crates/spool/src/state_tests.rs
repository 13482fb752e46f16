//! The sums that are kept are those that a full count gives, whatever happens to batches.

use proptest::prelude::*;

use super::*;
use crate::ClockHeld;
use crate::class::{Class, Overflow, Priority};
use crate::clocks::Clocks;

const BOOTS: [Boot; 2] = [[1; 16], [2; 16]];

/// What may happen to the batch of a seq.
#[derive(Clone, Debug)]
enum Step {
    Cut { seq: u64, group: usize, bytes: u32 },
    Lose(u64),
    Fly(u64),
    Wait(u64),
    Done(u64),
    Relabel(u64),
    Clock,
}

fn step() -> impl Strategy<Value = Step> {
    let seq = || 1..12u64;
    prop_oneof![
        4 => (seq(), 0..6usize, 1..1000u32).prop_map(|(seq, group, bytes)| Step::Cut { seq, group, bytes }),
        1 => seq().prop_map(Step::Lose),
        1 => seq().prop_map(Step::Fly),
        1 => seq().prop_map(Step::Wait),
        2 => seq().prop_map(Step::Done),
        1 => seq().prop_map(Step::Relabel),
        1 => Just(Step::Clock),
    ]
}

fn group(at: usize) -> Group {
    let priority = [Priority::Low, Priority::Normal, Priority::High][at % 3];
    Group { class: Class { priority, overflow: Overflow::default() }, clock: (at > 2).then(|| BOOTS[at % 2]) }
}

fn entry(record: u64, group: Group, bytes: u32) -> Entry {
    let loss = Loss { key: key(1), t0: 1, t1: 2, counts: Counts::new() };
    let like = Entry::of_loss(record, 10, &loss, None);
    Entry { loss: false, bytes, group: Arc::new(group), ..like }
}

fn key(seq: u64) -> BatchKey {
    BatchKey { epoch: Epoch([9; 16]), seq }
}

/// Everything that is kept, counted anew.
fn counted(state: &State) -> ([Share; 3], ClockHeld, BTreeMap<Boot, u64>, u64, u64) {
    let mut shares = [Share::default(); 3];
    let mut held = ClockHeld::default();
    let (mut boots, mut unset) = (BTreeSet::new(), BTreeMap::new());
    let (mut bytes, mut losses) = (0, 0);
    for (_, entry) in state.entries() {
        bytes += u64::from(entry.bytes);
        losses += u64::from(entry.loss);
        if entry.loss {
            continue;
        }
        let share = &mut shares[entry.group.class.priority as usize];
        (share.batches, share.bytes) = (share.batches + 1, share.bytes + u64::from(entry.bytes));
        if let Some(boot) = entry.group.clock {
            *unset.entry(boot).or_default() += 1;
        }
        if state.is_held(entry) {
            (held.batches, held.bytes) = (held.batches + 1, held.bytes + u64::from(entry.bytes));
            boots.extend(entry.group.clock);
        }
    }
    held.boots = boots.len() as u64;
    (shares, held, unset, bytes, losses)
}

proptest! {
    #[test]
    fn kept_sums_are_those_of_a_full_count(steps in proptest::collection::vec(step(), 1..80)) {
        let mut state = State::new();
        let first = state.begin(Epoch([9; 16]));
        let second = state.begin(Epoch([8; 16]));
        let order = |seq: u64| (first, seq);
        for (record, step) in (1..).zip(steps) {
            match step {
                Step::Cut { seq, group: at, bytes } => state.insert(order(seq), entry(record, group(at), bytes)),
                Step::Lose(seq) => {
                    let loss = Loss { key: key(seq), t0: 1, t1: 2, counts: Counts::new() };
                    state.lose(order(seq), &loss, record, 10);
                }
                Step::Fly(seq) => {
                    if state.waiting.contains(&order(seq)) || state.losses.contains(&order(seq)) {
                        state.fly(order(seq), Vec::new());
                    }
                }
                Step::Wait(seq) => {
                    if state.flight.contains_key(&order(seq)) {
                        let loss = state.entry(order(seq)).unwrap().loss;
                        state.wait(order(seq), loss);
                    }
                }
                Step::Done(seq) => _ = state.done(order(seq)),
                Step::Relabel(seq) => state.relabel(&[(order(seq), seq)], second, record),
                Step::Clock => {
                    let mut bytes = vec![1, 1];
                    bytes.extend(BOOTS[0]);
                    bytes.extend([0; 16]);
                    bytes.push(1);
                    state.clocks = Clocks::decode(&bytes).unwrap();
                    state.set_free();
                }
            }
            let kept = (state.shares, state.held.sums(), state.unset.clone(), state.bytes, state.loss_count);
            prop_assert_eq!(kept, counted(&state));
            let entries = state.entries().count() as u64;
            prop_assert_eq!(state.batches() + state.loss_count, entries);
        }
    }

    /// The order in which a slow link's fresh readings overtake: what was cut in this session goes as live, oldest first; what
    /// is as young and of before it is the first of the backlog.
    #[test]
    fn live_is_what_is_young_and_of_this_session(
        mut cuts in proptest::collection::vec(0..40_000u64, 1..30),
        began in 1..32u64,
    ) {
        let mut state = State::new();
        let epoch = state.begin(Epoch([9; 16]));
        cuts.sort_unstable();
        for (seq, cut) in (1..).zip(&cuts) {
            let entry = entry(seq, Group::default(), 10);
            state.insert((epoch, seq), Entry { cut_at: Some(Duration::from_millis(*cut)), ..entry });
        }
        state.fresh_from = (epoch, began);
        state.now = Duration::from_millis(40_000);
        let count = cuts.len() as u64;
        let young = cuts.iter().filter(|cut| **cut <= 30_000).count() as u64 + 1;
        let live = young.max(began);
        let live = (live <= count).then_some(live);
        let backlog = if young < began && young <= count { Some(young) } else { (live != Some(1)).then_some(1) };
        let far = i64::MAX / 2;
        prop_assert_eq!(state.pick(Lane::Live, far), live.map(|seq| (epoch, seq)));
        prop_assert_eq!(state.pick(Lane::Backlog, far), backlog.map(|seq| (epoch, seq)));
    }
}
