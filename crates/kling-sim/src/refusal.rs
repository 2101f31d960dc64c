//! Why the upstream refuses a request: every refusal, its words, its status and the form of its
//! body.
//!
//! The words are the upstream's own where they are known, hence their capitals and full stops.

use http::StatusCode;

use crate::task_id::TaskId;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Configuration not found. To create configuration use POST /accounts.")]
    NotConfigured,
    #[error("Account configuration not found. To create configuration use POST /accounts.")]
    AccountUnknown,
    #[error("Parameter email is required when several accounts are configured")]
    EmailRequired,
    #[error("Account {email} in error state: {error}")]
    AccountInError { email: String, error: String },
    #[error("Not enough credits: requested 1, available 0")]
    NoCredit,
    #[error("The prompt violates the community guidelines (CM_EXT.POther)")]
    Moderated,
    #[error("Request body must be a JSON object")]
    NotAJsonObject,
    #[error("Request body is not multipart: {error}")]
    MultipartInvalid { error: String },
    #[error("Parameter {field} is required")]
    FieldMissing { field: &'static str },
    #[error("Parameter {field} must be {expected}")]
    FieldInvalid {
        field: &'static str,
        expected: &'static str,
    },
    #[error("Parameter replyRef requires replyUrl")]
    ReplyRefAlone { is_unprocessable: bool },
    #[error("Parameter duration must be 5 or 10: {{\"replyRef\":\"{reply_ref}\"}}")]
    Quoting { reply_ref: String },
    #[error("Internal Server Error")]
    Broken,
    #[error("Request body exceeds {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("Request body could not be read")]
    BodyUnreadable,
    #[error("Account {email} is at capacity: {executing} of {cap} jobs executing")]
    AtCapacity {
        email: String,
        executing: u32,
        cap: u32,
    },
    #[error("Invalid task_id parameter")]
    TaskIdInvalid,
    #[error("No works found for task {id}")]
    NoWorks { id: TaskId },
    #[error("Unable to locate running task_id {id}")]
    NotRunning { id: TaskId },
    #[error("Unable to locate {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error("Content-Type {media} is not supported")]
    MediaUnsupported { media: String },
    #[error("File exceeds {limit} bytes")]
    FileTooLarge { limit: u64 },
    #[error("No such operation")]
    NoRoute,
    /// A call to the simulator itself that makes no sense.
    #[error("{error}")]
    ControlInvalid { error: String },
    /// A call to the simulator itself that adds one fault too many.
    #[error("There are {limit} faults already")]
    TooManyFaults { limit: usize },
}

/// How a refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The words alone, as `text/plain`.
    Text,
    /// `{"error":"…"}`
    Error,
    /// `{"error":"…","code":…}`
    ErrorWithCode,
    /// `{"error":"…","message":"…"}`: Kling's own refusal, whose message misleads clients into
    /// retrying.
    ErrorWithMessage,
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::EmailRequired
            | Self::NotAJsonObject
            | Self::MultipartInvalid { .. }
            | Self::FieldMissing { .. }
            | Self::FieldInvalid { .. }
            | Self::Quoting { .. }
            | Self::MediaUnsupported { .. }
            | Self::FileTooLarge { .. }
            | Self::BodyUnreadable
            | Self::TaskIdInvalid
            | Self::ControlInvalid { .. }
            | Self::TooManyFaults { .. } => StatusCode::BAD_REQUEST,
            Self::ReplyRefAlone {
                is_unprocessable: false,
            } => StatusCode::BAD_REQUEST,
            Self::ReplyRefAlone {
                is_unprocessable: true,
            } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotConfigured
            | Self::AccountUnknown
            | Self::NoWorks { .. }
            | Self::NotRunning { .. }
            | Self::NotFound { .. }
            | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoCredit => StatusCode::PRECONDITION_FAILED,
            Self::Moderated | Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AtCapacity { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::AccountInError { .. } => {
                StatusCode::from_u16(596).expect("596 has three digits, which is all http asks for")
            }
        }
    }

    /// The form of the body; the upstream has four.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::NotConfigured | Self::AccountUnknown => Form::Text,
            Self::Moderated => Form::ErrorWithMessage,
            Self::TaskIdInvalid
            | Self::NoWorks { .. }
            | Self::NotRunning { .. }
            | Self::NotFound { .. } => Form::Error,
            Self::Unauthorized
            | Self::EmailRequired
            | Self::AccountInError { .. }
            | Self::NoCredit
            | Self::NotAJsonObject
            | Self::MultipartInvalid { .. }
            | Self::MediaUnsupported { .. }
            | Self::FileTooLarge { .. }
            | Self::FieldMissing { .. }
            | Self::FieldInvalid { .. }
            | Self::ReplyRefAlone { .. }
            | Self::Quoting { .. }
            | Self::Broken
            | Self::BodyTooLarge { .. }
            | Self::BodyUnreadable
            | Self::AtCapacity { .. }
            | Self::NoRoute
            | Self::ControlInvalid { .. }
            | Self::TooManyFaults { .. } => Form::ErrorWithCode,
        }
    }
}
