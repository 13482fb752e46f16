//! What damage is known of: which part, which numbers, between which times, and how much it took.
//!
//! A count of the ledger says how much was lost, and nothing where nobody knows; this says where it was, also of what
//! can't be counted. Kept in the cursor, so that it is there after a restart. Bounded: the newest stay.

use std::collections::VecDeque;

use crate::record::{BadRecord, Cursor, put_number};

/// Most that are kept.
const MAX: usize = 64;
/// Stands for a time that nobody knows.
const UNKNOWN: i64 = i64::MIN;

/// Where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Records of the journal that were in no batch yet.
    Journal = 1,
    /// Readings of windows that were open, folded from records of the journal that batches had otherwise.
    Windows = 2,
    /// Batches of the spool that are damaged, by their seqs, or what at most was in a spool, or its newest part, that is gone.
    Spool = 3,
}

impl Part {
    /// Its name in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Windows => "windows",
            Self::Spool => "spool",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Journal, Self::Windows, Self::Spool].into_iter().find(|part| *part as u8 == code)
    }
}

/// How many readings are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readings {
    /// So many; they are in the ledger as `damaged`.
    Exactly(u64),
    /// So many, or fewer: not in the ledger.
    AtMost(u64),
    /// Nobody knows: not in the ledger.
    Unknown,
}

/// Something that is damaged or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub part: Part,
    /// First number: of a record, or of a batch.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Not before this, nanoseconds since the epoch; `None` where nobody knows.
    pub from_ns: Option<i64>,
    /// Not after this.
    pub to_ns: Option<i64>,
    /// What it took; of windows, less what is stored again.
    pub readings: Readings,
    /// Readings that are stored again for its sake.
    pub again: u64,
}

impl Damage {
    /// Whether what is known of another one's times lies within those of this one.
    fn spans(&self, other: &Self) -> bool {
        let begins = self.from_ns.zip(other.from_ns).is_none_or(|(ours, its)| ours <= its);
        begins && self.to_ns.zip(other.to_ns).is_none_or(|(ours, its)| its <= ours)
    }

    /// One sentence for a person.
    pub fn sentence(&self) -> String {
        let Self { first, last, .. } = self;
        let what = match self.part {
            // Batches may have some of those whose readings nobody knows, and more may have come behind the last number known.
            Part::Journal if self.readings == Readings::Unknown => {
                format!(
                    "records {first} to {last} of the journal are damaged or gone, or what came behind them"
                )
            }
            Part::Journal => format!("records {first} to {last} of the journal are damaged"),
            Part::Windows => {
                format!(
                    "of records {first} to {last} of the journal, which batches have, open windows miss some"
                )
            }
            Part::Spool if matches!(self.readings, Readings::AtMost(_)) => {
                format!(
                    "the spool, or its newest part, is gone, and in it batches {first} to {last}, which were not acknowledged"
                )
            }
            Part::Spool if first == last => format!("batch {first} of the spool is damaged"),
            Part::Spool => format!("batches {first} to {last} of the spool are damaged"),
        };
        let lost = match self.readings {
            Readings::Exactly(0) => "no reading is lost".to_owned(),
            Readings::Exactly(1) => "1 reading is lost".to_owned(),
            Readings::Exactly(n) => format!("{n} readings are lost"),
            Readings::AtMost(n) => format!("at most {n} readings are lost, and not in the ledger"),
            Readings::Unknown if self.part == Part::Journal => {
                "an unknown number of readings that were in no batch is lost, and not in the ledger"
                    .to_owned()
            }
            Readings::Unknown => "an unknown number of readings is lost, and not in the ledger".to_owned(),
        };
        let again = match self.again {
            0 => String::new(),
            n => format!(", {n} more may be stored again"),
        };
        format!("{what}: {lost}{again}")
    }
}

/// The newest of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Damages(VecDeque<Damage>);

impl Damages {
    /// Notes one, once: what is met again at the next start is the same. False when nothing is new. Where a start finds
    /// that nothing is lost of what an earlier one counted, that one's word stands.
    pub(crate) fn note(&mut self, damage: Damage) -> bool {
        let nothing = damage.readings == Readings::Exactly(0) && damage.again == 0;
        let known = self.0.iter().any(|known| {
            let same = (known.part, known.first, known.last) == (damage.part, damage.first, damage.last);
            let within = known.first <= damage.first && damage.last <= known.last;
            match damage.part {
                // Each numbering begins anew: the same seqs may be other batches, of other times.
                Part::Spool => known.part == Part::Spool && within && known.spans(&damage),
                _ => same || nothing && within && known.part != Part::Spool,
            }
        });
        if known {
            return false;
        }
        self.0.push_back(damage);
        if self.0.len() > MAX {
            self.0.pop_front();
        }
        true
    }

    /// Notes a batch of the spool that turns out to be damaged; one after the other they are one.
    pub(crate) fn note_batch(&mut self, seq: u64, times: (i64, i64), readings: u64) {
        let known = |time| (times != (0, 0)).then_some(time);
        let (from_ns, to_ns) = (known(times.0), known(times.1));
        let (part, again) = (Part::Spool, 0);
        let one = Damage {
            part,
            first: seq,
            last: seq,
            from_ns,
            to_ns,
            readings: Readings::Exactly(readings),
            again,
        };
        if let Some(Damage { last, readings: Readings::Exactly(sum), from_ns: from, to_ns: to, .. }) =
            self.0.back_mut().filter(|known| known.part == Part::Spool && known.last + 1 == seq)
        {
            (*last, *sum) = (seq, sum.saturating_add(readings));
            *from = (*from).min(from_ns).or(*from).or(from_ns);
            *to = (*to).max(to_ns);
            return;
        }
        self.note(one);
    }

