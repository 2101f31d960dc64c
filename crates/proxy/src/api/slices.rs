//! Answers too long to be made in one go: a slice at a time, and only as fast as the client reads.
//!
//! After each slice the connection's task steps back, so that whatever else its thread has to do is done before the
//! next one.

use std::{
    fmt, future, mem,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::{sync::mpsc, task::yield_now};

use super::{
    params::{query_pairs, shown},
    reply::{self, Reply},
};
use crate::{error::Error, ledger::Walk, pool::PlaceError};

/// The least bytes of a slice but the last one: fewer are not worth a chunk of their own.
const SLICE_BYTES_MIN: usize = 8 * 1024;

/// Which page of a list is asked for. By default the whole list.
#[derive(Clone, Debug, Default)]
pub(super) struct PageParams<P> {
    limit: Option<usize>,
    after: Option<P>,
}

impl<P: FromStr<Err = PlaceError> + Clone> PageParams<P> {
    pub(super) fn from_query(query: &str) -> Result<Self, Error> {
        let (mut limit, mut after) = (None, None);
        for pair in query_pairs(query) {
            let (name, value) = pair?;
            let is_new = match name {
                "limit" => limit.replace(read_limit(&value)?).is_none(),
                "after" => {
                    let place = value.parse();
                    let place = place
                        .map_err(|error: PlaceError| Error::bad_request(name, error.to_string()))?;
                    after.replace(place).is_none()
                }
                _ => {
                    let expected = "unknown; expected limit or after";
                    return Err(Error::bad_request(shown(name), expected));
                }
            };
            if !is_new {
                return Err(Error::bad_request(name, "given twice"));
            }
        }
        Ok(Self { limit, after })
    }

    /// A walk over the page.
    pub(super) fn walk(&self) -> Walk<P> {
        Walk::new(self.after.clone(), self.limit)
    }
}

fn read_limit(value: &str) -> Result<usize, Error> {
    let is_whole = value.bytes().all(|byte| byte.is_ascii_digit());
    let limit = value.parse().ok().filter(|limit| is_whole && *limit > 0);
    limit.ok_or_else(|| Error::bad_request("limit", "expected a whole number from 1"))
}

/// Writes JSON in slices.
#[derive(Debug)]
pub(super) struct JsonWriter {
    text: Vec<u8>,
    is_first: bool,
    slices: mpsc::Sender<Bytes>,
}

impl JsonWriter {
    /// Opens an array, after `before`.
    pub(super) fn open(&mut self, before: &str) {
        self.raw(before);
        self.raw("[");
        self.is_first = true;
    }

    /// Adds a row to the array.
    pub(super) fn row(&mut self, row: &impl Serialize) {
        if !self.is_first {
            self.raw(",");
        }
        self.is_first = false;
        self.value(row);
    }

    /// Adds `name` and its value to the object, behind others.
    pub(super) fn member(&mut self, name: &str, value: &impl Serialize) {
        self.raw(",");
        self.value(&name);
        self.raw(":");
        self.value(value);
    }

    pub(super) fn raw(&mut self, json: &str) {
        self.text.extend_from_slice(json.as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.text, value)
            .expect("our answers have string keys and no failing parts");
    }

    /// Closes the object of a page, and tells where the next one begins.
    pub(super) async fn close_page<P>(mut self, page: &PageParams<P>, walk: &Walk<P>)
    where
        P: Clone + fmt::Display,
    {
        if page.limit.is_some() {
            let next = walk.rest().map(ToString::to_string);
            self.member("next", &next);
        }
        self.close().await;
    }

    /// Closes the object.
    pub(super) async fn close(mut self) {
        self.raw("}");
        self.pause().await;
    }

    /// A place to end a slice: what is written so far is sent, unless it is little.
    pub(super) async fn may_pause(&mut self) {
        if self.text.len() >= SLICE_BYTES_MIN {
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let slice = mem::take(&mut self.text);
        // The receiver polls this: it is there, and has taken the slice before.
        if self.slices.send(slice.into()).await.is_ok() {
            yield_now().await;
        }
    }
}

type Writing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The slices that a writer writes.
pub(super) struct Slices {
    writing: Option<Writing>,
    written: mpsc::Receiver<Bytes>,
    /// Slices that were written before the head was sent.
    first: [Option<Bytes>; 2],
}

impl fmt::Debug for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices").finish_non_exhaustive()
    }
}

