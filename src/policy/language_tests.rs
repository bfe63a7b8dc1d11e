//! The language beyond names and rules: sets of addresses, postures, limits, and what
//! a fault is called.

use super::Policy;
use super::alias::Alias;
use super::posture::{Fact, Facts};
use super::tailnet::{Device, Person, Tailnet};
use super::view::PolicyView;
use crate::state::{NodeId, Owner, State, UserId};
use ipnet::IpNet;
use std::sync::Arc;

#[track_caller]
fn error(text: &str) -> String {
    Policy::parse(text).expect_err(text).to_string()
}

fn person(id: u64, name: &str) -> Person {
    Person {
        id: UserId(id),
        name: name.into(),
        email: format!("{name}@example.com"),
        provider_id: String::new(),
        roles: Vec::new(),
    }
}

/// A device with this number as its id and in its addresses.
fn device(number: u64, owner: Owner, routes: &[&str]) -> Device {
    let routes = routes.iter().map(|route| route.parse::<IpNet>().expect("a prefix"));
    let (exits, routes): (Vec<_>, Vec<_>) = routes.partition(|route| route.prefix_len() == 0);
    let ips = [format!("100.64.0.{number}"), format!("fd7a:115c:a1e0::{number:x}")];
    Device {
        id: NodeId(number),
        owner,
        ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
        routes,
        exit: !exits.is_empty(),
        facts: Facts::default(),
    }
}

fn tags(name: &str) -> Owner {
    Owner::Tags([name.parse().expect("a tag")].into())
}

fn machine(os: &str) -> Facts {
    Facts([("node:os".to_owned(), Fact::Text(os.into()))].into())
}

fn view(policy: &str, devices: Vec<Device>) -> PolicyView {
    let policy = Policy::parse(policy).unwrap_or_else(|error| panic!("{policy}: {error}"));
    PolicyView::new(Arc::new(policy), Tailnet { people: vec![person(1, "alice"), person(2, "bob")], devices })
}

#[test]
fn faults_are_named_as_the_service_names_them() {
    let acl = |dst: &str| format!(r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["{dst}"]}}]}}"#);
    let grant = |ip: &str| format!(r#"{{"grants": [{{"src": ["*"], "dst": ["*"], "ip": ["{ip}"]}}]}}"#);
    for (text, fault) in [
        (acl("autogroup:self"), "dst=\"autogroup:self\": port range \"self\": invalid first integer"),
        (acl("*"), "hostport must contain a colon (\":\")"),
        (acl("*:"), "invalid port list: \"\""),
        (acl("*:1-2-3"), "port range \"1-2-3\": too many dashes(-)"),
        (acl("*:22-99999"), "port range \"22-99999\": invalid last integer"),
        (acl("*:90-80"), "port range \"90-80\": first port must be >= last port"),
        (acl("*:0-80"), "port range \"0-80\": first port must be >0, or use '*' for wildcard"),
        (acl("ipset:none:80"), "ipset not found: \"ipset:none\""),
        (acl("[100.64.0.1]:80"), "brackets are for IPv6 addresses only"),
        (acl("[fd7a::]/640:80"), "brackets are for IPv6 addresses only"),
        (grant("icmp"), "port range \"icmp\": invalid first integer"),
        (grant("80,443"), "port range \"80,443\": invalid first integer"),
        (grant("nope:80"), "proto name \"nope\" not known; use protocol number 0-255"),
        (grant(":80"), "empty protocol"),
        (grant("tcp,udp:80"), "host cannot contain a comma (\",\")"),
    ] {
        assert!(error(&text).contains(fault), "{text}: {}", error(&text));
    }
    let period = |text: &str| {
        format!(
            r#"{{"ssh": [{{"action": "check", "checkPeriod": "{text}", "src": ["a@"], "dst": ["autogroup:self"],
                "users": ["root"]}}]}}"#
        )
    };
    for (text, fault) in [
        ("soon", "time: invalid duration \"soon\""),
        ("12", "time: missing unit in duration \"12\""),
        ("12x", "time: unknown unit \"x\" in duration \"12x\""),
        ("-1m", "checkPeriod -1m0s must be a positive duration"),
        ("200h", "checkPeriod 200h0m0s is above the max (168h)"),
    ] {
        assert!(error(&period(text)).contains(fault), "{text}: {}", error(&period(text)));
    }
}

#[test]
fn every_fault_has_its_line_and_column() {
    let text = "{\n  \"acls\": [\n    {\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"tag:x:22\"]},\n  ],\n}";
    assert!(error(text).ends_with("dst=\"tag:x\": tag not found: \"tag:x\" (line 3, column 48)"), "{}", error(text));
}

