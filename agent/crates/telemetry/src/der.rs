//! Items of DER (X.690): a tag, a length, a content. As much of it as certificates are read by here, whose truth is the TLS
//! library's to judge.

/// Tag, content and rest of the first item.
pub fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        // Four bytes of length are more than any certificate has.
        let (digits, behind) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
        rest = behind;
        digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Content and rest of the first item, which must have this tag.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = item(bytes)?;
    (found == tag).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_and_long_lengths_are_read_and_what_is_cut_short_is_none() {
        assert_eq!(item(&[0x30, 2, 7, 8, 9]), Some((0x30, &[7, 8][..], &[9][..])));
        let long = [&[0x04, 0x82, 1, 0][..], &[5; 256], &[1]].concat();
        assert_eq!(expect(&long, 0x04), Some((&[5; 256][..], &[1][..])));
        assert_eq!(expect(&long, 0x30), None);
        for bad in [&[][..], &[0x30], &[0x30, 2, 7], &[0x30, 0x82, 1], &[0x30, 0x85, 0, 0, 0, 0, 1, 7]] {
            assert_eq!(item(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(item(&bytes).is_none_or(|(_, content, rest)| content.len() + rest.len() < bytes.len()));
        }
    }
}