    pub(crate) fn list(&self) -> Vec<Damage> {
        self.0.iter().copied().collect()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.0.len() as u64);
        for damage in &self.0 {
            out.push(damage.part as u8);
            put_number(out, damage.first);
            put_number(out, damage.last);
            for time in [damage.from_ns, damage.to_ns] {
                out.extend_from_slice(&time.unwrap_or(UNKNOWN).to_le_bytes());
            }
            let (kind, number) = match damage.readings {
                Readings::Exactly(n) => (1, n),
                Readings::AtMost(n) => (2, n),
                Readings::Unknown => (0, 0),
            };
            out.push(kind);
            put_number(out, number);
            put_number(out, damage.again);
        }
    }

    /// None where an older version ended before them.
    pub(crate) fn decode(bytes: &mut Cursor<'_>) -> Result<Self, BadRecord> {
        if bytes.0.is_empty() {
            return Ok(Self::default());
        }
        let n = bytes.count(22)?;
        let one = |_| {
            let [part] = bytes.array()?;
            let part = Part::from_code(part).ok_or(BadRecord::Unknown("part"))?;
            let (first, last) = (bytes.number()?, bytes.number()?);
            let mut time = || -> Result<Option<i64>, BadRecord> {
                Ok(Some(i64::from_le_bytes(bytes.array()?)).filter(|time| *time != UNKNOWN))
            };
            let (from_ns, to_ns) = (time()?, time()?);
            let ([kind], number) = (bytes.array()?, bytes.number()?);
            let readings = match kind {
                0 => Readings::Unknown,
                1 => Readings::Exactly(number),
                2 => Readings::AtMost(number),
                _ => return Err(BadRecord::Unknown("kind of number")),
            };
            Ok(Damage { part, first, last, from_ns, to_ns, readings, again: bytes.number()? })
        };
        Ok(Self((0..n).map(one).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(part: Part, first: u64, last: u64, readings: Readings) -> Damage {
        Damage { part, first, last, from_ns: Some(1), to_ns: None, readings, again: 0 }
    }

    #[test]
    fn what_is_met_again_is_noted_once_and_the_first_word_stands() {
        let mut damages = Damages::default();
        let first = damage(Part::Journal, 5, 7, Readings::Exactly(3));
        assert!(damages.note(first));
        assert!(!damages.note(first));
        assert!(!damages.note(damage(Part::Journal, 5, 7, Readings::Unknown)));
        assert!(
            !damages.note(damage(Part::Windows, 6, 6, Readings::Exactly(0))),
            "counted by the one before"
        );
        assert!(damages.note(damage(Part::Windows, 6, 6, Readings::Exactly(1))));
        assert!(damages.note(damage(Part::Windows, 8, 8, Readings::Exactly(0))), "a trace all the same");
        assert_eq!(damages.list().len(), 3);
    }

    #[test]
    fn damaged_batches_one_after_the_other_are_one_and_those_of_another_numbering_are_others() {
        let mut damages = Damages::default();
        damages.note_batch(5, (10, 20), 3);
        damages.note_batch(6, (21, 30), 4);
        damages.note_batch(6, (21, 30), 4);
        damages.note_batch(5, (90, 95), 1);
        let found: Vec<_> = damages
            .list()
            .iter()
            .map(|known| (known.first, known.last, known.from_ns, known.to_ns, known.readings))
            .collect();
        let expected = [
            (5, 6, Some(10), Some(30), Readings::Exactly(7)),
            (5, 5, Some(90), Some(95), Readings::Exactly(1)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_newest_stay_and_survive_their_bytes() {
        let mut damages = Damages::default();
        for at in 0..MAX as u64 + 5 {
            let readings = [Readings::Exactly(at), Readings::AtMost(at), Readings::Unknown][at as usize % 3];
            damages.note(Damage { again: at, ..damage(Part::Spool, at, at + 1, readings) });
        }
        assert_eq!((damages.list().len(), damages.list()[0].first), (MAX, 5));
        let mut bytes = Vec::new();
        damages.encode(&mut bytes);
        assert_eq!(Damages::decode(&mut Cursor(&bytes)).unwrap(), damages);
        assert_eq!(Damages::decode(&mut Cursor(&[])).unwrap(), Damages::default());
    }

    #[test]
    fn a_sentence_says_where_how_much_and_what_nobody_knows() {
        let said = |readings| damage(Part::Journal, 5, 7, readings).sentence();
        assert_eq!(
            said(Readings::Exactly(3)),
            "records 5 to 7 of the journal are damaged: 3 readings are lost"
        );
        assert_eq!(
            said(Readings::Unknown),
            "records 5 to 7 of the journal are damaged or gone, or what came behind them: an unknown number of readings that were in no batch is lost, and not in the ledger"
        );
        let batches = |last| damage(Part::Spool, 1, last, Readings::Exactly(9)).sentence();
        assert_eq!(batches(1), "batch 1 of the spool is damaged: 9 readings are lost");
        assert_eq!(batches(2), "batches 1 to 2 of the spool are damaged: 9 readings are lost");
        assert!(damage(Part::Spool, 1, 2, Readings::AtMost(9)).sentence().contains("at most 9 readings"));
    }
}
