//! Clients that share a few objects: names of users, the policy, names of nodes, keys.
//! What each of them was told is a history that has to be linearizable.

use crate::dice::Dice;
use crate::linear::{AuthKey, Call, Created, Name, Register, Used, Verdict, check};
use crate::support::Machine;
use crate::workload::{Attempt, Driver};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Names that all clients want.
const NAMES: u64 = 4;
/// Between two operations of one client.
const PAUSE_MS: (u64, u64) = (60, 250);
/// What is read where no policy was set.
const NO_POLICY: &str = r#"{"hosts": {"none": ""}}"#;
/// How often a write is tried: enough to outlast every fault.
const TRIES: usize = 60;

/// What everyone was told of each object.
#[derive(Default)]
pub struct Told(Mutex<Objects>);

#[derive(Default)]
struct Objects {
    names: BTreeMap<String, Vec<Call<Name>>>,
    registers: BTreeMap<String, Vec<Call<Register>>>,
    keys: BTreeMap<String, Vec<Call<AuthKey>>>,
}

impl Told {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().expect("nobody panics while it is held")
    }

    /// How many operations there were, and on how many objects.
    pub fn size(&self) -> (usize, usize) {
        let objects = self.objects();
        let sizes: Vec<usize> = objects
            .names
            .values()
            .map(Vec::len)
            .chain(objects.registers.values().map(Vec::len))
            .chain(objects.keys.values().map(Vec::len))
            .collect();
        (sizes.iter().sum(), sizes.len())
    }

    /// Objects whose history no order explains, or of which nobody knows.
    pub fn wrong(&self) -> Vec<String> {
        let objects = self.objects();
        let mut wrong = Vec::new();
        objects.names.iter().for_each(|(what, calls)| judge(what, calls, &mut wrong));
        objects.registers.iter().for_each(|(what, calls)| judge(what, calls, &mut wrong));
        objects.keys.iter().for_each(|(what, calls)| judge(what, calls, &mut wrong));
        wrong
    }
}

fn judge<O: crate::linear::Operation>(what: &str, calls: &[Call<O>], wrong: &mut Vec<String>) {
    match check(calls.to_vec()) {
        Verdict::Linearizable => {}
        verdict => wrong.push(format!("{what}: {verdict:?}: {}", shortest(calls))),
    }
}