#[test]
fn sets_of_addresses_are_put_together_in_order() {
    let policy = Policy::parse(
        r#"{
            "hosts": {"printer": "10.0.0.7"},
            "ipsets": {
                "ipset:office": ["add 10.0.0.0/29", "remove printer"],
                "ipset:all": ["ipset:office", "192.168.1.1", "remove 10.0.0.0/30"],
            },
            "acls": [{"action": "accept", "src": ["ipset:all"], "dst": ["ipset:office:443"]}],
        }"#,
    )
    .expect("a policy");
    let rule = &policy.rules.expect("rules")[0];
    let nets =
        |aliases: &[Alias]| aliases.iter().map(|alias| alias.net().expect("one").to_string()).collect::<Vec<_>>();
    assert_eq!(nets(&rule.sources), ["10.0.0.4/31", "10.0.0.6/32", "192.168.1.1/32"]);
    let to: Vec<Alias> = rule.access[0].destinations.iter().map(|(alias, _)| alias.clone()).collect();
    assert_eq!(nets(&to), ["10.0.0.0/30", "10.0.0.4/31", "10.0.0.6/32"]);
}

#[test]
fn a_set_of_addresses_that_cannot_be_is_refused() {
    for (sets, fault) in [
        (r#""ipset:a": ["ipset:b"], "ipset:b": ["add ipset:a"]"#, "is a part of itself: ipset:a → ipset:b → ipset:a"),
        (r#""ipset:a": ["ipset:none"]"#, "ipset not found: \"ipset:none\""),
        (r#""ipset:a": ["tag:x"]"#, "\"tag:x\" is no address, prefix, host, ipset or autogroup:internet"),
        (r#""ipset:a": ["toggle 10.0.0.1"]"#, "write \"add TARGET\" or \"remove TARGET\""),
        (r#""a": ["10.0.0.1"]"#, "ipset must start with 'ipset:', got: \"a\""),
        (r#""ipset:a": ["10.0.0.1"], "ipset:a": []"#, "duplicate field: \"ipset:a\""),
    ] {
        let text = format!("{{\"ipsets\": {{{sets}}}}}");
        assert!(error(&text).contains(fault), "{text}: {}", error(&text));
    }
    let deep: Vec<String> = (0..1000).map(|n| format!("\"ipset:{n}\": [\"ipset:{}\"]", n + 1)).collect();
    let text = format!("{{\"ipsets\": {{{}, \"ipset:1000\": []}}}}", deep.join(","));
    assert!(error(&text).contains("sets may be part of each other"), "{}", error(&text));
    let wide: Vec<String> = (0..2000).map(|n| format!("\"10.{}.{}.1\"", n / 250, n % 250)).collect();
    let text = format!("{{\"ipsets\": {{\"ipset:a\": [{}]}}}}", wide.join(","));
    assert!(error(&text).contains("more than 1000 ranges"), "{}", error(&text));
}

#[test]
fn postures_are_read_and_what_no_client_reports_is_refused() {
    let with = |condition: &str| format!(r#"{{"postures": {{"posture:p": ["{condition}"]}}}}"#);
    for good in [
        "node:os == 'macos'",
        "node:os IN ['macos', 'ios']",
        "node:os NOT IN ['windows']",
        "node:osVersion >= '13.4'",
        "node:tsVersion<'1.90'",
        "node:tsAutoUpdate == true",
        "node:tsStateEncrypted IS SET",
        "node:tsReleaseTrack not set",
    ] {
        Policy::parse(&with(good)).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for (bad, fault) in [
        ("custom:tier == 'x'", "posture attribute \"custom:tier\" is not supported"),
        ("node:os", "an operator must follow"),
        ("node:os == macos", "\"macos\" is no value"),
        ("node:os IN 'macos'", "a list of values must follow"),
        ("node:os INDEED", "a list of values must follow"),
    ] {
        assert!(error(&with(bad)).contains(fault), "{bad}: {}", error(&with(bad)));
    }
    let unknown = r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "srcPosture": ["posture:x"]}]}"#;
    assert!(error(unknown).contains("srcPosture: posture not found: \"posture:x\""), "{}", error(unknown));
}

#[test]
fn only_machines_of_the_posture_are_let_in() {
    let policy = |from: &str, rest: &str| {
        format!(
            r#"{{"postures": {{"posture:mac": ["node:os == 'macos'"]}}, "tagOwners": {{"tag:s": []}},
                "acls": [{{"action": "accept", "src": ["{from}"], "dst": ["tag:s:22"]{rest}}}]{}}}"#,
            if rest.is_empty() { r#", "defaultSrcPosture": ["posture:mac"]"# } else { "" }
        )
    };
    for from in ["alice@", "*", "100.64.0.0/24", "autogroup:member"] {
        for rest in ["", r#", "srcPosture": ["posture:mac"]"#] {
            let (user, server) = (Owner::User(UserId(1)), device(3, tags("tag:s"), &[]));
            let mac = Device { facts: machine("macos"), ..device(1, user.clone(), &[]) };
            let linux = Device { facts: machine("linux"), ..device(2, user, &[]) };
            let view = view(&policy(from, rest), vec![mac, linux, server]);
            assert!(view.reach_each_other(NodeId(1), NodeId(3)), "{from}");
            assert!(!view.reach_each_other(NodeId(2), NodeId(3)), "{from}");
            let filter = view.filter_of(NodeId(3));
            assert!(filter.contains("100.64.0.1") && !filter.contains("100.64.0.2"), "{filter}");
        }
    }
}

#[test]
fn a_test_says_what_machine_its_source_is() {
    let policy = |attrs: &str| {
        format!(
            r#"{{"postures": {{"posture:new": ["node:tsVersion >= '1.80'"]}}, "tagOwners": {{"tag:s": []}},
                "acls": [{{"action": "accept", "src": ["*"], "dst": ["tag:s:22"], "srcPosture": ["posture:new"]}}],
                "tests": [{{"src": "tag:s", "accept": ["tag:s:22"]{attrs}}}]}}"#
        )
    };
    let check = |attrs: &str| Policy::check(&policy(attrs), &State::default());
    check(r#", "srcPostureAttrs": {"node:tsVersion": "1.90.1"}"#).expect("new enough");
    assert!(check(r#", "srcPostureAttrs": {"node:tsVersion": "1.70.0"}"#).expect_err("too old").is_failed_test());
    assert!(check("").expect_err("not known").is_failed_test());
}

#[test]
fn a_viewer_is_told_of_the_routes_that_it_may_use() {
    let view = view(
        r#"{"tagOwners": {"tag:r": [], "tag:east": []},
            "acls": [
                {"action": "accept", "src": ["alice@"], "dst": ["10.0.0.0/8:*", "autogroup:internet:*"]},
                {"action": "accept", "src": ["bob@"], "dst": ["tag:r:22"]},
            ],
            "grants": [{"src": ["bob@"], "dst": ["192.168.0.0/16"], "ip": ["*"], "via": ["tag:east"]}]}"#,
        vec![
            device(1, Owner::User(UserId(1)), &[]),
            device(2, Owner::User(UserId(2)), &[]),
            device(3, tags("tag:r"), &["10.1.0.0/16", "192.168.0.0/16", "0.0.0.0/0"]),
            device(4, tags("tag:east"), &["192.168.0.0/16"]),
        ],
    );
    let told = |viewer: u64, peer: u64, routes: &[&str]| -> Vec<String> {
        let routes: Vec<IpNet> = routes.iter().map(|route| route.parse().expect("a prefix")).collect();
        let leads = |_: IpNet, tags: Option<&[crate::state::Tag]>| if tags.is_some() { peer == 4 } else { peer == 3 };
        let (exits, subnets) = view.routes_told(NodeId(viewer), NodeId(peer), &routes, &leads);
        subnets.into_iter().chain(exits).map(|route| route.to_string()).collect()
    };
    let all = ["0.0.0.0/0", "10.1.0.0/16", "192.168.0.0/16"];
    assert_eq!(told(1, 3, &all), ["10.1.0.0/16", "0.0.0.0/0"]);
    assert!(told(2, 3, &all).is_empty());
    assert_eq!(told(2, 4, &["192.168.0.0/16"]), ["192.168.0.0/16"]);
    assert!(told(1, 4, &["192.168.0.0/16"]).is_empty());
}

#[test]
fn prefixes_may_stand_in_brackets_and_rules_may_use_the_old_names_of_their_sides() {
    for text in [
        r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["[fd7a::]/64:80", "[fd7a::1]:80", "fd7a::/64:80"]}]}"#,
        r#"{"acls": [{"action": "accept", "users": ["*"], "ports": ["*:*"]}]}"#,
        r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["0.0.0.0/0:*"]}]}"#,
    ] {
        Policy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let both = r#"{"acls": [{"action": "accept", "src": ["*"], "users": ["*"], "dst": ["*:*"]}]}"#;
    assert!(error(both).contains("\"users\" is the old name of \"src\""), "{}", error(both));
}

#[test]
fn a_text_that_is_too_long_or_nested_too_deep_is_refused_by_its_size() {
    let long = format!("{{}} // {}", "x".repeat(super::MAX_TEXT));
    let error = Policy::check(&long, &State::default()).expect_err("too long").to_string();
    assert!(error.contains("at most 4194304 are taken"), "{error}");
    let deep = format!(
        r#"{{"grants": [{{"src": ["*"], "dst": ["*"], "app": {{"example.com/x": {}{}}}}}]}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    assert!(self::error(&deep).contains("nesting"), "it has to end with an error");
}
