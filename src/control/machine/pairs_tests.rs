//! Every pair of who asks and whose node: what a machine may do to its own node, and that it
//! can do nothing to anybody else's.

use super::maps;
use super::testing::{Answer, get, machine_router, post};
use crate::cluster::Cluster;
use crate::control::testing::cluster;
use crate::dns::DnsSettings;
use crate::netmap::{Environment, Hub};
use crate::policy::Policies;
use crate::state::{
    AuthId, Command, Done, Node, NodeId, Owner, RegisterMethod, Registration, SecretHash, Time, UserId, Verdict,
};
use crate::tailcfg::{CapVer, DerpMap, DiscoKey, Hostinfo, MachineKey, NodeKey};
use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Whose machines there are. Each has a node, but for the stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    AlicesLaptop = 1,
    AlicesPhone = 2,
    BobsLaptop = 3,
    TaggedServer = 4,
    OtherTaggedServer = 5,
    Stranger = 6,
}
use Who::*;

const ALL: [Who; 6] = [AlicesLaptop, AlicesPhone, BobsLaptop, TaggedServer, OtherTaggedServer, Stranger];
const WITH_NODES: [Who; 5] = [AlicesLaptop, AlicesPhone, BobsLaptop, TaggedServer, OtherTaggedServer];

impl Who {
    fn machine(self) -> MachineKey {
        MachineKey([self as u8; 32])
    }

    fn node_key(self) -> NodeKey {
        NodeKey([self as u8; 32])
    }

    /// A node key that its machine has made for a login, and nobody else has seen.
    fn next_key(self) -> NodeKey {
        NodeKey([100 + self as u8; 32])
    }

    fn hostname(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The reusable key that it has, as far as it was given one. The stranger found alice's.
    fn auth_key(self) -> &'static str {
        match self {
            AlicesLaptop | AlicesPhone | Stranger => "aaaaaaaaaaaa",
            BobsLaptop => "bbbbbbbbbbbb",
            TaggedServer => "cccccccccccc",
            OtherTaggedServer => "dddddddddddd",
        }
    }
}

const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

struct World {
    cluster: Cluster,
    router: Router,
    _hub: Hub,
}

impl World {
    async fn new() -> Self {
        let cluster = cluster();
        let hub = Hub::start(Environment {
            cluster: cluster.clone(),
            policies: Arc::new(Policies::default()),
            derp_map: watch::channel(Arc::new(DerpMap::default())).1,
            dns: watch::channel(Arc::new(DnsSettings::default())).1,
            domain: "127.0.0.1".into(),
            taildrop: true,
            logtail: false,
            auto_update: false,
            offline_grace: Duration::ZERO,
        });
        let router = machine_router(&cluster, "http://127.0.0.1:8080", Duration::from_millis(50)).merge(maps(
            &cluster,
            &hub,
            Default::default(),
        ));
        let world = Self { cluster, router, _hub: hub };
        let (alice, bob) = (world.user("alice").await, world.user("bob").await);
        let tag = |name: &str| Owner::Tags([name.parse().unwrap()].into());
        let owners = [Owner::User(alice), Owner::User(bob), tag("tag:web"), tag("tag:db")];
        for (who, owner) in [AlicesLaptop, BobsLaptop, TaggedServer, OtherTaggedServer].into_iter().zip(owners) {
            world.auth_key(who.auth_key(), owner).await;
        }
        for who in WITH_NODES {
            world.join(who).await;
        }
        world
    }

    async fn user(&self, name: &str) -> UserId {
        let create = Command::CreateUser {
            name: name.into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
        };
        let Ok(Done::User(user)) = self.cluster.write(create).await else { panic!("a user") };
        user.id
    }

