//! What a policy may say, and what is refused.

use super::{Arc, Policies, Policy};
use crate::state::*;
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use std::time::Duration;

fn tag(name: &str) -> Tag {
    name.parse().expect("a tag")
}

#[track_caller]
fn error(text: &str) -> String {
    Policy::parse(text).expect_err(text).to_string()
}

/// A state with users; each is a name and an e-mail address.
fn state(users: &[(&str, &str)]) -> State {
    let mut state = State::default();
    run(
        &mut state,
        Command::Bootstrap {
            settings: Settings {
                prefix_v4: None,
                prefix_v6: None,
                allocation: Allocation::Sequential,
                base_domain: String::new(),
                node_expiry: Duration::ZERO,
                ephemeral_timeout: Duration::ZERO,
            },
            keys: ServerKeys {
                cluster_id: String::new(),
                noise_public: MachineKey([1; 32]),
                legacy_public: MachineKey([2; 32]),
                sealed: String::new(),
                wrapped_data_key: String::new(),
            },
        },
    );
    for (name, email) in users {
        run(
            &mut state,
            Command::CreateUser {
                name: (*name).into(),
                display_name: String::new(),
                email: (*email).into(),
                profile_pic_url: String::new(),
            },
        );
    }
    state
}

fn run(state: &mut State, command: Command) {
    let sequence = state.index() + 1;
    let proposal = Proposal {
        format: COMMAND_FORMAT,
        request: RequestId { incarnation: 1, sequence, acknowledged: sequence - 1 },
        deadline: Time(1000),
        time: Time(1),
        idempotency_key: None,
        command,
    };
    state.apply(sequence, &proposal).outcome.expect("the command is good");
}

fn set(state: &mut State, text: &str) {
    run(state, Command::SetPolicy { text: text.into(), author: String::new(), expected_version: None });
}

#[test]
fn no_rules_or_one_that_accepts_everything_are_accepted() {
    for text in [
        "",
        "  // nothing\n",
        "{}",
        "{ /* a comment */ \"groups\": {}, }",
        r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#,
        r##"{"ACLs": [{"Action": "accept", "proto": "", "src": ["*"], "dst": ["*:*"], "#ha-meta": {"x": 1}}],}"##,
        r#"{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#,
        r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}], "grants": []}"#,
    ] {
        Policy::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

#[test]
fn every_other_rule_is_refused_and_never_ignored() {
    for rules in [
        r#""acls": [{"action": "accept", "src": ["alice@"], "dst": ["*:*"]}]"#,
        r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]"#,
        r#""acls": [{"action": "accept", "proto": "tcp", "src": ["*"], "dst": ["*:*"]}]"#,
        r#""acls": [{"action": "drop", "src": ["*"], "dst": ["*:*"]}]"#,
        r#""acls": [{"src": ["*"], "dst": ["*:*"]}]"#,
        r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}, {"action": "accept", "src": ["*"], "dst": ["*:*"]}]"#,
        r#""grants": [{"src": ["*"], "dst": ["*"], "ip": ["443"]}]"#,
        r#""grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "via": ["tag:a"]}]"#,
        r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}], "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]"#,
    ] {
        let text = error(&format!("{{{rules}}}"));
        assert!(text.contains("not supported yet") && text.contains("accepts everything"), "{rules}: {text}");
    }
    for empty in [r#"{"acls": []}"#, r#"{"grants": []}"#] {
        assert!(error(empty).contains("would deny everything"), "{empty}");
    }
}

