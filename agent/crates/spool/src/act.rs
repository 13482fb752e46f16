//! What the writer does, as values: each is to be in the log before it is true, and [`apply`] makes it so.

use bytes::Bytes;
use telemetry::Epoch;

use crate::cut::Cut;
use crate::entry::Entry;
use crate::record::{Echo, Head, Loss};
use crate::state::{Order, Recent, State};

/// Something that is to be in the log before it is true.
pub(crate) enum Act {
    Cut(Cut),
    /// A batch is written again, further on in the log, so that its segment can go.
    Move {
        order: Order,
        head: Box<Head>,
        payload: Bytes,
    },
    Rename {
        epoch: Epoch,
        moves: Vec<(Order, u64)>,
    },
    Lose {
        order: Order,
        loss: Loss,
    },
    /// What was thinned is said once more.
    Echo(Echo),
}

/// Where an act's record is, and the room it takes there.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) record: u64,
    pub(crate) size: u32,
}

/// What became true with a record.
pub(crate) fn apply(state: &mut State, act: Act, placed: Placed) {
    let Placed { record, size } = placed;
    match act {
        Act::Cut(cut) => {
            let head = &cut.head;
            let Some(number) = state.number_of(head.key.epoch) else { return };
            let order = (number, head.key.seq);
            let bytes = cut.payload.len();
            state.insert(order, Entry::of_batch(record, head, bytes, size as usize, cut.cut_at, false));
            state.before.clone_from(&head.before);
            state.before.merge(&head.counts);
            state.lost.note(&head.counts, head.t0, head.t1);
            if head.part == head.parts {
                state.reached(head.last_position, head.open);
            }
            state.dirty = true;
            for loss in &head.replaces {
                let Some(number) = state.number_of(loss.key.epoch) else { continue };
                state.lose((number, loss.key.seq), loss, 0, 0);
            }
            if head.replaces.is_empty() {
                state.remember(Recent { order, payload: cut.payload, head: cut.head });
            }
        }
        Act::Move { order, .. } => state.moved(order, record, size),
        Act::Rename { epoch, moves } => {
            let known = state.number_of(epoch);
            let to = known.unwrap_or_else(|| state.begin(epoch));
            state.relabel(&moves, to, record);
        }
        Act::Lose { order, loss } => state.lose(order, &loss, record, size),
        Act::Echo(_) => {}
    }
}
