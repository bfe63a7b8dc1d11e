use super::super::Policies;
use super::super::tests::{run, set, tailnet};
use super::*;
use crate::state::{Command, NodeId};
use proptest::prelude::*;

/// The laptops of alice, bob and carol (nodes 1 to 3), a tagged server (4), and a machine
/// of rita's (5).
fn world() -> State {
    let mut state = tailnet(&["alice", "bob", "carol", "erin", "rita"]);
    let tags = ["tag:server".parse().expect("a tag")].into();
    let policy_version = state.policy_version();
    run(&mut state, Command::SetTags { id: NodeId(4), tags, policy_version });
    state
}

const NAMES: &str = r#""groups": {"group:dev": ["alice@", "bob@"], "group:empty": []},
  "hosts": {"lan": "10.1.0.0/16", "db": "10.1.2.3"},
  "tagOwners": {"tag:server": ["group:dev"], "tag:none": []},"#;

fn document(rest: &str) -> String {
    format!("{{\n  {NAMES}\n{rest}\n}}\n")
}

fn access(text: &str, state: &State, source: &str, destination: &str) -> AccessExplanation {
    let question = Question::Access { source: source.into(), destination: destination.into(), protocol: String::new() };
    match explain(text, state, &question) {
        Ok(Explanation::Access(answer)) => answer,
        other => panic!("{source} -> {destination}: {other:?}"),
    }
}

fn fault(text: &str, state: &State, question: Question) -> String {
    explain(text, state, &question).expect_err("a fault").to_string()
}

const RULES: &str = r#"  "acls": [
    {"action": "accept", "src": ["carol@"], "dst": ["tag:server:80"]},
    // developers
    {"action": "accept", "src": ["carol@", "group:dev"], "dst": ["tag:server:5432", "db:443"]},
  ],"#;

#[test]
fn the_rule_that_allows_it_is_named_with_its_place_and_the_names_that_fit() {
    let (state, text) = (world(), document(RULES));
    for (source, destination) in
        [("alice-1", "4:5432"), ("alice@", "tag:server:5432"), ("group:dev", "server-4:5432"), ("1", "100.64.0.4:5432")]
    {
        let destination = destination.replace("server-4", &state.node(NodeId(4)).expect("a node").given_name);
        let source = source.replace("alice-1", &state.node(NodeId(1)).expect("a node").given_name);
        let answer = access(&text, &state, &source, &destination);
        assert_eq!(answer.verdict, Verdict::Allowed, "{source} -> {destination}: {answer:?}");
        let [rule] = answer.rules.as_slice() else { panic!("one rule: {answer:?}") };
        assert_eq!((rule.rule.name.as_str(), rule.rule.line, rule.rule.column), ("acls[1]", 8, 5), "{rule:?}");
        assert!(rule.rule.text.starts_with("{\"action\"") && rule.rule.text.ends_with('}'), "{rule:?}");
        assert_eq!(
            (rule.sources.as_slice(), rule.destinations.as_slice()),
            (&["group:dev".into()][..], &["tag:server:5432".into()][..])
        );
        assert_eq!(answer.near_misses, []);
    }
}

#[test]
fn what_is_refused_names_the_rules_that_come_closest() {
    let (state, text) = (world(), document(RULES));
    let answer = access(&text, &state, "alice@", "tag:server:22");
    assert_eq!((answer.verdict, answer.rules.len()), (Verdict::Denied, 0));
    let near: Vec<_> = answer.near_misses.iter().map(|miss| (miss.rule.name.as_str(), miss.why.as_str())).collect();
    assert_eq!(near[0], ("acls[1]", "source and destination match, but it is for port 5432, not 22"));
    assert_eq!(near[1], ("acls[0]", "the destination matches, the source does not: \"carol@\""));

    let answer = access(&text, &state, "alice@", "tag:server:80");
    assert_eq!(answer.near_misses[1].why, "destination and port match, the source does not: \"carol@\"");
    let answer = access(&text, &state, "alice@", "bob@:80");
    assert!(answer.near_misses[0].why.starts_with("the source matches, the destination does not"), "{answer:?}");
    let question =
        Question::Access { source: "alice@".into(), destination: "tag:server:5432".into(), protocol: "sctp".into() };
    let Ok(Explanation::Access(answer)) = explain(&text, &state, &question) else { panic!("an answer") };
    let why = "source and destination match, but it is for TCP, UDP and ICMP, not sctp";
    assert_eq!(answer.near_misses[0].why, why);
}

