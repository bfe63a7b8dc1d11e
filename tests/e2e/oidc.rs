//! People log in through an OpenID provider that is not ours, over replicas as they come.

use crate::support::{
    Browser, Cluster, Fleet, Machine, Provider, Session, Settings, Up, Visited, eventually, provider_config, server_key,
};
use std::time::Duration;

/// A provider that is back is found within ten seconds.
const FOUND: Duration = Duration::from_secs(50);
/// A start waits half a minute for a provider that must be there.
const GIVEN_UP: Duration = Duration::from_secs(90);

async fn cluster(provider: &Provider, more: &str) -> Cluster {
    Cluster::start_with(3, Settings { config: provider.config(more), ..Settings::default() }).await
}

/// `HOST:PORT` of a replica.
fn host(cluster: &Cluster, id: u64) -> String {
    format!("{}:8080", cluster.address(id))
}

/// The same page at another replica.
fn at(cluster: &Cluster, url: &str, from: u64, to: u64) -> String {
    url.replacen(&cluster.url(from), &cluster.url(to), 1)
}

/// Begins at replica `begin`, comes back to replica `back`, and confirms at replica `end`:
/// the last page.
async fn log_in(
    cluster: &Cluster,
    provider: &Provider,
    browser: &mut Browser,
    path: &str,
    account: &str,
    [begin, back, end]: [u64; 3],
) -> Visited {
    let begun = browser.ask("GET", &format!("{}{path}", cluster.url(begin)), "").await;
    assert_eq!(begun.status, 302, "replica {begin} sends the browser to the provider: {}", begun.body);
    let location = begun.header("location").to_owned();
    assert!(location.starts_with(&provider.issuer), "{location}");
    let returned = provider.log_in(browser, &location, account).await;
    assert!(returned.starts_with(&cluster.url(begin)), "{returned}");
    // As when one name has all addresses, and the browser takes another one.
    browser.moves(&host(cluster, begin), &host(cluster, back));
    let page = browser.follow(&at(cluster, &returned, begin, back), |_| false).await;
    if page.reply.status != 200 {
        return page;
    }
    assert!(page.reply.body.contains("Is this your machine?"), "{page:?}");
    browser.moves(&host(cluster, back), &host(cluster, end));
    let token = page.token();
    let page = Visited { url: at(cluster, &page.url, back, end), ..page };
    browser.submit(&page, &token, |_| false).await
}

