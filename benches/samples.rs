//! Times, and what is said of many.

use std::fmt;
use std::time::{Duration, Instant};

/// How long each of many took.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Times `act`, and gives what it gives.
    pub fn time<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = act();
        self.add(begun.elapsed());
        done
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.0.iter().sum()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of all stay within (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted[rank - 1]
    }

    /// The median in milliseconds, for a plot.
    pub fn milliseconds(&self) -> f64 {
        self.percentile(50).as_secs_f64() * 1e3
    }

    /// How many times as long as the median of `raw` the median is.
    pub fn ratio(&self, raw: &Self) -> f64 {
        self.percentile(50).as_secs_f64() / raw.percentile(50).as_secs_f64()
    }
}

/// Median, the middle half, and the 99th percentile, as the cells of a table.
impl fmt::Display for Samples {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p25, p50, p75, p99] = [25, 50, 75, 99].map(|percent| shown(self.percentile(percent)));
        write!(formatter, "{p50} | {p25} to {p75} | {p99} | {}", self.0.len())
    }
}

/// The heads of those cells, for [`crate::report::Report::table`].
pub const HEADS: [&str; 4] = ["median:", "middle half:", "p99:", "times:"];

/// A time with three digits.
pub fn shown(time: Duration) -> String {
    let (value, unit) = match time.as_secs_f64() {
        seconds if seconds >= 1.0 => (seconds, "s"),
        seconds if seconds >= 1e-3 => (seconds * 1e3, "ms"),
        seconds => (seconds * 1e6, "µs"),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}
