//! Whether what is there at the end is what everyone was told.

use crate::dice::Dice;
use crate::history::{Created, Events, History, Joined, Kind, Outcome};
use crate::support::Cluster;
use crate::workload::Driver;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// The last requests, of which a cluster remembers 10,000: in a long run there are more.
const REMEMBERED: usize = 5000;

/// Requests that are sent once more, to see that nothing happens twice.
const REPEATED: usize = 60;

/// What contradicts a promise; all empty after a good run.
#[derive(Default)]
pub struct Findings {
    pub lost: Vec<String>,
    pub duplicates: Vec<String>,
    /// There, though it was refused, or though nobody made it.
    pub ghosts: Vec<String>,
    /// Replicas that show different things.
    pub different: Vec<String>,
    /// Objects whose history no order explains.
    pub nonlinear: Vec<String>,
    /// Streams that were dropped without need, and nodes that were shown offline and were not.
    pub streams: Vec<String>,
    pub wrong: Vec<String>,
}

impl Findings {
    pub fn is_empty(&self) -> bool {
        self.all().iter().all(|(_, list)| list.is_empty())
    }

    pub fn all(&self) -> [(&'static str, &Vec<String>); 7] {
        [
            ("lost", &self.lost),
            ("duplicates", &self.duplicates),
            ("refused, and yet there", &self.ghosts),
            ("replicas differ", &self.different),
            ("not linearizable", &self.nonlinear),
            ("streams dropped, or nodes shown offline", &self.streams),
            ("wrong answers", &self.wrong),
        ]
    }
}

/// Looks at every replica of a healthy cluster, after the last answer.
pub async fn check(cluster: &Cluster, history: &History, driver: &Driver, dice: Dice) -> Findings {
    let mut findings = Findings::default();
    repeat_some(history, driver, dice, &mut findings).await;
    let ids: Vec<u64> = (1..=driver.addresses.len() as u64).collect();
    let mut first = None;
    for id in ids {
        let there = There::at(cluster, id);
        there.compare(&history.events(), id, &mut findings);
        match &first {
            None => first = Some(there),
            Some(first) if *first != there => findings.different.push(format!("replicas 1 and {id} list differently")),
            Some(_) => {}
        }
    }
    let verification = cluster.run(1, &["cluster", "verify"]);
    if !verification.status.success() {
        findings.different.push(String::from_utf8_lossy(&verification.stdout).into_owned());
    }
    findings.wrong.append(&mut history.events().wrong);
    findings
}

/// An acknowledged request that is repeated, through any replica, gets the same answer.
async fn repeat_some(history: &History, driver: &Driver, mut dice: Dice, findings: &mut Findings) {
    let mut done: Vec<Created> = history.events().created.clone();
    done.retain(|created| created.outcome == Outcome::Done);
    done.drain(..done.len().saturating_sub(REMEMBERED));
    dice.shuffle(&mut done);
    for created in done.into_iter().take(REPEATED) {
        let replica = dice.between(0, driver.addresses.len() as u64 - 1) as usize;
        let mut answer = driver.repeat(replica, &created).await;
        if answer.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer = driver.repeat(replica, &created).await;
        }
        if answer.as_ref().ok() != created.id.as_ref() {
            let Created { kind, name, id, .. } = created;
            findings.duplicates.push(format!("{kind:?} {name} got {id:?}, and when it was repeated {answer:?}"));
        }
    }
}

/// What one replica lists.
#[derive(PartialEq)]
struct There {
    users: Vec<Value>,
    auth_keys: Vec<Value>,
    nodes: Vec<Value>,
}

impl There {
    fn at(cluster: &Cluster, id: u64) -> There {
        let list = |what: &str| cluster.json(id, &[what, "list"]).as_array().cloned().expect("a list");
        There { users: list("users"), auth_keys: list("preauthkeys"), nodes: list("nodes") }
    }

