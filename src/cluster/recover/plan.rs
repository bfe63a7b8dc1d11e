//! What a recovery would do, what it would lose, and whether it must not be done.

use crate::cluster::store::Held;
use crate::cluster::wire;
use crate::state::ReplicaId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a recovery on one replica would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Plan {
    /// The replica that becomes the new cluster.
    pub replica: u64,
    /// The cluster that is given up.
    pub cluster_id: String,
    /// Up to here this replica knew the log to be committed.
    pub committed: u64,
    /// Log entries after that, which may or may not have been acknowledged: they are kept.
    pub uncertain: u64,
    /// Every member of the old cluster, this replica included.
    pub members: Vec<Survivor>,
    /// Whether the members that are alive are a quorum, this replica counted as one.
    pub has_quorum: bool,
    /// The member whose log is longest; another one than `replica`: it is the better survivor.
    pub best: u64,
}

/// What one member has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Survivor {
    pub id: u64,
    pub address: String,
    pub voter: bool,
    /// Whether it is there, with its data.
    pub alive: bool,
    /// Of its last log entry.
    pub last_index: Option<u64>,
    pub last_term: Option<u64>,
    pub applied: Option<u64>,
    /// Whom it follows, with a quorum.
    pub leader: Option<u64>,
    /// Why it does not answer.
    pub problem: Option<String>,
}

/// A member's answer, or why there is none.
pub type Answer = Result<wire::StatusResponse, String>;

impl Plan {
    pub fn new(own: ReplicaId, cluster_id: &str, held: &Held, answers: BTreeMap<ReplicaId, Answer>) -> Self {
        let voters: BTreeSet<u64> = held.membership.voter_ids().collect();
        let members: Vec<Survivor> = held
            .membership
            .nodes()
            .map(|(id, node)| {
                let member = Survivor { id: *id, address: node.addr.clone(), voter: voters.contains(id), ..nothing() };
                match answers.get(&ReplicaId(*id)) {
                    _ if *id == own.0 => member.with(held),
                    Some(answer) => member.answered(answer),
                    None => member,
                }
            })
            .collect();
        let alive: BTreeSet<u64> = members.iter().filter(|member| member.alive).map(|member| member.id).collect();
        let configs = held.membership.get_joint_config();
        let majority = |config: &BTreeSet<u64>| config.intersection(&alive).count() > config.len() / 2;
        let reach = |member: &&Survivor| (member.last_term, member.last_index, member.id == own.0);
        let last = held.last.map_or(0, |id| id.index);
        Self {
            replica: own.0,
            cluster_id: cluster_id.into(),
            committed: held.committed,
            uncertain: last.saturating_sub(held.committed),
            has_quorum: configs.iter().all(majority) || members.iter().any(|member| member.leader.is_some()),
            best: members.iter().filter(|member| member.alive).max_by_key(reach).map_or(own.0, |member| member.id),
            members,
        }
    }

    /// Why it must not be done, and what to do instead.
    pub fn refusal(&self) -> Option<String> {
        let others: Vec<&Survivor> = self.members.iter().filter(|m| m.alive && m.id != self.replica).collect();
        let names: Vec<String> = others.iter().map(|m| format!("{} ({})", m.id, m.address)).collect();
        if self.has_quorum {
            let who = match names.as_slice() {
                [] => "this replica is the only voter".into(),
                [one] => format!("replica {one} answers"),
                _ => format!("replicas {} answer", names.join(", ")),
            };
            return Some(format!(
                "there is a quorum: {who}, and with replica {0} that is a majority; start replica {0}, and nothing is \
                 lost",
                self.replica
            ));
        }
        let best = others.iter().find(|member| member.id == self.best)?;
        Some(format!(
            "replica {} ({}) has more of the log, up to entry {} of term {}: stop that one, and run this there",
            best.id,
            best.address,
            best.last_index.unwrap_or(0),
            best.last_term.unwrap_or(0)
        ))
    }
}

fn nothing() -> Survivor {
    Survivor {
        id: 0,
        address: String::new(),
        voter: false,
        alive: false,
        last_index: None,
        last_term: None,
        applied: None,
        leader: None,
        problem: None,
    }
}

impl Survivor {
    fn with(self, held: &Held) -> Self {
        Self {
            alive: true,
            last_index: held.last.map(|id| id.index),
            last_term: held.last.map(|id| id.leader_id.term),
            applied: Some(held.applied),
            ..self
        }
    }

