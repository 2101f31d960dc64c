//! Who sent a request or started a job: the program under test, or a second tool.

use serde::Serialize;

/// The header by which a second tool on the same accounts makes itself known, with any value.
///
/// Requests without it come from the program under test.
pub const TOOL_HEADER: &str = "x-sim-tool";

/// Who sent a request or started a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The program under test.
    Ours,
    /// A second tool on the same accounts; see [`TOOL_HEADER`].
    Foreign,
}
