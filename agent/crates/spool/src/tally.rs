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
        let mut short = [0; SHORT];
        let mut left = &mut short[..];
        if put_short(&mut left, counts).is_some() {
            return Self::Short((SHORT - left.len()) as u8, short);
        }
        let mut bytes = Vec::new();
        put_counts(&mut bytes, counts);
        Self::Long(bytes.into_boxed_slice())
    }
}

/// What [`put_counts`] writes, if there is room for it: without an allocation, a hundred thousand times at a start.
fn put_short(out: &mut &mut [u8], counts: &Counts) -> Option<()> {
    let mut number = |mut number: u64| {
        loop {
            let byte = number as u8 & 0x7f;
            number >>= 7;
            let (first, rest) = std::mem::take(out).split_first_mut()?;
            (*first, *out) = (byte | u8::from(number > 0) << 7, rest);
            if number == 0 {
                return Some(());
            }
        }
    };
    number(counts.iter().count() as u64)?;
    for (cause, count) in counts.iter() {
        // As a byte: codes are below 128.
        number(u64::from(cause as u8))?;
        number(count)?;
    }
    Some(())
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