    fn compare(&self, events: &Events, replica: u64, findings: &mut Findings) {
        let names = |list: &[Value], name: fn(&Value) -> Option<&str>| -> HashMap<String, Vec<String>> {
            let mut ids: HashMap<String, Vec<String>> = HashMap::new();
            for item in list {
                let name = name(item).unwrap_or("(none)").to_owned();
                ids.entry(name).or_default().push(item["id"].as_str().unwrap_or_default().into());
            }
            ids
        };
        let users = names(&self.users, |user| user["name"].as_str());
        let keys = names(&self.auth_keys, |key| key["aclTags"][0].as_str()?.strip_prefix("tag:"));
        for created in &events.created {
            let ids = match created.kind {
                Kind::User => users.get(&created.name),
                Kind::AuthKey => keys.get(&created.name),
            };
            let what = format!("{:?} {} at replica {replica}", created.kind, created.name);
            compare(&what, created.outcome, ids.map_or(&[], Vec::as_slice), created.id.as_deref(), findings);
        }
        let known: HashSet<&str> = events.created.iter().map(|created| created.name.as_str()).collect();
        let strangers = users.keys().chain(keys.keys()).filter(|n| !known.contains(n.as_str()));
        findings.ghosts.extend(
            strangers
                .filter(|n| !matches!(n.as_str(), "owner" | "(none)") && !n.starts_with("shared"))
                .filter(|n| !events.others.contains(n.as_str()))
                .map(|n| format!("{n} at replica {replica}")),
        );

        let nodes = names(&self.nodes, |node| node["machineKey"].as_str());
        let ids = |machine: &Joined| nodes.get(&machine.machine_key).map_or(&[][..], Vec::as_slice);
        for machine in events.joined.iter().chain(events.races.iter().flatten()) {
            let what = format!("node of {} at replica {replica}", machine.machine_key);
            compare(&what, machine.outcome, ids(machine), None, findings);
        }
        for race in &events.races {
            let there = race.iter().filter(|machine| !ids(machine).is_empty()).count();
            if there > 1 {
                findings.duplicates.push(format!("{there} nodes used one single-use key, at replica {replica}"));
            }
            // All were told that another was faster: it must be there.
            if there == 0 && race.iter().all(|machine| machine.outrun) {
                findings.lost.push(format!("a single-use key is spent, and no node has it, at replica {replica}"));
            }
        }
        let machines = events.joined.len() + events.races.iter().flatten().count();
        let machines = machines + events.watchers;
        if nodes.len() > machines {
            findings.ghosts.push(format!("{} nodes of {machines} machines at replica {replica}", nodes.len()));
        }
        self.unique(replica, findings);
    }

    fn unique(&self, replica: u64, findings: &mut Findings) {
        let mut check = |what: &str, values: Vec<String>| {
            let mut seen = HashSet::new();
            for value in values {
                if !seen.insert(value.clone()) {
                    findings.duplicates.push(format!("{what} {value} twice at replica {replica}"));
                }
            }
        };
        let of = |list: &[Value], field: &str| list.iter().map(|item| item[field].to_string()).collect::<Vec<_>>();
        check("user id", of(&self.users, "id"));
        check("key id", of(&self.auth_keys, "id"));
        for field in ["id", "machineKey", "nodeKey", "givenName"] {
            check(field, of(&self.nodes, field));
        }
        let addresses = self.nodes.iter().filter_map(|node| node["ipAddresses"].as_array()).flatten();
        check("address", addresses.map(Value::to_string).collect());
    }
}

fn compare(what: &str, outcome: Outcome, ids: &[String], id: Option<&str>, findings: &mut Findings) {
    match (outcome, ids) {
        (Outcome::Done, []) => findings.lost.push(what.into()),
        (Outcome::Done, [one]) if id.is_some_and(|id| id != one) => {
            findings.lost.push(format!("{what}: acknowledged as {id:?}, and {one} is there"));
        }
        (Outcome::Refused, [_, ..]) => findings.ghosts.push(what.into()),
        (_, [_, _, ..]) => findings.duplicates.push(format!("{what}: {ids:?}")),
        _ => {}
    }
}

/// A checker that finds nothing in a wrong history would be worse than none.
pub fn check_the_checker() {
    use serde_json::json;
    let created = |name: &str, outcome, id: Option<&str>| Created {
        kind: Kind::User,
        name: name.into(),
        idempotency_key: String::new(),
        outcome,
        id: id.map(str::to_owned),
    };
    let joined = |machine: &str, outcome| Joined { machine_key: machine.into(), outcome, outrun: false };
    let node = |id: &str, machine: &str| json!({"id": id, "machineKey": machine, "nodeKey": id, "givenName": id, "ipAddresses": [id]});
    let events = Events {
        created: vec![
            created("kept", Outcome::Done, Some("1")),
            created("lost", Outcome::Done, Some("2")),
            created("ghost", Outcome::Refused, None),
            created("perhaps", Outcome::Unknown, None),
        ],
        joined: vec![joined("m1", Outcome::Done)],
        races: vec![vec![joined("m2", Outcome::Unknown), joined("m3", Outcome::Unknown)]],
        ..Events::default()
    };
    let there = There {
        users: vec![json!({"id": "1", "name": "kept"}), json!({"id": "3", "name": "ghost"})],
        auth_keys: Vec::new(),
        nodes: vec![node("1", "m1"), node("2", "m1"), node("3", "m2"), node("4", "m3")],
    };
    let mut findings = Findings::default();
    there.compare(&events, 1, &mut findings);
    assert_eq!(findings.lost, ["User lost at replica 1"]);
    assert_eq!(findings.ghosts, ["User ghost at replica 1"]);
    // One machine is two nodes; its key is seen twice; two machines used one single-use key.
    assert_eq!(findings.duplicates.len(), 3, "{:?}", findings.duplicates);
}
