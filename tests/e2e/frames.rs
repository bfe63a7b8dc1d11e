//! A complete map of many peers is spliced from parts that were compressed apart
//! (`src/netmap/splice.rs`); to a client that asks for no compression, it is plain JSON.
//! Tailscale's own decoders read both.

use crate::support::{Cluster, Fleet, Machine, RustClient, Settings, Up, server_key};
use futures::{StreamExt, stream};

/// Enough for several blocks of neighbours (`src/netmap/render/blocks.rs`).
const OTHERS: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_spliced_map_is_whole_to_the_go_client_and_a_plain_one_to_the_rust_client() {
    let settings = Settings { insecure_relay: true, ..Settings::default() };
    let cluster = Cluster::start_with(1, settings).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let (home, server_key) = (cluster.address(1), server_key(&cluster.url(1)).await);
    let register = |number: usize| {
        let (key, server_key) = (key.clone(), server_key);
        async move {
            let registered = Machine::new(&format!("other-{number}")).register(home, &server_key, &key).await;
            assert!(registered.expect("it registers").accepted());
        }
    };
    stream::iter(0..OTHERS).map(register).buffer_unordered(16).collect::<Vec<()>>().await;

    let fleet = Fleet::start(&[]);
    let web = fleet.up("web", Up::at(cluster.url(1)).key(&key)).await;
    let address = web.running().await[0];
    let seen = web.status().await;
    assert_eq!(seen["peers"].as_array().map(Vec::len), Some(OTHERS), "peers of the Go client: {seen}");

    // It needs the last peer of its map for that.
    let get = format!("{address}:80");
    let mut crab = RustClient::start(&cluster.url(1), "crab", &[&key, "--get", &get, "--serve"]);
    crab.event("running").await;
    assert_eq!(crab.event("body").await, "hello from web");
}
