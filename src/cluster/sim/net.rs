//! The network between simulated replicas: calls whose messages take their time, are
//! held up, or never arrive.
//!
//! Within one direction of one call the order is kept, as HTTP/2 over TCP keeps it;
//! calls overtake each other freely. What is held up for long breaks its call, as the
//! connection's keep-alive would.

use super::trace::Trace;
use super::wire::{ClientEnd, ServerEnd};
use bytes::Bytes;
use hyper::body::Frame;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub type MachineId = u64;
pub type CallId = u64;

pub const MS: u64 = 1_000_000;
/// After this long without a sign of life a connection is given up.
const KEEP_ALIVE: u64 = 5_000 * MS;
/// How long a new connection may take.
const CONNECT: u64 = 2_000 * MS;
/// How often what is held up is looked at again.
const AGAIN: u64 = 50 * MS;

/// A direction of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    ToServer,
    ToClient,
}

/// What goes over the network.
pub enum What {
    Call(Box<http::request::Parts>),
    Response(Box<http::response::Parts>),
    Frame(Frame<Bytes>),
    End,
    /// One end broke the call off.
    Reset,
}

/// How a machine meets what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Running,
    /// Its process is stopped: what arrives waits.
    Frozen,
    /// Its port refuses.
    NoProcess,
    /// Nothing answers.
    Off,
}

/// How well the network works.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Nanoseconds that a message takes, at least and at most.
    pub latency: (u64, u64),
    /// Of how many messages one breaks its call.
    pub lost_of: Option<u32>,
}

impl Weather {
    pub const FAIR: Self = Self { latency: (MS / 10, 3 * MS), lost_of: None };
}

/// The network. Cloning gives another handle.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

struct State {
    now: u64,
    rng: StdRng,
    trace: Trace,
    weather: Weather,
    presence: BTreeMap<MachineId, Presence>,
    /// Nothing gets from the first to the second.
    cuts: BTreeSet<(MachineId, MachineId)>,
    calls: BTreeMap<CallId, Call>,
    last_call: CallId,
    due: BTreeMap<(u64, u64), Due>,
    last_due: u64,
}

#[derive(Clone, Copy)]
enum Due {
    Lane(CallId, Lane),
    Break(CallId),
    /// If the machine is still frozen.
    BreakAllOf(MachineId),
}

struct Call {
    from: MachineId,
    to: MachineId,
    client: Option<ClientEnd>,
    server: Option<ServerEnd>,
    lanes: [Traffic; 2],
}

#[derive(Default)]
struct Traffic {
    waiting: VecDeque<(u64, What)>,
    held_up_since: Option<u64>,
    /// Nothing more gets through.
    dead: bool,
}

/// What the world has to do for the network.
pub enum Task {
    /// A call reached a machine that runs.
    Accept {
        call: CallId,
        from: MachineId,
        to: MachineId,
        parts: Box<http::request::Parts>,
    },
    /// This machine got something.
    Wake(MachineId),
    Nothing,
}

impl Net {
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            trace,
            weather: Weather::FAIR,
            presence: BTreeMap::new(),
            cuts: BTreeSet::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            due: BTreeMap::new(),
            last_due: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_now(&self, now: u64) {
        self.lock().now = now;
    }

    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    pub fn set_cuts(&self, cuts: BTreeSet<(MachineId, MachineId)>) {
        self.lock().cuts = cuts;
    }

    /// When something is due next.
    pub fn next(&self) -> Option<u64> {
        self.lock().due.keys().next().map(|(at, _)| *at)
    }

    /// Begins a call.
    pub fn begin(&self, from: MachineId, to: MachineId, parts: http::request::Parts, client: ClientEnd) -> CallId {
        let mut state = self.lock();
        state.last_call += 1;
        let id = state.last_call;
        state.calls.insert(id, Call { from, to, client: Some(client), server: None, lanes: Default::default() });
        state.send(id, Lane::ToServer, What::Call(Box::new(parts)));
        id
    }

    pub fn send(&self, call: CallId, lane: Lane, what: What) {
        self.lock().send(call, lane, what);
    }

