//! What a caller calls an account, ready to be looked up: its e-mail, or in our own surface its alias, too.
//!
//! Whether an alias counts is said where the name is made, and decided where it is looked up
//! (`Accounts::alike`). In a call that is carried the `email` is the upstream's word, not ours: an alias there is an
//! e-mail that is not in the list.

use std::sync::Arc;

/// An e-mail, or also an alias, with its folded form, by which it is compared. Made before the ledger is locked:
/// folding takes a copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    folded: Arc<str>,
    given: Arc<str>,
    may_be_alias: bool,
}

impl Name {
    /// The name `email`, or the alias of an account if there is no such e-mail.
    pub fn or_alias(name: &str) -> Self {
        Self {
            may_be_alias: true,
            ..Self::new(name)
        }
    }

    /// The name `email`.
    pub fn new(email: &str) -> Self {
        Self::sharing(Arc::from(email))
    }

    /// The same. It has no memory of its own if the e-mail has no capital letter.
    pub(super) fn sharing(email: Arc<str>) -> Self {
        let is_folded = !email.bytes().any(|byte| byte.is_ascii_uppercase());
        let folded = if is_folded {
            Arc::clone(&email)
        } else {
            email.to_ascii_lowercase().into()
        };
        Self {
            folded,
            given: email,
            may_be_alias: false,
        }
    }

    /// The names `names`, each an e-mail or an alias, sorted.
    pub fn sorted(names: &[String]) -> Arc<[Self]> {
        if names.is_empty() {
            return Arc::default();
        }
        let mut names: Vec<_> = names.iter().map(|name| Self::or_alias(name)).collect();
        names.sort_unstable();
        names.into()
    }

    /// Whether it may be an alias.
    pub(super) fn may_be_alias(&self) -> bool {
        self.may_be_alias
    }

    /// The name as the caller spelled it.
    pub fn given(&self) -> &Arc<str> {
        &self.given
    }

    /// The name in ASCII lower case: equal for names that differ only in case.
    pub(super) fn folded(&self) -> &Arc<str> {
        &self.folded
    }
}
