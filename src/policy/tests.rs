//! What a policy may say, and what is refused.

use super::{Policies, Policy};
use crate::state::*;
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use std::sync::Arc;
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
                prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
                prefix_v6: Some("fd7a:115c:a1e0::/48".parse().expect("a prefix")),
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
                previous_cluster_ids: Vec::new(),
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

pub(super) fn run(state: &mut State, command: Command) {
    let sequence = state.index() + 1;
    let proposal = Proposal {
        format: COMMAND_FORMAT,
        request: RequestId { incarnation: 1, sequence, acknowledged: sequence - 1 },
        deadline: Time(1000),
        time: Time(1),
        idempotency_key: None,
        origin: None,
        command,
    };
    state.apply(sequence, &proposal).outcome.expect("the command is good");
}

pub(super) fn set(state: &mut State, text: &str) {
    run(state, Command::SetPolicy { text: text.into(), author: String::new(), expected_version: None });
}

#[test]
fn every_form_of_the_language_is_read() {
    for text in [
        "",
        "  // nothing\n",
        "{}",
        "{ /* a comment */ \"groups\": {}, }",
        r##"{"ACLs": [{"Action": "accept", "proto": "", "src": ["*"], "dst": ["*:*"], "#ha-meta": {"x": 1}}],}"##,
        r#"{"acls": [], "grants": null}"#,
        r#"{"acls": [{"action": "accept", "proto": "TCP", "src": ["a@"], "dst": ["b@:22,80-90", "[fd7a::1]:443", "fd7a::1:443"]}]}"#,
        r#"{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*", "tcp:443", "icmp:*", "1-65535"]}]}"#,
        r#"{"grants": [{"src": ["*"], "dst": ["10.0.0.0/8"], "app": {"example.com/cap/x": [{"a": [1, null]}]}}]}"#,
        r#"{"hosts": {"h": "10.1.2.3/8"}, "acls": [{"action": "accept", "src": ["h"], "dst": ["h:*"]}]}"#,
        r#"{"ssh": [{"action": "check", "checkPeriod": "1h30m", "src": ["a@"], "dst": ["autogroup:self"], "users": ["root"]}]}"#,
        r#"{"tagOwners": {"tag:r": []}, "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:r", "a@"]}, "exitNode": ["tag:r"]}}"#,
        r#"{"nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}], "randomizeClientPort": true}"#,
    ] {
        Policy::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

#[test]
fn unknown_and_unsupported_fields_are_refused_by_name() {
    for section in ["derpMap", "extraDNSRecords"] {
        let error = error(&format!("{{\"{section}\": []}}"));
        assert!(error.contains(&format!("policy section \"{section}\" is not supported yet")), "{error}");
    }
    assert_eq!(error("{\n  \"acl\": []\n}"), "parsing policy: unknown field: \"acl\" (line 2, column 10)");
    assert!(error(r#"{"acls": [{"action": "accept", "sorc": ["*"]}]}"#).contains("unknown field: \"sorc\""));
    assert!(error(r#"{"groups": {}, "Groups": {}}"#).contains("duplicate field: \"Groups\""));
}

#[test]
fn what_does_not_act_yet_is_not_put_in_force() {
    let state = state(&[]);
    let rule = |end: &str| format!(r#"{{"tagOwners": {{"tag:r": []}}, "grants": [{{"src": ["*"], {end}}}]}}"#);
    for (text, part) in [
        (rule(r#""dst": ["autogroup:admin"], "ip": ["*"]"#), "\"autogroup:admin\""),
        (r#"{"tagOwners": {"tag:a": ["autogroup:owner"]}}"#.to_owned(), "\"autogroup:owner\""),
    ] {
        let error = Policy::check(&text, &state).expect_err(&text).to_string();
        assert!(error.contains(part) && error.contains("not supported"), "{text}: {error}");
    }
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
        (r#"{"tagOwners": {"tag:a": ["autogroup:tagged"]}}"#, "cannot own a tag"),
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
    let text = r#"{"tagOwners": {"tag:web": ["alice@"]}}"#;
    let policy = Policy::parse(text).expect("a policy");
    assert!(!policy.may_own(&state, UserId(1), &tag("tag:web")));
    assert!(!policy.may_own(&state, UserId(2), &tag("tag:web")));
    let error = Policy::check(text, &state).expect_err("ambiguous").to_string();
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

/// A state with one user for each name, each with one node.
pub(super) fn tailnet(users: &[&str]) -> State {
    let users: Vec<_> = users.iter().map(|name| (*name, "")).collect();
    let mut state = state(&users);
    for n in 1..=users.len() as u8 {
        let hash = SecretHash::of("k");
        run(
            &mut state,
            Command::CreatePreAuthKey {
                prefix: format!("k{n}"),
                hash,
                owner: Owner::User(UserId(n.into())),
                reusable: false,
                ephemeral: false,
                expiration: None,
            },
        );
        run(
            &mut state,
            Command::RegisterWithKey {
                prefix: format!("k{n}"),
                hash,
                registration: Registration {
                    machine_key: MachineKey([n; 32]),
                    node_key: NodeKey([n; 32]),
                    hostinfo: Hostinfo::default(),
                    cap_ver: CapVer(142),
                    expiry: None,
                    seed: 0,
                    v4_pools: Vec::new(),
                },
            },
        );
    }
    state
}

#[test]
fn without_rules_everybody_reaches_everybody_and_nobody_has_ssh() {
    let state = tailnet(&["alice", "bob"]);
    let policy = Policies::default().in_force(&state);
    let (alice, bob) = (state.node(NodeId(1)).expect("a node"), state.node(NodeId(2)).expect("a node"));
    assert!(policy.sees(alice, bob));
    let filter = policy.packet_filter(alice);
    assert!(filter.contains(r#""100.64.0.0-100.115.91.255""#), "{filter}");
    assert!(filter.contains(r#""DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]"#), "{filter}");
    assert_eq!(&*policy.ssh_policy(alice), r#"{"rules":[]}"#);
}

#[test]
fn who_may_reach_whom_is_seen_by_both_and_by_nobody_else() {
    let mut state = tailnet(&["alice", "bob", "carol"]);
    set(&mut state, r#"{"acls": [{"action": "accept", "src": ["alice@"], "dst": ["bob@:22"]}]}"#);
    let policies = Policies::default();
    let sees = |state: &State, a: u64, b: u64| {
        let node = |id: u64| state.node(NodeId(id)).expect("a node");
        policies.in_force(state).sees(node(a), node(b))
    };
    assert!(sees(&state, 1, 2) && sees(&state, 2, 1));
    assert!(!sees(&state, 1, 3) && !sees(&state, 3, 2));
    let filter = policies.in_force(&state).packet_filter(state.node(NodeId(1)).expect("a node"));
    assert_eq!(&*filter, "[]");
    // A node that comes later, and a user who gets the name that a rule has.
    let update = Command::RenameUser { id: UserId(3), name: "alice2".into() };
    run(&mut state, update);
    set(&mut state, r#"{"acls": [{"action": "accept", "src": ["alice2@"], "dst": ["bob@:22"]}]}"#);
    assert!(sees(&state, 3, 2) && !sees(&state, 1, 2));
    run(&mut state, Command::RenameUser { id: UserId(3), name: "carol".into() });
    assert!(!sees(&state, 3, 2));
}

#[test]
fn a_policy_that_fails_its_own_tests_is_refused() {
    let state = tailnet(&["alice", "bob"]);
    let policy = |tests: &str| {
        format!(r#"{{"acls": [{{"action": "accept", "src": ["alice@"], "dst": ["bob@:22"]}}], "tests": [{tests}]}}"#)
    };
    for good in [
        r#"{"src": "alice@", "accept": ["bob@:22"], "deny": ["bob@:80"]}"#,
        r#"{"src": "bob@", "deny": ["alice@:22"]}"#,
    ] {
        Policy::check(&policy(good), &state).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    // Who has no node at the moment is tested all the same.
    let nodeless = self::state(&[("alice", ""), ("bob", "")]);
    Policy::check(&policy(r#"{"src": "alice@", "accept": ["bob@:22"], "deny": ["bob@:80"]}"#), &nodeless)
        .expect("it does what it says");
    for (bad, fault) in [
        (r#"{"src": "alice@", "accept": ["bob@:80"]}"#, "alice@ -> bob@:80: expected ALLOWED, got DENIED"),
        (
            r#"{"src": "alice@", "deny": ["bob@:22"], "proto": "tcp"}"#,
            "alice@ -> bob@:22 (tcp): expected DENIED, got ALLOWED",
        ),
        (r#"{"src": "alice@"}"#, "needs \"accept\" or \"deny\""),
    ] {
        let error = Policy::check(&policy(bad), &state).expect_err(bad).to_string();
        assert!(error.starts_with("test(s) failed") && error.contains(fault), "{error}");
    }
}

#[test]
fn a_tagged_node_never_has_ssh_into_a_personal_one() {
    for (src, dst) in [("tag:a", "autogroup:self"), ("autogroup:tagged", "alice@"), ("tag:a", "autogroup:member")] {
        let text = format!(
            r#"{{"tagOwners": {{"tag:a": []}},
                "ssh": [{{"action": "accept", "src": ["{src}"], "dst": ["{dst}"], "users": ["root"]}}]}}"#
        );
        assert!(error(&text).contains("tags in SSH source cannot access user-owned devices"), "{}", error(&text));
    }
}

#[test]
fn a_replica_that_never_could_read_the_policy_shows_nobody_to_anybody() {
    let mut state = tailnet(&["alice", "bob"]);
    set(&mut state, r#"{"acls": [{"action": "accept", "src": ["a-newer-kind"], "dst": ["*:*"]}]}"#);
    let policy = Policies::default().in_force(&state);
    let (alice, bob) = (state.node(NodeId(1)).expect("a node"), state.node(NodeId(2)).expect("a node"));
    assert!(!policy.sees(alice, bob));
    assert_eq!(&*policy.packet_filter(alice), "[]");
}

#[test]
fn attributes_go_to_the_nodes_that_they_are_for() {
    let mut state = tailnet(&["alice", "bob"]);
    set(
        &mut state,
        r#"{"nodeAttrs": [{"target": ["alice@"], "attr": ["drive:share", "drive:access"]}], "randomizeClientPort": true}"#,
    );
    let policy = Policies::default().in_force(&state);
    let of = |id: u64| Vec::from_iter(policy.attributes(state.node(NodeId(id)).expect("a node")).into_keys());
    assert_eq!(of(1), ["drive:access", "drive:share", "randomize-client-port"]);
    assert_eq!(of(2), ["randomize-client-port"]);
}

#[test]
fn routes_are_approved_for_the_owners_that_the_policy_names() {
    let mut state = tailnet(&["alice", "bob"]);
    set(
        &mut state,
        r#"{"tagOwners": {"tag:r": []}, "groups": {"group:g": ["bob@"]},
            "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:r", "group:g"], "0.0.0.0/0": ["tag:r"]}, "exitNode": ["alice@"]}}"#,
    );
    let policy = Policies::default().in_force(&state);
    let approves = |owner: &Owner, route: &str| policy.approves(owner, route.parse().expect("a prefix"));
    let (alice, bob) = (Owner::User(UserId(1)), Owner::User(UserId(2)));
    let router = Owner::Tags([tag("tag:r")].into());
    assert!(approves(&router, "10.0.0.0/8") && approves(&router, "10.1.0.0/16") && approves(&bob, "10.1.2.0/24"));
    assert!(
        !approves(&alice, "10.1.0.0/16") && !approves(&router, "192.168.0.0/16") && !approves(&router, "0.0.0.0/0")
    );
    assert!(approves(&alice, "0.0.0.0/0") && approves(&alice, "::/0") && !approves(&bob, "::/0"));
}

#[test]
fn a_pool_is_for_new_nodes_of_its_targets() {
    let mut state = tailnet(&["alice", "bob"]);
    let text = r#"{
        "tagOwners": {"tag:web": ["alice@"]},
        "nodeAttrs": [
            {"target": ["alice@"], "ipPool": ["100.81.0.0/16"]},
            {"target": ["tag:web", "100.64.0.1"], "ipPool": ["100.82.0.0/16"], "attr": ["x"]},
            {"target": ["autogroup:member"], "ipPool": ["100.83.0.0/16"]},
        ],
    }"#;
    Policy::check(text, &state).expect("it is good");
    set(&mut state, text);
    let policy = Policies::default().in_force(&state);
    let pools = |owner| policy.ip_pools(&owner).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(pools(Owner::User(UserId(1))), ["100.81.0.0/16", "100.83.0.0/16"]);
    assert_eq!(pools(Owner::User(UserId(2))), ["100.83.0.0/16"]);
    assert_eq!(pools(Owner::Tags(["tag:web".parse().expect("a tag")].into())), ["100.82.0.0/16"]);
    assert_eq!(pools(Owner::Tags(["tag:db".parse().expect("a tag")].into())), [""; 0]);
}