    /// The caller does not want an answer (any more).
    pub fn hang_up(&self, id: CallId) {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&id) else { return };
        let client = call.client.take();
        state.send(id, Lane::ToServer, What::Reset);
        drop(state);
        drop(client);
    }

    /// The server's end of a call that was accepted.
    pub fn accepted(&self, id: CallId, end: ServerEnd) {
        if let Some(call) = self.lock().calls.get_mut(&id) {
            call.server = Some(end);
        }
    }

    /// A machine comes, freezes or goes; what that does to its calls follows.
    pub fn set_presence(&self, machine: MachineId, presence: Presence) {
        let mut state = self.lock();
        let before = state.presence.insert(machine, presence);
        if before == Some(presence) {
            return;
        }
        let ids: Vec<CallId> = state.calls_of(machine);
        let mut gone = Vec::new();
        match presence {
            Presence::Running => {}
            Presence::Frozen => {
                let at = state.now + KEEP_ALIVE;
                state.at(at, Due::BreakAllOf(machine));
            }
            Presence::NoProcess | Presence::Off => {
                for id in ids {
                    let loud = presence == Presence::NoProcess;
                    gone.extend(state.lose_end(id, machine, loud));
                }
            }
        }
        drop(state);
        drop(gone);
    }

    /// Delivers what is due first, if it is due by now.
    pub fn deliver(&self) -> Task {
        let mut state = self.lock();
        let Some((&key, &due)) = state.due.iter().next() else { return Task::Nothing };
        if key.0 > state.now {
            return Task::Nothing;
        }
        state.due.remove(&key);
        let mut gone = Vec::new();
        let task = match due {
            Due::Lane(call, lane) => state.arrive(call, lane, &mut gone),
            Due::Break(call) => state.break_off(call, &mut gone),
            Due::BreakAllOf(machine) => {
                if state.presence.get(&machine) == Some(&Presence::Frozen) {
                    for id in state.calls_of(machine) {
                        state.break_off(id, &mut gone);
                    }
                }
                Task::Nothing
            }
        };
        drop(state);
        drop(gone);
        task
    }
}

impl State {
    fn at(&mut self, at: u64, due: Due) {
        self.last_due += 1;
        self.due.insert((at, self.last_due), due);
    }

    fn calls_of(&self, machine: MachineId) -> Vec<CallId> {
        let of = |call: &Call| call.from == machine || call.to == machine;
        self.calls.iter().filter(|(_, call)| of(call)).map(|(id, _)| *id).collect()
    }

    fn send(&mut self, id: CallId, lane: Lane, what: What) {
        let lost = self.weather.lost_of.is_some_and(|of| self.rng.random_range(0..of) == 0);
        let (low, high) = self.weather.latency;
        let latency = self.rng.random_range(low..=high);
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let traffic = &mut call.lanes[lane as usize];
        if traffic.dead {
            return;
        }
        if lost {
            traffic.dead = true;
            return self.at(now + KEEP_ALIVE, Due::Break(id));
        }
        let ready = traffic.waiting.back().map_or(0, |(at, _)| *at).max(now + latency);
        traffic.waiting.push_back((ready, what));
        if traffic.waiting.len() == 1 {
            self.at(ready, Due::Lane(id, lane));
        }
    }

    /// The machine at one end of the call is gone.
    fn lose_end(&mut self, id: CallId, machine: MachineId, loud: bool) -> Vec<Call> {
        let Some(call) = self.calls.get_mut(&id) else { return Vec::new() };
        let (mine, theirs) = match call.from == machine {
            true => (Lane::ToClient, Lane::ToServer),
            false => (Lane::ToServer, Lane::ToClient),
        };
        // What was not there yet never arrives; a new process knows nothing of the call.
        call.lanes[mine as usize].waiting.retain(|(_, what)| matches!(what, What::Call(_)));
        let only_begun = !call.lanes[mine as usize].waiting.is_empty();
        if only_begun {
            return Vec::new();
        }
        call.lanes[mine as usize].dead = true;
        match loud {
            true => self.send(id, theirs, What::Reset),
            false => {
                call.lanes[theirs as usize].dead = true;
                let at = self.now + KEEP_ALIVE;
                self.at(at, Due::Break(id));
            }
        }
        Vec::new()
    }