#[test]
fn sections_that_are_not_there_yet_are_refused_by_name() {
    let sections = ["hosts", "autoApprovers", "ssh", "nodeAttrs", "tests", "sshTests", "randomizeClientPort"];
    for section in sections {
        for text in [format!("{{\"{section}\": []}}"), format!("{{\"{}\": true}}", section.to_uppercase())] {
            let error = error(&text);
            assert!(error.contains(&format!("policy section \"{section}\" is not supported yet")), "{error}");
        }
    }
    assert_eq!(error("{\n  \"acl\": []\n}"), "parsing policy: unknown field: \"acl\" (line 2, column 10)");
    assert!(error(r#"{"acls": [{"action": "accept", "sorc": ["*"]}]}"#).contains("unknown field: \"sorc\""));
    assert!(error(r#"{"groups": {}, "Groups": {}}"#).contains("duplicate field: \"Groups\""));
}

#[test]
fn the_syntax_is_hujson_and_nothing_looser() {
    assert_eq!(
        error("{\n  \"acls\": ["),
        "parsing policy: parsing HuJSON: hujson: line 2, column 11: Unterminated array"
    );
    for text in
        ["{acls: []}", "{'acls': []}", r#"{"groups": {} "tagOwners": {}}"#, "[]", "null", "{} {}", "{\"a\": 0x1}"]
    {
        assert!(error(text).starts_with("parsing policy: "), "{text}");
    }
    assert!(error(&"[".repeat(100_000)).contains("nesting"));
}

#[test]
fn groups_and_owners_are_checked() {
    for (text, fault) in [
        (r#"{"groups": []}"#, "\"groups\" must be an object"),
        (r#"{"groups": {"eng": []}}"#, "group must start with 'group:', got: \"eng\""),
        (r#"{"groups": {"group:a": "alice@"}}"#, "groups[\"group:a\"] must be a list of texts"),
        (r#"{"groups": {"group:a": ["alice"]}}"#, "username must contain @, got: \"alice\""),
        (
            r#"{"groups": {"group:a": ["group:b"]}}"#,
            "groups[\"group:a\"]: \"group:b\": group members cannot be recursive",
        ),
        (r#"{"tagOwners": {"tag:a": ["group:none"]}}"#, "group not defined in policy: \"group:none\""),
        (r#"{"tagOwners": {"tag:a": ["tag:b"]}}"#, "tag \"tag:a\" references undefined tag \"tag:b\""),
        (r#"{"tagOwners": {"tag:1": []}}"#, "tagOwners[\"tag:1\"]: tag names must start with a letter, after 'tag:'"),
        (r#"{"tagOwners": {"web": []}}"#, "tag must start with the string 'tag:'"),
        (r#"{"tagOwners": {"tag:a": ["autogroup:member"]}}"#, "cannot own a tag"),
        (r#"{"tagOwners": {"tag:a": ["alice"]}}"#, "username must contain @, got: \"alice\""),
        (r#"{"tagOwners": {"tag:a": [1]}}"#, "must be a list of texts"),
    ] {
        assert!(error(text).contains(fault), "{text}: {}", error(text));
    }
}

#[test]
fn tags_belong_to_users_groups_and_the_owners_of_other_tags() {
    let state = state(&[("alice", ""), ("bob", "bob@example.com"), ("carol", "")]);
    let policy = Policy::parse(
        r#"{
            // groups may come after their use
            "tagOwners": {
                "tag:web": ["alice@"],
                "tag:mail": ["bob@example.com"],
                "tag:ops": ["group:ops"],
                "tag:db": ["tag:web", "tag:loop"],
                "tag:loop": ["tag:db"],
                "tag:nobody": [],
            },
            "groups": {"group:ops": ["bob@", "carol@", "gone@"]},
        }"#,
    )
    .expect("a policy");
    let (alice, bob, carol) = (UserId(1), UserId(2), UserId(3));
    let owners = |name: &str| [alice, bob, carol].map(|user| policy.may_own(&state, user, &tag(name)));
    assert_eq!(owners("tag:web"), [true, false, false]);
    assert_eq!(owners("tag:mail"), [false, true, false]);
    assert_eq!(owners("tag:ops"), [false, true, true]);
    assert_eq!(owners("tag:db"), [true, false, false]);
    assert_eq!(owners("tag:loop"), [true, false, false]);
    assert_eq!(owners("tag:nobody"), [false, false, false]);
    assert_eq!(owners("tag:unknown"), [false, false, false]);
    assert!(policy.defines_tag(&tag("tag:nobody")) && !policy.defines_tag(&tag("tag:unknown")));
}

#[test]
fn a_name_that_fits_several_users_is_refused_and_gives_nobody_anything() {
    let state = state(&[("eve", "alice"), ("alice", "")]);
    let policy = Policy::parse(r#"{"tagOwners": {"tag:web": ["alice@"]}}"#).expect("a policy");
    assert!(!policy.may_own(&state, UserId(1), &tag("tag:web")));
    assert!(!policy.may_own(&state, UserId(2), &tag("tag:web")));
    let error = policy.check_users(&state).expect_err("ambiguous").to_string();
    assert_eq!(error, "parsing policy: multiple users found: token \"alice@\" found: eve (id 1), alice (id 2)");
}

#[test]
fn the_policy_in_force_follows_its_version_and_a_bad_text_leaves_the_last_good_one() {
    let mut state = state(&[("alice", "")]);
    let policies = Policies::default();
    assert!(!policies.in_force(&state).defines_tag(&tag("tag:web")));
    set(&mut state, r#"{"tagOwners": {"tag:web": ["alice@"]}}"#);
    let good = policies.in_force(&state);
    assert!(good.defines_tag(&tag("tag:web")));
    assert!(Arc::ptr_eq(&good, &policies.in_force(&state)), "it is compiled once");
    set(&mut state, "{");
    assert!(policies.in_force(&state).defines_tag(&tag("tag:web")));
    set(&mut state, "{}");
    assert!(!policies.in_force(&state).defines_tag(&tag("tag:web")));
}

/// A node of user 1.
fn node() -> Arc<Node> {
    let mut state = state(&[("alice", "")]);
    let hash = SecretHash::of("k");
    run(
        &mut state,
        Command::CreatePreAuthKey {
            prefix: "k".into(),
            hash,
            owner: Owner::User(UserId(1)),
            reusable: false,
            ephemeral: false,
            expiration: None,
        },
    );
    run(
        &mut state,
        Command::RegisterWithKey {
            prefix: "k".into(),
            hash,
            registration: Registration {
                machine_key: MachineKey([1; 32]),
                node_key: NodeKey([1; 32]),
                hostinfo: Hostinfo::default(),
                cap_ver: CapVer(142),
                expiry: None,
                seed: 0,
            },
        },
    );
    state.nodes().next().expect("a node").clone()
}

#[test]
fn without_rules_everybody_reaches_everybody_and_nobody_has_ssh() {
    let (policy, node) = (Policy::parse("{}").expect("a policy"), node());
    assert!(policy.sees(&node, &node));
    assert_eq!(
        &*policy.packet_filter(&node),
        r#"[{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]"#
    );
    assert_eq!(&*policy.ssh_policy(&node), r#"{"rules":[]}"#);
}

#[test]
fn a_replica_that_never_could_read_the_policy_shows_nobody_to_anybody() {
    let mut state = state(&[]);
    set(&mut state, r#"{"acls": [{"action": "accept", "src": ["a-newer-kind"], "dst": ["*:*"]}]}"#);
    let (policy, node) = (Policies::default().in_force(&state), node());
    assert!(!policy.sees(&node, &node));
    assert_eq!(&*policy.packet_filter(&node), "[]");
}
