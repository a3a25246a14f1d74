//! Figures with their range, and as many digits as the range supports.

/// The median of several measurements of one thing, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The median; of an even number the middle between the two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
    /// (largest - smallest) / median, `None` if it is not known.
    pub spread: Option<f64>,
}

impl Figure {
    /// Sums up `values`; `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Figure> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let count = values.len();
        let median = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
        let spread = (count > 1 && median != 0.0).then(|| (max - min) / median.abs());
        Some(Figure { median, min, max, count, spread })
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Figure {
        Figure { median: self.median * factor, min: self.min * factor, max: self.max * factor, ..self }
    }

    /// The digits of the median that the spread supports: three if it is below five units of the third, else two.
    pub fn digits(&self) -> usize {
        let magnitude = 10f64.powf(self.median.abs().log10().floor());
        let unit = magnitude / 100.0 / self.median.abs();
        if self.spread.is_some_and(|spread| spread <= 5.0 * unit) { 3 } else { 2 }
    }

    /// The median in its supported digits.
    pub fn plain(&self) -> String {
        significant(self.median, self.digits())
    }

    /// The median as a time, if the figure is in nanoseconds.
    pub fn time(&self) -> String {
        time(self.median, self.digits())
    }

    /// The range as `write` puts each end, or the spread in percent if there is one measurement only.
    pub fn range(&self, write: impl Fn(f64) -> String) -> String {
        match self.spread {
            _ if self.count > 1 => span(&write(self.min), &write(self.max)),
            Some(spread) => percent(spread),
            None => String::new(),
        }
    }
}

/// `a` to `b`, with the unit said once if it is the same.
pub fn span(a: &str, b: &str) -> String {
    match (a.split_once(' '), b.split_once(' ')) {
        _ if a == b => a.to_owned(),
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}-{b}"),
        _ => format!("{a}-{b}"),
    }
}

/// A share in percent: `4 %`, `0.4 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", significant(100.0 * share, if share < 0.1 { 1 } else { 2 }))
}

/// Nanoseconds in the unit that fits: `178 ns`, `1.2 us`, `35 ms`.
pub fn time(ns: f64, digits: usize) -> String {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let rounded = rounded(ns, digits);
    let fits = units.iter().rev().find(|(_, factor)| rounded.abs() >= *factor);
    let (unit, factor) = fits.copied().unwrap_or(units[0]);
    format!("{} {unit}", significant(ns / factor, digits))
}

/// `value` with this many significant digits and without an exponent.
pub fn significant(value: f64, digits: usize) -> String {
    let rounded = rounded(value, digits);
    if rounded == 0.0 || !rounded.is_finite() {
        return format!("{rounded}");
    }
    let exponent = rounded.abs().log10().floor() as i64;
    let decimals = (digits as i64 - 1 - exponent).max(0) as usize;
    format!("{rounded:.decimals$}")
}

fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_middle_two() {
        assert_eq!(Figure::of(vec![3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Figure::of(Vec::new()), None);
    }

    #[test]
    fn a_wide_spread_takes_a_digit_away() {
        let narrow = Figure::of(vec![177.0, 178.0, 179.0]).unwrap();
        assert_eq!(narrow.time(), "178 ns");
        let wide = Figure::of(vec![160.0, 178.0, 190.0]).unwrap();
        assert_eq!(wide.time(), "180 ns");
        assert_eq!(Figure::of(vec![178.0]).unwrap().time(), "180 ns");
        assert_eq!(Figure::of(vec![0.0]).unwrap().plain(), "0");
    }

    #[test]
    fn numbers_have_no_exponent_and_the_digits_that_were_asked_for() {
        let written =
            [(12345.0, 2), (9.96, 2), (0.01234, 3), (99.96, 3), (1.0, 2)].map(|(v, d)| significant(v, d));
        assert_eq!(written, ["12000", "10", "0.0123", "100", "1.0"]);
    }

    #[test]
    fn times_change_their_unit_after_they_were_rounded() {
        let written = [(999.6, 3), (999.4, 3), (44_000.0, 2), (2.5e9, 2), (0.5, 2)].map(|(v, d)| time(v, d));
        assert_eq!(written, ["1.00 us", "999 ns", "44 us", "2.5 s", "0.50 ns"]);
    }

    #[test]
    fn a_range_says_its_unit_once() {
        assert_eq!(span("170 ns", "180 ns"), "170-180 ns");
        assert_eq!(span("990 ns", "1.2 us"), "990 ns-1.2 us");
        assert_eq!(span("1.5", "1.7"), "1.5-1.7");
        let alone = Figure { spread: Some(0.042), ..Figure::of(vec![10.0]).unwrap() };
        assert_eq!(alone.range(|value| significant(value, 2)), "4 %");
    }
}
