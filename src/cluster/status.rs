//! What `cluster status` shows.

use crate::state::ReplicaId;
use std::time::Instant;

/// What `cluster status` shows. Always an answer, also without a quorum.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ClusterStatus {
    pub cluster_id: String,
    /// The replica that answered.
    pub answered_by: u64,
    /// `None`: there is none that this replica knows of.
    pub leader: Option<u64>,
    pub has_quorum: bool,
    /// How many more voters may fail now with the rest still a quorum.
    pub failures_tolerated: usize,
    pub members: Vec<MemberStatus>,
    /// Things an operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// Why nothing can be written although there is a leader.
    #[serde(default)]
    pub writes_refused: Option<String>,
}

/// One replica, as the one that answered sees it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct MemberStatus {
    pub id: u64,
    /// Where its peers reach it.
    pub address: String,
    /// `leader`, `follower` or `learner`.
    pub role: String,
    pub term: Option<u64>,
    /// The log index that it has applied.
    pub applied: Option<u64>,
    /// How many log entries it is behind the leader's commit.
    pub lag: Option<u64>,
    /// Streams of clients that it serves.
    pub clients: Option<u64>,
    pub version: String,
    /// A fingerprint of the cluster's secret that it uses; empty: not known.
    #[serde(default)]
    pub secret: String,
    /// Whether it answered just now and keeps up.
    pub healthy: bool,
    /// What is wrong with its machine or its data.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Something that is wrong with a replica.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    pub kind: ProblemKind,
    /// What it is and what to do, for people.
    pub text: String,
}

/// What a [`Problem`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Its records are not those of the others.
    Differs,
    /// The replicas differ, and none of the versions has a majority: nothing is written.
    NoMajority,
    /// Less than the reserve is free on its disk.
    DiskLow,
    /// Its disk needs long for a sync.
    DiskSlow,
    /// Its clock is not that of the others.
    ClockOff,
    /// It does not have the cluster's secret.
    OtherSecret,
    /// Something that this release does not know; the text says what.
    #[serde(other)]
    Other,
}

impl ProblemKind {
    const ALL: [(Self, &str); 7] = [
        (Self::Differs, "differs"),
        (Self::NoMajority, "no-majority"),
        (Self::DiskLow, "disk-low"),
        (Self::DiskSlow, "disk-slow"),
        (Self::ClockOff, "clock-off"),
        (Self::OtherSecret, "other-secret"),
        (Self::Other, "other"),
    ];

    /// As it is written in JSON, and sent to other replicas.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    /// The kind of that name; [`ProblemKind::Other`] for one that is not known.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(kind, _)| *kind)
    }

    /// Whether a replica that has it should not lead.
    pub fn forbids_leading(self) -> bool {
        matches!(self, Self::DiskLow | Self::DiskSlow)
    }
}

/// What `cluster rotate-secret` shows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Rotation {
    /// The new secret's fingerprint.
    pub secret: String,
    /// Replicas that did not use it yet when the command gave up waiting.
    pub pending: Vec<u64>,
}

/// What `cluster verify` shows.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Verification {
    /// The log index at which they were compared.
    pub index: u64,
    /// Every member answered, and no difference was found.
    pub equal: bool,
    /// Whether more than half of those that answered have the same.
    pub majority: bool,
    pub replicas: Vec<VerifiedReplica>,
}

/// What one replica has.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct VerifiedReplica {
    pub id: u64,
    /// `None`: it gave no answer.
    pub records: Option<u64>,
    /// Of all its records in memory: equal on equal replicas. Empty without an answer.
    pub hash: String,
    /// The kinds of records that differ from the majority's; without a majority, from anybody's.
    pub differs: Vec<String>,
    /// The kinds of records that differ between its disk and its memory.
    pub differs_on_disk: Vec<String>,
    /// Why it could not be compared.
    pub problem: Option<String>,
}

/// What a leader knows of another member's being alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerContact {
    pub id: ReplicaId,
    /// When it last answered this leader; `None`: not since this one leads.
    pub last: Option<Instant>,
    /// Its port refuses connections: its process is dead, though its machine is not.
    pub refused: bool,
}
