//! What the upstream does with `replyRef`, as far as its pages leave that open.

use std::collections::HashMap;

use serde::Deserialize;

use crate::refusal::Refusal;

/// What becomes of the `replyRef` of a job start. It is *alone* if no `replyUrl` came with it.
///
/// A job that runs already is shown as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplyRefs {
    /// The scheduler's answers show it with the job.
    #[default]
    Kept,
    /// It is never shown.
    Dropped,
    /// It is shown unless it is alone.
    KeptWithUrl,
    /// Alone, it is refused with 400. The text names the field.
    Alone400,
    /// Alone, it is refused with 422. The text names the field.
    Alone422,
    /// Alone, it is answered with 500, and no job starts.
    Alone500,
    /// Alone, it is answered with 500, and the job starts.
    Alone500Started,
    /// The job start is refused with 400 for another reason, with or without a `replyRef`. The text
    /// quotes it.
    Quoted,
}

/// What a job start comes to by its `replyRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Treated {
    /// What the scheduler shows.
    pub(crate) shown: Option<String>,
    /// Whether the client is told of the job.
    pub(crate) is_told: bool,
}

impl ReplyRefs {
    /// Judges a job start by its `replyRef`, and by whether it is alone.
    pub(crate) fn treat(
        self,
        reply_ref: Option<&str>,
        reply_url: Option<&str>,
    ) -> Result<Treated, Refusal> {
        let is_alone = reply_ref.is_some() && reply_url.is_none();
        let is_shown = match self {
            Self::Alone400 | Self::Alone422 if is_alone => {
                let is_unprocessable = self == Self::Alone422;
                return Err(Refusal::ReplyRefAlone { is_unprocessable });
            }
            Self::Alone500 if is_alone => return Err(Refusal::Broken),
            Self::Quoted => {
                let quoted = reply_ref.unwrap_or_default().to_owned();
                return Err(Refusal::Quoting { reply_ref: quoted });
            }
            Self::Dropped => false,
            Self::KeptWithUrl => !is_alone,
            Self::Kept
            | Self::Alone400
            | Self::Alone422
            | Self::Alone500
            | Self::Alone500Started => true,
        };
        Ok(Treated {
            shown: reply_ref.filter(|_| is_shown).map(str::to_owned),
            is_told: !(is_alone && self == Self::Alone500Started),
        })
    }
}

/// How each operation treats a `replyRef`.
#[derive(Debug, Default)]
pub(crate) struct ReplyRefRules {
    usual: ReplyRefs,
    by_path: HashMap<&'static str, ReplyRefs>,
}

impl ReplyRefRules {
    /// Sets what all operations do from now on.
    pub(crate) fn set(&mut self, reply_refs: ReplyRefs) {
        self.usual = reply_refs;
        self.by_path.clear();
    }

    /// Sets what the operation of this path does from now on.
    pub(crate) fn set_on(&mut self, path: &'static str, reply_refs: ReplyRefs) {
        self.by_path.insert(path, reply_refs);
    }

    /// What the operation of this path does.
    pub(crate) fn on(&self, path: &str) -> ReplyRefs {
        self.by_path.get(path).copied().unwrap_or(self.usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_one_operation_wins_until_all_are_set() {
        let mut rules = ReplyRefRules::default();
        rules.set_on("/a", ReplyRefs::Dropped);
        assert_eq!(rules.on("/a"), ReplyRefs::Dropped);
        assert_eq!(rules.on("/b"), ReplyRefs::Kept);
        rules.set(ReplyRefs::Quoted);
        assert_eq!(rules.on("/a"), ReplyRefs::Quoted);
    }

    #[test]
    fn only_one_that_is_alone_is_refused() {
        for reply_refs in [
            ReplyRefs::Alone400,
            ReplyRefs::Alone422,
            ReplyRefs::Alone500,
        ] {
            reply_refs.treat(Some("r"), None).unwrap_err();
            let with_url = reply_refs.treat(Some("r"), Some("http://h")).unwrap();
            assert_eq!(with_url.shown.as_deref(), Some("r"));
            assert_eq!(reply_refs.treat(None, None).unwrap().shown, None);
        }
    }
}
