//! Measured numbers in words and tables.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// How long calls took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RoundTrips {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl RoundTrips {
    /// Takes them from a histogram; nothing if it is empty.
    pub fn of(times: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| times.value_at_quantile(quantile);
        (!times.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: times.max() })
    }

    /// Returns all four in microseconds, as text.
    pub fn micros(&self) -> [String; 4] {
        [self.p50, self.p99, self.p999, self.max].map(|nanos| three_digits(nanos as f64 / 1e3))
    }
}

/// Makes a histogram for times of calls in nanoseconds.
///
/// # Errors
/// None with these bounds.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, ROUND_TRIP_NANOS_MAX, 3)?)
}

/// Writes a number with a comma for each thousand.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a measured number with the digits that mean something.
pub fn three_digits(number: f64) -> String {
    match number {
        number if number >= 1000.0 => thousands(number.round() as u64),
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number if number >= 0.1 || number == 0.0 => format!("{number:.2}"),
        number if number >= 0.001 => format!("{number:.4}"),
        number => format!("{number:.7}"),
    }
}

/// For `Table::load_preset`: lines above, below the header and at the end, none between the rows.
pub const LINES: &str = "  ── ══      ──    ";
/// Longest round trip that is told from longer ones.
const ROUND_TRIP_NANOS_MAX: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        let numbers = [0.0, 0.000_012, 0.01234, 1.234, 12.34, 123.4, 12345.6].map(three_digits);
        assert_eq!(numbers, ["0.00", "0.0000120", "0.0123", "1.23", "12.3", "123", "12,346"]);
    }
}
