//! One request, read and understood, before anything was done about it.

use bytes::Bytes;
use http::Method;

use crate::{body::Fields, head::Head, origin::Origin, refusal::Refusal};

/// A request whose body has arrived.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) head: Head,
    /// The segment in place of the `{…}` of the operation's path, decoded.
    pub(crate) segment: String,
    /// The body, or its beginning if it is an upload.
    pub(crate) body: Bytes,
    pub(crate) byte_count: u64,
    /// The fields that the operation reads from the body.
    pub(crate) fields: Result<Fields, Refusal>,
    /// How many rounds had been answered when it arrived.
    pub(crate) round: u64,
    /// Whether a script interferes with it, so that it is unknown what the client will receive.
    pub(crate) is_disturbed: bool,
}

impl Call {
    /// A request without its body.
    pub(crate) fn new(head: Head, segment: String) -> Self {
        Self {
            head,
            segment,
            body: Bytes::new(),
            byte_count: 0,
            fields: Ok(Fields::default()),
            round: 0,
            is_disturbed: false,
        }
    }

    /// Whether its answer counts as telling the program under test what it says.
    pub(crate) fn tells_us(&self) -> bool {
        self.head.origin() == Origin::Ours && self.head.method == Method::GET && !self.is_disturbed
    }

    /// The account named in the body, if that can be read.
    pub(crate) fn email_in_body(&self) -> Option<String> {
        self.fields.as_ref().ok()?.text("email").ok()?
    }

    /// The `replyRef` in the body, if that can be read.
    pub(crate) fn reply_ref(&self) -> Option<String> {
        self.fields.as_ref().ok()?.text("replyRef").ok()?
    }
}