    async fn auth_key(&self, prefix: &str, owner: Owner) {
        let (prefix, hash) = (prefix.to_owned(), SecretHash::of(SECRET));
        let (reusable, ephemeral, expiration) = (true, false, None);
        self.cluster
            .write(Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral, expiration })
            .await
            .unwrap();
    }

    async fn join(&self, who: Who) {
        let registration = Registration {
            machine_key: who.machine(),
            node_key: who.node_key(),
            hostinfo: Hostinfo { hostname: who.hostname(), ..Hostinfo::default() },
            cap_ver: CapVer(142),
            expiry: None,
            seed: who as u64,
            v4_pools: Vec::new(),
        };
        let (prefix, hash) = (who.auth_key().to_owned(), SecretHash::of(SECRET));
        self.cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await.unwrap();
    }

    fn node(&self, whose: Who) -> Arc<Node> {
        self.cluster.view().node_by_key(&whose.node_key()).unwrap_or_else(|| panic!("{whose:?} has its node")).clone()
    }

    async fn register(&self, who: Who, key: NodeKey, more: Value) -> Value {
        let mut request =
            json!({"Version": 142, "NodeKey": key, "Hostinfo": {"OS": "linux", "Hostname": who.hostname()}});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&self.router, who.machine(), "/machine/register", request.to_string()).await.json()
    }

    async fn map(&self, who: Who, key: NodeKey, more: Value) -> Answer {
        let mut request =
            json!({"Version": 142, "NodeKey": key, "DiscoKey": DiscoKey([66; 32]), "Hostinfo": {"Hostname": "evil"}});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&self.router, who.machine(), "/machine/map", request.to_string()).await
    }

    async fn approve(&self, id: &AuthId, user: u64) -> Result<Done, crate::cluster::WriteError> {
        let (user, policy_version) = (UserId(user), self.cluster.view().policy_version());
        let (owner, method) = (Owner::User(user), RegisterMethod::Cli);
        let auth_id = id.clone();
        let (seed, v4_pools) = (1, Vec::new());
        self.cluster
            .write(Command::ApproveLogin {
                auth_id,
                user,
                owner,
                method,
                policy_version,
                seed,
                v4_pools,
                provider_expiry: None,
            })
            .await
    }
}

fn with(key: &str) -> Value {
    json!({"Auth": {"AuthKey": format!("hskey-auth-{key}-{SECRET}")}})
}

