//! Learning owners from answers as they pass.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Owners;
use crate::kling::{ANSWER_BYTES_MAX, shapes::Shape};

/// What is learnt from an answer once it came whole.
#[derive(Debug)]
pub struct Observation {
    /// Who learns.
    pub owners: Arc<Owners>,
    /// The shape of the answer.
    pub shape: &'static Shape,
    /// The account that answers, if that is known.
    pub owner: Option<Arc<str>>,
    /// The headers of the answer: they say how it is encoded.
    pub headers: HeaderMap,
}

/// A body that passes unchanged, piece by piece, while its references are learnt.
///
/// They are learnt before the last piece goes on, so that a client which has the whole answer can use
/// them. Nothing is learnt from a body that is longer than 1 MiB or breaks off.
#[derive(Debug)]
pub struct ObservedBody<B> {
    body: B,
    copy: BytesMut,
    observation: Option<Observation>,
}

impl<B> ObservedBody<B> {
    /// Observes `body`.
    pub fn new(body: B, observation: Observation) -> Self {
        Self {
            body,
            copy: BytesMut::new(),
            observation: Some(observation),
        }
    }

    fn copy(&mut self, data: &Bytes) {
        if self.observation.is_none() {
            return;
        }
        if self.copy.len() + data.len() > ANSWER_BYTES_MAX {
            self.forget();
        } else {
            self.copy.extend_from_slice(data);
        }
    }

    fn forget(&mut self) {
        self.observation = None;
        self.copy = BytesMut::new();
    }

    fn learn(&mut self) {
        if let Some(observation) = self.observation.take() {
            observation.learn(self.copy.split().freeze());
        }
    }
}

impl Observation {
    fn learn(&self, answer: Bytes) {
        // Nothing can be learnt from an answer that cannot be decoded.
        if let Some(text) = accounts_fetcher::decoded(&self.headers, answer, ANSWER_BYTES_MAX) {
            self.owners
                .learn_from(self.shape, &text, self.owner.as_ref());
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ObservedBody<B> {
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
                    self.copy(data);
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
    use crate::kling::{
        references::{Reference, ReferenceKind},
        shapes,
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
        let owners = Arc::new(Owners::default());
        let observation = Observation {
            owners: Arc::clone(&owners),
            shape: &shapes::NEW_AVATAR,
            owner: Some("a@x".into()),
            headers: HeaderMap::new(),
        };
        let pieces = Pieces {
            pieces: pieces.iter().copied().collect(),
            has_length,
        };
        let mut body = ObservedBody::new(pieces, observation);
        let avatar = Reference::new("avatarId", ReferenceKind::Avatar, "300137233318846").unwrap();
        for count in 1.. {
            let frame = body.frame().await;
            if owners
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
