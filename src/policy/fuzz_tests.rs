//! Whatever is set as a policy.

use super::Policy;
use crate::fuzzing::{Bent, bent};

const GOOD: [&str; 3] = [
    r#"{
        // Who is who
        "groups": {"group:dev": ["alice@", "bob@"]}, "hosts": {"db": "10.0.0.5", "net": "10.0.0.0/8"},
        "tagOwners": {"tag:server": ["group:dev"]}, "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:server"]}},
        "acls": [{"action": "accept", "src": ["group:dev", "*"], "dst": ["tag:server:22,80-443", "db:*"]},],
        "tests": [{"src": "alice@", "accept": ["tag:server:22"], "deny": ["db:1"]}],
    }"#,
    r#"{"grants": [{"src": ["autogroup:member"], "dst": ["tag:a"], "ip": ["tcp:443"], "app": {"x.org/cap": [{}]}}],
        "ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"],
                 "checkPeriod": "12h"}], "nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}],
        "postures": {"posture:a": ["node:os == 'linux'"]}, "ipsets": {"ipset:x": ["10.0.0.0/8", "remove 10.1.0.0/16"]}}"#,
    "/* nothing */ {}",
];

#[test]
fn fuzz_policies() {
    let good = GOOD.map(|text| text.as_bytes().to_vec());
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let _ = Policy::parse(&String::from_utf8_lossy(&bent(&good, input)));
    });
}

#[test]
fn a_policy_that_is_nested_without_end_is_refused() {
    for open in ["[", "{\"a\":", "/*"] {
        assert!(Policy::parse(&open.repeat(100_000)).is_err(), "{open}");
    }
}
