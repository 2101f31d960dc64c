//! What accounts own besides jobs: avatars, elements, uploaded files and speech, each under an id
//! that only its account knows.

use std::collections::VecDeque;

use serde_json::Value;

use crate::refusal::Refusal;

/// The most things remembered over all accounts. Past this limit the oldest one is forgotten.
const ITEMS_MAX: usize = 10_000;

/// The kind of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Avatar,
    Element,
    Upload,
    Speech,
}

impl ItemKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avatar => "avatar",
            Self::Element => "element",
            Self::Upload => "asset",
            Self::Speech => "speech",
        }
    }

    /// The id of the thing with this number, always a string.
    fn id(self, number: u64) -> String {
        match self {
            Self::Avatar => (300_000_000_000_000 + number).to_string(),
            Self::Element => format!("u_{}", 300_000_000_000_000 + number),
            // 18 digits, which no double holds.
            Self::Upload | Self::Speech => (300_000_000_000_000_000 + number).to_string(),
        }
    }
}

#[derive(Debug)]
struct Item {
    kind: ItemKind,
    email: String,
    id: String,
    shown: Value,
}

/// All things of all accounts.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    items: VecDeque<Item>,
    item_count: u64,
}

impl Shelf {
    /// Adds a thing. `show` makes its JSON from its new id.
    pub(super) fn add(
        &mut self,
        kind: ItemKind,
        email: &str,
        show: impl FnOnce(&str) -> Value,
    ) -> &Value {
        self.item_count += 1;
        let id = kind.id(self.item_count);
        if self.items.len() == ITEMS_MAX {
            self.items.pop_front();
        }
        let item = Item {
            kind,
            email: email.to_owned(),
            shown: show(&id),
            id,
        };
        &self.items.push_back_mut(item).shown
    }

    /// All things of one kind on an account, newest first.
    pub(super) fn list(&self, kind: ItemKind, email: &str) -> Vec<Value> {
        let items = self.items.iter().rev();
        let owned = items.filter(|item| item.kind == kind && item.email == email);
        owned.map(|item| item.shown.clone()).collect()
    }

    /// One thing of an account.
    pub(super) fn get(&self, kind: ItemKind, email: &str, id: &str) -> Result<Value, Refusal> {
        let idx = self.find(kind, email, id)?;
        Ok(self.items[idx].shown.clone())
    }

    /// Whether any account has this thing.
    pub(super) fn has(&self, kind: ItemKind, id: &str) -> bool {
        let mut items = self.items.iter();
        items.any(|item| item.kind == kind && item.id == id)
    }

    /// Removes one thing of an account.
    pub(super) fn remove(&mut self, kind: ItemKind, email: &str, id: &str) -> Result<(), Refusal> {
        let idx = self.find(kind, email, id)?;
        self.items.remove(idx);
        Ok(())
    }

    fn find(&self, kind: ItemKind, email: &str, id: &str) -> Result<usize, Refusal> {
        let is_it = |item: &Item| item.kind == kind && item.email == email && item.id == id;
        let idx = self.items.iter().position(is_it);
        idx.ok_or_else(|| Refusal::NotFound {
            what: kind.name(),
            id: id.to_owned(),
        })
    }
}
