//! JSON from strangers: a tree that borrows from the bytes, with limits on depth and size.
//!
//! `serde_json` does the lexing (numbers read back exactly: feature `float_roundtrip`); the limits
//! are enforced while the tree is built, so that a hostile text never costs more than they allow.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use telemetry::Cause;

use crate::intake::Rejection;

/// One value. Keys stay in the sender's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A whole number of 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value of a key, where this is an object that has it. The last one counts.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        match self {
            Self::Object(fields) => fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Follows a path of keys.
    pub fn at<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<&Json<'a>> {
        path.into_iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text, where this is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How much one text may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deepest nesting.
    pub depth: usize,
    /// Most values, keys included.
    pub nodes: usize,
}

/// Reads one value that is the whole text.
///
/// # Errors
/// [`Rejection`]: not UTF-8, not JSON (with line and column), too deep, too many values, a number out of range.
pub fn parse(bytes: &[u8], bounds: Bounds) -> Result<Json<'_>, Rejection> {
    let budget = Budget::new(bounds);
    let mut reader = serde_json::Deserializer::from_str(text(bytes)?);
    let json = Seed { budget: &budget, depth: bounds.depth }.deserialize(&mut reader);
    let json = json.map_err(|error| budget.rejection(&error))?;
    reader.end().map_err(|error| budget.rejection(&error))?;
    Ok(json)
}

/// Reads an array and hands over its elements one by one; each has the whole bounds to itself.
/// Elements before an error were handed over.
///
/// # Errors
/// As [`parse`].
pub fn each_element(
    bytes: &[u8],
    bounds: Bounds,
    mut take: impl FnMut(usize, Json<'_>),
) -> Result<(), Rejection> {
    let budget = Budget::new(bounds);
    let mut reader = serde_json::Deserializer::from_str(text(bytes)?);
    let elements = Elements { budget: &budget, bounds, take: &mut take };
    reader.deserialize_seq(elements).map_err(|error| budget.rejection(&error))?;
    reader.end().map_err(|error| budget.rejection(&error))
}

fn text(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes)
        .map_err(|error| Rejection::new(Cause::RejectedEncoding, format!("not UTF-8: {error}")))
}

struct Budget {
    bounds: Bounds,
    left: Cell<usize>,
    exceeded: Cell<bool>,
}

impl Budget {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, left: Cell::new(bounds.nodes), exceeded: Cell::new(false) }
    }

    fn spend<E: Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.exceeded.set(true);
                Err(E::custom(format_args!("over {} values", self.bounds.nodes)))
            }
        }
    }

    fn rejection(&self, error: &serde_json::Error) -> Rejection {
        let text = error.to_string();
        let cause = if self.exceeded.get() || text.starts_with("recursion limit") {
            Cause::RejectedLimit
        } else if text.starts_with("number out of range") {
            Cause::RejectedNotFinite
        } else {
            Cause::RejectedSyntax
        };
        Rejection::new(cause, format!("not JSON that is taken: {text}"))
    }
}

struct Seed<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl Seed<'_> {
    fn inner<E: Error>(&self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { budget: self.budget, depth }),
            None => {
                self.budget.exceeded.set(true);
                Err(E::custom(format_args!("nested deeper than {} levels", self.budget.bounds.depth)))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        self.budget.spend()?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = items.next_key_seed(Key)? {
            fields.push((key, items.next_value_seed(self.inner()?)?));
        }
        Ok(Json::Object(fields))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

struct Elements<'b, F> {
    budget: &'b Budget,
    bounds: Bounds,
    take: &'b mut F,
}

impl<'de, F: FnMut(usize, Json<'_>)> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut at = 0;
        loop {
            self.budget.left.set(self.bounds.nodes);
            let seed = Seed { budget: self.budget, depth: self.bounds.depth };
            let Some(item) = items.next_element_seed(seed)? else { return Ok(()) };
            (self.take)(at, item);
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { depth: 8, nodes: 100 };

    fn cause(text: &str) -> Cause {
        parse(text.as_bytes(), BOUNDS).unwrap_err().cause
    }

    #[test]
    fn numbers_read_back_exactly_and_whole_ones_stay_whole() {
        let json =
            parse(br#"{"a":236.95,"b":9223372036854775807,"c":18446744073709551615,"d":-0.0}"#, BOUNDS)
                .unwrap();
        assert_eq!(json.get("a"), Some(&Json::Float(236.95)));
        assert_eq!(json.get("b"), Some(&Json::Int(i64::MAX)));
        assert_eq!(json.get("c"), Some(&Json::Float(18_446_744_073_709_551_615.0)));
        assert!(matches!(json.get("d"), Some(Json::Float(zero)) if zero.to_bits() == (-0.0_f64).to_bits()));
    }

    #[test]
    fn each_limit_has_its_cause() {
        assert_eq!(cause(&format!("{}1{}", "[".repeat(9), "]".repeat(9))), Cause::RejectedLimit);
        assert!(parse(format!("{}1{}", "[".repeat(8), "]".repeat(8)).as_bytes(), BOUNDS).is_ok());
        assert_eq!(cause(&"[".repeat(100_000)), Cause::RejectedLimit);
        assert_eq!(cause(&format!("[{}1]", "1,".repeat(200))), Cause::RejectedLimit);
        assert_eq!(cause("1e999"), Cause::RejectedNotFinite);
        assert_eq!(cause("NaN"), Cause::RejectedSyntax);
        assert_eq!(cause(r#"{"a":1"#), Cause::RejectedSyntax);
        assert_eq!(cause(r#"{"a":1} x"#), Cause::RejectedSyntax);
        assert_eq!(parse(b"\"\xff\"", BOUNDS).unwrap_err().cause, Cause::RejectedEncoding);
    }

    #[test]
    fn an_array_is_handed_over_element_by_element() {
        let mut seen = Vec::new();
        let text = format!("[{}]", vec!["[1,2,3]"; 500].join(","));
        each_element(text.as_bytes(), BOUNDS, |at, item| seen.push((at, matches!(item, Json::List(_)))))
            .unwrap();
        assert_eq!((seen.len(), seen[499]), (500, (499, true)));
        let mut count = 0;
        assert!(each_element(b"[1,2,oops]", BOUNDS, |_, _| count += 1).is_err());
        assert_eq!(count, 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, BOUNDS);
        }

        #[test]
        fn any_float_reads_back_to_the_bit(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let text = format!("{value:?}");
            let read = match parse(text.as_bytes(), BOUNDS).unwrap() {
                Json::Float(read) => read,
                Json::Int(read) => read as f64,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}
