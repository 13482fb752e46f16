//! What a batch is called: (agent, epoch, seq), and the lane it travels on.

/// A random id made when a spool is created, or when its numbering must start anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub [u8; 16]);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// A batch's name within its agent: seq counts from 1 in its epoch, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// The numbering it belongs to.
    pub epoch: Epoch,
    /// Its number there.
    pub seq: u64,
}

/// Which of the two queues a batch is sent on; decided at sending, by its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Younger than ten seconds.
    Live,
    /// Older; sent beside the live lane on its own share.
    Backlog,
}
