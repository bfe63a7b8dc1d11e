//! The command line reaches any replica, and the next one when one is down.

use crate::support::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_on_with_the_next_server_and_happens_once() {
    let mut cluster = Cluster::start(3).await;
    let key = cluster.ok(1, &["apikeys", "create"]);
    cluster.kill(2);
    cluster.leader(1).await;

    let servers = [cluster.url(2), cluster.url(3), cluster.url(1)].join(",");
    let output = cluster.run_anywhere(&[], &["--server", &servers, "--api-key", &key, "users", "create", "alice"]);
    assert!(output.status.success(), "{output:?}");
    let environment = [("HEADSCALE_CLI_ADDRESS", servers.as_str()), ("HEADSCALE_CLI_API_KEY", key.as_str())];
    let output = cluster.run_anywhere(&environment, &["users", "list", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let users: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(users.as_array().map(Vec::len), Some(1), "exactly one user: {users}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_api_key_is_refused() {
    let cluster = Cluster::start(1).await;
    let key = format!("hskey-api-{}-{}", "0".repeat(12), "0".repeat(64));
    let output = cluster.run_anywhere(&[], &["--server", &cluster.url(1), "--api-key", &key, "users", "list"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Unauthorized"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_named_headscale_behaves_the_same() {
    let cluster = Cluster::start(1).await;
    cluster.create_user(1, "alice");
    let link = cluster.dir().join("headscale");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quorumscale"), &link).expect("a link");
    let config = cluster.dir().join("node1/config.yaml");
    let output = std::process::Command::new(link).arg("-c").arg(config).args(["users", "list"]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), cluster.ok(1, &["users", "list"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_headscales_and_change_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    let cases: &[(&[&str], &str)] = &[
        (&["users", "create", "alice"], "user already exists"),
        (&["users", "create", "bob@"], "bob@"),
        (&["users", "destroy", "--identifier", "99", "--force"], "multiple users match query, specify an ID"),
        (&["preauthkeys", "create"], "auth-key must be either tagged or owned by user"),
        (&["preauthkeys", "create", "--user", "99"], "user not found"),
        (&["preauthkeys", "create", "--tags", "web"], "tag must start with the string 'tag:'"),
        (&["preauthkeys", "create", "--user", "1", "-e", "bogus"], "not a valid duration string: \"bogus\""),
        (&["preauthkeys", "expire", "--id", "99"], "auth-key not found"),
        (&["preauthkeys", "delete", "--id", "99"], "auth-key not found"),
        (&["apikeys", "expire", "--id", "99"], "record not found"),
        (&["nodes", "expire", "-i", "99"], "node no longer exists"),
        (&["nodes", "delete", "-i", "99", "--force"], "not found"),
        (&["nodes", "rename", "-i", "99", "x1"], "node no longer exists"),
        (&["nodes", "register", "--user", "alice", "--key", "nonsense"], "auth ID has invalid prefix"),
        (&["auth", "register", "--user", "nobody", "--auth-id", "hskey-authreq-000000000000000000000000"], "not found"),
        (&["policy", "set", "-f", "no-such-file"], "no such file"),
    ];
    for (index, (arguments, error)) in cases.iter().enumerate() {
        let said = cluster.fails(index as u64 % 3 + 1, arguments);
        assert!(said.contains("Error: ") && said.contains(error), "{arguments:?}: {said:?} says {error:?}");
    }
    assert_eq!(cluster.json(2, &["users", "list"]).as_array().map(Vec::len), Some(1));
    assert_eq!(cluster.json(3, &["preauthkeys", "list"]), serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_not_understood_is_refused_by_name() {
    let cluster = Cluster::start(1).await;
    let set = |text: &str| {
        let file = cluster.dir().join("policy.hujson");
        std::fs::write(&file, text).expect("a policy file");
        cluster.fails(1, &["policy", "set", "-f", file.to_str().expect("text")])
    };
    let cases = [
        (r#"{"derpMap": {}}"#, "derpMap"),
        (r#"{"postures": {"posture:x": ["custom:tier == 1"]}}"#, "custom:tier"),
        (r#"{"nodeAttrs": [{"target": ["*"], "ipPool": ["10.0.0.0/8"]}]}"#, "10.0.0.0/8"),
        (r#"{"acl": []}"#, "acl"),
        (r#"{"acls": [{"action": "deny", "src": ["*"], "dst": ["*:22"]}]}"#, "deny"),
        (r#"{"acls": [{"action": "accept", "src": ["tag:none"], "dst": ["*:22"]}]}"#, "tag:none"),
        (r#"{"tagOwners": {"tag:x": ["group:none"]}}"#, "group:none"),
        (r#"{"groups": "#, "HuJSON"),
    ];
    for (text, names) in cases {
        let error = set(text);
        assert!(error.contains(names), "{text}: {error:?} names {names:?}");
    }
    let error = cluster.fails(1, &["policy", "get"]);
    assert!(error.contains("policy not found"), "none was stored: {error}");
}
