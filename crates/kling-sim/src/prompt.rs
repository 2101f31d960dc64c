//! The words in a prompt with which a test decides what becomes of a job.

/// A job whose `prompt` contains this is refused, as Kling's moderation does: `500` with the
/// `CM_EXT` pair of texts.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// A job whose `prompt` contains this is accepted, takes its slot, and fails in the end.
pub(crate) const DOOMED: &str = "doomed";
