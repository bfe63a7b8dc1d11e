//! Random policies on random tailnets: classes say what the reference says, made at
//! once and kept up through changes.

use super::Reference;
use crate::policy::posture::Facts;
use crate::policy::tailnet::{Device, Person, Tailnet};
use crate::policy::{Policy, PolicyView};
use crate::state::{NodeId, Owner, Tag, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A source of choices, which proptest shrinks to shorter and smaller ones.
struct Dice<'d>(std::slice::Iter<'d, u8>);

impl Dice<'_> {
    /// Below `sides`; 0 when there are no more dice.
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % sides
    }

    fn pick<'l, T: ?Sized>(&mut self, list: &[&'l T]) -> &'l T {
        list[self.roll(list.len())]
    }

    fn some<'l>(&mut self, list: &[&'l str]) -> Vec<&'l str> {
        (0..=self.roll(3)).map(|_| self.pick(list)).collect()
    }
}

const TAGS: [&str; 3] = ["tag:x", "tag:y", "tag:z"];
const ROUTES: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "192.168.1.0/24", "2001:db8::/32"];
const SOURCES: [&str; 19] = [
    "*",
    "a@",
    "b@x.org",
    "c@",
    "d@y.org",
    "group:g",
    "group:h",
    "tag:x",
    "tag:y",
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:danger-all",
    "one",
    "net",
    "100.64.0.1",
    "100.64.0.2",
    "10.1.2.0/24",
    "fd7a:115c:a1e0::3",
    "user:*@x.org",
];
const DESTINATIONS: [&str; 19] = [
    "*",
    "a@",
    "b@x.org",
    "c@",
    "group:g",
    "group:h",
    "tag:x",
    "tag:y",
    "tag:z",
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:internet",
    "autogroup:self",
    "autogroup:self",
    "one",
    "net",
    "100.64.0.2",
    "10.0.0.0/8",
    "user:*@y.org",
];
const PORTS: [&str; 4] = ["*", "22", "80,443", "1000-2000"];
const PROTOCOLS: [&str; 4] = ["", "tcp", "udp", "sctp"];
const CAPABILITIES: [&str; 3] = ["example.com/cap/a", "tailscale.com/cap/drive", "tailscale.com/cap/relay"];
const LOGINS: [&str; 4] = ["root", "autogroup:nonroot", "ubuntu", "localpart:*@x.org"];

/// A policy of the parts that parse by themselves: a rule that is refused is left out.
fn policy(dice: &mut Dice) -> Policy {
    let mut document = json!({
        "groups": {"group:g": ["a@", "b@x.org"], "group:h": ["c@", "e@", "a@"]},
        "tagOwners": {"tag:x": ["a@"], "tag:y": [], "tag:z": []},
        "hosts": {"one": "100.64.0.1", "net": "10.1.0.0/16"},
        "nodeAttrs": [],
    });
    if dice.roll(8) > 0 {
        document["acls"] = json!([]);
    }
    for _ in 0..dice.roll(7) {
        let (section, rule) = match dice.roll(6) {
            0 | 1 => ("acls", acl(dice)),
            2 => ("grants", grant(dice)),
            3 => ("grants", application(dice)),
            4 => ("ssh", ssh(dice)),
            _ => ("nodeAttrs", json!({"target": dice.some(&SOURCES[..14]), "attr": [dice.pick(&["one", "two"])]})),
        };
        let mut longer = document.clone();
        match &mut longer[section] {
            Value::Array(rules) => rules.push(rule),
            none => *none = json!([rule]),
        }
        if Policy::parse(&longer.to_string()).is_ok() {
            document = longer;
        }
    }
    Policy::parse(&document.to_string()).expect("each rule was read before")
}

fn acl(dice: &mut Dice) -> Value {
    let to: Vec<String> =
        dice.some(&DESTINATIONS).into_iter().map(|name| format!("{name}:{}", dice.pick(&PORTS))).collect();
    json!({"action": "accept", "proto": dice.pick(&PROTOCOLS), "src": dice.some(&SOURCES), "dst": to})
}

fn grant(dice: &mut Dice) -> Value {
    json!({"src": dice.some(&SOURCES), "dst": dice.some(&DESTINATIONS), "ip": [dice.pick(&["*", "tcp:22", "udp:53"])]})
}

fn application(dice: &mut Dice) -> Value {
    let capability = dice.pick(&CAPABILITIES);
    json!({"src": dice.some(&SOURCES), "dst": dice.some(&DESTINATIONS), "app": {capability: [{"n": 1}]}})
}

fn ssh(dice: &mut Dice) -> Value {
    let action = dice.pick(&["accept", "check"]);
    let to = dice.some(&["autogroup:self", "tag:x", "tag:y", "autogroup:tagged", "a@"]);
    let from = dice.some(&["a@", "group:g", "autogroup:member", "tag:x", "autogroup:tagged", "user:*@x.org"]);
    json!({"action": action, "src": from, "dst": to, "users": dice.some(&LOGINS)})
}

/// Users and devices, as they come and go.
#[derive(Default)]
struct World {
    people: BTreeMap<UserId, Person>,
    devices: BTreeMap<NodeId, Device>,
}

/// What a step changed.
type Change = (Vec<(UserId, Option<Person>)>, Vec<(NodeId, Option<Device>)>);

impl World {
    fn tailnet(&self) -> Tailnet {
        Tailnet { people: self.people.values().cloned().collect(), devices: self.devices.values().cloned().collect() }
    }

