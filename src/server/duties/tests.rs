//! The leader's duties, with clocks that the tests move.

use super::*;
use crate::cluster::Cluster;
use crate::state::*;
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};

const GRACE: Duration = Duration::from_secs(15);

/// A leader (replica 1) of three replicas, and what it sees of the others.
struct Leader {
    cluster: Cluster,
    watch: Watch,
    contact: Vec<PeerContact>,
    now: Instant,
}

impl Leader {
    async fn new() -> Self {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: "example.net".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        let now = Instant::now();
        let contact = [2, 3].map(|id| PeerContact { id: ReplicaId(id), last: Some(now), refused: false }).to_vec();
        let leader = Self { watch: Watch::new(ReplicaId(1), GRACE), cluster, contact, now };
        for id in 1..=3 {
            leader.starts(id, 10 * id).await;
        }
        let user = Command::CreateUser {
            name: "alice".into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
        };
        leader.write(user).await;
        leader
    }

    async fn write(&self, command: Command) -> Done {
        self.cluster.write(command).await.unwrap()
    }

    async fn starts(&self, id: u64, incarnation: u64) {
        let replica = Replica {
            id: ReplicaId(id),
            incarnation,
            since: Time(0),
            version: "test".into(),
            command_format: COMMAND_FORMAT,
            client_addresses: Vec::new(),
            relay: None,
            config_differs: Vec::new(),
            standing: Standing::Serving,
        };
        self.write(Command::ReplicaUp(replica)).await;
    }

    /// A router for 10.0.0.0/8 with a stream on a replica.
    async fn router(&self, number: u8, replica: u64) -> NodeId {
        let (prefix, route) = (format!("{number:012x}"), "10.0.0.0/8".parse::<ipnet::IpNet>().unwrap());
        let hash = SecretHash::of(&prefix);
        let key = Command::CreatePreAuthKey {
            prefix: prefix.clone(),
            hash,
            owner: Owner::User(UserId(1)),
            reusable: false,
            ephemeral: false,
            expiration: None,
        };
        self.write(key).await;
        let hostinfo = Hostinfo { hostname: format!("r{number}"), routable_ips: vec![route], ..Hostinfo::default() };
        let registration = Registration {
            machine_key: MachineKey([number; 32]),
            node_key: NodeKey([number; 32]),
            hostinfo,
            cap_ver: CapVer(142),
            expiry: None,
            seed: 0,
            v4_pools: Vec::new(),
        };
        let Done::Node(id) = self.write(Command::RegisterWithKey { prefix, hash, registration }).await else {
            panic!("no node")
        };
        self.write(Command::SetApprovedRoutes { id, routes: [route].into() }).await;
        self.open(id, replica, 10 * replica).await;
        id
    }

    async fn open(&self, node: NodeId, replica: u64, incarnation: u64) {
        let node_key = self.cluster.view().node(node).unwrap().node_key;
        let update =
            NodeUpdate { node, node_key, cap_ver: CapVer(142), disco_key: None, endpoints: None, hostinfo: None };
        let session = SessionId { node, replica: ReplicaId(replica), incarnation, number: 1 };
        assert_eq!(
            self.write(Command::Report(vec![Report::Open { session, update }])).await,
            Done::Reports(vec![Ok(())])
        );
    }

    fn peer(&mut self, id: u64) -> &mut PeerContact {
        self.contact.iter_mut().find(|peer| peer.id.0 == id).unwrap()
    }

    /// Time passes; who is in touch answers all along, and what is due is done.
    async fn pass(&mut self, seconds: u64, in_touch: &[u64]) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            let now = self.now;
            in_touch.iter().for_each(|id| self.peer(*id).last = Some(now));
            let view = self.cluster.view();
            for command in self.watch.due(&view, &self.contact, self.now, Time::now()) {
                self.write(command).await;
            }
        }
    }

    fn is_online(&self, node: NodeId) -> bool {
        self.cluster.view().is_online(node)
    }

    fn is_primary(&self, node: NodeId) -> bool {
        !self.cluster.view().primary_routes(node).is_empty()
    }

    fn standing(&self, id: u64) -> Standing {
        self.cluster.view().replica(ReplicaId(id)).unwrap().standing
    }
}

