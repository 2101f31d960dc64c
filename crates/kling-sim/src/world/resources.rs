//! Operations without a job: avatars, elements, uploads, speech, accounts.

use serde_json::{Value, json};

use super::{World, shelf::ItemKind};
use crate::{account::MAX_JOBS, call::Call, media::Media, refusal::Refusal, upload::UPLOADS};

impl World {
    /// `POST /accounts`: adds an account, or resizes it and ends its error.
    pub(crate) fn save_account(&mut self, call: &Call) -> Result<Value, Refusal> {
        let fields = call.fields.as_ref().map_err(Clone::clone)?;
        let email = fields.text("email")?.unwrap_or_default();
        let max_jobs = fields.max_jobs()?.unwrap_or(*MAX_JOBS.start());
        self.set_account(email.clone(), max_jobs);
        self.set_account_error(&email, None);
        self.show_account(&email)
    }

    /// `DELETE /accounts/{email}`
    pub(crate) fn drop_account(&mut self, email: &str) -> Result<(), Refusal> {
        if self.remove_account(email) {
            Ok(())
        } else {
            Err(Refusal::AccountUnknown)
        }
    }

    /// `POST /assets`: the answer names the file by its URL, and the list of uploads names it by
    /// its id.
    pub(crate) fn upload(&mut self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let media = call.head.headers.get("content-type");
        let media = media.and_then(|media| media.to_str().ok()).unwrap_or("");
        let media = media.split(';').next().unwrap_or("").trim();
        let row = UPLOADS.iter().find(|(types, ..)| types.contains(&media));
        let &(_, limit, status) = row.ok_or_else(|| Refusal::MediaUnsupported {
            media: media.to_owned(),
        })?;
        if call.byte_count > limit {
            return Err(Refusal::FileTooLarge { limit });
        }
        let (content, name) = media.split_once('/').unwrap_or_default();
        let shown = self.shelf.add(ItemKind::Upload, account, |id| {
            let url = format!("https://cdn.example/upload/{id}.{name}");
            json!({
                "id": id,
                "fileName": format!("{id}.{name}"),
                "contentType": content,
                "fileSize": call.byte_count,
                "resource": { "resource": url },
            })
        });
        let url = &shown["resource"]["resource"];
        Ok(json!({
            "status": status,
            "url": url,
            "message": "",
            "fileName": shown["fileName"],
            "resourceUrl": url,
            "coverUrl": url,
            "cover": url,
        }))
    }

    /// `GET /assets/uploaded`
    pub(crate) fn uploads(&self, account: &str) -> Value {
        json!({ "uploadAssetsList": self.shelf.list(ItemKind::Upload, account) })
    }

    /// `DELETE /assets/uploaded?id=…,…`: deletes those that belong to the account; at least one
    /// must.
    pub(crate) fn delete_uploads(&mut self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let ids = call.head.query("id");
        let ids = ids.ok_or(Refusal::FieldMissing { field: "id" })?;
        let mut remove = |id: &&str| self.shelf.remove(ItemKind::Upload, account, id).is_ok();
        let deleted: Vec<&str> = ids.split(',').filter(|id| remove(id)).collect();
        if deleted.is_empty() {
            return Err(Refusal::NotFound {
                what: ItemKind::Upload.name(),
                id: ids,
            });
        }
        Ok(json!({ "deleted": deleted.len(), "ids": deleted }))
    }

    /// `POST /avatars`: finished at once.
    pub(crate) fn create_avatar(&mut self, account: &str) -> Value {
        let show = |id: &str| json!({ "id": id, "status": "SUCCESS" });
        self.shelf.add(ItemKind::Avatar, account, show).clone()
    }

    /// `GET /avatars`: a bare array. The simulator has no templates.
    pub(crate) fn avatars(&self, account: &str, call: &Call) -> Value {
        match call.head.query("type").as_deref() {
            Some("templates") => json!([]),
            Some(_) | None => json!(self.shelf.list(ItemKind::Avatar, account)),
        }
    }

    /// `DELETE /avatars/{id}`
    pub(crate) fn delete_avatar(&mut self, account: &str, id: &str) -> Result<Value, Refusal> {
        self.shelf.remove(ItemKind::Avatar, account, id)?;
        Ok(json!({ "deleted": null }))
    }

    /// `POST /elements`: finished at once, in the shape that `GET` shows.
    pub(crate) fn create_element(&mut self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let fields = call.fields.as_ref().map_err(Clone::clone)?;
        let name = fields.text("name")?;
        let show = |id: &str| json!({ "id": id, "name": name, "status": 99, "official": false });
        let element = self.shelf.add(ItemKind::Element, account, show);
        Ok(json!({ "element": element }))
    }

    /// `GET /elements`
    pub(crate) fn elements(&self, account: &str) -> Value {
        let elements = self.shelf.list(ItemKind::Element, account);
        let total = elements.len();
        json!({ "elementsList": elements, "pageNum": 1, "pageSize": 50, "total": total })
    }

    /// `GET /elements/{id}`
    pub(crate) fn element(&self, account: &str, id: &str) -> Result<Value, Refusal> {
        Ok(json!({ "element": self.shelf.get(ItemKind::Element, account, id)? }))
    }

    /// `DELETE /elements/{id}`
    pub(crate) fn delete_element(&mut self, account: &str, id: &str) -> Result<Value, Refusal> {
        self.shelf.remove(ItemKind::Element, account, id)?;
        Ok(json!({ "deleted": null }))
    }

    /// `POST /tts/create`: a finished resource and no job.
    pub(crate) fn speak(&mut self, account: &str) -> Value {
        let urls = &self.settings.public_url;
        let show = |id: &str| {
            json!({
                "status": 99,
                "status_name": "succeed",
                "status_final": true,
                "contentType": "audio",
                "resource": { "resource": urls.output(id, Media::Audio), "duration": 2000 },
            })
        };
        self.shelf.add(ItemKind::Speech, account, show).clone()
    }
}