fn login_id(answer: &Value) -> AuthId {
    answer["AuthURL"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// Runs `attempt` for each who asks and each whose node, the machine's own left out, and
/// looks whether the node is as it was.
async fn for_every_pair(attempt: impl AsyncFn(&World, Who, Who)) {
    let world = World::new().await;
    for asks in ALL {
        for whose in WITH_NODES.into_iter().filter(|whose| *whose != asks) {
            let before = world.node(whose);
            attempt(&world, asks, whose).await;
            assert_eq!(world.node(whose), before, "{asks:?} changed the node of {whose:?}");
            assert!(!world.cluster.view().is_online(before.id), "{asks:?} speaks for {whose:?}");
        }
    }
}

#[tokio::test]
async fn nobody_comes_back_as_another_machine() {
    for_every_pair(async |world, asks, whose| {
        let answer = world.register(asks, whose.node_key(), json!({})).await;
        assert_eq!(answer["Error"], "machine key does not match", "{asks:?} as {whose:?}");
        assert_eq!((&answer["MachineAuthorized"], &answer["Login"]["LoginName"]), (&json!(false), &json!("")));
    })
    .await;
}

#[tokio::test]
async fn no_key_of_whomever_takes_over_another_machines_node_key() {
    for_every_pair(async |world, asks, whose| {
        for key in ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"] {
            let answer = world.register(asks, whose.node_key(), with(key)).await;
            assert_eq!(answer["Error"], "node key already in use by another machine", "{asks:?} as {whose:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_logs_another_machine_out() {
    for_every_pair(async |world, asks, whose| {
        for more in [json!({}), with(asks.auth_key())] {
            let mut past = json!({"Expiry": "1970-01-01T00:02:03Z"});
            past.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = world.register(asks, whose.node_key(), past).await;
            assert_eq!(answer["Error"], "machine key does not match", "{asks:?} for {whose:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_shortens_the_life_of_another_machines_key() {
    let soon = (Time::now() + Duration::from_secs(3600)).to_string();
    for_every_pair(async |world, asks, whose| {
        let answer = world.register(asks, whose.node_key(), json!({"Expiry": soon})).await;
        assert_eq!(answer["Error"], "machine key does not match", "{asks:?} for {whose:?}");
    })
    .await;
}

#[tokio::test]
async fn nobody_rotates_another_machines_key() {
    for_every_pair(async |world, asks, whose| {
        let more = json!({"OldNodeKey": whose.node_key()});
        let answer = world.register(asks, NodeKey([200 + asks as u8; 32]), more).await;
        // It is asked to log in, as itself.
        assert_eq!(answer["Error"], "");
        let view = world.cluster.view();
        assert_eq!(view.login(&login_id(&answer)).unwrap().machine_key, asks.machine());
    })
    .await;
}

#[tokio::test]
async fn a_followup_belongs_to_the_machine_that_began_it() {
    let world = World::new().await;
    for asks in ALL {
        for whose in WITH_NODES.into_iter().filter(|whose| *whose != asks) {
            // The machine logs in anew, and the other one has its URL and its next key.
            let key = NodeKey([whose as u8 * 8 + asks as u8; 32]);
            let begun = world.register(whose, key, json!({})).await;
            let id = login_id(&begun);
            let stolen = world.register(asks, key, json!({"Followup": begun["AuthURL"]})).await;
            assert_ne!(stolen["AuthURL"], begun["AuthURL"], "{asks:?} learns nothing of it");
            assert_eq!(stolen["MachineAuthorized"], false);
            let others = login_id(&stolen);
            assert_eq!(world.cluster.view().login(&id).unwrap().verdict, Verdict::Waiting);
            world.cluster.write(Command::DecideLogin { auth_id: id, approve: false }).await.unwrap();
            let stolen = world.register(asks, key, json!({"Followup": begun["AuthURL"]})).await;
            assert_eq!(stolen["Error"], "", "not told what became of it");
            for id in [others, login_id(&stolen)] {
                world.cluster.write(Command::DecideLogin { auth_id: id, approve: false }).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_login_with_the_key_of_a_node_does_not_become_that_node() {
    let world = World::new().await;
    for asks in ALL {
        for whose in WITH_NODES.into_iter().filter(|whose| *whose != asks) {
            let key = whose.next_key();
            let asked = world.register(asks, key, json!({})).await;
            // Meanwhile the machine whose key that is goes over to it.
            let node = world.node(whose);
            let joined = world.register(whose, key, with(whose.auth_key())).await;
            assert_eq!((&joined["Error"], &joined["MachineAuthorized"]), (&json!(""), &json!(true)), "{joined}");
            let refused = world.approve(&login_id(&asked), 1).await.unwrap_err().to_string();
            assert_eq!(refused, "node key already in use by another machine", "{asks:?} for {whose:?}");
            assert_eq!(world.cluster.view().node_by_key(&key).unwrap().id, node.id);
            let back = world.register(whose, whose.node_key(), with(whose.auth_key())).await;
            assert_eq!(back["MachineAuthorized"], true);
        }
    }
}

#[tokio::test]
async fn a_map_is_for_the_machine_that_has_the_node() {
    let modes = [
        json!({}),
        json!({"Stream": true}),
        json!({"OmitPeers": true}),
        json!({"ReadOnly": true}),
        json!({"ReadOnly": true, "OmitPeers": true}),
        json!({"Stream": true, "Endpoints": ["192.0.2.66:1"], "EndpointTypes": [1]}),
    ];
    for_every_pair(async |world, asks, whose| {
        for mode in &modes {
            let answer = world.map(asks, whose.node_key(), mode.clone()).await;
            let told = (answer.status, answer.text.as_str());
            assert_eq!(told, (StatusCode::NOT_FOUND, "node not found"), "{asks:?} as {whose:?}: {mode}");
        }
    })
    .await;
    let world = World::new().await;
    for own in WITH_NODES {
        assert_eq!(world.map(own, own.node_key(), json!({"ReadOnly": true})).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_ssh_action_is_for_the_machine_that_the_session_goes_to() {
    for_every_pair(async |world, asks, whose| {
        for source in WITH_NODES {
            let path = format!("/machine/ssh/action/{}/to/{}", world.node(source).id, world.node(whose).id);
            let answer = get(&world.router, asks.machine(), &path).await;
            let told = (answer.status, answer.text.as_str());
            assert_eq!(told, (StatusCode::UNAUTHORIZED, "machine key does not match"), "{asks:?} for {whose:?}");
        }
    })
    .await;
    let world = World::new().await;
    let path = format!("/machine/ssh/action/{}/to/{}", world.node(BobsLaptop).id, NodeId(99));
    assert_eq!(get(&world.router, BobsLaptop.machine(), &path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_sets_dns_records_or_attributes_for_anybody() {
    for_every_pair(async |world, asks, whose| {
        for path in ["/machine/set-dns", "/machine/set-device-attr", "/machine/id-token", "/machine/audit-log"] {
            let body = json!({"Version": 142, "NodeKey": whose.node_key(), "Name": "_acme-challenge.x", "Value": "v"});
            let answer = post(&world.router, asks.machine(), path, body.to_string()).await;
            assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_machine_with_anothers_name_gets_neither_its_name_nor_its_addresses() {
    let world = World::new().await;
    for (number, whose) in (0..).zip(WITH_NODES) {
        let before = world.node(whose);
        let impostor = MachineKey([220 + number; 32]);
        let request = json!({
            "Version": 142, "NodeKey": NodeKey([220 + number; 32]), "Hostinfo": {"Hostname": whose.hostname()},
            "Auth": with(Stranger.auth_key())["Auth"]
        });
        post(&world.router, impostor, "/machine/register", request.to_string()).await.json();
        let view = world.cluster.view();
        let node = view.node_by_key(&NodeKey([220 + number; 32])).unwrap();
        assert_ne!(node.given_name, before.given_name);
        assert!(node.ipv4 != before.ipv4 && node.ipv6 != before.ipv6);
        assert_eq!(world.node(whose), before);
        assert_eq!(view.node_by_name(&before.given_name).unwrap().id, before.id);
    }
}

#[tokio::test]
async fn a_login_with_another_users_key_is_that_users_node_and_not_the_earlier_ones() {
    let world = World::new().await;
    let alices = world.node(AlicesLaptop);
    let refused = world.register(AlicesLaptop, AlicesLaptop.node_key(), with(BobsLaptop.auth_key())).await;
    let told = "this machine is logged in with this key for another owner: run \"tailscale logout\" on it first";
    assert_eq!(refused["Error"], told);
    let answer = world.register(AlicesLaptop, AlicesLaptop.next_key(), with(BobsLaptop.auth_key())).await;
    assert_eq!(answer["Login"]["LoginName"], "bob");
    let view = world.cluster.view();
    let bobs = view.node_by_key(&AlicesLaptop.next_key()).unwrap();
    assert_eq!(bobs.owner, Owner::User(UserId(2)));
    assert!(bobs.id != alices.id && bobs.ipv4 != alices.ipv4);
    assert_eq!(world.node(AlicesLaptop), alices);
}

#[tokio::test]
async fn a_machine_does_to_its_own_node_what_is_its_to_do() {
    let world = World::new().await;
    for own in WITH_NODES {
        let id = world.node(own).id;
        assert_eq!(world.register(own, own.node_key(), json!({})).await["MachineAuthorized"], true, "comes back");
        let rotated = world.register(own, own.next_key(), with(own.auth_key())).await;
        assert_eq!(rotated["MachineAuthorized"], true, "rotates its key");
        assert_eq!(world.cluster.view().node_by_key(&own.next_key()).unwrap().id, id);
        assert_eq!(world.map(own, own.node_key(), json!({"ReadOnly": true})).await.status, StatusCode::NOT_FOUND);
        let out = world.register(own, own.next_key(), json!({"Expiry": "1970-01-01T00:02:03Z"})).await;
        assert_eq!((&out["Error"], &out["NodeKeyExpired"]), (&json!(""), &json!(true)), "logs out");
    }
}
