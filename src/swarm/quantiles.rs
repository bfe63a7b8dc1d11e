//! Medians and worse.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Of times that were measured, in milliseconds; absent if there were none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Quantiles {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
}

impl Quantiles {
    /// Of these times, in any order.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let ms = |time: &Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let at = |share: f64| times.get(((share * times.len() as f64) as usize).min(times.len().max(1) - 1)).map(ms);
        Self { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: times.last().map(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let of = |ms: &[u64]| Quantiles::of(ms.iter().map(|ms| Duration::from_millis(*ms)).collect());
        assert_eq!(of(&[]), Quantiles::default());
        assert_eq!(of(&[7]), Quantiles { p50_ms: Some(7.0), p99_ms: Some(7.0), max_ms: Some(7.0) });
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(of(&hundred), Quantiles { p50_ms: Some(51.0), p99_ms: Some(100.0), max_ms: Some(100.0) });
    }
}
