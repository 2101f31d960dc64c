//! Counts how many entries of the pool are looked at, so that tests can show what an operation
//! costs.
//!
//! Every walk over a collection of the pool passes through [`Counted::counted`]. Outside of tests
//! it costs nothing. Lookups by key are not counted.

/// A walk whose steps are counted in tests.
pub(super) trait Counted: Iterator + Sized {
    /// Counts each entry that this walk looks at.
    fn counted(self) -> impl Iterator<Item = Self::Item> {
        self.inspect(|_| step())
    }
}

impl<I: Iterator> Counted for I {}

/// One more entry was looked at.
#[inline]
pub(super) fn step() {
    #[cfg(test)]
    count::STEPS.set(count::STEPS.get() + 1);
}

#[cfg(test)]
pub(super) use count::taken_by;

#[cfg(test)]
mod count {
    use std::cell::Cell;

    thread_local! {
        pub(super) static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    /// How many steps `operation` takes.
    pub(in crate::pool) fn taken_by(operation: impl FnOnce()) -> u64 {
        STEPS.set(0);
        operation();
        STEPS.get()
    }
}
