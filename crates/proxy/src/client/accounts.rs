//! All accounts of a sidecar, page by page.

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Client, ClientError};

/// The accounts of one page: some 200 bytes each, far less than is read of an answer.
const PAGE_ROWS: usize = 1000;

impl Client<'_> {
    /// What `/accounts` answers, whole.
    pub(super) async fn accounts(&self) -> Result<Value, ClientError> {
        let first = format!("/accounts?limit={PAGE_ROWS}");
        let mut answer = self.json(Method::GET, &first, true).await?;
        let mut accounts = Vec::new();
        while let Some(next) = take_page(&mut answer, &mut accounts) {
            let next = utf8_percent_encode(&next, NON_ALPHANUMERIC);
            let path = format!("{first}&after={next}");
            answer = self.json(Method::GET, &path, true).await?;
        }
        answer["accounts"] = Value::Array(accounts);
        Ok(answer)
    }
}

/// Moves the accounts of a page. Returns where the next one begins.
fn take_page(page: &mut Value, accounts: &mut Vec<Value>) -> Option<String> {
    if let Some(rows) = page["accounts"].as_array_mut() {
        accounts.append(rows);
    }
    let page = page.as_object_mut()?;
    let next = page.remove("next")?;
    next.as_str().map(str::to_owned)
}
