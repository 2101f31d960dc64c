//! Answers that are heard as they pass.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{answer::ANSWER_READ_MAX, holdings::Holdings, lessons::Shape};

/// What an answer teaches once it came whole.
pub(super) struct Lesson {
    pub(super) holdings: Arc<Holdings>,
    pub(super) shape: &'static Shape,
    /// The account that answers, if that is known.
    pub(super) owner: Option<Arc<str>>,
    /// How the answer is encoded, if it is.
    pub(super) headers: HeaderMap,
}

/// An answer that passes untouched, piece by piece, and teaches whose the things are that it names.
///
/// It teaches before its last piece goes on: whoever has it whole can use what it names. One that is
/// longer than [`ANSWER_READ_MAX`] or breaks off teaches nothing.
pub(super) struct Overheard<B> {
    body: B,
    heard: BytesMut,
    lesson: Option<Lesson>,
}

impl<B> Overheard<B> {
    pub(super) fn new(body: B, lesson: Lesson) -> Self {
        Self {
            body,
            heard: BytesMut::new(),
            lesson: Some(lesson),
        }
    }

    fn hear(&mut self, data: &Bytes) {
        if self.lesson.is_none() {
            return;
        }
        if self.heard.len() + data.len() > ANSWER_READ_MAX {
            self.forget();
        } else {
            self.heard.extend_from_slice(data);
        }
    }

    fn forget(&mut self) {
        self.lesson = None;
        self.heard = BytesMut::new();
    }

    fn learn(&mut self) {
        if let Some(lesson) = self.lesson.take() {
            lesson.learn(self.heard.split().freeze());
        }
    }
}

impl Lesson {
    fn learn(&self, heard: Bytes) {
        // What cannot be decoded names nothing.
        if let Some(text) = accounts_fetcher::decoded(&self.headers, heard, ANSWER_READ_MAX) {
            self.holdings.learn(self.shape, &text, self.owner.as_ref());
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Overheard<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.hear(data);
                }
            }
            Some(Err(_)) => self.forget(),
            None => {}
        }
        if polled.is_none() || self.body.is_end_stream() {
            self.learn();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, slice};

    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        forward::{
            lessons,
            mentions::{Kind, Mention},
        },
        jobs::Owners,
    };

    /// Pieces of a body, where `None` is a failure. The end is known with the last piece if the length
    /// is, and only after it if not.
    struct Pieces {
        pieces: VecDeque<Option<&'static str>>,
        has_length: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            let piece = self.pieces.pop_front();
            let frame = |piece: &'static str| Frame::data(Bytes::from_static(piece.as_bytes()));
            Poll::Ready(piece.map(|piece| piece.map(frame).ok_or("broken")))
        }

        fn is_end_stream(&self) -> bool {
            self.has_length && self.pieces.is_empty()
        }
    }

    /// After how many pieces the owner of an avatar was known, if it became known.
    async fn known_after(pieces: &[Option<&'static str>], has_length: bool) -> Option<usize> {
        let holdings = Arc::new(Holdings::new(Arc::new(Owners::with_max(2))));
        let lesson = Lesson {
            holdings: Arc::clone(&holdings),
            shape: &lessons::NEW_AVATAR,
            owner: Some("a@x".into()),
            headers: HeaderMap::new(),
        };
        let pieces = Pieces {
            pieces: pieces.iter().copied().collect(),
            has_length,
        };
        let mut body = Overheard::new(pieces, lesson);
        let avatar = Mention::new("avatarId", Kind::Avatar, "300137233318846").unwrap();
        for count in 1.. {
            let frame = body.frame().await;
            if holdings
                .strict_owner(slice::from_ref(&avatar))
                .unwrap()
                .is_some()
            {
                return Some(count);
            }
            frame?.ok()?;
        }
        None
    }

    #[tokio::test]
    async fn an_answer_teaches_before_its_end_goes_on() {
        let whole = [Some(r#"{"id":"3001372"#), Some(r#"33318846"}"#)];
        assert_eq!(
            known_after(&whole, true).await,
            Some(2),
            "with the last piece"
        );
        assert_eq!(known_after(&whole, false).await, Some(3), "with the end");
        let broken = [whole[0], whole[1], None];
        assert_eq!(known_after(&broken, false).await, None);
        assert_eq!(known_after(&whole[..1], true).await, None);
    }
}
