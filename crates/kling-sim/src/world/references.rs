//! What a job refers to: fields that name a thing by an id that only its account knows.

use super::{World, shelf::ItemKind};
use crate::{body::Fields, refusal::Refusal, task_id::TaskId};

/// The ids in the vendor's sample scripts: an element and an avatar.
///
/// No account has them; see [`SimBuilder::accept_ids`](crate::SimBuilder::accept_ids).
pub const SAMPLE_IDS: [&str; 2] = ["u_123456789012345", "300137233318846"];

/// Fields that name an element.
const ELEMENT_FIELDS: [&str; 7] = [
    "element_1",
    "element_2",
    "element_3",
    "element_4",
    "element_5",
    "element_6",
    "element_7",
];

/// Avatar ids with more digits are personal; templates belong to all accounts.
const TEMPLATE_DIGITS_MAX: usize = 8;

impl World {
    /// Finds everything that a job start names on the account that will run the job, as Kling does.
    /// Every account has the ids that the settings accept.
    pub(super) fn find_references(&self, email: &str, fields: &Fields) -> Result<(), Refusal> {
        let named = |field| {
            let id = fields.id(field)?;
            (!self.settings.accepted_ids.contains(&id)).then_some(id)
        };
        if let Some(id) = named("task_id") {
            let id: i64 = id.parse().or(Err(Refusal::TaskIdInvalid))?;
            self.owned(email, TaskId::from(id))?;
        }
        // The work ids of official motions are negative.
        if let Some(id) = named("workId").filter(|id| !id.starts_with('-')) {
            self.made(email, &id)?;
        }
        let avatar = named("avatarId");
        if let Some(id) = avatar.filter(|id| id.len() > TEMPLATE_DIGITS_MAX) {
            self.shelf.get(ItemKind::Avatar, email, &id)?;
        }
        let elements = ELEMENT_FIELDS.iter().filter_map(|field| named(field));
        for id in elements.filter(|id| id.starts_with("u_")) {
            self.shelf.get(ItemKind::Element, email, &id)?;
        }
        Ok(())
    }
}