    fn step(&mut self, dice: &mut Dice) -> Change {
        let (mut people, mut devices) = (Vec::new(), Vec::new());
        for _ in 0..=dice.roll(3) {
            match dice.roll(8) {
                0 => people.push(self.change_user(dice)),
                1 => {
                    let id = NodeId(1 + dice.roll(150) as u64);
                    self.devices.remove(&id);
                    devices.push((id, None));
                }
                _ => devices.push(self.change_device(dice)),
            }
        }
        (people, devices)
    }

    fn change_user(&mut self, dice: &mut Dice) -> (UserId, Option<Person>) {
        let id = UserId(1 + dice.roll(4) as u64);
        let has_none = !self.devices.values().any(|device| device.user() == Some(id));
        if has_none && dice.roll(4) == 0 {
            self.people.remove(&id);
            return (id, None);
        }
        let name = dice.pick(&["a", "b", "c", "d"]);
        let email = format!("{name}{}", dice.pick(&["@x.org", "@y.org", ""]));
        let provider_id = dice.pick(&["", "", "a", "e"]).to_owned();
        let person = Person { id, name: name.into(), email, provider_id, roles: Vec::new() };
        self.people.insert(id, person.clone());
        (id, Some(person))
    }

    fn change_device(&mut self, dice: &mut Dice) -> (NodeId, Option<Device>) {
        // Few ids, but in two blocks of a list.
        let number = [1, 2, 3, 4, 5, 140, 141][dice.roll(7)];
        let users: Vec<UserId> = self.people.keys().copied().collect();
        let owner = match users.get(dice.roll(users.len() + 2)) {
            Some(user) => Owner::User(*user),
            None => {
                let tags = dice.some(&TAGS).into_iter();
                Owner::Tags(tags.map(|tag| tag.parse::<Tag>().expect("a tag")).collect())
            }
        };
        let v4 = format!("{}.0.{number}", ["100.64", "100.64", "192.0"][dice.roll(3)]);
        let routes: BTreeSet<_> = (0..dice.roll(3)).map(|_| dice.pick(&ROUTES)).collect();
        let device = Device {
            id: NodeId(number),
            owner,
            ips: vec![v4.parse().expect("an address"), format!("fd7a:115c:a1e0::{number}").parse().expect("one")],
            routes: routes.into_iter().map(|route| route.parse().expect("a prefix")).collect(),
            exit: dice.roll(4) == 0,
            facts: Facts::default(),
        };
        self.devices.insert(device.id, device.clone());
        (device.id, Some(device))
    }
}

/// Fingerprints of filters, and what they stand for.
type Known = HashMap<(NodeId, u64), String>;

fn compare(view: &PolicyView, reference: &Reference, known: &mut Known) {
    let devices = &reference.tailnet.devices;
    for (place, device) in devices.iter().enumerate() {
        let id = device.id;
        assert_eq!(sorted(&view.filter_of(id)), sorted(&reference.filter(place)), "the filter of {device:?}");
        assert_eq!(&*view.ssh_of(id), reference.ssh(place), "the SSH rules of {device:?}");
        assert_eq!(view.attributes_of(id), reference.attributes(place), "the attributes of {device:?}");
        let class = view.classes.placed(id).expect("it is there").class;
        let seen = view.classes.seen_by(class);
        for (other, peer) in devices.iter().enumerate() {
            let expected = reference.see_each_other(place, other);
            assert_eq!(view.reach_each_other(id, peer.id), expected, "{device:?} sees {peer:?}");
            let there = view.classes.placed(peer.id).expect("it is there").class;
            assert_eq!(seen.has(there), expected, "{device:?} is told of {peer:?}");
        }
        let filter = view.filter_of(id).to_string();
        let fingerprint = view.classes.class(class).filter.get().expect("it was asked for").fingerprint(device);
        let before = known.entry((id, fingerprint)).or_insert_with(|| filter.clone());
        assert_eq!(sorted(before), sorted(&filter), "one fingerprint for two filters");
    }
    let all = devices.iter().map(|device| device.id);
    assert!(view.classes.nodes().map(|(id, _)| id).eq(all), "other devices are there");
}

/// Rules, and their lists, without their order.
fn sorted(json: &str) -> Value {
    fn sort(value: &Value) -> Value {
        match value {
            Value::Array(list) => {
                let mut list: Vec<Value> = list.iter().map(sort).collect();
                list.sort_by_key(Value::to_string);
                list.into()
            }
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), sort(value))).collect(),
            other => other.clone(),
        }
    }
    sort(&serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn classes_mean_what_each_node_by_itself_would(
        rules in proptest::collection::vec(any::<u8>(), 0..120),
        changes in proptest::collection::vec(any::<u8>(), 0..160),
    ) {
        let policy = Arc::new(policy(&mut Dice(rules.iter())));
        let (mut world, mut known) = (World::default(), Known::new());
        let mut dice = Dice(changes.iter());
        let mut view = PolicyView::new(policy.clone(), world.tailnet());
        while dice.0.len() > 0 {
            let (people, devices) = world.step(&mut dice);
            let updated = view.updated(people.into_iter(), devices.into_iter());
            view = updated.unwrap_or(view);
            let reference = Reference::new(policy.clone(), world.tailnet());
            compare(&view, &reference, &mut known);
            compare(&PolicyView::new(policy.clone(), world.tailnet()), &reference, &mut known);
        }
    }
}