/// The shortest beginning that is wrong already, at its end.
fn shortest<O: crate::linear::Operation>(calls: &[Call<O>]) -> String {
    let mut by_end: Vec<&Call<O>> = calls.iter().filter(|call| call.to.is_some()).collect();
    by_end.sort_by_key(|call| call.to);
    let wrong_until = |end: Instant| {
        let known: Vec<Call<O>> = calls
            .iter()
            .filter(|call| call.from <= end)
            .map(|call| Call { to: call.to.filter(|to| *to <= end), ..call.clone() })
            // What a later answer says is not known yet; a read without one says nothing.
            .collect();
        check(known.into_iter().filter(|call| call.to.is_some()).collect()) == Verdict::Wrong
    };
    let end = by_end.iter().filter_map(|call| call.to).find(|end| wrong_until(*end));
    let Some(end) = end else { return format!("{} operations", calls.len()) };
    let zero = calls.iter().map(|call| call.from).min().unwrap_or(end);
    let near: Vec<&Call<O>> = by_end.iter().copied().filter(|call| call.to.is_some_and(|to| to <= end)).collect();
    let shown = near[near.len().saturating_sub(6)..].iter().map(|call| {
        let second = |at: Instant| (at - zero).as_secs_f64();
        format!("[{:.3}-{:.3} {:?}]", second(call.from), second(call.to.unwrap_or(end)), call.operation)
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// One client, at one replica.
pub struct Client {
    pub number: usize,
    pub home: usize,
    pub dice: Dice,
    pub driver: Driver,
    pub told: Arc<Told>,
    /// Nodes whose names are written.
    pub nodes: Vec<u64>,
    pub count: u64,
}

impl Client {
    pub async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            self.count += 1;
            match self.dice.between(0, 15) {
                0..=2 => self.create().await,
                3..=4 => self.delete().await,
                5..=6 => self.look_up().await,
                7 => self.set_policy().await,
                8..=9 => self.get_policy().await,
                10..=11 => self.rename().await,
                12..=14 => self.get_node().await,
                _ => self.race_with_expiry().await,
            }
            let pause = self.dice.between(PAUSE_MS.0, PAUSE_MS.1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn unique(&self) -> String {
        format!("o{}-{}", self.number, self.count)
    }

    fn name(&mut self) -> String {
        format!("shared{}", self.dice.between(1, NAMES))
    }

    // ---- Names of users ----

    async fn create(&mut self) {
        let name = self.name();
        let body = json!({ "name": name });
        let (from, answer) = self.write("POST", "user".into(), body, &["user already exists", "UNIQUE"]).await;
        let created = match answer {
            Answer::Done(value) => Some(Created::Made(text(&value["user"]["id"]))),
            Answer::Said => Some(Created::Exists),
            Answer::Unknown => None,
            Answer::Refused => return,
        };
        let to = created.is_some().then(Instant::now);
        self.tell_name(name, Name::Create(created), from, to);
    }

    async fn delete(&mut self) {
        let name = self.name();
        let Some((_, Some(id))) = self.find(&name).await else { return };
        let (from, answer) = self.write("DELETE", format!("user/{id}"), Value::Null, &["user not found"]).await;
        let found = match answer {
            Answer::Done(_) => Some(true),
            Answer::Said => Some(false),
            Answer::Unknown => None,
            Answer::Refused => return,
        };
        self.tell_name(name, Name::Delete(id, found), from, found.map(|_| Instant::now()));
    }

    async fn look_up(&mut self) {
        let name = self.name();
        if let Some((from, id)) = self.find(&name).await {
            self.tell_name(name, Name::Read(id), from, Some(Instant::now()));
        }
    }

    async fn find(&mut self, name: &str) -> Option<(Instant, Option<String>)> {
        let (from, value) = self.read(format!("user?name={name}")).await?;
        Some((from, value["users"][0]["id"].as_str().map(str::to_owned)))
    }

    fn tell_name(&self, name: String, operation: Name, from: Instant, to: Option<Instant>) {
        self.told.objects().names.entry(name).or_default().push(Call { operation, from, to });
    }

    // ---- Registers ----

    async fn set_policy(&mut self) {
        let value = self.unique();
        // Everyone sees everyone, always; the name is what differs.
        let text = format!(
            "{{\"hosts\": {{\"{value}\": \"100.64.0.1\"}}, \"acls\": [{{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:*\"]}}]}}"
        );
        let (from, answer) = self.write("PUT", "policy".into(), json!({ "policy": text }), &[]).await;
        self.tell_write("the policy".into(), value, from, answer);
    }

    async fn get_policy(&mut self) {
        let Some((from, value)) = self.read("policy".into()).await else { return };
        let text = value["policy"].as_str().unwrap_or_default();
        // The first word in the braces of `hosts`.
        let value = text.split('"').nth(3).unwrap_or_default().to_owned();
        self.tell_read("the policy".into(), value, from);
    }

    async fn rename(&mut self) {
        let (id, value) = (self.node(), self.unique());
        let (from, answer) = self.write("POST", format!("node/{id}/rename/{value}"), Value::Null, &[]).await;
        self.tell_write(format!("node {id}"), value, from, answer);
    }

    async fn get_node(&mut self) {
        let id = self.node();
        if let Some((from, value)) = self.read(format!("node/{id}")).await {
            self.tell_read(format!("node {id}"), text(&value["node"]["givenName"]), from);
        }
    }

    fn node(&mut self) -> u64 {
        self.nodes[self.dice.between(0, self.nodes.len() as u64 - 1) as usize]
    }

    fn tell_write(&self, object: String, value: String, from: Instant, answer: Answer) {
        let to = match answer {
            Answer::Done(_) => Some(Instant::now()),
            Answer::Unknown => None,
            Answer::Refused | Answer::Said => return,
        };
        let call = Call { operation: Register::Write(value), from, to };
        self.told.objects().registers.entry(object).or_default().push(call);
    }

    fn tell_read(&self, object: String, value: String, from: Instant) {
        let call = Call { operation: Register::Read(value), from, to: Some(Instant::now()) };
        self.told.objects().registers.entry(object).or_default().push(call);
    }

    // ---- Keys ----

    /// Two machines want to use a key that is expired meanwhile, each by another replica.
    async fn race_with_expiry(&mut self) {
        let (name, once) = (self.unique(), self.dice.once_in(2));
        let body = json!({ "aclTags": [format!("tag:{name}")], "reusable": !once });
        let (from, answer) = self.write("POST", "preauthkey".into(), body, &[]).await;
        let Answer::Done(value) = answer else { return };
        let (key, id) = (text(&value["preAuthKey"]["key"]), text(&value["preAuthKey"]["id"]));
        self.driver.expect_key(&name);
        let mut calls = vec![Call { operation: AuthKey::Made { once }, from, to: Some(Instant::now()) }];
        let expire = json!({ "id": id });
        let (driver, home) = (self.driver.clone(), self.home);
        let uses = (0..3).map(|number| {
            let (driver, key, name) = (driver.clone(), key.clone(), format!("{name}-{number}"));
            async move {
                // The last one comes when the key has expired, or so it may be.
                tokio::time::sleep(Duration::from_millis(20 * number as u64 * number as u64)).await;
                use_key(&driver, home + number, &name, &key).await
            }
        });
        let uses = futures::future::join_all(uses);
        let ((from, expired), uses) = tokio::join!(self.write("POST", "preauthkey/expire".into(), expire, &[]), uses);
        match expired {
            Answer::Done(_) => {
                calls.push(Call { operation: AuthKey::Expire, from, to: Some(Instant::now()) });
            }
            Answer::Unknown => calls.push(Call { operation: AuthKey::Expire, from, to: None }),
            Answer::Refused | Answer::Said => {}
        }
        calls.extend(uses.into_iter().flatten());
        self.told.objects().keys.insert(format!("key {name}"), calls);
    }

    // ---- Requests ----

    /// A write, at one replica after the other until there is an answer, under one `Idempotency-Key`.
    async fn write(&mut self, method: &str, path: String, body: Value, said: &[&str]) -> (Instant, Answer) {
        let key = format!("object-{}-{}", self.unique(), path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let from = Instant::now();
        let mut unknown = false;
        for attempt in 0..TRIES {
            let replica = self.home + attempt;
            match self.driver.send(replica, method, &path, &body, Some(&key)).await {
                Attempt::Done((200, value)) => {
                    self.driver.acknowledge();
                    return (from, Answer::Done(value));
                }
                Attempt::Done((_, problem)) if said.iter().any(|said| problem.to_string().contains(said)) => {
                    return (from, Answer::Said);
                }
                Attempt::Done((status, problem)) => {
                    self.driver.wrong(format!("{method} {path}: {status} {problem}"));
                    return (from, Answer::Unknown);
                }
                Attempt::Unknown => unknown = true,
                _ => {}
            }
            let pause = self.dice.between(20, 120);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        (from, if unknown { Answer::Unknown } else { Answer::Refused })
    }

    /// A read, until there is an answer; when the one that was answered began.
    async fn read(&mut self, path: String) -> Option<(Instant, Value)> {
        for attempt in 0..TRIES {
            let from = Instant::now();
            match self.driver.send(self.home + attempt, "GET", &path, &Value::Null, None).await {
                Attempt::Done((200, value)) => return Some((from, value)),
                // As Headscale says it.
                Attempt::Done((500, problem)) if problem.to_string().contains("acl policy not found") => {
                    return Some((from, json!({ "policy": NO_POLICY })));
                }
                Attempt::Done((status, problem)) => {
                    self.driver.wrong(format!("GET {path}: {status} {problem}"));
                    return None;
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        None
    }
}

/// How a write ended.
#[derive(Debug)]
enum Answer {
    Done(Value),
    /// An error that was expected: nothing changed.
    Said,
    Refused,
    Unknown,
}

/// A machine registers, at one replica after the other; `None`: nothing of it was sent.
async fn use_key(driver: &Driver, first: usize, name: &str, key: &str) -> Option<Call<AuthKey>> {
    let machine = Machine::new(name);
    let from = Instant::now();
    let (mut unknown, mut answer) = (false, None);
    for attempt in 0..TRIES {
        answer = match driver.register(first + attempt, &machine, key).await {
            Attempt::Done(()) => Some(Used::In),
            Attempt::Outrun => Some(Used::Spent),
            Attempt::Expired => Some(Used::Expired),
            Attempt::Refused => None,
            Attempt::Unknown => {
                unknown = true;
                None
            }
            Attempt::Wrong(what) => {
                driver.wrong(what);
                None
            }
        };
        if answer.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    driver.expect_machine(&machine, answer == Some(Used::In), unknown);
    let operation = AuthKey::Use(machine.key(), answer);
    (answer.is_some() || unknown).then(|| Call { operation, from, to: answer.map(|_| Instant::now()) })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs until `told` is done; so that all clients end before the history is read.
pub async fn all(clients: Vec<Client>, stop: Arc<AtomicBool>) {
    futures::future::join_all(clients.into_iter().map(|client| spawn(client.run(stop.clone())))).await;
}

async fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task).await.expect("no client panics");
}
