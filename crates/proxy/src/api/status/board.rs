//! One text for all who ask: rendered once for each change, and not too often.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

/// After a rendering there is none for so many times as long as it took: all of them take a twentieth of one processor
/// at most, however fast things change and however many ask. A text of three accounts is as good as new each time; one
/// of ten thousand, which takes some 25 ms, is half a second old at most.
const REST_FACTOR: u32 = 20;
/// The longest time without a rendering: one may have taken long since the machine slept.
const REST_MAX: Duration = Duration::from_secs(5);
/// The most earlier texts that are kept for clients that have not read them yet. The readers of the oldest are cut off
/// for a newer one.
const EARLIER_MAX: usize = 3;

/// A text, which is made when a client asks. `S` tells what it shows: an equal one means an equal text.
#[derive(Debug)]
pub(in crate::api) struct Board<S> {
    /// Tells the tags of this process from those of others.
    run: u64,
    newest: Mutex<Option<Rendering<S>>>,
    /// Held while a text is made. How many were made.
    made_count: AsyncMutex<u64>,
    earlier: Mutex<VecDeque<Weak<Text>>>,
}

#[derive(Debug)]
struct Rendering<S> {
    shows: S,
    text: Arc<Text>,
    /// Until then it is good enough.
    rests_until: Instant,
}

/// A text in pieces, and what names it.
#[derive(Debug)]
pub(in crate::api) struct Text {
    tag: HeaderValue,
    bytes: u64,
    /// Empty after its readers were cut off.
    pieces: Mutex<Vec<Bytes>>,
}

/// A reader was cut off: newer texts need the memory.
#[derive(Debug, Error)]
#[error("the client reads too slowly; what it reads was given up for a newer answer")]
pub(in crate::api) struct TooSlow;

/// Reads a text, a piece at a time.
#[derive(Debug)]
pub(in crate::api) struct SharedText {
    text: Arc<Text>,
    next: usize,
    left: u64,
}

impl<S: PartialEq> Board<S> {
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            newest: Mutex::new(None),
            made_count: AsyncMutex::new(0),
            earlier: Mutex::default(),
        }
    }

    /// The text of what is `seen`, or one that is hardly older. It is made by `render` if need be: then all who ask
    /// meanwhile wait for it.
    ///
    /// Cancel-safe: if the one who makes it leaves, another one does.
    ///
    /// # Errors
    /// Those of `render`.
    pub(super) async fn newest<R, E>(
        &self,
        seen: impl Fn() -> S,
        render: impl FnOnce() -> R,
    ) -> Result<Arc<Text>, E>
    where
        R: Future<Output = Result<Vec<Bytes>, E>>,
    {
        if let Some(text) = self.that_shows(&seen()) {
            return Ok(text);
        }
        let mut made_count = self.made_count.lock().await;
        // Taken before anything is read: what changes meanwhile asks for another text.
        let shows = seen();
        if let Some(text) = self.that_shows(&shows) {
            return Ok(text);
        }
        let begun = Instant::now();
        let pieces = render().await?;
        let ended = Instant::now();
        *made_count += 1;
        let tag = format!("\"{:016x}-{made_count}\"", self.run);
        let text = Arc::new(Text {
            tag: HeaderValue::try_from(tag).expect("digits and quotes are visible"),
            bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
            pieces: Mutex::new(pieces),
        });
        let rendering = Rendering {
            shows,
            text: Arc::clone(&text),
            rests_until: ended + rest_after(ended - begun),
        };
        let before = self.newest.lock().replace(rendering);
        if let Some(before) = before {
            self.retire(before.text);
        }
        Ok(text)
    }

    fn that_shows(&self, seen: &S) -> Option<Arc<Text>> {
        let newest = self.newest.lock();
        let newest = newest.as_ref()?;
        let is_good = newest.shows == *seen || Instant::now() < newest.rests_until;
        is_good.then(|| Arc::clone(&newest.text))
    }

    /// Keeps an earlier text as long as it is read, and the memory of all of them within bounds.
    fn retire(&self, text: Arc<Text>) {
        let mut earlier = self.earlier.lock();
        earlier.push_back(Arc::downgrade(&text));
        drop(text);
        earlier.retain(|text| text.strong_count() > 0);
        while earlier.len() > EARLIER_MAX {
            if let Some(oldest) = earlier.pop_front().and_then(|text| text.upgrade()) {
                oldest.pieces.lock().clear();
            }
        }
    }
}

/// How long there is no rendering after one that took so long.
fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(REST_FACTOR).min(REST_MAX)
}

impl Text {
    /// Names it: no other text has this tag.
    pub(super) fn tag(&self) -> &HeaderValue {
        &self.tag
    }
}

impl SharedText {
    /// Reads `text` from its begin.
    pub(in crate::api) fn new(text: Arc<Text>) -> Self {
        Self {
            left: text.bytes,
            text,
            next: 0,
        }
    }

    /// How many bytes are left.
    pub(in crate::api) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece. It is always there, or never will be.
    pub(in crate::api) fn poll_next(&mut self) -> Poll<Option<Result<Bytes, TooSlow>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.text.pieces.lock().get(self.next).cloned();
        let Some(piece) = piece else {
            self.left = 0;
            return Poll::Ready(Some(Err(TooSlow)));
        };
        self.next += 1;
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests;
