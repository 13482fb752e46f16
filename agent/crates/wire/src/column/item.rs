//! The types a column can hold.

/// An item of a column. All arithmetic is done in 64 bits, wrapping.
pub(crate) trait Item: Copy {
    /// Bytes of one item.
    const WIDTH: usize;
    /// May be stored as differences.
    const DELTA: bool = true;
    /// May be stored in fewer bytes.
    const NARROW: bool = false;

    fn bits(self) -> u64;
    /// From stored bits, of which only the item's own width is meant.
    fn from_bits(bits: u64) -> Self;
    /// As 64-bit arithmetic sees it.
    fn wide(self) -> i64;
    /// Back; `None` for what the type can't hold.
    fn from_wide(wide: i64) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty, $unsigned:ty, $delta:literal, $narrow:literal;)*) => {$(
        impl Item for $type {
            const WIDTH: usize = size_of::<$type>();
            const DELTA: bool = $delta;
            const NARROW: bool = $narrow;
            fn bits(self) -> u64 {
                self as $unsigned as u64
            }
            fn from_bits(bits: u64) -> Self {
                bits as $type
            }
            fn wide(self) -> i64 {
                self as i64
            }
            fn from_wide(wide: i64) -> Option<Self> {
                // 64-bit types hold every bit pattern; the others are held against their range.
                if Self::WIDTH == 8 { Some(wide as $type) } else { <$type>::try_from(wide).ok() }
            }
        }
    )*};
}

integers! {
    u8, u8, false, true;
    u32, u32, true, true;
    i32, u32, true, false;
    u64, u64, true, true;
    i64, u64, true, false;
}

impl Item for f64 {
    const WIDTH: usize = 8;
    const DELTA: bool = false;

    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    fn wide(self) -> i64 {
        self.to_bits() as i64
    }
    fn from_wide(_: i64) -> Option<Self> {
        None
    }
}
