//! A log that could not be synced when it was opened: what is in it may never have reached the disk. And a segment, or the
//! cursor, that the system didn't give then, for want of rights or of file handles: it is there, and nobody knows what it says.
//!
//! DURABILITY: nothing may be built on it. A cursor that names its batches, or one of them that is sent, would
//! speak of what the next power cut takes away, and the journal would be freed of it. So nothing is appended, cut, sent or
//! written down until the log was opened anew and proven; then the state is what that finds. Opening reads all that waits:
//! it is done at once, and then with pauses that grow.

use std::sync::Arc;
use std::time::Duration;

use crate::state::State;
use crate::writer::Writer;
use crate::{OpenError, SpoolError};
use crate::{cursor, recover};

/// The pause after the first opening in vain, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Why nothing may be built on what was opened.
#[derive(Clone, Debug)]
pub(crate) enum Unproven {
    /// It may not be on the disk.
    Unsynced(String),
    /// A file of it is there and isn't given.
    Withheld(String),
}

impl Unproven {
    fn error(&self) -> SpoolError {
        match self {
            Self::Unsynced(why) => SpoolError::Broken(why.clone()),
            Self::Withheld(why) => SpoolError::Withheld(why.clone()),
        }
    }

    /// Says so to those who look.
    pub(crate) fn tell(&self, state: &mut State, again: Again) {
        let Again { tries, at } = again;
        (state.trouble, state.withheld) = match self.clone() {
            Self::Unsynced(why) => (Some(why), None),
            Self::Withheld(why) => (Some(why.clone()), Some(Waiting { why, tries, at })),
        };
    }
}

/// How often a log was opened anew, and when it is next: at once, and then with pauses that grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again {
    tries: u32,
    at: Duration,
}

impl Again {
    /// Not before this it is tried.
    pub(crate) fn at(&self) -> Duration {
        self.at
    }

    /// It is tried now.
    pub(crate) fn next(&mut self, now: Duration) {
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.tries)).min(LONGEST);
        (self.tries, self.at) = (self.tries + 1, now + pause);
    }
}

/// What is withheld, for those who look.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) why: String,
    pub(crate) tries: u32,
    pub(crate) at: Duration,
}

/// What a person reads of it.
pub(crate) fn withheld_for(error: &dyn std::fmt::Display) -> String {
    format!("{error}; what is in it is kept: give it to the agent's user, or more file handles to the agent")
}

impl Writer {
    /// Whether what was opened is durable.
    pub(crate) fn proven(&self) -> bool {
        self.unproven.is_none()
    }

    /// Opens the log anew if it isn't proven yet, and it is time to. True when that was so, and what is known has changed.
    ///
    /// # Errors
    /// [`SpoolError::Broken`], [`SpoolError::Withheld`]: it isn't proven yet; call again.
    pub(crate) fn prove(&mut self) -> Result<bool, SpoolError> {
        let Some(known) = self.unproven.clone() else { return Ok(false) };
        let now = self.state.lock().now;
        if now < self.again.at {
            return Err(known.error());
        }
        self.again.next(now);
        let unproven = match self.open_anew() {
            Ok(true) => return Ok(true),
            Ok(false) => self.unproven.clone().unwrap_or(known),
            Err(unproven) => unproven,
        };
        unproven.tell(&mut self.state.lock(), self.again);
        let error = unproven.error();
        self.unproven = Some(unproven);
        Err(error)
    }

    /// True when what was found is proven, and was taken.
    fn open_anew(&mut self) -> Result<bool, Unproven> {
        // Looked at first: reading a long log again and again would be for nothing.
        if let Some(reason) = cursor::withheld(&*self.storage, &self.config.dir.join("cursor")) {
            return Err(Unproven::Withheld(reason));
        }
        // The old one holds the lock.
        self.log = None;
        match recover::open(self.config.clone(), Arc::clone(&self.storage), Arc::clone(&self.table)) {
            Ok((found, recovery)) if found.proven() => {
                tracing::warn!(?recovery, "the spool could be opened whole now, and was read again");
                self.adopt(found);
                Ok(true)
            }
            Ok((found, _)) => {
                (self.log, self.unproven) = (found.log, found.unproven);
                Ok(false)
            }
            Err(OpenError { source, .. }) => Err(Unproven::Unsynced(source.to_string())),
        }
    }

    /// Takes the place of what was opened first, where others look at it.
    fn adopt(&mut self, mut found: Self) {
        let (state, readers, place) =
            (Arc::clone(&self.state), Arc::clone(&self.readers), Arc::clone(&self.place));
        {
            let mut known = state.lock();
            let fresh = std::mem::replace(&mut *found.state.lock(), State::new());
            let (now, replaying) = (known.now, known.replaying);
            *known = State { now, replaying, news: true, ..fresh };
            *readers.lock() = found.readers.lock().clone();
            *place.lock() = None;
        }
        (found.state, found.readers, found.place) = (state, readers, place);
        found.reserve = self.reserve.take();
        *self = found;
    }
}
