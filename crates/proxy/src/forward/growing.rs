//! The bytes of a body while it arrives.

use std::io;

use bytes::Bytes;
use memmap2::MmapMut;

use super::body_memory::SMALL_BODY_MAX;

/// Bytes to which more are appended.
///
/// A large body has its memory straight from the system, which takes a page when it is written to and has all of
/// them back when the body is dropped. An allocator would copy a body that grows, and keep what was freed.
#[derive(Debug)]
pub(super) enum GrowingBody {
    /// At most [`SMALL_BODY_MAX`] bytes.
    Small(Vec<u8>),
    /// A body that has outgrown that.
    Large(Mapped),
}

/// The beginning of a mapped memory.
#[derive(Debug)]
pub(super) struct Mapped {
    memory: MmapMut,
    length: usize,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl GrowingBody {
    pub(super) fn new() -> Self {
        Self::Small(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(mapped) => mapped.length,
        }
    }

    /// Appends `more`. The body never gets longer than `longest`.
    ///
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn append(&mut self, more: &[u8], longest: usize) -> io::Result<()> {
        let length = self.len() + more.len();
        match self {
            Self::Small(bytes) if length <= SMALL_BODY_MAX => bytes.extend_from_slice(more),
            Self::Small(bytes) => {
                let mut memory = MmapMut::map_anon(longest.max(length))?;
                memory[..bytes.len()].copy_from_slice(bytes);
                memory[bytes.len()..length].copy_from_slice(more);
                *self = Self::Large(Mapped { memory, length });
            }
            Self::Large(mapped) => {
                mapped.memory[mapped.length..length].copy_from_slice(more);
                mapped.length = length;
            }
        }
        Ok(())
    }
}

impl From<GrowingBody> for Bytes {
    fn from(body: GrowingBody) -> Self {
        match body {
            GrowingBody::Small(bytes) => bytes.into(),
            GrowingBody::Large(mapped) => Self::from_owner(mapped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_was_appended() {
        for (length, piece) in [
            (0, 1),
            (SMALL_BODY_MAX, 1000),
            (SMALL_BODY_MAX + 1, 1000),
            (1_000_000, 70_000),
        ] {
            let whole: Vec<_> = (0u8..=255).cycle().take(length).collect();
            let mut body = GrowingBody::new();
            for piece in whole.chunks(piece) {
                body.append(piece, length).unwrap();
            }
            assert_eq!(body.len(), length);
            assert_eq!(Bytes::from(body), whole);
        }
    }
}