#[tokio::test]
async fn a_router_behind_a_silent_replica_stays_online_but_is_primary_only_for_the_grace() {
    let mut leader = Leader::new().await;
    let (first, second) = (leader.router(1, 2).await, leader.router(2, 3).await);
    assert!(leader.is_primary(first) && !leader.is_primary(second));
    // 2 s until it counts as silent, then the grace.
    leader.pass(16, &[3]).await;
    assert!(leader.is_primary(first), "it may come back");
    leader.pass(2, &[3]).await;
    assert!(leader.is_primary(second) && !leader.is_primary(first));
    assert_eq!(leader.standing(2), Standing::Away);
    assert!(leader.is_online(first), "its clients may still be there");
    leader.pass(110, &[3]).await;
    assert!(leader.is_online(first), "clients notice by their watchdog of 120 s only");
    leader.pass(6, &[3]).await;
    assert!(!leader.is_online(first));

    leader.pass(1, &[2, 3]).await;
    assert_eq!(leader.standing(2), Standing::Serving);
    leader.open(first, 2, 20).await;
    assert!(leader.is_primary(second), "who has it keeps it");
}

#[tokio::test]
async fn a_router_that_nobody_can_stand_in_for_stays_primary_behind_a_silent_replica() {
    let mut leader = Leader::new().await;
    let only = leader.router(1, 2).await;
    leader.pass(60, &[3]).await;
    assert_eq!(leader.standing(2), Standing::Away);
    assert!(leader.is_primary(only));
}

#[tokio::test]
async fn the_sessions_of_a_dead_replica_close_after_the_grace_and_not_before() {
    let mut leader = Leader::new().await;
    let node = leader.router(1, 2).await;
    leader.peer(2).refused = true;
    leader.pass(15, &[3]).await;
    assert!(leader.is_online(node));
    leader.pass(1, &[3]).await;
    assert!(!leader.is_online(node));
}

#[tokio::test]
async fn clients_of_a_silent_replica_that_dies_have_the_grace_from_then_on() {
    let mut leader = Leader::new().await;
    let node = leader.router(1, 2).await;
    leader.pass(60, &[3]).await;
    leader.peer(2).refused = true;
    leader.pass(15, &[3]).await;
    assert!(leader.is_online(node), "they were told a moment ago");
    leader.pass(1, &[3]).await;
    assert!(!leader.is_online(node));
}

#[tokio::test]
async fn sessions_of_an_earlier_run_close_after_the_grace() {
    let mut leader = Leader::new().await;
    let (gone, back) = (leader.router(1, 2).await, leader.router(2, 2).await);
    leader.starts(2, 21).await;
    leader.pass(10, &[2, 3]).await;
    leader.open(back, 2, 21).await;
    assert!(leader.is_online(gone));
    leader.pass(6, &[2, 3]).await;
    assert!(!leader.is_online(gone) && leader.is_online(back));
}

#[tokio::test]
async fn a_new_leader_gives_every_replica_the_full_time_anew() {
    let mut leader = Leader::new().await;
    let node = leader.router(1, 2).await;
    leader.peer(2).refused = true;
    leader.pass(14, &[3]).await;
    leader.watch = Watch::new(ReplicaId(1), GRACE);
    leader.pass(15, &[3]).await;
    assert!(leader.is_online(node));
    leader.pass(1, &[3]).await;
    assert!(!leader.is_online(node));
}

#[tokio::test]
async fn a_leader_that_an_earlier_one_took_for_away_serves_again() {
    let mut leader = Leader::new().await;
    leader.write(Command::SetStanding { replica: ReplicaId(1), incarnation: 10, standing: Standing::Away }).await;
    leader.pass(1, &[2, 3]).await;
    assert_eq!(leader.standing(1), Standing::Serving);
}

#[tokio::test]
async fn a_replica_that_is_stopping_stays_so_while_it_answers() {
    let mut leader = Leader::new().await;
    leader.write(Command::SetStanding { replica: ReplicaId(2), incarnation: 20, standing: Standing::Leaving }).await;
    leader.pass(3, &[2, 3]).await;
    assert_eq!(leader.standing(2), Standing::Leaving);
    leader.starts(2, 21).await;
    assert_eq!(leader.standing(2), Standing::Serving, "a new run serves");
}
