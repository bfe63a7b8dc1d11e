//! Clients of all replicas, which write all the time: each has a replica of its
//! own, and goes to the next when that one gives no answer.

use crate::dice::Dice;
use crate::history::{Created, History, Joined, Kind, Outcome};
use crate::support::{Cluster, Machine, Session, request, server_key};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// For each replica. The first of them makes users and keys only, so that the
/// longest gap is measured by somebody who waits for no other replica's answers.
const CLIENTS: usize = 3;
/// Between two operations of one client: the state must stay small enough to be listed.
const PAUSE_MS: (u64, u64) = (20, 150);
/// When a client gives up waiting and asks another replica.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How often an operation is tried: enough to outlast every fault.
const TRIES: usize = 60;
/// An attempt that is mentioned with `CHAOS_VERBOSE`.
const SLOW: Duration = Duration::from_millis(700);

/// Running clients.
pub struct Workload {
    pub driver: Driver,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

/// What every client knows.
#[derive(Clone)]
pub struct Driver {
    pub addresses: Vec<Ipv4Addr>,
    history: Arc<History>,
    api_key: String,
    reusable: String,
    server_key: [u8; 32],
    verbose: bool,
}

/// What one attempt gave.
pub enum Attempt<T> {
    Done(T),
    /// Nothing happened.
    Refused,
    Unknown,
    /// A machine's key was used by another.
    Outrun,
    /// A machine's key has expired.
    Expired,
    /// No right server says that.
    Wrong(String),
}

impl Workload {
    pub async fn start(
        cluster: &Cluster,
        size: usize,
        reusable: &str,
        history: &Arc<History>,
        dice: &Dice,
    ) -> Workload {
        let driver = Driver {
            addresses: (1..=size as u64).map(|id| cluster.address(id)).collect(),
            history: history.clone(),
            api_key: cluster.ok(1, &["apikeys", "create"]),
            reusable: reusable.into(),
            server_key: server_key(&cluster.url(1)).await,
            verbose: std::env::var_os("CHAOS_VERBOSE").is_some(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..size * CLIENTS {
            let dice = dice.split(&format!("client {number}"));
            let client = Client { number, home: number % size, count: 0, dice, driver: driver.clone() };
            clients.spawn(client.run(stop.clone()));
        }
        Workload { driver, stop, clients }
    }

    /// Waits for all answers.
    pub async fn stop(mut self) -> Driver {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client panics");
        }
        self.driver
    }
}

struct Client {
    number: usize,
    home: usize,
    count: u64,
    dice: Dice,
    driver: Driver,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            self.count += 1;
            // Some never try again: what they were refused must never be there.
            let tries = if self.dice.once_in(4) { 1 } else { TRIES };
            let most = if self.is_steady() { 6 } else { 9 };
            match self.dice.between(0, most) {
                0..=3 => self.user(tries).await,
                4..=6 => self.auth_key(tries).await,
                7..=8 => self.join(tries).await,
                _ => self.race().await,
            }
            let pause = self.dice.between(PAUSE_MS.0, PAUSE_MS.1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// The one for whom the gap is measured.
    fn is_steady(&self) -> bool {
        self.number < self.driver.addresses.len()
    }

    fn name(&self) -> String {
        format!("c{}-{}", self.number, self.count)
    }

    async fn user(&mut self, tries: usize) {
        let (kind, name) = (Kind::User, self.name());
        let id = self.create(kind, &name, tries).await.map(|(id, _)| id);
        if id.is_some() && !self.is_steady() && self.dice.once_in(3) {
            let other = self.home + 1;
            self.driver.reads(other, &name).await;
        }
    }

    async fn auth_key(&mut self, tries: usize) {
        let name = self.name();
        self.create(Kind::AuthKey, &name, tries).await;
    }

    /// Creates something of that name; gives its id and the answer.
    async fn create(&mut self, kind: Kind, name: &str, tries: usize) -> Option<(String, Value)> {
        let idempotency_key = format!("chaos-{name}");
        let (driver, what, key) = (self.driver.clone(), name.to_owned(), idempotency_key.clone());
        let attempt = move |replica| {
            let (driver, what, key) = (driver.clone(), what.clone(), key.clone());
            async move { driver.create(replica, kind, &what, &key).await }.boxed()
        };
        let (outcome, answer) = self.settle(tries, attempt).await;
        let id = answer.as_ref().and_then(|answer| answer["id"].as_str()).map(str::to_owned);
        let created = Created { kind, name: name.into(), idempotency_key, outcome, id: id.clone() };
        self.driver.history.events().created.push(created);
        id.zip(answer)
    }

    async fn join(&mut self, tries: usize) {
        let machine = Machine::new(&self.name());
        let (driver, key) = (self.driver.clone(), self.driver.reusable.clone());
        let (tries_by, of, with) = (driver.clone(), machine.clone(), key.clone());
        let attempt = move |replica| {
            let (driver, machine, key) = (tries_by.clone(), of.clone(), with.clone());
            async move { driver.register(replica, &machine, &key).await }.boxed()
        };
        let (outcome, _) = self.settle(tries, attempt).await;
        if outcome == Outcome::Done && self.dice.once_in(5) {
            // As a client whose answer was lost; it may not become a second node.
            let again = self.home + 1;
            driver.register(again, &machine, &key).await;
        }
        let joined = Joined { machine_key: machine.key(), outcome, outrun: false };
        self.driver.history.events().joined.push(joined);
    }

    /// Three machines, each at another replica, want to use one single-use key.
    async fn race(&mut self) {
        let name = self.name();
        let Some((_, answer)) = self.create(Kind::AuthKey, &name, TRIES).await else { return };
        let key = answer["key"].as_str().unwrap_or_default().to_owned();
        let mut racers = JoinSet::new();
        for start in 0..3 {
            let (driver, key) = (self.driver.clone(), key.clone());
            let machine = Machine::new(&format!("{name}-{start}"));
            let first = self.home + start;
            racers.spawn(async move {
                let mut unknown = false;
                for attempt in 0..3 {
                    match driver.register(first + attempt, &machine, &key).await {
                        Attempt::Done(()) => return joined(&machine, Outcome::Done, false),
                        Attempt::Outrun if !unknown => return joined(&machine, Outcome::Refused, true),
                        Attempt::Outrun => return joined(&machine, Outcome::Unknown, true),
                        Attempt::Refused => {}
                        Attempt::Unknown => unknown = true,
                        Attempt::Expired => {
                            driver.history.wrong("a key that nobody expired was refused as expired".into());
                            unknown = true;
                        }
                        Attempt::Wrong(what) => {
                            driver.history.wrong(what);
                            unknown = true;
                        }
                    }
                }
                joined(&machine, if unknown { Outcome::Unknown } else { Outcome::Refused }, false)
            });
        }
        let race = racers.join_all().await;
        if race.iter().any(|racer| racer.outcome == Outcome::Done) {
            self.driver.history.acknowledge();
        }
        self.driver.history.events().races.push(race);
    }

    /// Tries, at one replica after the other, until there is an answer.
    async fn settle<T>(
        &mut self,
        tries: usize,
        attempt: impl Fn(usize) -> BoxFuture<'static, Attempt<T>>,
    ) -> (Outcome, Option<T>) {
        let mut unknown = false;
        for number in 0..tries {
            let begun = Instant::now();
            let answer = attempt(self.home + number).await;
            self.driver.note_slow(self.home + number, begun.elapsed(), &answer);
            match answer {
                Attempt::Done(answer) => {
                    self.driver.history.acknowledge();
                    return (Outcome::Done, Some(answer));
                }
                Attempt::Refused => {}
                Attempt::Unknown => unknown = true,
                Attempt::Outrun | Attempt::Expired => {
                    self.driver.history.wrong("a reusable key was refused as used, or as expired".into());
                    unknown = true;
                }
                Attempt::Wrong(what) => {
                    self.driver.history.wrong(what);
                    return (Outcome::Unknown, None);
                }
            }
            let pause = self.dice.between(20, 120);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        (if unknown { Outcome::Unknown } else { Outcome::Refused }, None)
    }
}

fn joined(machine: &Machine, outcome: Outcome, outrun: bool) -> Joined {
    Joined { machine_key: machine.key(), outcome, outrun }
}

impl Driver {
    fn address(&self, replica: usize) -> Ipv4Addr {
        self.addresses[replica % self.addresses.len()]
    }

    /// For whoever looks for the reason of a gap.
    fn note_slow<T>(&self, replica: usize, time: Duration, answer: &Attempt<T>) {
        if self.verbose && (time > SLOW || !matches!(answer, Attempt::Done(_))) {
            let answer = match answer {
                Attempt::Done(_) => "done",
                Attempt::Refused => "refused",
                _ => "no answer",
            };
            println!("        {:.2} s at replica {}: {answer}", time.as_secs_f64(), replica_id(self, replica));
        }
    }

    async fn create(&self, replica: usize, kind: Kind, name: &str, idempotency_key: &str) -> Attempt<Value> {
        let (path, body, inner) = match kind {
            Kind::User => ("user", json!({ "name": name }), "user"),
            Kind::AuthKey => ("preauthkey", json!({ "aclTags": [format!("tag:{name}")] }), "preAuthKey"),
        };
        match self.send(replica, "POST", path, &body, Some(idempotency_key)).await {
            Attempt::Done((200, mut answer)) => Attempt::Done(answer[inner].take()),
            Attempt::Done((status, answer)) => {
                let id = replica_id(self, replica);
                Attempt::Wrong(format!("{path} {name} at replica {id}: {status} {answer}"))
            }
            Attempt::Refused => Attempt::Refused,
            _ => Attempt::Unknown,
        }
    }

    /// A request of an administrator: `Done` with whatever a working replica answers.
    pub async fn send(
        &self,
        replica: usize,
        method: &str,
        path: &str,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Attempt<(u16, Value)> {
        let url = format!("http://{}:8080/api/v1/{path}", self.address(replica));
        let bearer = format!("Bearer {}", self.api_key);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
        let body = match body {
            Value::Null => String::new(),
            body => {
                headers.push(("content-type", "application/json"));
                body.to_string()
            }
        };
        match tokio::time::timeout(ATTEMPT, request(method, &url, &headers, body.as_bytes())).await {
            Err(_) => Attempt::Unknown,
            // Nobody listens: nothing was sent.
            Ok(Err(error)) if error.contains("(Connect)") => Attempt::Refused,
            Ok(Err(_)) => Attempt::Unknown,
            Ok(Ok(reply)) if reply.status == 503 => unavailable(&reply.body),
            Ok(Ok(reply)) => {
                Attempt::Done((reply.status, serde_json::from_str(&reply.body).unwrap_or(Value::String(reply.body))))
            }
        }
    }

    pub fn acknowledge(&self) {
        self.history.acknowledge();
    }

    pub fn wrong(&self, what: String) {
        self.history.wrong(what);
    }

    /// A key with the tag of this name was made.
    pub fn expect_key(&self, name: &str) {
        self.history.events().others.insert(name.to_owned());
    }

    /// A machine tried to become a node.
    pub fn expect_machine(&self, machine: &Machine, is_in: bool, unknown: bool) {
        let outcome = match (is_in, unknown) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Unknown,
            (false, false) => Outcome::Refused,
        };
        self.history.events().joined.push(joined(machine, outcome, false));
    }

    /// The same request again, through any replica: gives the id in its answer.
    pub async fn repeat(&self, replica: usize, created: &Created) -> Result<String, String> {
        match self.create(replica, created.kind, &created.name, &created.idempotency_key).await {
            Attempt::Done(answer) => answer["id"].as_str().map(str::to_owned).ok_or_else(|| "no id".into()),
            Attempt::Wrong(what) => Err(what),
            _ => Err("no answer".into()),
        }
    }

    /// A read through another replica must show what was acknowledged before.
    async fn reads(&self, replica: usize, user: &str) {
        let url = format!("http://{}:8080/api/v1/user?name={user}", self.address(replica));
        let bearer = format!("Bearer {}", self.api_key);
        let headers = [("authorization", bearer.as_str())];
        let read = request("GET", &url, &headers, b"");
        if let Ok(Ok(reply)) = tokio::time::timeout(ATTEMPT, read).await
            && reply.status == 200
            && reply.json()["users"].as_array().is_none_or(Vec::is_empty)
        {
            let id = replica_id(self, replica);
            self.history.wrong(format!("user {user} was acknowledged, and then replica {id} did not know it"));
        }
    }

    pub async fn register(&self, replica: usize, machine: &Machine, key: &str) -> Attempt<()> {
        let address = self.address(replica);
        let open = tokio::time::timeout(ATTEMPT, Session::open(address, &self.server_key, machine)).await;
        // Without a session nothing of the registration was sent.
        let Ok(Ok(mut session)) = open else { return Attempt::Refused };
        let mut body = machine.registration();
        body["Auth"] = json!({ "AuthKey": key });
        match tokio::time::timeout(ATTEMPT, session.register(&body)).await {
            Err(_) => Attempt::Unknown,
            Ok(Err(error)) if error.contains("503") => unavailable(&error),
            Ok(Err(error)) if error.contains("register: 4") => Attempt::Wrong(error),
            Ok(Err(_)) => Attempt::Unknown,
            Ok(Ok(registered)) if registered.accepted() => Attempt::Done(()),
            Ok(Ok(registered)) if registered.error() == "authkey already used" => Attempt::Outrun,
            Ok(Ok(registered)) if registered.error() == "authkey expired" => Attempt::Expired,
            Ok(Ok(registered)) => Attempt::Wrong(format!("{} registers: {}", machine.name, registered.answer)),
        }
    }
}

fn replica_id(driver: &Driver, replica: usize) -> usize {
    replica % driver.addresses.len() + 1
}

/// Some 503 say that nothing was written, others that nobody knows.
fn unavailable<T>(text: &str) -> Attempt<T> {
    if text.contains("the cluster has no leader") { Attempt::Refused } else { Attempt::Unknown }
}
