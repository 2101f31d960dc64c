//! Median and spread of what was measured several times.

use std::fmt;

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Of an even number of figures, the mean of the two in the middle.
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` if there are no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (&min, &max) = (figures.first()?, figures.last()?);
        let middle = figures.len() / 2;
        let below = (figures.len() - 1) / 2;
        let median = f64::midpoint(figures[below], figures[middle]);
        Some(Self { median, min, max })
    }
}

/// Median, smallest and largest, with as many decimals as the format says.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        let digits = f.precision().unwrap_or(2);
        write!(f, "{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

/// A number with so many decimals, and commas between thousands.
pub(crate) fn grouped(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (idx, digit) in whole.char_indices() {
        if idx > 0 && (whole.len() - idx) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[expect(clippy::cast_precision_loss, reason = "numbers far below 2^53")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let odd = Spread::of([3.0, 1.0, 100.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 100.0));
        let even = Spread::of([4.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!(even.median, 3.0);
        assert_eq!(Spread::of([]), None);
        assert_eq!(format!("{odd:.1}"), "3.0 (1.0–100.0)");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(grouped(999.96, 1), "1,000.0");
        assert_eq!(grouped(999.4, 0), "999");
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(-123.0, 0), "-123");
        assert_eq!(grouped(-1123.0, 0), "-1,123");
    }
}