impl Slices {
    fn new<F>(write: impl FnOnce(JsonWriter) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (slices, written) = mpsc::channel(1);
        let writer = JsonWriter {
            text: Vec::new(),
            is_first: true,
            slices,
        };
        Self {
            writing: Some(Box::pin(write(writer))),
            written,
            first: [None, None],
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        future::poll_fn(|cx| self.poll_next(cx)).await.transpose()
    }

    /// The next slice. The poll in which one is written does not return it: the task steps back
    /// first.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let first = self.first.iter_mut().find_map(Option::take);
            if let Some(slice) = first.or_else(|| self.written.try_recv().ok()) {
                return Poll::Ready(Some(Ok(slice)));
            }
            let Some(writing) = &mut self.writing else {
                return Poll::Ready(None);
            };
            let ended = ready!(writing.as_mut().poll(cx));
            self.writing = None;
            if let Err(error) = ended {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.writing.is_none() && self.written.is_empty() && self.first == [None, None]
    }
}

/// Answers with the JSON that `write` writes: with its length if it is one slice, else slice by slice.
///
/// # Errors
/// What `write` fails with before its second slice. Later the answer breaks off.
pub(super) async fn json<F>(write: impl FnOnce(JsonWriter) -> F) -> Result<Reply, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut slices = Slices::new(write);
    let first = slices.next().await?;
    let second = slices.next().await?;
    let json = "application/json";
    if second.is_none() {
        return Ok(reply::with_type(
            StatusCode::OK,
            json,
            first.unwrap_or_default(),
        ));
    }
    slices.first = [first, second];
    Ok(reply::sliced(json, slices))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body::Body;

    use super::*;

    const ROWS: usize = 2000;

    /// Writes rows of 100 bytes.
    async fn write_rows(mut json: JsonWriter) -> Result<(), Error> {
        json.open(r#"{"rows":"#);
        for row in 0..ROWS {
            json.row(&format!("{row:098}"));
            json.may_pause().await;
        }
        json.raw("]");
        json.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn between_two_slices_the_task_steps_back() {
        let reply = json(write_rows).await.unwrap();
        let mut body = Box::pin(reply.into_body());
        assert_eq!(body.size_hint().exact(), None);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut text, mut ready_in_a_row) = (Vec::new(), 0);
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Pending => ready_in_a_row = 0,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => {
                    let slice = frame.unwrap().into_data().unwrap();
                    assert!(slice.len() < SLICE_BYTES_MIN + 200, "{} bytes", slice.len());
                    text.extend_from_slice(&slice);
                    ready_in_a_row += 1;
                    // Two were written before the head.
                    assert!(ready_in_a_row == 1 || text.len() < 3 * SLICE_BYTES_MIN);
                }
            }
        }
        assert!(body.is_end_stream());
        let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(text["rows"].as_array().unwrap().len(), ROWS);
    }

    #[tokio::test]
    async fn what_fails_early_is_an_error_and_what_fails_late_breaks_off() {
        let early = json(|mut json: JsonWriter| async move {
            json.open("{");
            Err(Error::UnknownLease)
        });
        assert_eq!(early.await.unwrap_err(), Error::UnknownLease);
        let late = json(|mut json: JsonWriter| async move {
            json.open(r#"{"rows":"#);
            for _ in 0..3 {
                json.row(&"x".repeat(SLICE_BYTES_MIN));
                json.may_pause().await;
            }
            Err(Error::UnknownLease)
        });
        let body = late.await.unwrap().into_body();
        let whole = http_body_util::BodyExt::collect(body).await;
        assert!(whole.is_err());
    }
}
