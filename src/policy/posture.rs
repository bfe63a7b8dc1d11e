//! Device posture: what a rule may ask of its sources' machines, by what their
//! clients report.

use crate::state::Node;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Attributes that clients report, as policies name them.
pub(super) const ATTRIBUTES: [&str; 6] = [
    "node:os",
    "node:osVersion",
    "node:tsAutoUpdate",
    "node:tsReleaseTrack",
    "node:tsStateEncrypted",
    "node:tsVersion",
];

/// Conditions that must all hold.
pub(super) type Posture = Vec<Condition>;

/// One condition, `node:os == 'macos'`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    pub attribute: String,
    pub test: Test,
}

/// What an attribute must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    IsSet,
    NotSet,
    In(Vec<Fact>),
    NotIn(Vec<Fact>),
    /// Compared as versions.
    Below(Fact),
    AtMost(Fact),
    AtLeast(Fact),
    Above(Fact),
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    Text(String),
    /// As it is written.
    Number(String),
    Bool(bool),
}

/// What is known of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts(pub BTreeMap<String, Fact>);

impl Facts {
    /// What the node's client reported (protocol section 6.3).
    pub fn of(node: &Node) -> Self {
        let reported: serde_json::Value = serde_json::from_str(&node.hostinfo.json).unwrap_or_default();
        let mut facts = BTreeMap::new();
        let mut add = |name: &str, fact: Option<Fact>| fact.map(|fact| facts.insert(name.to_owned(), fact));
        let text = |text: &str| (!text.is_empty()).then(|| Fact::Text(text.to_owned()));
        // Clients report `macOS`, `iOS`; policies name them in small letters.
        add("node:os", text(&node.hostinfo.os.to_lowercase()));
        add("node:osVersion", text(reported["OSVersion"].as_str().unwrap_or_default()));
        let version = node.hostinfo.ipn_version.split(['-', '+']).next().unwrap_or_default();
        add("node:tsVersion", text(version));
        add("node:tsReleaseTrack", release_track(version).and_then(text));
        add("node:tsAutoUpdate", Some(Fact::Bool(reported["AllowsUpdate"].as_bool().unwrap_or(false))));
        add("node:tsStateEncrypted", reported["StateEncrypted"].as_bool().map(Fact::Bool));
        Self(facts)
    }

    /// Whether all conditions hold. Of an attribute that is not known only `NOT SET` does.
    pub fn meet(&self, posture: &Posture) -> bool {
        posture.iter().all(|condition| {
            let fact = self.0.get(&condition.attribute);
            match (&condition.test, fact) {
                (Test::NotSet, fact) => fact.is_none(),
                (_, None) => false,
                (Test::IsSet, Some(_)) => true,
                (Test::In(values), Some(fact)) => values.iter().any(|value| fact.equals(value)),
                (Test::NotIn(values), Some(fact)) => !values.iter().any(|value| fact.equals(value)),
                (Test::Below(value), Some(fact)) => fact.compare(value) == Some(Ordering::Less),
                (Test::AtMost(value), Some(fact)) => fact.compare(value).is_some_and(Ordering::is_le),
                (Test::AtLeast(value), Some(fact)) => fact.compare(value).is_some_and(Ordering::is_ge),
                (Test::Above(value), Some(fact)) => fact.compare(value) == Some(Ordering::Greater),
            }
        })
    }
}

/// Odd minor versions are those that are not released.
fn release_track(version: &str) -> Option<&'static str> {
    let minor: u64 = version.split('.').nth(1)?.parse().ok()?;
    Some(if minor.is_multiple_of(2) { "stable" } else { "unstable" })
}

impl Fact {
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b || is_version(a) && is_version(b) && versions(a, b).is_eq(),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a) | Self::Number(a), Self::Text(b) | Self::Number(b)) => a == b || versions(a, b).is_eq(),
            _ => false,
        }
    }

    /// As versions; `None`: they have no order.
    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a) | Self::Number(a), Self::Text(b) | Self::Number(b)) => {
                (is_version(a) && is_version(b)).then(|| versions(a, b))
            }
            _ => None,
        }
    }
}

fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// Compares numbers between dots, as far as there are any: `10.9` is below `10.15`, and
/// `6.8.0-45-generic` is `6.8`.
fn versions(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let plain = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut numbers: Vec<u64> = plain.split('.').map_while(|part| part.parse().ok()).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Fact {
        Fact::Text(text.into())
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (a, b, expected) in [
            ("10.9", "10.15", Ordering::Less),
            ("13.4.0", "13.4", Ordering::Equal),
            ("1.102.5", "1.102.5", Ordering::Equal),
            ("6.8.0-45-generic", "6.8", Ordering::Equal),
            ("14", "13.9.9", Ordering::Greater),
        ] {
            assert_eq!(text(a).compare(&text(b)), Some(expected), "{a} and {b}");
        }
        assert_eq!(text("stable").compare(&text("1")), None);
        assert_eq!(text("1").compare(&Fact::Bool(true)), None);
    }

    #[test]
    fn what_is_not_known_meets_nothing_but_not_set() {
        let condition = |test: Test| vec![Condition { attribute: "node:os".into(), test }];
        let (none, mac) = (Facts::default(), Facts([("node:os".to_owned(), text("macos"))].into()));
        for (test, of_none, of_mac) in [
            (Test::IsSet, false, true),
            (Test::NotSet, true, false),
            (Test::In(vec![text("macos"), text("ios")]), false, true),
            (Test::NotIn(vec![text("windows")]), false, true),
            (Test::NotIn(vec![text("macos")]), false, false),
            (Test::AtLeast(text("1")), false, false),
        ] {
            let posture = condition(test.clone());
            assert_eq!((none.meet(&posture), mac.meet(&posture)), (of_none, of_mac), "{test:?}");
        }
    }
}
