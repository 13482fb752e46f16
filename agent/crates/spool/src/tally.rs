//! Counts as they are kept for every batch that waits: a hundred thousand of them lie in memory while a link is down.
//!
//! In the form that the log has, on the spot as long as that is short, which it is for what nearly every batch counts.

use telemetry::Counts;

use crate::record::{Cursor, put_counts};

/// Bytes on the spot: with them a [`Tally`] is as large as what it replaces was without its heap.
const SHORT: usize = 22;

/// Counts, packed.
#[derive(Clone, Debug)]
pub(crate) enum Tally {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Tally {
    /// The counts again.
    pub(crate) fn counts(&self) -> Counts {
        let bytes = match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        };
        // What was written here can be read.
        Cursor(bytes).counts().unwrap_or_default()
    }
}

impl From<&Counts> for Tally {
    fn from(counts: &Counts) -> Self {
        let mut bytes = Vec::with_capacity(SHORT);
        put_counts(&mut bytes, counts);
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(&bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into_boxed_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telemetry::Cause;

    use super::*;

    proptest! {
        #[test]
        fn counts_come_out_as_they_went_in(list in proptest::collection::vec((0..Cause::ALL.len(), 1..u64::MAX), 0..9)) {
            let mut counts = Counts::new();
            list.into_iter().for_each(|(cause, n)| counts.add(Cause::ALL[cause], n));
            prop_assert_eq!(Tally::from(&counts).counts(), counts);
        }
    }
}
