//! Tailscale's Rust client, which reads every response strictly.

use crate::support::{Cluster, Fleet, RustClient, Settings, Up};

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_joins_and_fetches_a_page_through_the_tunnel() {
    let settings = Settings { insecure_relay: true, ..Settings::default() };
    let cluster = Cluster::start_with(3, settings).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let fleet = Fleet::start(&[]);
    let web = fleet.up("web", Up::at(cluster.url(1)).key(&key)).await;
    let address = web.running().await[0];

    let key = cluster.ok(2, &["preauthkeys", "create", "--user", &alice]);
    let get = format!("{address}:80");
    let mut crab = RustClient::start(&cluster.url(2), "crab", &[&key, "--get", &get, "--serve"]);
    let own = crab.event("running").await;
    assert_eq!(crab.event("body").await, "hello from web");

    let mut answer = Err(String::new());
    for _ in 0..3 {
        answer = web.get(&format!("http://{own}/")).await;
        if answer.is_ok() {
            break;
        }
    }
    let seen = web.status().await;
    assert_eq!(answer.as_deref(), Ok("hello from rust-client"), "and the other way round; web sees {seen}");
}
