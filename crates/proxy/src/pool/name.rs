//! An e-mail as a caller spells it, ready to be looked up.

use std::sync::Arc;

/// An e-mail with its folded form, by which it is compared. Made before the ledger is locked:
/// folding takes a copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    folded: Arc<str>,
    given: Arc<str>,
}

impl Name {
    /// The name `email`.
    pub fn new(email: &str) -> Self {
        let given = Arc::<str>::from(email);
        let is_folded = !email.bytes().any(|byte| byte.is_ascii_uppercase());
        let folded = if is_folded {
            Arc::clone(&given)
        } else {
            email.to_ascii_lowercase().into()
        };
        Self { folded, given }
    }

    /// The names `emails`, sorted.
    pub fn sorted(emails: &[String]) -> Arc<[Self]> {
        if emails.is_empty() {
            return Arc::default();
        }
        let mut names: Vec<_> = emails.iter().map(|email| Self::new(email)).collect();
        names.sort_unstable();
        names.into()
    }

    /// The e-mail as the caller spelled it.
    pub fn given(&self) -> &Arc<str> {
        &self.given
    }

    /// Whether the names differ in ASCII case at most.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.folded == other.folded
    }

    /// Sorts before every name that differs in ASCII case at most.
    pub(super) fn first_alike(&self) -> Self {
        Self {
            folded: Arc::clone(&self.folded),
            given: Arc::default(),
        }
    }

    /// The e-mail in ASCII lower case: equal for names that differ only in case.
    pub(super) fn folded(&self) -> &Arc<str> {
        &self.folded
    }
}
