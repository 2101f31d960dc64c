//! Values by numbers that only rise.

use std::collections::VecDeque;

/// Values by numbers, each of which is larger than those before it.
///
/// Most lookups are of a value that was added lately, and its number says at which place from the end it lies: a
/// `BTreeMap` compares the newest number with all of a node at each level, 280 instructions of each lookup, of which a job
/// start makes ten. Removing one from the middle moves those behind it, or in front of it if they are fewer.
#[derive(Debug)]
pub(super) struct Rising<T>(VecDeque<(u64, T)>);

impl<T> Default for Rising<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Rising<T> {
    /// Adds a value. A number that is not larger than those before it is put in its place.
    pub(super) fn insert(&mut self, number: u64, value: T) {
        match self.0.back() {
            Some((last, _)) if *last >= number => match self.find(number) {
                Ok(idx) => self.0[idx].1 = value,
                Err(idx) => self.0.insert(idx, (number, value)),
            },
            Some(_) | None => self.0.push_back((number, value)),
        }
    }

    /// Where `number` lies, or where it would.
    fn find(&self, number: u64) -> Result<usize, usize> {
        let Some((last, _)) = self.0.back() else {
            return Err(0);
        };
        // Right unless one between it and the last one was removed.
        let behind = last.checked_sub(number);
        let idx = behind.and_then(|behind| (self.0.len() - 1).checked_sub(behind.try_into().ok()?));
        match idx {
            Some(idx) if self.0[idx].0 == number => Ok(idx),
            Some(_) | None => self.0.binary_search_by_key(&number, |(number, _)| *number),
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let idx = self.find(number).ok()?;
        Some(&self.0[idx].1)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let idx = self.find(number).ok()?;
        Some(&mut self.0[idx].1)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let idx = self.find(number).ok()?;
        let (_, value) = self.0.remove(idx)?;
        Some(value)
    }

    /// The value of the smallest number, with it.
    pub(super) fn first(&self) -> Option<&(u64, T)> {
        self.0.front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, the smallest number first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &(u64, T)> {
        self.0.iter()
    }

    /// Those of smaller numbers than `end`, or all. The smallest number comes first.
    pub(super) fn before(&self, end: Option<u64>) -> impl DoubleEndedIterator<Item = &(u64, T)> {
        let find = |end| self.find(end).unwrap_or_else(|idx| idx);
        self.0.range(..end.map_or(self.0.len(), find))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_does_what_a_map_does() {
        let (mut rising, mut map) = (Rising::default(), BTreeMap::new());
        // Three of four are added at the end, one of these is removed, and the last one is put in between.
        for step in 0..2_000_u64 {
            let number = match step % 4 {
                3 => step * 7_919 % step,
                _ => step,
            };
            rising.insert(number, step);
            map.insert(number, step);
            if step % 5 == 0 {
                let removed = step * 104_729 % (step + 1);
                assert_eq!(rising.remove(removed), map.remove(&removed));
            }
            let looked_up = step * 1_299_709 % (step + 2);
            assert_eq!(rising.get(looked_up), map.get(&looked_up));
            assert_eq!(rising.get_mut(looked_up), map.get_mut(&looked_up));
            assert_eq!(rising.len(), map.len());
            assert_eq!(rising.first().map(|(number, _)| number), map.keys().next());
        }
        let numbers =
            |it: &mut dyn Iterator<Item = &(u64, u64)>| it.map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(
            numbers(&mut rising.iter()),
            Vec::from_iter(map.keys().copied())
        );
        for end in [None, Some(0), Some(997), Some(1_000), Some(9_999)] {
            let before = map
                .range(..end.unwrap_or(u64::MAX))
                .map(|(number, _)| *number);
            assert_eq!(numbers(&mut rising.before(end)), Vec::from_iter(before));
        }
    }
}