    /// Both ends are told that the connection broke.
    fn break_off(&mut self, id: CallId, gone: &mut Vec<Call>) -> Task {
        let Some(mut call) = self.calls.remove(&id) else { return Task::Nothing };
        self.trace.event(self.now, || format!("call {id} {}->{} breaks", call.from, call.to));
        if let Some(client) = &mut call.client {
            client.fail();
        }
        if let Some(server) = &call.server {
            server.fail();
        }
        gone.push(call);
        Task::Nothing
    }

    fn arrive(&mut self, id: CallId, lane: Lane, gone: &mut Vec<Call>) -> Task {
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return Task::Nothing };
        let (source, target) = match lane {
            Lane::ToServer => (call.from, call.to),
            Lane::ToClient => (call.to, call.from),
        };
        let presence = self.presence.get(&target).copied().unwrap_or(Presence::Off);
        let traffic = &mut call.lanes[lane as usize];
        let Some((_, what)) = traffic.waiting.front() else { return Task::Nothing };
        let is_call = matches!(what, What::Call(_));
        if self.cuts.contains(&(source, target)) || presence == Presence::Off {
            let since = *traffic.held_up_since.get_or_insert(now);
            if is_call && now >= since + CONNECT && self.rng.random_bool(0.5) {
                let late = io::Error::new(io::ErrorKind::TimedOut, "no answer");
                return self.refuse(id, late, gone);
            }
            if now >= since + KEEP_ALIVE {
                return self.break_off(id, gone);
            }
            self.at(now + AGAIN, Due::Lane(id, lane));
            return Task::Nothing;
        }
        traffic.held_up_since = None;
        if presence == Presence::NoProcess {
            return match is_call {
                true => self.refuse(id, io::ErrorKind::ConnectionRefused.into(), gone),
                false => self.break_off(id, gone),
            };
        }
        let (_, what) = traffic.waiting.pop_front().expect("it was looked at");
        let next = traffic.waiting.front().map(|(ready, _)| (*ready).max(now));
        self.trace.event(now, || format!("call {id} {source}->{target} {}", what.name()));
        let (from, to) = (call.from, call.to);
        let task = match what {
            What::Call(parts) => {
                if let Some(client) = &call.client {
                    (client.note)(None);
                }
                Task::Accept { call: id, from, to, parts }
            }
            What::Response(parts) => {
                if let Some(head) = call.client.as_mut().and_then(|client| client.head.take()) {
                    let _ = head.send(Ok(*parts));
                }
                Task::Wake(target)
            }
            What::Frame(frame) => {
                match lane {
                    Lane::ToServer => call.server.as_ref().map(|server| server.body.send(Ok(frame)).is_ok()),
                    Lane::ToClient => call.client.as_ref().map(|client| client.body.send(Ok(frame)).is_ok()),
                };
                Task::Wake(target)
            }
            What::End => {
                match lane {
                    // The body's end is its sender's.
                    Lane::ToServer => {
                        if let Some(server) = &mut call.server {
                            server.body = tokio::sync::mpsc::unbounded_channel().0;
                        }
                    }
                    Lane::ToClient => gone.extend(self.calls.remove(&id)),
                }
                Task::Wake(target)
            }
            What::Reset => {
                match lane {
                    Lane::ToServer => call.server.as_ref().map(ServerEnd::fail),
                    Lane::ToClient => call.client.as_mut().map(ClientEnd::fail),
                };
                gone.extend(self.calls.remove(&id));
                Task::Wake(target)
            }
        };
        if let Some(next) = next {
            self.at(next, Due::Lane(id, lane));
        }
        task
    }

    fn refuse(&mut self, id: CallId, error: io::Error, gone: &mut Vec<Call>) -> Task {
        let Some(mut call) = self.calls.remove(&id) else { return Task::Nothing };
        let caller = call.from;
        self.trace.event(self.now, || format!("call {id} {}->{} refused: {error}", call.from, call.to));
        if let Some(client) = &mut call.client {
            client.fail_to_connect(error);
        }
        gone.push(call);
        Task::Wake(caller)
    }
}

impl What {
    fn name(&self) -> String {
        match self {
            What::Call(parts) => format!("call {}", parts.uri.path()),
            What::Response(_) => "response".into(),
            What::Frame(frame) => format!("frame of {}", frame.data_ref().map_or(0, Bytes::len)),
            What::End => "end".into(),
            What::Reset => "reset".into(),
        }
    }
}
