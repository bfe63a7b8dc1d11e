//! Where a client dials next when its replica is gone (protocol section 4.4).

use crate::state::{NodeId, State};
use crate::tailcfg::{ControlDialPlan, ControlIpCandidate};
use std::net::IpAddr;

/// A replica that answers at all has finished the upgrade by then; one that does
/// not is likely dead, and the next one is tried.
const STEP_SECONDS: f64 = 0.3;
/// Between the addresses of one replica: the second matters only to a client that
/// has no route to the first.
const STEP_WITHIN_SECONDS: f64 = 0.1;
/// Long enough for a slow link; other candidates do not wait for it.
const TIMEOUT_SECONDS: f64 = 10.0;

/// The plan for one client, from the addresses of all members. `None`: there are
/// fewer than two addresses, and nothing to choose.
///
/// Each client gets the replicas in an order of its own, the same from every
/// replica and at all times. The replica that it is on now is not put first: a
/// client dials only when that one is lost, and with an order that stays, the
/// clients of a dead replica spread evenly over the others, and come back by and by
/// when it lives again, instead of staying where they fled to.
pub(super) fn dial_plan(state: &State, node: NodeId) -> Option<ControlDialPlan> {
    let replicas: Vec<&[IpAddr]> =
        state.replicas().map(|r| r.client_addresses.as_slice()).filter(|addresses| !addresses.is_empty()).collect();
    let total: usize = replicas.iter().map(|addresses| addresses.len()).sum();
    if total < 2 {
        return None;
    }
    let dial = |(i, addresses): (usize, &[IpAddr])| {
        let delay = STEP_SECONDS * i as f64;
        let within = move |(j, ip): (usize, &IpAddr)| (*ip, delay + STEP_WITHIN_SECONDS * j as f64);
        addresses.iter().enumerate().map(within).collect::<Vec<_>>()
    };
    let ordered = permutation(node.0, replicas).into_iter().enumerate().flat_map(dial);
    let candidates = ordered
        .enumerate()
        .map(|(n, (ip, delay))| ControlIpCandidate {
            ip,
            // Exact tenths, so that the JSON is short.
            dial_start_delay_sec: (delay * 10.0).round() / 10.0,
            dial_timeout_sec: TIMEOUT_SECONDS,
            priority: u32::try_from(total - n).unwrap_or(u32::MAX),
        })
        .collect();
    Some(ControlDialPlan { candidates })
}

/// One order of `items`, numbered by `n`: any `items.len()!` numbers in a row give
/// each order once, so clients with neighbouring ids are spread exactly evenly.
fn permutation<T>(n: u64, mut items: Vec<T>) -> Vec<T> {
    let mut rest = n;
    let mut out = Vec::with_capacity(items.len());
    while !items.is_empty() {
        let choices = items.len() as u64;
        out.push(items.remove((rest % choices) as usize));
        rest /= choices;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::permutation;
    use std::collections::BTreeMap;

    #[test]
    fn clients_spread_evenly_over_replicas_and_over_what_is_left_of_them() {
        let mut orders = BTreeMap::new();
        for node in 1..=600 {
            *orders.entry(permutation(node, vec!['a', 'b', 'c'])).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|&clients| clients == 100), "{orders:?}");
    }
}