#[test]
fn a_name_that_means_several_nodes_may_be_let_through_in_part() {
    let (state, text) = (world(), document(RULES));
    let answer = access(&text, &state, "autogroup:member", "tag:server:80");
    assert_eq!((answer.verdict, answer.allowed, answer.asked), (Verdict::Partly, 1, 4));
    assert!(!answer.pairs[0].allowed && answer.pairs[3].allowed, "refused ones come first");
}

#[test]
fn a_user_or_tag_without_a_node_gets_one_for_the_question() {
    let (state, text) = (world(), document(r#"  "acls": [{"action": "accept", "src": ["tag:none"], "dst": ["*:*"]}]"#));
    let answer = access(&text, &state, "tag:none", "bob@:1");
    assert_eq!(answer.verdict, Verdict::Allowed, "{answer:?}");
    assert_eq!(answer.pairs[0].source.node, "(no node yet)");
}

#[test]
fn addresses_that_nobody_has_or_routes_to_are_told_apart_from_refused_ones() {
    let (state, text) = (world(), document(RULES));
    let answer = access(&text, &state, "alice@", "192.168.7.7:80");
    assert_eq!((answer.verdict, answer.asked), (Verdict::Denied, 0));
    assert!(answer.notes[0].contains("no node has the address 192.168.7.7"), "{answer:?}");
}

#[test]
fn without_rules_everything_is_allowed_and_said_so() {
    let answer = access("{}", &world(), "alice", "bob:1");
    assert_eq!(answer.verdict, Verdict::Allowed);
    assert!(answer.notes[0].contains("everything is allowed"), "{answer:?}");
}

#[test]
fn a_question_that_means_nothing_names_the_value_and_the_remedy() {
    let (state, text) = (world(), document(RULES));
    let ask = |source: &str, destination: &str, protocol: &str| {
        let (source, destination, protocol) = (source.into(), destination.into(), protocol.into());
        fault(&text, &state, Question::Access { source, destination, protocol })
    };
    for (fault, parts) in [
        (ask("nobody", "bob@:1", ""), ["\"nobody\"", "nodes list"]),
        (ask("dave@", "bob@:1", ""), ["\"dave@\"", "users list"]),
        (ask("alice@", "bob@", ""), ["\"bob@\"", "DST:PORT"]),
        (ask("alice@", "tag:server", ""), ["\"tag:server\"", "DST:PORT"]),
        (ask("alice@", "tag:server:80-90", ""), ["\"tag:server:80-90\"", "one port"]),
        (ask("alice@", "lan:80", ""), ["\"lan\"", "one address"]),
        (ask("alice@", "bob@:1", "tpc"), ["\"tpc\"", "tcp"]),
        (ask("tag:unknown", "bob@:1", ""), ["\"tag:unknown\"", "policy"]),
    ] {
        assert!(parts.iter().all(|part| fault.contains(part)), "{fault}");
    }
    let ssh = |destination: &str| Question::Ssh { source: "alice@".into(), destination: destination.into() };
    assert!(fault(&text, &state, ssh("server")).contains("USER@DST"));
    let route = |prefix: &str, node: &str| Question::Route { prefix: prefix.into(), node: node.into() };
    assert!(fault(&text, &state, route("10.1", "1")).contains("\"10.1\" is no prefix"));
    assert!(fault(&text, &state, route("10.1.0.0/16", "x")).contains("\"x\" is no node"));
    let tag = |tag: &str, user: &str| Question::Tag { tag: tag.into(), user: user.into() };
    assert!(fault(&text, &state, tag("server", "alice")).contains("tag:"));
    assert!(fault(&text, &state, tag("tag:server", "dave")).contains("\"dave\" is no user"));
    assert!(fault("{", &state, tag("tag:server", "alice")).contains("parsing policy"));
}

#[test]
fn ssh_is_explained_with_its_action_and_whether_packets_get_there() {
    let state = world();
    let text = document(
        r#"  "acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:server:22"]}],
  "ssh": [
    {"action": "accept", "src": ["group:dev"], "dst": ["tag:server"], "users": ["autogroup:nonroot"]},
    {"action": "check", "checkPeriod": "1h30m", "src": ["alice@"], "dst": ["tag:server"], "users": ["root"]},
  ]"#,
    );
    let ask = |source: &str, destination: &str| {
        let question = Question::Ssh { source: source.into(), destination: destination.into() };
        match explain(&text, &state, &question) {
            Ok(Explanation::Ssh(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let root = ask("alice@", "root@tag:server");
    let pair = &root.pairs[0];
    assert_eq!((pair.action.as_str(), pair.check_period.as_str(), pair.packets), ("check", "1h30m", true));
    assert_eq!(pair.rule.as_ref().map(|rule| (rule.name.as_str(), rule.line)), Some(("ssh[1]", 8)));
    let bob = ask("bob@", "deploy@tag:server");
    assert_eq!(
        (bob.verdict, bob.pairs[0].local_user.as_str(), bob.pairs[0].packets),
        (Verdict::Allowed, "deploy", false)
    );
    assert!(bob.notes[0].contains("port 22"), "{bob:?}");
    let refused = ask("bob@", "root@tag:server");
    assert_eq!((refused.verdict, refused.pairs[0].rule.as_ref()), (Verdict::Denied, None));
    let near: Vec<_> = refused.near_misses.iter().map(|miss| miss.why.as_str()).collect();
    assert!(near[0].starts_with("source and destination match, but the session may not become \"root\""), "{near:?}");
    assert_eq!(near[1], "the destination matches, the source does not: \"alice@\"");
}

#[test]
fn a_route_is_explained_with_its_approvers_and_its_users() {
    let state = world();
    let text = document(
        r#"  "acls": [{"action": "accept", "src": ["group:dev"], "dst": ["10.0.0.0/8:443"]}],
  "autoApprovers": {"routes": {"10.0.0.0/8": ["alice@", "rita@"]}, "exitNode": ["bob@"]}"#,
    );
    let ask = |prefix: &str, node: &str| {
        let question = Question::Route { prefix: prefix.into(), node: node.into() };
        match explain(&text, &state, &question) {
            Ok(Explanation::Route(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let route = ask("10.1.0.0/16", "5");
    assert!(route.auto_approved && !route.announced && !route.approved, "{route:?}");
    let approvers: Vec<_> =
        route.approvers.iter().map(|one| (one.name.as_str(), one.matches, one.place.line)).collect();
    assert_eq!(approvers, [("alice@", false, 6), ("rita@", true, 6)]);
    assert_eq!((route.uses[0].rule.name.as_str(), route.uses[0].ports.as_slice()), ("acls[0]", &["443".into()][..]));
    assert_eq!(route.uses[0].nodes.len(), 2, "{route:?}");
    assert!(route.notes[0].contains("--advertise-routes=10.1.0.0/16"), "{route:?}");
    let exit = ask("0.0.0.0/0", "5");
    assert!(!exit.auto_approved && exit.uses.is_empty() && exit.approvers[0].name == "bob@", "{exit:?}");
}

#[test]
fn a_tag_is_explained_with_the_owner_that_means_the_user_and_the_way_to_it() {
    let state = world();
    let text = "{\"groups\": {\"group:dev\": [\"alice@\"]},\n \"tagOwners\": {\n  \"tag:a\": [\"bob@\", \"tag:b\"],\n  \
                \"tag:b\": [\"tag:c\"], \"tag:c\": [\"group:dev\", \"tag:a\"], \"tag:d\": []}}";
    let ask = |tag: &str, user: &str| match explain(text, &state, &Question::Tag { tag: tag.into(), user: user.into() })
    {
        Ok(Explanation::Tag(answer)) => answer,
        other => panic!("{other:?}"),
    };
    let alice = ask("tag:a", "alice@");
    assert_eq!((alice.allowed, alice.place.as_ref().map(|place| place.line)), (true, Some(3)));
    let owners: Vec<_> =
        alice.owners.iter().map(|one| (one.name.as_str(), one.matches, one.through.join(" "))).collect();
    assert_eq!(owners, [("bob@", false, String::new()), ("tag:b", true, "tag:b tag:c".into())]);
    assert!(!ask("tag:a", "carol").allowed);
    assert!(ask("tag:d", "alice").notes[0].contains("nobody owns it"));
    assert!(ask("tag:x", "alice").notes[0].contains("does not have tag:x"));
}

#[test]
fn each_test_of_a_policy_passes_or_fails_by_itself() {
    let state = world();
    let text = document(
        r#"  "acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:server:80"]}],
  "ssh": [{"action": "check", "src": ["alice@"], "dst": ["tag:server"], "users": ["root"]}],
  "tests": [
    {"src": "alice@", "accept": ["tag:server:80", "tag:server:81"], "deny": ["bob@:80"]},
  ],
  "sshTests": [{"src": "alice@", "dst": ["tag:server"], "check": ["root"], "accept": ["root"]}],"#,
    );
    let trials = trials(&text, &state).expect("a policy");
    assert_eq!((trials.passed, trials.failed), (3, 2), "{trials:#?}");
    let failed: Vec<_> = trials.tests.iter().filter(|test| !test.passed).collect();
    assert_eq!((failed[0].test.as_str(), failed[0].line, failed[0].what.as_str()), ("tests[0]", 8, "tag:server:81"));
    assert_eq!(failed[0].fault, "alice@ -> tag:server:81: expected ALLOWED, got DENIED");
    assert!(failed[1].test == "sshTests[0]" && failed[1].fault.contains("got ALLOWED via check"), "{failed:?}");
}

const POOL: [&str; 12] = [
    r#"{"action": "accept", "src": ["*"], "dst": ["tag:server:80,90-95"]}"#,
    r#"{"action": "accept", "src": ["group:dev"], "dst": ["carol@:*"]}"#,
    r#"{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]}"#,
    r#"{"action": "accept", "src": ["tag:server"], "dst": ["100.64.0.2:90"]}"#,
    r#"{"action": "accept", "proto": "udp", "src": ["alice@"], "dst": ["*:90"]}"#,
    r#"{"action": "accept", "src": ["100.64.0.0/29"], "dst": ["bob@:22"]}"#,
    r#"{"action": "accept", "src": ["autogroup:tagged"], "dst": ["autogroup:member:80"]}"#,
    r#"{"action": "accept", "proto": "icmp", "src": ["bob@"], "dst": ["*:*"]}"#,
    r#"{"action": "accept", "src": ["group:empty"], "dst": ["*:*"]}"#,
    r#"{"action": "accept", "src": ["carol@", "group:dev"], "dst": ["db:80", "lan:22"]}"#,
    r#"{"action": "accept", "src": ["autogroup:danger-all"], "dst": ["carol@:95"]}"#,
    r#"{"action": "accept", "src": ["lan"], "dst": ["alice@:80"]}"#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_explanation_says_allowed_exactly_where_the_filter_allows(
        rules in proptest::collection::vec(0..POOL.len(), 0..4),
        protocol in 0..3_usize,
        port in 0..4_usize,
    ) {
        let rules: Vec<&str> = rules.into_iter().map(|n| POOL[n]).collect();
        let text = document(&format!("\"acls\": [{}]", rules.join(",\n")));
        let (name, protocol) = [("tcp", 6), ("udp", 17), ("icmp", 1)][protocol];
        let port = [22, 80, 90, 95][port];
        let mut state = world();
        set(&mut state, &text);
        let policy = Policies::default().in_force(&state);
        for from in state.nodes() {
            for to in state.nodes().filter(|to| to.id != from.id) {
                let question = Question::Access {
                    source: from.id.to_string(),
                    destination: format!("{}:{port}", to.id),
                    protocol: name.into(),
                };
                let Ok(Explanation::Access(answer)) = explain(&text, &state, &question) else { panic!("an answer") };
                let ip = |node: &crate::state::Node| node.ipv4.expect("an address").into();
                let packet = told::Packet { from: ip(from), to: ip(to), protocol, port };
                let allows = told::filter(&policy.packet_filter(to)).iter().any(|rule| rule.lets_through(&packet));
                prop_assert_eq!(answer.verdict == Verdict::Allowed, allows, "{} -> {}: {:?}", from.id, to.id, &answer);
                prop_assert_eq!(!answer.rules.is_empty(), allows, "a rule is named: {:?}", &answer);
            }
        }
    }
}
