use std::ops::Add;

/// The slots in use of an account, by what uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slots {
    /// Of leases whose jobs, if any, are known.
    pub held: u32,
    /// Of submissions whose outcome is unknown.
    pub uncertain: u32,
    /// Of jobs that were not started through the sidecar.
    pub foreign: u32,
}

impl Slots {
    /// None in use.
    pub const NONE: Self = Self {
        held: 0,
        uncertain: 0,
        foreign: 0,
    };

    /// This many held slots, and no others.
    pub fn held(count: u32) -> Self {
        Self {
            held: count,
            ..Self::NONE
        }
    }

    /// This many uncertain slots, and no others.
    pub fn uncertain(count: u32) -> Self {
        Self {
            uncertain: count,
            ..Self::NONE
        }
    }

    /// This many foreign slots, and no others.
    pub fn foreign(count: u32) -> Self {
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
