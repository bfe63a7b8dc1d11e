//! The hot paths one by one: `make bench`. `docs/performance.md` puts them together.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use quorumscale::hot::{Records, Rendering, compress, handshake};
use quorumscale::state::*;
use quorumscale::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey, PrivateKey};
use std::io::Write;
use std::time::Duration;

fn main() {
    divan::main();
}

/// A registration with a reusable key, in a tailnet of so many nodes.
#[divan::bench(args = [100, 1_000, 10_000], sample_count = 20, sample_size = 50)]
fn apply_a_registration(bencher: Bencher, nodes: u64) {
    let mut tailnet = Tailnet::of(nodes);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| tailnet.join());
}

/// A changed endpoint.
#[divan::bench(args = [100, 1_000, 10_000])]
fn apply_an_endpoint(bencher: Bencher, nodes: u64) {
    let mut tailnet = Tailnet::of(nodes);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| tailnet.endpoint(NodeId(2)));
}

/// A changed endpoint for the first stream that tells it.
#[divan::bench(args = [1_000, 10_000])]
fn render_a_change_first(bencher: Bencher, nodes: u64) {
    let mut tailnet = Tailnet::of(nodes);
    let mut rendering = Rendering::new(&tailnet.state);
    bencher
        .with_inputs(|| {
            tailnet.endpoint(NodeId(2));
            tailnet.state.clone()
        })
        .bench_local_refs(|state| rendering.change(state, NodeId(2)));
}

/// And for each other stream, which finds it rendered and compressed.
#[divan::bench(args = [1_000, 10_000])]
fn render_a_change_again(bencher: Bencher, nodes: u64) {
    let mut tailnet = Tailnet::of(nodes);
    tailnet.endpoint(NodeId(2));
    let mut rendering = Rendering::new(&tailnet.state);
    bencher.bench_local(|| rendering.change(&tailnet.state, NodeId(2)));
}

/// A complete map, when others had theirs before.
#[divan::bench(args = [1_000, 10_000], sample_count = 20, sample_size = 1)]
fn render_a_whole_map(bencher: Bencher, nodes: u64) {
    let tailnet = Tailnet::of(nodes);
    let rendering = Rendering::new(&tailnet.state);
    let bytes = rendering.whole(&tailnet.state);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| rendering.whole(&tailnet.state));
}

/// zstd as for deltas; the speed is that of its input.
#[divan::bench(args = [200, 2_000, 200_000])]
fn compress_json(bencher: Bencher, bytes: usize) {
    let mut json = Vec::new();
    for n in 0.. {
        if json.len() >= bytes {
            break;
        }
        let key = PrivateKey([n as u8; 32]).public();
        let _ = write!(json, "{{\"NodeID\":{n},\"Key\":\"{}\",\"Endpoints\":[\"192.0.2.7:41641\"]}},", NodeKey(key));
    }
    json.truncate(bytes);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| compress(black_box(&json)));
}

/// ChaCha20-Poly1305 over a full record: what no fan-out can be faster than.
#[divan::bench]
fn encrypt_a_record(bencher: Bencher) {
    let mut records = Records::default();
    bencher.counter(BytesCount::new(Records::BYTES)).bench_local(|| records.seal());
}

/// Both sides.
#[divan::bench]
fn noise_handshake(bencher: Bencher) {
    let (server, machine) = (PrivateKey::generate(), PrivateKey::generate());
    bencher.bench_local(|| handshake(black_box(&server), black_box(&machine)));
}

/// An append of one log entry, and a sync: what no single write can be faster than. In the
/// directory for temporary files, which should be on the disk that is meant (`TMPDIR`).
#[divan::bench(args = [512, 65_536], sample_count = 50, sample_size = 4)]
fn append_and_sync(bencher: Bencher, bytes: usize) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let entry = vec![7; bytes];
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        file.write_all(&entry).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
    });
}

struct Tailnet {
    state: State,
    nodes: u64,
    endpoints: u32,
}

const SECRET: &str = "secret";

impl Tailnet {
    /// Everyone belongs to one user and sees everyone.
    fn of(nodes: u64) -> Self {
        let mut tailnet = Self { state: State::default(), nodes: 0, endpoints: 0 };
        let settings = Settings {
            prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
            prefix_v6: Some("fd7a:115c:a1e0::/48".parse().expect("a prefix")),
            allocation: Allocation::Sequential,
            base_domain: "example.net".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::ZERO,
        };
        let keys = ServerKeys {
            cluster_id: String::new(),
            noise_public: MachineKey([1; 32]),
            legacy_public: MachineKey([2; 32]),
            sealed: String::new(),
            wrapped_data_key: String::new(),
            previous_cluster_ids: Vec::new(),
        };
        tailnet.run(Command::Bootstrap { settings, keys });
        let empty = String::new;
        let user = Command::CreateUser {
            name: "alice".into(),
            display_name: empty(),
            email: empty(),
            profile_pic_url: empty(),
        };
        tailnet.run(user);
        tailnet.run(Command::CreatePreAuthKey {
            prefix: "key".into(),
            hash: SecretHash::of(SECRET),
            owner: Owner::User(UserId(1)),
            reusable: true,
            ephemeral: false,
            expiration: None,
        });
        for _ in 0..nodes {
            tailnet.join();
        }
        tailnet
    }

    fn join(&mut self) {
        self.nodes += 1;
        let key = |kind: u8| {
            let mut key = [kind; 32];
            key[..8].copy_from_slice(&self.nodes.to_be_bytes());
            key
        };
        let registration = Registration {
            machine_key: MachineKey(key(1)),
            node_key: NodeKey(key(2)),
            hostinfo: Hostinfo { hostname: format!("node-{:06}", self.nodes), ..Hostinfo::default() },
            cap_ver: CapVer(142),
            expiry: None,
            seed: self.nodes,
            v4_pools: Vec::new(),
        };
        self.run(Command::RegisterWithKey { prefix: "key".into(), hash: SecretHash::of(SECRET), registration });
    }

    fn endpoint(&mut self, node: NodeId) {
        self.endpoints += 1;
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + self.endpoints);
        let update = NodeUpdate {
            node,
            node_key: self.state.node(node).expect("it is there").node_key,
            cap_ver: CapVer(142),
            disco_key: None,
            endpoints: Some(vec![Endpoint { addr: (address, 41641).into(), kind: 1 }]),
            hostinfo: None,
        };
        self.run(Command::Report(vec![Report::Update(update)]));
    }

    fn run(&mut self, command: Command) {
        let index = self.state.index() + 1;
        let request = RequestId { incarnation: 1, sequence: index, acknowledged: index - 1 };
        let (deadline, time) = (Time(1_000_000), Time(1));
        let proposal =
            Proposal { format: COMMAND_FORMAT, request, deadline, time, idempotency_key: None, origin: None, command };
        self.state.apply(index, &proposal).outcome.expect("the command is good");
    }
}
