//! A log that could not be synced when it was opened: what is in it may never have reached the disk. And a cursor that the
//! disk didn't give then, for want of rights or of file handles: it is there, and nobody knows what it says.
//!
//! DURABILITY: nothing may be built on it. A cursor that names its batches, or one of them that is sent, would
//! speak of what the next power cut takes away, and the journal would be freed of it. So nothing is appended, cut, sent or
//! written down until the log was opened anew and proven; then the state is what that finds.

use std::sync::Arc;

use crate::state::State;
use crate::writer::Writer;
use crate::{OpenError, SpoolError};
use crate::{cursor, recover};

impl Writer {
    /// Whether what was opened is durable.
    pub(crate) fn proven(&self) -> bool {
        self.unproven.is_none()
    }

    /// Opens the log anew if it isn't proven yet. True when that was so, and what is known has changed.
    ///
    /// # Errors
    /// [`SpoolError::Broken`]: it isn't proven yet; call again.
    pub(crate) fn prove(&mut self) -> Result<bool, SpoolError> {
        if self.proven() {
            return Ok(false);
        }
        // Looked at first: reading a long log again and again would be for nothing.
        if let Some(reason) = cursor::withheld(&*self.storage, &self.config.dir.join("cursor")) {
            self.state.lock().trouble = Some(reason.clone());
            return Err(SpoolError::Broken(reason));
        }
        // The old one holds the lock.
        self.log = None;
        let opened = recover::open(self.config.clone(), Arc::clone(&self.storage), Arc::clone(&self.table));
        let reason = match opened {
            Ok((found, recovery)) if found.proven() => {
                tracing::warn!(?recovery, "the spool could be synced now, and was read again");
                self.adopt(found);
                return Ok(true);
            }
            Ok((found, _)) => {
                (self.log, self.unproven) = (found.log, found.unproven);
                self.unproven.clone().unwrap_or_default()
            }
            Err(OpenError { source, .. }) => source.to_string(),
        };
        self.state.lock().trouble = Some(reason.clone());
        Err(SpoolError::Broken(reason))
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
