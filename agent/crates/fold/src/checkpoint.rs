//! Checkpoints.

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by a build with another format.
    #[error("the checkpoint has format {0}; this build reads format {1}: replay the journal from its start")]
    Version(u8, u8),
    /// Damaged or cut short.
    #[error("the checkpoint is damaged ({0}): replay the journal from its start")]
    Damaged(&'static str),
}