fn path_of(url: &str) -> String {
    format!("/{}", url.splitn(4, '/').nth(3).expect("a path"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_begins_at_one_replica_comes_back_to_another_and_a_machine_waits_at_a_third() {
    let provider = Provider::start().await;
    let mut cluster = cluster(&provider, "").await;
    let fleet = Fleet::start(&[]);
    let laptop = fleet.up("laptop", Up::at(cluster.url(3))).await;
    let path = path_of(&laptop.auth_url().await);
    let mut browser = Browser::default();
    let done = log_in(&cluster, &provider, &mut browser, &path, "carol", [1, 2, 2]).await;
    assert!(done.reply.body.contains("<h1>Node registered</h1>"), "{done:?}");
    let addresses = laptop.running().await;

    for id in 1..=3 {
        let users = cluster.json(id, &["users", "list"]);
        let carol = &users[0];
        assert_eq!(carol["name"], "carol", "{users}");
        assert_eq!(carol["email"], "carol@example.com");
        assert_eq!(carol["provider"], "oidc");
        assert_eq!(carol["providerId"], format!("{}/carol", provider.issuer));
        assert_eq!(carol["profilePicUrl"], "https://example.com/carol.png");
        let nodes = cluster.nodes(id);
        assert_eq!((nodes.len(), &nodes[0]["registerMethod"]), (1, &"REGISTER_METHOD_OIDC".into()), "{nodes:?}");
        assert_eq!(nodes[0]["user"]["name"], "carol");
    }
    assert!(cluster.ok(1, &["audit", "list"]).contains(&format!("oidc {}/carol", provider.issuer)));

    // Logged out and in again, now while the replica dies at which the login began.
    laptop.logout().await;
    laptop.close().await;
    let laptop = fleet.up("laptop", Up::at(cluster.url(3))).await;
    let path = path_of(&laptop.auth_url().await);
    let begun = browser.ask("GET", &format!("{}{path}", cluster.url(1)), "").await;
    let returned = provider.log_in(&mut browser, begun.header("location"), "carol").await;
    cluster.kill(1);
    cluster.leader(2).await;
    browser.moves(&host(&cluster, 1), &host(&cluster, 2));
    let page = browser.follow(&at(&cluster, &returned, 1, 2), |_| false).await;
    let token = page.token();
    let done = browser.submit(&page, &token, |_| false).await;
    assert!(done.reply.body.contains("<h1>Node reauthenticated</h1>"), "{done:?}");
    assert_eq!(laptop.running().await, addresses, "the machine is who it was");
    assert_eq!(cluster.nodes(2).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_is_told_so_and_administrators_still_let_machines_in() {
    let provider = Provider::start().await;
    let rules =
        "  scope: [openid, profile, email, groups]\n  allowed_groups: [staff]\n  allowed_domains: [example.com]\n";
    let cluster = cluster(&provider, rules).await;
    let fleet = Fleet::start(&[]);
    let laptop = fleet.up("laptop", Up::at(cluster.url(1))).await;
    let path = path_of(&laptop.auth_url().await);
    for (account, expected) in [("carol.guests", "None of your groups"), ("carol.unverified", "is not verified")] {
        let page = log_in(&cluster, &provider, &mut Browser::default(), &path, account, [1, 2, 3]).await;
        assert_eq!(page.reply.status, 401, "{page:?}");
        assert!(page.reply.body.contains(expected), "{page:?}");
    }
    assert_eq!(cluster.json(1, &["users", "list"]), serde_json::json!([]));
    cluster.create_user(2, "alice");
    let key = path.rsplit('/').next().expect("an id");
    cluster.ok(2, &["auth", "register", "--auth-id", key, "--user", "alice"]);
    laptop.running().await;

    let desk = fleet.up("desk", Up::at(cluster.url(2))).await;
    let path = path_of(&desk.auth_url().await);
    let done = log_in(&cluster, &provider, &mut Browser::default(), &path, "alice", [3, 1, 2]).await;
    assert_eq!(done.reply.status, 200, "{done:?}");
    desk.running().await;
    let users = cluster.json(3, &["users", "list"]);
    let names: Vec<_> = users.as_array().expect("a list").iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["alice", "alice@example.com"], "a name makes nobody somebody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_keeps_no_replica_from_serving_unless_it_must_be_there() {
    let provider = Provider::start().await;
    let port: u16 = provider.issuer.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let issuer = provider.issuer.clone();
    drop(provider);
    let config = provider_config(&issuer, "");
    let mut cluster = Cluster::start_with(1, Settings { config, ..Settings::default() }).await;
    let fleet = Fleet::start(&[]);
    let laptop = fleet.up("laptop", Up::at(cluster.url(1))).await;
    let url = laptop.auth_url().await;
    let mut browser = Browser::default();
    let page = browser.ask("GET", &url, "").await;
    assert!(page.status == 200 && page.body.contains("nodes register --user"), "{}", page.body);

    let provider = Provider::start_at(port).await;
    let deadline = tokio::time::Instant::now() + FOUND;
    while browser.ask("GET", &url, "").await.status != 302 {
        assert!(tokio::time::Instant::now() < deadline, "the provider is found when it is back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let done = log_in(&cluster, &provider, &mut browser, &path_of(&url), "carol", [1, 1, 1]).await;
    assert_eq!(done.reply.status, 200, "{done:?}");
    laptop.running().await;

    drop(provider);
    cluster.stop(1).await;
    cluster.reconfigure(1, "  pkce:", "  only_start_if_oidc_is_available: true\n  pkce:");
    cluster.start_replica(1);
    eventually("the replica gives up", GIVEN_UP, || cluster.has_ended(1)).await;
    assert!(cluster.log(1).contains("set oidc.only_start_if_oidc_is_available to false"), "{}", cluster.log(1));
    cluster.forget_if_ended(1);
}

const CHECKED: &str = r#"{
  "tagOwners": {"tag:server": ["carol@example.com"]},
  "acls": [{"action": "accept", "src": ["carol@example.com"], "dst": ["tag:server:22"]}],
  "ssh": [{"action": "check", "checkPeriod": "1h", "src": ["carol@example.com"], "dst": ["tag:server"], "users": ["root"]}],
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_session_is_let_through_by_a_login_of_the_one_whose_machine_it_comes_from() {
    let provider = Provider::start().await;
    let cluster = cluster(&provider, "").await;
    let policy = cluster.dir().join("policy.hujson");
    std::fs::write(&policy, CHECKED).expect("a policy file");
    cluster.ok(2, &["policy", "set", "-f", policy.to_str().expect("text")]);
    let noise = server_key(&cluster.url(1)).await;

    let laptop = Machine::new("laptop");
    let mut asks = Session::open(cluster.address(1), &noise, &laptop).await.expect("a session");
    let asked = asks.register(&laptop.registration()).await.expect("an answer");
    let mut browser = Browser::default();
    let path = path_of(asked.auth_url());
    let done = log_in(&cluster, &provider, &mut browser, &path, "carol", [2, 3, 1]).await;
    assert_eq!(done.reply.status, 200, "{done:?}");
    let carol = cluster.json(1, &["users", "list"])[0]["id"].as_str().expect("an id").to_owned();
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &carol, "--tags", "tag:server"]);
    let server = Machine::new("server");
    let registered = server.register(cluster.address(1), &noise, &key).await.expect("a registration");
    assert!(registered.accepted(), "{registered:?}");

    let nodes = cluster.nodes(1);
    let id =
        |name: &str| nodes.iter().find(|node| node["givenName"] == name).expect(name)["id"].as_str().expect("an id");
    let path = format!("/machine/ssh/action/{}/to/{}?local_user=root", id("laptop"), id("server"));
    let mut one = Session::open(cluster.address(1), &noise, &server).await.expect("a session");
    let (_, text) = one.get(&path).await.expect("an answer");
    let hold: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        hold["message"].as_str().is_some_and(|message| message.contains("until you have logged in here")),
        "{hold}"
    );
    let url =
        hold["holdAndDelegate"].as_str().expect("a hold").strip_prefix("https://unused").expect("a path").to_owned();
    let page = format!("/auth/{}", url.rsplit_once("auth_id=").expect("an id").1);

    let other = log_in(&cluster, &provider, &mut Browser::default(), &page, "dave", [1, 2, 3]).await;
    assert_eq!(other.reply.status, 403, "{other:?}");
    let mut two = Session::open(cluster.address(2), &noise, &server).await.expect("a session");
    let waits = async { two.get(&url).await.expect("an answer").1 };
    let logs_in = async {
        let begun = browser.ask("GET", &format!("{}{page}", cluster.url(1)), "").await;
        let returned = provider.log_in(&mut browser, begun.header("location"), "carol").await;
        browser.moves(&host(&cluster, 1), &host(&cluster, 3));
        browser.follow(&at(&cluster, &returned, 1, 3), |_| false).await
    };
    let (action, approved) = tokio::join!(waits, logs_in);
    assert!(approved.reply.body.contains("SSH session authorized"), "{approved:?}");
    assert!(action.contains("\"accept\":true"), "{action}");
}
