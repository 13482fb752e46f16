//! msgpack and columns written by hand, without the code that is under test.

/// A value of msgpack.
#[derive(Clone)]
pub enum Value {
    Nil,
    Int(i128),
    Text(&'static str),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// Bytes that go out as they are.
    Raw(Vec<u8>),
}

impl Value {
    /// The shortest bytes, as msgpack's specification has them.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Int(value) => integer(out, *value),
            Self::Text(text) => {
                sized(out, text.len(), [(31, 0xa0), (0xff, 0xd9), (0xffff, 0xda), (usize::MAX, 0xdb)]);
                out.extend(text.bytes());
            }
            Self::Bytes(bytes) => {
                sized(out, bytes.len(), [(0, 0xc4), (0xff, 0xc4), (0xffff, 0xc5), (usize::MAX, 0xc6)]);
                out.extend(bytes);
            }
            Self::Array(items) => {
                sized(out, items.len(), [(15, 0x90), (15, 0x90), (0xffff, 0xdc), (usize::MAX, 0xdd)]);
                items.iter().for_each(|item| item.put(out));
            }
            Self::Map(entries) => {
                sized(out, entries.len(), [(15, 0x80), (15, 0x80), (0xffff, 0xde), (usize::MAX, 0xdf)]);
                entries.iter().for_each(|(key, value)| {
                    key.put(out);
                    value.put(out);
                });
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// A head with its length: the first row is the form whose length is in the type byte.
fn sized(out: &mut Vec<u8>, n: usize, rows: [(usize, u8); 4]) {
    let fixed = rows[0];
    if n <= fixed.0 && fixed.1 != 0xc4 {
        out.push(fixed.1 | n as u8);
        return;
    }
    let row = rows[1..].iter().find(|row| n <= row.0).unwrap_or(&rows[3]);
    out.push(row.1);
    match row.0 {
        0xff => out.push(n as u8),
        0xffff => out.extend((n as u16).to_be_bytes()),
        _ => out.extend((n as u32).to_be_bytes()),
    }
}

#[allow(clippy::match_overlapping_arm, reason = "the first range that holds it is the shortest form")]
fn integer(out: &mut Vec<u8>, value: i128) {
    match value {
        0..=0x7f => out.push(value as u8),
        -32..=-1 => out.push(value as i8 as u8),
        0..=0xff => out.extend([0xcc, value as u8]),
        0..=0xffff => {
            out.push(0xcd);
            out.extend((value as u16).to_be_bytes());
        }
        0..=0xffff_ffff => {
            out.push(0xce);
            out.extend((value as u32).to_be_bytes());
        }
        0.. => {
            out.push(0xcf);
            out.extend((value as u64).to_be_bytes());
        }
        -0x80.. => out.extend([0xd0, value as u8]),
        -0x8000.. => {
            out.push(0xd1);
            out.extend((value as i16).to_be_bytes());
        }
        -0x8000_0000.. => {
            out.push(0xd2);
            out.extend((value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend((value as i64).to_be_bytes());
        }
    }
}

/// `[encoding, count, parameter..., data]`.
pub fn column(encoding: u8, count: i128, parameters: &[i128], data: impl Into<Vec<u8>>) -> Value {
    let mut items = vec![Value::Int(i128::from(encoding)), Value::Int(count)];
    items.extend(parameters.iter().map(|parameter| Value::Int(*parameter)));
    items.push(Value::Bytes(data.into()));
    Value::Array(items)
}

/// The empty column.
pub fn empty() -> Value {
    column(0, 0, &[], [])
}

/// Raw little-endian items.
pub fn raw<const N: usize>(items: &[[u8; N]]) -> Value {
    column(0, items.len() as i128, &[], items.concat())
}

pub fn u32s(items: &[u32]) -> Value {
    if items.is_empty() {
        empty()
    } else {
        raw(&items.iter().map(|item| item.to_le_bytes()).collect::<Vec<_>>())
    }
}

pub fn i64s(items: &[i64]) -> Value {
    if items.is_empty() {
        empty()
    } else {
        raw(&items.iter().map(|item| item.to_le_bytes()).collect::<Vec<_>>())
    }
}

pub fn f64s(items: &[f64]) -> Value {
    if items.is_empty() {
        empty()
    } else {
        raw(&items.iter().map(|item| item.to_le_bytes()).collect::<Vec<_>>())
    }
}

/// Items of `width` bytes, all first bytes, then all second bytes ...
pub fn planes(width: usize, items: &[u8]) -> Vec<u8> {
    (0..width).flat_map(|plane| items.iter().skip(plane).step_by(width).copied()).collect()
}

/// A payload whose tables are given; what isn't is empty.
pub struct Document {
    pub version: Value,
    pub counts: Value,
    pub timelines: Value,
    pub samples: Value,
    pub windows: Value,
    pub events: Value,
}

impl Document {
    pub fn empty() -> Self {
        let samples = samples(empty(), empty(), empty(), empty(), Value::Nil);
        Self {
            version: Value::Int(1),
            counts: Value::Map(Vec::new()),
            timelines: Value::Array(Vec::new()),
            samples,
            windows: Value::Nil,
            events: Value::Nil,
        }
    }

    /// One series, number 1, with these columns of times and values.
    pub fn series(n: u32, times: Value, values: Value) -> Self {
        let samples = samples(u32s(&[1]), u32s(&[0]), u32s(&[n]), values, Value::Nil);
        Self { timelines: Value::Array(vec![times]), samples, ..Self::empty() }
    }

    pub fn value(&self) -> Value {
        map([
            ("v", self.version.clone()),
            ("c", self.counts.clone()),
            ("t", self.timelines.clone()),
            ("s", self.samples.clone()),
            ("w", self.windows.clone()),
            ("e", self.events.clone()),
        ])
    }

    pub fn pack(&self) -> Result<Vec<u8>, std::io::Error> {
        pack(&self.value().bytes())
    }
}

pub fn samples(id: Value, tl: Value, n: Value, v: Value, f: Value) -> Value {
    map([("id", id), ("tl", tl), ("n", n), ("v", v), ("f", f)])
}

pub fn map<const N: usize>(entries: [(&'static str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
}

pub fn pack(raw: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    zstd::bulk::compress(raw, 3)
}
