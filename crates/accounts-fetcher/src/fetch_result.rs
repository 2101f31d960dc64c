//! How a fetch ended: a closed set, fit for a metric label, and the counters over it.

use std::fmt;

/// What an operator can do where the upstream's certificate is not trusted.
pub const CERTIFICATE_ADVICE: &str = "the upstream's certificate is not trusted: check upstream.base_url and the \
                                      clock; where the network breaks TLS open, name a file with its root \
                                      certificate in upstream.ca_file";

/// How one fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchResult {
    /// The list was believed, with every entry.
    Ok,
    /// The list was believed, but at least one of its entries was rejected.
    Partial,
    /// More than half of the accounts are missing; believed if the next fetch shows that again.
    ShrinkHeld,
    /// A valid empty list, not yet believed.
    EmptyHeld,
    /// An empty list, believed.
    Empty,
    /// 404 "Configuration not found": counts like an empty list, whether believed or not yet.
    NotConfigured,
    /// 401 or 403, or a token that no header can carry.
    Unauthorized,
    /// Any other status than 200.
    Status,
    /// 3xx; never followed.
    Redirect,
    /// Status 200 with a content type other than JSON.
    ContentType,
    /// A content encoding that was not asked for, or broken gzip.
    Encoding,
    /// Not JSON.
    Parse,
    /// JSON, but not a list of accounts.
    Schema,
    /// Beyond one of the [`limits`](crate::limits).
    TooLarge,
    /// A deadline passed after the connection was open.
    Timeout,
    /// No connection: refused, unreachable, name not resolved, TLS not agreed.
    Connect,
    /// The certificate of the upstream is not trusted.
    Certificate,
    /// The connection broke or ended early, or did not speak HTTP.
    Transport,
    /// The list file cannot be read.
    File,
}

impl FetchResult {
    /// Every result, in declaration order.
    pub const ALL: [FetchResult; 19] = [
        FetchResult::Ok,
        FetchResult::Partial,
        FetchResult::ShrinkHeld,
        FetchResult::EmptyHeld,
        FetchResult::Empty,
        FetchResult::NotConfigured,
        FetchResult::Unauthorized,
        FetchResult::Status,
        FetchResult::Redirect,
        FetchResult::ContentType,
        FetchResult::Encoding,
        FetchResult::Parse,
        FetchResult::Schema,
        FetchResult::TooLarge,
        FetchResult::Timeout,
        FetchResult::Connect,
        FetchResult::Certificate,
        FetchResult::Transport,
        FetchResult::File,
    ];

    /// Whether a list was answered and believed.
    pub fn is_believed(self) -> bool {
        match self {
            FetchResult::Ok | FetchResult::Partial | FetchResult::Empty => true,
            FetchResult::ShrinkHeld
            | FetchResult::EmptyHeld
            | FetchResult::NotConfigured
            | FetchResult::Unauthorized
            | FetchResult::Status
            | FetchResult::Redirect
            | FetchResult::ContentType
            | FetchResult::Encoding
            | FetchResult::Parse
            | FetchResult::Schema
            | FetchResult::TooLarge
            | FetchResult::Timeout
            | FetchResult::Connect
            | FetchResult::Certificate
            | FetchResult::Transport
            | FetchResult::File => false,
        }
    }

    /// What an operator can do about it, if anything.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        match self {
            FetchResult::Unauthorized => Some("check upstream.token"),
            FetchResult::NotConfigured | FetchResult::Empty | FetchResult::EmptyHeld => {
                Some("add accounts with POST /accounts at the upstream")
            }
            FetchResult::Connect => Some("check upstream.base_url and the network"),
            FetchResult::Certificate => Some(CERTIFICATE_ADVICE),
            FetchResult::Status
            | FetchResult::Redirect
            | FetchResult::ContentType
            | FetchResult::Parse
            | FetchResult::Schema => Some("does upstream.base_url lead to the Kling API?"),
            FetchResult::Timeout => Some("the upstream is slow, see accounts.timeout"),
            FetchResult::File => Some("check accounts.file"),
            FetchResult::Ok
            | FetchResult::Partial
            | FetchResult::ShrinkHeld
            | FetchResult::Encoding
            | FetchResult::TooLarge
            | FetchResult::Transport => None,
        }
    }

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FetchResult::Ok => "ok",
            FetchResult::Partial => "partial",
            FetchResult::ShrinkHeld => "shrink_held",
            FetchResult::EmptyHeld => "empty_held",
            FetchResult::Empty => "empty",
            FetchResult::NotConfigured => "not_configured",
            FetchResult::Unauthorized => "unauthorized",
            FetchResult::Status => "status",
            FetchResult::Redirect => "redirect",
            FetchResult::ContentType => "content_type",
            FetchResult::Encoding => "encoding",
            FetchResult::Parse => "parse",
            FetchResult::Schema => "schema",
            FetchResult::TooLarge => "too_large",
            FetchResult::Timeout => "timeout",
            FetchResult::Connect => "connect",
            FetchResult::Certificate => "certificate",
            FetchResult::Transport => "transport",
            FetchResult::File => "file",
        }
    }

    /// Whether the list was believed, so that an unchanged source need not be read again.
    pub(crate) fn is_settled(self) -> bool {
        matches!(
            self,
            FetchResult::Ok | FetchResult::Partial | FetchResult::Empty
        )
    }
}

/// How many fetches ended in each [`FetchResult`] since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchCounts([u64; FetchResult::ALL.len()]);

impl FetchCounts {
    /// How many fetches ended in `result`.
    #[must_use]
    pub fn get(&self, result: FetchResult) -> u64 {
        self.0[result as usize]
    }

    pub(crate) fn increment(&mut self, result: FetchResult) {
        self.0[result as usize] += 1;
    }
}

impl fmt::Debug for FetchCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = FetchResult::ALL
            .iter()
            .filter(|&&result| self.get(result) > 0);
        f.debug_map()
            .entries(counted.map(|&result| (result.as_str(), self.get(result))))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_result_has_a_place_and_a_label_of_its_own() {
        let mut labels = HashSet::new();
        for (place, result) in FetchResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, place);
            assert!(
                labels.insert(result.as_str()),
                "{result:?} shares its label"
            );
        }
    }

    #[test]
    fn counts_are_kept_apart() {
        let mut counts = FetchCounts::default();
        counts.increment(FetchResult::File);
        counts.increment(FetchResult::Ok);
        counts.increment(FetchResult::Ok);
        assert_eq!(format!("{counts:?}"), r#"{"ok": 2, "file": 1}"#);
    }
}
