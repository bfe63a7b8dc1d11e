//! The policy as administrators and machines meet it on a cluster of three.

use crate::support::{Cluster, Machine, MapStream, Session, Settings, eventually, server_key};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A change of the policy is promised to reach all streams within a second; asserted at five times that.
const REACHED: Duration = Duration::from_secs(5);
/// A policy file is looked at every two seconds; asserted at five times that.
const FOLLOWED: Duration = Duration::from_secs(10);
/// As many as the promise is about.
const STREAMS: usize = 1000;

fn file(cluster: &Cluster, text: &str) -> String {
    let path = cluster.dir().join("policy.hujson");
    std::fs::write(&path, text).expect("a policy file");
    path.to_str().expect("text").into()
}

const CHECKED: &str = r#"{
  "tagOwners": {"tag:server": ["alice@"]},
  "acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:server:22"]}],
  "ssh": [
    {"action": "check", "checkPeriod": "1h", "src": ["alice@"], "dst": ["tag:server"], "users": ["root"]},
  ],
}
"#;

/// A machine with a key of this kind; gives the node's id.
async fn join(cluster: &Cluster, machine: &Machine, key: &str) -> u64 {
    let server = server_key(&cluster.url(1)).await;
    let registered = machine.register(cluster.address(1), &server, key).await.expect("a registration");
    assert!(registered.accepted(), "{registered:?}");
    let node = cluster.nodes(1).into_iter().find(|node| node["givenName"] == machine.name.as_str()).expect("listed");
    node["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_session_waits_on_one_replica_its_page_is_on_another_and_a_third_approves() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    cluster.ok(2, &["policy", "set", "-f", &file(&cluster, CHECKED)]);
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let laptop = join(&cluster, &Machine::new("laptop"), &key).await;
    let key = cluster.ok(1, &["preauthkeys", "create", "--tags", "tag:server"]);
    let machine = Machine::new("server");
    let server = join(&cluster, &machine, &key).await;

    let noise = server_key(&cluster.url(1)).await;
    let asks = |id: u64| Session::open(cluster.address(id), &noise, &machine);
    let path = format!("/machine/ssh/action/{laptop}/to/{server}?local_user=root");
    let mut one = asks(1).await.expect("a session");
    let (status, text) = one.get(&path).await.expect("an answer");
    assert_eq!(status, 200, "{text}");
    let hold: Value = serde_json::from_str(&text).expect("JSON");
    let url = hold["holdAndDelegate"].as_str().expect("a hold").strip_prefix("https://unused").expect("a path");
    let auth_id = url.rsplit_once("auth_id=").expect("an id").1;
    assert!(hold["message"].as_str().is_some_and(|message| message.contains(&format!("/auth/{auth_id}"))), "{hold}");

    let page = crate::support::request("GET", &format!("{}/auth/{auth_id}", cluster.url(2)), &[], b"").await;
    let page = page.expect("a page");
    assert_eq!(page.status, 200);
    let command = format!("auth approve --auth-id {auth_id}");
    assert!(page.body.contains(&command) && page.body.contains("laptop (alice)"), "{}", page.body);

    let mut two = asks(2).await.expect("a session");
    let waits = async { two.get(url).await.expect("an answer") };
    let approves = async { cluster.ok(3, &["auth", "approve", "--auth-id", auth_id]) };
    let ((status, text), said) = tokio::join!(waits, approves);
    assert_eq!(said, "Auth request approved");
    let action: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &action["accept"]), (200, &Value::Bool(true)), "{action}");

    // It is remembered everywhere.
    let mut three = asks(3).await.expect("a session");
    let (_, text) = three.get(&path).await.expect("an answer");
    assert!(text.contains("\"accept\":true"), "{text}");
    let explained = cluster.ok(3, &["policy", "explain", "ssh", "alice@", "root@server"]);
    assert!(explained.contains("check (period 1h)") && explained.contains("were approved by"), "{explained}");
    let refused = cluster.fails(1, &["auth", "reject", "--auth-id", auth_id]);
    assert!(refused.contains("already decided"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_policies_are_listed_compared_and_put_in_force_again_on_any_replica() {
    let cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    cluster.ok(1, &["policy", "set", "-f", &file(&cluster, CHECKED)]);
    cluster.ok(2, &["policy", "set", "-f", &file(&cluster, "{\n  \"acls\": [],\n}\n")]);
    let history = cluster.json(3, &["policy", "history"]);
    assert_eq!(history[0]["version"], "2");
    let author = history[1]["author"].as_str().expect("an author");
    assert!(author.ends_with(" on replica 1"), "{author}");
    let diff = cluster.ok(3, &["policy", "diff"]);
    assert!(diff.contains("--- version 1") && diff.contains("+  \"acls\": [],"), "{diff}");
    let said = cluster.ok(3, &["policy", "rollback", "1"]);
    assert_eq!(said, "Policy of version 1 is in force again, as version 3.");
    assert_eq!(cluster.ok(1, &["policy", "get"]), CHECKED.trim_end());
    let explained = cluster.ok(2, &["policy", "explain", "alice@", "tag:server:22"]);
    assert!(explained.starts_with("ALLOWED:") && explained.contains("acls[0] (line 3, column 12)"), "{explained}");
    let explained = cluster.ok(2, &["policy", "explain", "alice@", "tag:server:80"]);
    assert!(explained.starts_with("DENIED:") && explained.contains("port 22, not 80"), "{explained}");
    let refused = cluster.fails(1, &["policy", "rollback", "9"]);
    assert!(refused.contains("policy version 9 is not kept: there are versions 1 to 3"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_file_mode_the_file_that_changed_last_is_in_force_on_all_and_others_are_named() {
    let settings = Settings { config: "policy:\n  mode: file\n  path: policy.hujson\n".into(), ..Settings::default() };
    let cluster = Cluster::start_with(3, settings).await;
    let write = |id: u64, text: &str| {
        std::fs::write(cluster.replica_dir(id).join("policy.hujson"), text).expect("a policy file");
    };
    let in_force = |text: &str| {
        (1..=3).all(|id| {
            let output = cluster.run(id, &["policy", "get"]);
            output.status.success() && String::from_utf8_lossy(&output.stdout).trim_end() == text
        })
    };
    write(1, "{} // one");
    eventually("the first replica's file is in force", FOLLOWED, || in_force("{} // one")).await;
    write(2, "{} // two");
    eventually("the second replica's file is in force", FOLLOWED, || in_force("{} // two")).await;
    let warned = |id: u64, part: &str| {
        let status = cluster.status(3).unwrap_or_default();
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        let start = format!("replica {id}: ");
        warnings.iter().filter_map(Value::as_str).any(|warning| warning.starts_with(&start) && warning.contains(part))
    };
    eventually("the first replica's file is told to differ", FOLLOWED, || {
        warned(1, "differs from the policy in force (version 2, by file ")
    })
    .await;
    write(3, "{ not a policy");
    eventually("the third replica's file is told to be bad", FOLLOWED, || warned(3, "is not valid")).await;
    assert!(in_force("{} // two"), "a bad file changes nothing");
    let refused = cluster.fails(1, &["policy", "set", "-f", &file(&cluster, "{}")]);
    assert!(refused.contains("change the file that policy.path names"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_reaches_a_thousand_streams_whole() {
    let cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let alice = cluster.create_user(1, "alice");
    // Few peers for each: what is measured is the policy, not a thousand times a thousand nodes.
    let closed = r#"{"acls": [{"action": "accept", "src": ["x"], "dst": ["x:1"]}], "hosts": {"x": "100.64.0.1"}}"#;
    cluster.ok(1, &["policy", "set", "-f", &file(&cluster, closed)]);
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let noise = server_key(&cluster.url(1)).await;
    let mut streams: Vec<(Session, MapStream)> = Vec::new();
    for start in (0..STREAMS).step_by(50) {
        let joins = (start..start + 50).map(|n| {
            let (machine, key, noise) = (Machine::new(&format!("node-{n}")), &key, &noise);
            let address = cluster.address(n as u64 % 3 + 1);
            async move {
                let mut session = Session::open(address, noise, &machine).await?;
                let mut body = machine.registration();
                body["Auth"] = serde_json::json!({"AuthKey": key});
                session.register(&body).await?;
                let mut stream = session.map(&machine).await?;
                stream.next().await?;
                Ok::<_, String>((session, stream))
            }
        });
        for joined in futures::future::join_all(joins).await {
            streams.push(joined.expect("a stream"));
        }
    }

    let opened = r#"{"acls": [{"action": "accept", "src": ["x"], "dst": ["*:7"]}], "hosts": {"x": "100.64.0.1"}}"#;
    let path = file(&cluster, opened);
    let sent = Instant::now();
    cluster.ok(2, &["policy", "set", "-f", &path]);
    let answered = sent.elapsed();
    let reached = streams.iter_mut().map(|(_, stream)| async {
        loop {
            let message = stream.next().await.expect("the stream goes on");
            let filters = [&message["PacketFilters"]["base"], &message["PacketFilter"]];
            if filters.iter().any(|filter| filter.to_string().contains(r#""First":7"#)) {
                return sent.elapsed();
            }
        }
    });
    let mut times = tokio::time::timeout(REACHED * 10, futures::future::join_all(reached)).await.expect("all of them");
    times.sort();
    let (median, last) = (times[STREAMS / 2], times[STREAMS - 1]);
    println!(
        "the command was answered after {:.2} s; {STREAMS} streams had the policy after {:.2} s (median), {:.2} s (last)",
        answered.as_secs_f64(),
        median.as_secs_f64(),
        last.as_secs_f64()
    );
    assert!(last < REACHED, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_policy_file_again_says_what_is_wrong_with_it_and_ends_nothing() {
    let mut settings =
        Settings { config: "policy:\n  mode: file\n  path: policy.hujson\n".into(), ..Settings::default() };
    let mut cluster = Cluster::start_with(1, settings.clone()).await;
    let path = cluster.replica_dir(1).join("policy.hujson");
    let in_force = |cluster: &Cluster, text: &str| cluster.ok(1, &["policy", "get"]) == text;
    std::fs::write(&path, "{} // one").expect("a policy file");
    cluster.signal(1, "HUP");
    eventually("the file is in force", FOLLOWED, || {
        cluster.run(1, &["policy", "get"]).status.success() && in_force(&cluster, "{} // one")
    })
    .await;

    // A bad file is told once, and again when somebody asks by the signal.
    std::fs::write(&path, "{ not a policy").expect("a policy file");
    let told = |cluster: &Cluster| cluster.log(1).matches("the policy in force stays").count();
    eventually("it is told", FOLLOWED, || told(&cluster) == 1).await;
    cluster.signal(1, "HUP");
    eventually("it is told again", FOLLOWED, || told(&cluster) == 2).await;
    assert!(cluster.log(1).contains("SIGHUP: reading the policy file"));
    assert!(in_force(&cluster, "{} // one"), "a bad file changes nothing");
    std::fs::write(&path, "{} // two").expect("a policy file");
    cluster.signal(1, "HUP");
    eventually("the mended file is in force", FOLLOWED, || in_force(&cluster, "{} // two")).await;

    // Where the policy is in the database, the signal does nothing.
    settings.config.clear();
    let mut cluster = Cluster::start_with(1, settings).await;
    cluster.signal(1, "HUP");
    eventually("it was heard", FOLLOWED, || cluster.log(1).contains("SIGHUP")).await;
    cluster.create_user(1, "alice");
    cluster.stop(1).await;
}