    fn answered(self, answer: &Answer) -> Self {
        match answer {
            Err(reason) => Self { problem: Some(reason.clone()), ..self },
            Ok(answer) if !answer.initialized => {
                Self { problem: Some(format!("replica {} runs, and has lost its data", self.id)), ..self }
            }
            Ok(answer) => Self {
                alive: true,
                last_index: answer.last_log.map(|id| id.index).or(answer.applied),
                last_term: answer.last_log.map(|id| id.term),
                applied: answer.applied,
                // Only a leader that heard a quorum lately says so.
                leader: answer.quorum_age_ms.filter(|age| *age < QUORUM_AGE_MS).map(|_| answer.id),
                ..self
            },
        }
    }
}

/// A leader that heard a quorum within this time has one.
const QUORUM_AGE_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::types::{LogId, Membership};
    use openraft::BasicNode;

    fn held(voters: &[u64], term: u64, index: u64, committed: u64) -> Held {
        let nodes: BTreeMap<u64, BasicNode> =
            voters.iter().map(|id| (*id, BasicNode::new(format!("m{id}:7946")))).collect();
        Held {
            last: Some(LogId::from(&wire::LogId { term, replica: 1, index })),
            committed,
            applied: committed,
            term,
            membership: Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap(),
            removed: BTreeSet::new(),
        }
    }

    fn has(id: u64, term: u64, index: u64) -> (ReplicaId, Answer) {
        let last_log = Some(wire::LogId { term, replica: 1, index });
        (ReplicaId(id), Ok(wire::StatusResponse { id, last_log, initialized: true, ..wire::StatusResponse::default() }))
    }

    fn gone(id: u64) -> (ReplicaId, Answer) {
        (ReplicaId(id), Err(format!("replica {id} is not running")))
    }

    fn plan(held: &Held, answers: Vec<(ReplicaId, Answer)>) -> Plan {
        Plan::new(ReplicaId(1), "c", held, answers.into_iter().collect())
    }

    #[test]
    fn the_last_survivor_may_go_on_and_keeps_what_is_uncertain() {
        let plan = plan(&held(&[1, 2, 3], 4, 100, 97), vec![gone(2), gone(3)]);
        assert_eq!(plan.refusal(), None);
        assert_eq!((plan.uncertain, plan.best, plan.has_quorum), (3, 1, false));
        assert_eq!(plan.members[1].problem.as_deref(), Some("replica 2 is not running"));
    }

    #[test]
    fn with_a_quorum_it_is_refused_and_who_answered_is_named() {
        let refusal = plan(&held(&[1, 2, 3], 4, 100, 97), vec![has(2, 4, 90), gone(3)]).refusal().unwrap();
        assert!(refusal.contains("replica 2 (m2:7946) answers"), "{refusal}");
        let refusal = plan(&held(&[1], 4, 100, 97), vec![]).refusal().unwrap();
        assert!(refusal.contains("only voter"), "{refusal}");
    }

    #[test]
    fn the_survivor_with_the_longest_log_is_the_one_by_term_first() {
        let five = held(&[1, 2, 3, 4, 5], 4, 100, 97);
        let behind = vec![has(2, 3, 500), gone(3), gone(4), gone(5)];
        assert_eq!(plan(&five, behind).refusal(), None);
        let ahead = vec![has(2, 4, 101), gone(3), gone(4), gone(5)];
        let refusal = plan(&five, ahead).refusal().unwrap();
        assert!(refusal.contains("replica 2 (m2:7946) has more of the log, up to entry 101 of term 4"), "{refusal}");
        let equal = vec![has(2, 4, 100), gone(3), gone(4), gone(5)];
        assert_eq!(plan(&five, equal).refusal(), None, "this one will do");
    }

    #[test]
    fn a_replica_that_lost_its_data_is_no_quorum() {
        let lost = (ReplicaId(2), Ok(wire::StatusResponse { id: 2, ..wire::StatusResponse::default() }));
        let plan = plan(&held(&[1, 2, 3], 4, 100, 97), vec![lost, gone(3)]);
        assert_eq!(plan.refusal(), None);
        assert!(plan.members[1].problem.as_deref().unwrap().contains("lost its data"));
    }

    #[test]
    fn a_leader_with_a_quorum_elsewhere_is_enough_to_refuse() {
        // As seen by a replica that was away while the membership changed.
        let (id, answer) = has(2, 9, 400);
        let leads = (id, answer.map(|answer| wire::StatusResponse { quorum_age_ms: Some(20), ..answer }));
        let plan = plan(&held(&[1, 2, 3, 4, 5], 4, 100, 97), vec![leads, gone(3), gone(4), gone(5)]);
        assert!(plan.refusal().unwrap().contains("there is a quorum"));
    }
}
