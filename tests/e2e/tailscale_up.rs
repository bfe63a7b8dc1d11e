//! `tailscale up` as people type it, and what it prints when it fails.

use crate::support::{Cluster, Tailscaled, eventually, eventually_some};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn tailscale_up_joins_with_a_key_and_shows_up_as_online() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(2, &["preauthkeys", "create", "--user", &alice]);
    let daemon = Tailscaled::start().await;
    daemon.up(&cluster.url(3), &["--hostname=desk", &format!("--authkey={key}")]).expect("tailscale up succeeds");
    cluster.shows_online(1, "desk", true, Duration::from_secs(60)).await;

    let address = String::from_utf8(daemon.tailscale(&["ip", "-4"]).stdout).expect("text");
    assert_eq!(cluster.nodes(2)[0]["ipAddresses"][0], address.trim());

    // Logging out is seen everywhere, and the same machine may come back with a new key.
    assert!(daemon.tailscale(&["logout"]).status.success(), "tailscale logout succeeds");
    cluster.shows_online(2, "desk", false, Duration::from_secs(120)).await;
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    daemon.up(&cluster.url(1), &["--hostname=desk", &format!("--authkey={key}")]).expect("it comes back");
    let nodes = cluster.nodes(3);
    assert_eq!(nodes.len(), 1, "as the same node: {nodes:#?}");
    assert_eq!(nodes[0]["ipAddresses"][0], address.trim(), "with the same address");
}

#[tokio::test(flavor = "multi_thread")]
async fn tailscale_up_prints_a_page_and_returns_once_an_administrator_approved() {
    let cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    let daemon = Tailscaled::start().await;
    let mut up = daemon.start_up(&cluster.url(1), &["--hostname=desk"]);
    let prefix = format!("{}/register/", cluster.url(1));
    let url = eventually_some("tailscale up prints the page", Duration::from_secs(60), || {
        up.output().split_whitespace().find(|word| word.starts_with(&prefix)).map(str::to_string)
    })
    .await;

    let key = url.rsplit('/').next().expect("a last part");
    cluster.ok(2, &["nodes", "register", "--user", "alice", "--key", key]);
    eventually("tailscale up returns", Duration::from_secs(60), || up.ended().is_some()).await;
    assert!(up.ended().is_some_and(|status| status.success()), "{}", up.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn tailscale_up_prints_why_a_key_is_refused() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let create = |more: &[&str]| cluster.json(1, &[&["preauthkeys", "create", "--user", &alice], more].concat());
    let text = |key: &serde_json::Value| key["key"].as_str().expect("a key").to_string();

    let spent = text(&create(&[]));
    let first = Tailscaled::start().await;
    first.up(&cluster.url(1), &[&format!("--authkey={spent}")]).expect("the key is good once");

    let expired = create(&[]);
    cluster.ok(2, &["preauthkeys", "expire", "--id", expired["id"].as_str().expect("an id")]);
    let deleted = create(&[]);
    cluster.ok(3, &["preauthkeys", "delete", "--id", deleted["id"].as_str().expect("an id")]);
    let tagged = cluster.ok(2, &["preauthkeys", "create", "--tags", "tag:web"]);
    let nodes = cluster.nodes(1).len();

    let cases: &[(&str, String, &[&str], &str)] = &[
        ("spent", spent, &[], "authkey already used"),
        ("expired", text(&expired), &[], "authkey expired"),
        ("deleted", text(&deleted), &[], "invalid pre auth key"),
        ("unknown", format!("hskey-auth-{}-{}", "0".repeat(12), "0".repeat(64)), &[], "invalid pre auth key"),
        ("malformed", "nonsense".into(), &[], "invalid pre auth key"),
        ("its own tags with a tagged key", tagged, &["--advertise-tags=tag:other"], "invalid or not permitted"),
    ];
    for (index, (what, key, more, error)) in cases.iter().enumerate() {
        let daemon = Tailscaled::start().await;
        let server = cluster.url(index as u64 % 3 + 1);
        let key = format!("--authkey={key}");
        let arguments = [&[key.as_str()], *more].concat();
        let printed = daemon.up(&server, &arguments).expect_err(what);
        assert!(printed.contains(error), "{what}: {printed:?} says {error:?}");
    }
    assert_eq!(cluster.nodes(1).len(), nodes, "nothing was registered");
}
