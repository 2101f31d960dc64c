//! Lists of a sidecar, page by page.

use serde_json::Value;

use super::{
    call::{Client, encoded},
    error::ClientError,
};

/// The rows of one page: some 700 bytes each, far less than is read of an answer.
const PAGE_ROWS: usize = 1000;

impl Client<'_> {
    /// What the path of a list answers, such as `/accounts` with its member `accounts`, whole.
    pub(super) async fn whole(&self, path: &str, member: &str) -> Result<Value, ClientError> {
        let first = format!("{path}?limit={PAGE_ROWS}");
        let mut answer = self.json(&self.get(&first).await?)?;
        let mut rows = Vec::new();
        while let Some(next) = take_page(&mut answer, member, &mut rows) {
            let path = format!("{first}&after={}", encoded(&next));
            answer = self.json(&self.get(&path).await?)?;
        }
        answer[member] = Value::Array(rows);
        Ok(answer)
    }
}

/// Moves the rows of a page. Returns where the next one begins.
fn take_page(page: &mut Value, member: &str, rows: &mut Vec<Value>) -> Option<String> {
    if let Some(found) = page[member].as_array_mut() {
        rows.append(found);
    }
    let page = page.as_object_mut()?;
    let next = page.remove("next")?;
    next.as_str().map(str::to_owned)
}
