//! Futures that are made in their boxes.

use std::pin::Pin;

/// The future that `make` makes, in a box.
///
/// `Box::pin(future)` copies the whole future there, kilobytes of which are only room for what it will hold: the box is
/// made after the future, and while that may fail the future has to lie elsewhere, to be dropped. Here the box is made
/// first, so that only what the future takes along is written to it.
pub(crate) fn pinned<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}
