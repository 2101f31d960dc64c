//! Counts how many earlier waiters are still there: an order statistic.
//!
//! A tree of partial sums over the seats in order of arrival (Fenwick, *A new data structure for cumulative
//! frequency tables*, 1994): coming, leaving and counting take a step for each bit of the number of
//! seats.

use super::steps;

/// The fewest seats.
const SEATS_MIN: usize = 64;

/// Seats, taken one after the other and never twice.
#[derive(Debug)]
pub(super) struct Seats {
    /// The sum of a range of seats that ends at each place; places count from 1.
    sums: Vec<u32>,
    taken_count: usize,
}

impl Default for Seats {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Seats {
    /// At least so many free seats.
    pub(super) fn with_capacity(seats: usize) -> Self {
        Self {
            sums: vec![0; seats.max(SEATS_MIN).next_power_of_two() + 1],
            taken_count: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken_count + 1 == self.sums.len()
    }

    /// Takes the next seat.
    pub(super) fn take(&mut self) -> usize {
        let seat = self.taken_count;
        self.taken_count += 1;
        self.change(seat, |sum| sum + 1);
        seat
    }

    /// Leaves a seat.
    pub(super) fn leave(&mut self, seat: usize) {
        self.change(seat, |sum| sum - 1);
    }

    /// How many seats before this one are taken.
    pub(super) fn count_before(&self, seat: usize) -> usize {
        let (mut place, mut count) = (seat, 0);
        while place > 0 {
            steps::step();
            count += self.sums[place] as usize;
            place &= place - 1;
        }
        count
    }

    fn change(&mut self, seat: usize, change: impl Fn(u32) -> u32) {
        let mut place = seat + 1;
        while let Some(sum) = self.sums.get_mut(place) {
            steps::step();
            *sum = change(*sum);
            place += place & place.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn seats_are_counted_as_a_list_would(leavers in prop::collection::vec(0..200_usize, 0..200)) {
            let mut seats = Seats::with_capacity(200);
            let mut taken: Vec<_> = (0..200).map(|_| seats.take()).collect();
            for leaver in leavers {
                if let Some(place) = taken.iter().position(|seat| *seat == leaver) {
                    taken.remove(place);
                    seats.leave(leaver);
                }
                for (count, seat) in taken.iter().enumerate() {
                    prop_assert_eq!(seats.count_before(*seat), count);
                }
            }
        }
    }
}
