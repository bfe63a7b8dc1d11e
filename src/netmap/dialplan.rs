//! Where a client dials next when its replica is gone (protocol section 4.4).

use crate::state::{NodeId, Replica, Standing, State};
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
/// when it lives again, instead of staying where they fled to. A replica that is
/// stopping, or that the leader has lost, comes last, in whatever order: it may be the
/// one that a client reaches after all.
pub(super) fn dial_plan(state: &State, node: NodeId) -> Option<ControlDialPlan> {
    let replicas: Vec<&Replica> =
        state.replicas().map(|r| &**r).filter(|replica| !replica.client_addresses.is_empty()).collect();
    let total: usize = replicas.iter().map(|replica| replica.client_addresses.len()).sum();
    if total < 2 {
        return None;
    }
    let mut ordered = permutation(node.0, replicas);
    ordered.sort_by_key(|replica| match replica.standing {
        Standing::Serving => 0,
        Standing::Leaving => 1,
        Standing::Away => 2,
    });
    let dial = |(i, replica): (usize, &Replica)| {
        let delay = STEP_SECONDS * i as f64;
        let within = move |(j, ip): (usize, &IpAddr)| (*ip, delay + STEP_WITHIN_SECONDS * j as f64);
        replica.client_addresses.iter().enumerate().map(within).collect::<Vec<_>>()
    };
    let candidates = ordered
        .into_iter()
        .enumerate()
        .flat_map(dial)
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
    use super::*;
    use crate::cluster::Cluster;
    use crate::state::{Allocation, COMMAND_FORMAT, Command, ReplicaId, Settings, Time};
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn clients_spread_evenly_over_replicas_and_over_what_is_left_of_them() {
        let mut orders = BTreeMap::new();
        for node in 1..=600 {
            *orders.entry(permutation(node, vec!['a', 'b', 'c'])).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|&clients| clients == 100), "{orders:?}");
    }

    /// The last octets of the plan's addresses, in its order.
    fn order(cluster: &Cluster, node: u64) -> Vec<u8> {
        let plan = dial_plan(&cluster.view(), NodeId(node)).unwrap();
        assert!(plan.candidates.is_sorted_by_key(|candidate| candidate.dial_start_delay_sec));
        assert!(plan.candidates.is_sorted_by(|a, b| a.priority > b.priority));
        let last = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        plan.candidates.iter().map(|candidate| last(candidate.ip)).collect()
    }

    #[tokio::test]
    async fn a_replica_that_stops_or_is_lost_is_dialled_last_and_one_that_was_removed_never() {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: "example.net".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        for id in 1..=4 {
            let replica = Replica {
                id: ReplicaId(id),
                incarnation: id,
                since: Time(0),
                version: "test".into(),
                command_format: COMMAND_FORMAT,
                client_addresses: vec![IpAddr::from([192, 0, 2, u8::try_from(id).unwrap()])],
                relay: None,
                config_differs: Vec::new(),
                standing: Standing::Serving,
            };
            cluster.write(Command::ReplicaUp(replica)).await.unwrap();
        }
        let firsts: std::collections::BTreeSet<u8> = (0..24).map(|node| order(&cluster, node)[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 4].into());
        for (id, standing) in [(1, Standing::Away), (3, Standing::Leaving)] {
            let command = Command::SetStanding { replica: ReplicaId(id), incarnation: id, standing };
            cluster.write(command).await.unwrap();
        }
        let orders: Vec<Vec<u8>> = (0..24).map(|node| order(&cluster, node)).collect();
        assert!(orders.iter().all(|order| order[2..] == [3, 1]), "{orders:?}");
        assert_eq!(orders.iter().filter(|order| order[0] == 2).count(), 12, "the others are spread evenly");
        cluster.write(Command::ReplicaRemoved(ReplicaId(1))).await.unwrap();
        assert!((0..24).all(|node| !order(&cluster, node).contains(&1)));
    }
}
