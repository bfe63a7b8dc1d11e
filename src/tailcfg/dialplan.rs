//! Where clients find the control server without DNS (protocol section 4.4).

use serde::Serialize;
use std::net::IpAddr;

/// `tailcfg.ControlDialPlan`, for writing only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ControlDialPlan {
    /// None: back to DNS.
    #[serde(rename = "Candidates")]
    pub candidates: Vec<ControlIpCandidate>,
}

/// `tailcfg.ControlIPCandidate`. The Go client dials all candidates at once, each
/// after its delay, and ignores priorities; the Rust client tries them by
/// falling priority.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlIpCandidate {
    #[serde(rename = "IP")]
    pub ip: IpAddr,
    /// Seconds.
    #[serde(rename = "DialStartDelaySec")]
    pub dial_start_delay_sec: f64,
    /// Seconds; 0 would be none at all.
    #[serde(rename = "DialTimeoutSec")]
    pub dial_timeout_sec: f64,
    #[serde(rename = "Priority")]
    pub priority: u32,
}
