use std::ops::Add;

/// The slots in use of an account, by what uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Slots {
    pub(super) held: u32,
    pub(super) uncertain: u32,
    pub(super) foreign: u32,
}

impl Slots {
    pub(super) const NONE: Self = Self {
        held: 0,
        uncertain: 0,
        foreign: 0,
    };

    pub(super) fn held(count: u32) -> Self {
        Self {
            held: count,
            ..Self::NONE
        }
    }

    pub(super) fn uncertain(count: u32) -> Self {
        Self {
            uncertain: count,
            ..Self::NONE
        }
    }

    pub(super) fn foreign(count: u32) -> Self {
        Self {
            foreign: count,
            ..Self::NONE
        }
    }
}

impl Add for Slots {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            held: self.held + other.held,
            uncertain: self.uncertain + other.uncertain,
            foreign: self.foreign + other.foreign,
        }
    }
}
