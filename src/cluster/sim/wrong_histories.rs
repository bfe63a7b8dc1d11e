//! Invented histories that no right cluster could have: the check must see through each.
//! It is told what the log says, and what clients asked and heard, and when.

use super::clients::{Answer, Ask};
use super::history::{self, Count, Operation};
use super::reference::{Logged, Reference, Violation};
use crate::cluster::tests::user;
use crate::state::{
    COMMAND_FORMAT, Command, Done, NodeId, Outcome, Owner, Proposal, Refused, Registration, RequestId, SecretHash,
    ServerKeys, Time, UserId,
};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use std::sync::Arc;

/// A log, and what was asked and heard.
#[derive(Default)]
struct Story {
    reference: Reference,
    history: Vec<Operation>,
}

impl Story {
    /// The log's first entry sets the cluster up.
    fn new() -> Self {
        let keys = ServerKeys {
            cluster_id: "invented".into(),
            noise_public: MachineKey([1; 32]),
            legacy_public: MachineKey([2; 32]),
            sealed: String::new(),
            wrapped_data_key: String::new(),
            previous_cluster_ids: Vec::new(),
        };
        let mut story = Self::default();
        story.log(Command::Bootstrap { settings: crate::cluster::tests::settings(), keys }).expect("set up");
        story
    }

    /// The log's next entry; gives its outcome.
    fn log(&mut self, command: Command) -> Outcome {
        let index = self.next();
        self.reference.log(index, proposal(index, command))
    }

    /// The same, with an outcome that no right code gives.
    fn log_wrongly(&mut self, request: u64, command: Command, outcome: Outcome) {
        let index = self.next();
        self.reference.commands.push(Logged { index, proposal: proposal(request, command), outcome });
    }

    fn next(&self) -> u64 {
        self.reference.commands.last().map_or(1, |last| last.index + 1)
    }

    /// Somebody asked for a change from `begun` to `ended`, and heard `answer`.
    fn asked(&mut self, (begun, ended): (u64, u64), command: Command, answer: Answer) {
        let ask = Ask::Write { key: None, command };
        self.history.push(Operation { client: self.history.len(), ask, begun, ended: Some(ended), answer });
    }

    /// Somebody read, and saw the state at that index.
    fn read(&mut self, (begun, ended): (u64, u64), index: u64) {
        let answer = Answer::Read(Arc::new(self.reference.state(index)));
        self.history.push(Operation { client: self.history.len(), ask: Ask::Read, begun, ended: Some(ended), answer });
    }

    /// Logged, and acknowledged.
    fn done(&mut self, when: (u64, u64), command: Command) {
        let done = self.log(command.clone()).expect("it is applied");
        self.asked(when, command, Answer::Done(done));
    }

    fn judged(mut self) -> Result<Count, Violation> {
        history::check(&self.history, &mut self.reference)
    }

    /// It must be found out, with these words.
    fn found_out(self, words: &str) {
        let found = self.judged().expect_err("this history is wrong");
        assert!(found.contains(words), "{words:?} is in {found:?}");
    }
}

fn proposal(request: u64, command: Command) -> Proposal {
    let request = RequestId { incarnation: 1, sequence: request, acknowledged: 0 };
    let (deadline, time) = (Time(i64::MAX), Time(1));
    Proposal { format: COMMAND_FORMAT, request, deadline, time, idempotency_key: None, origin: None, command }
}

fn made(id: u64, name: &str) -> Outcome {
    let text = String::new;
    Ok(Done::User(crate::state::User {
        id: UserId(id),
        name: name.into(),
        display_name: text(),
        email: text(),
        profile_pic_url: text(),
        provider: text(),
        provider_id: text(),
        created: Time(1),
    }))
}

fn key(reusable: bool) -> Command {
    let (prefix, hash, owner) = ("k".to_owned(), SecretHash::of("k"), Owner::User(UserId(1)));
    Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral: false, expiration: None }
}

fn joins(machine: u8) -> Command {
    let registration = Registration {
        machine_key: MachineKey([machine; 32]),
        node_key: NodeKey([machine; 32]),
        hostinfo: Hostinfo::default(),
        cap_ver: CapVer(142),
        expiry: None,
        seed: 0,
        v4_pools: Vec::new(),
    };
    Command::RegisterWithKey { prefix: "k".into(), hash: SecretHash::of("k"), registration }
}

#[test]
fn a_right_history_is_taken_for_one() {
    let mut story = Story::new();
    story.done((0, 10), user("alice"));
    story.read((11, 20), 2);
    story.done((12, 30), user("bob"));
    // Under way at the same time as bob: either state will do.
    story.read((13, 29), 2);
    story.log(user("perhaps")).expect("applied");
    story.asked((14, 40), user("perhaps"), Answer::Unknown);
    story.asked((15, 41), user("neither"), Answer::Unknown);
    story.asked((16, 42), user("never"), Answer::Never);
    let outcome = story.log(user("bob")).expect_err("there is a bob");
    story.asked((35, 50), user("bob"), Answer::Refused(outcome));
    let count = story.judged().expect("nothing is wrong");
    assert_eq!((count.done, count.refused, count.never, count.unknown, count.reads), (2, 1, 1, 2, 2));
}

#[test]
fn a_lost_write_is_found() {
    let mut story = Story::new();
    story.done((0, 10), user("alice"));
    let Ok(bob) = made(2, "bob") else { unreachable!() };
    story.asked((11, 20), user("bob"), Answer::Done(bob));
    story.found_out("which the log does not say");
}

#[test]
fn another_answer_than_the_logs_is_found() {
    let mut story = Story::new();
    story.log(user("alice")).expect("applied");
    let Ok(other) = made(7, "alice") else { unreachable!() };
    story.asked((0, 10), user("alice"), Answer::Done(other));
    story.found_out("which the log does not say");

    let mut story = Story::new();
    story.log(user("alice")).expect("applied");
    story.asked((0, 10), user("alice"), Answer::Refused(Refused::UserExists));
    story.found_out("which the log does not say");
}

#[test]
fn a_stale_read_is_found() {
    // After an acknowledged write.
    let mut story = Story::new();
    story.done((0, 10), user("alice"));
    story.done((11, 20), user("bob"));
    story.read((21, 30), 2);
    story.found_out("a read showed 2, after 3 had been shown or acknowledged");

    // After another read, of a write that nobody was told of yet.
    let mut story = Story::new();
    story.done((0, 10), user("alice"));
    story.log(user("bob")).expect("applied");
    story.read((11, 20), 3);
    story.read((21, 30), 2);
    story.found_out("a read showed 2, after 3 had been shown or acknowledged");
}

#[test]
fn a_read_of_what_was_never_there_is_found() {
    let mut story = Story::new();
    story.done((0, 10), user("alice"));
    let mut other = Story::new();
    other.log(user("mallory")).expect("applied");
    let answer = Answer::Read(Arc::new(other.reference.state(2)));
    story.history.push(Operation { client: 9, ask: Ask::Read, begun: 11, ended: Some(20), answer });
    story.found_out("a state that was never there");
}

#[test]
fn writes_in_another_order_than_they_were_acknowledged_are_found() {
    let mut story = Story::new();
    let bob = story.log(user("bob")).expect("applied");
    let alice = story.log(user("alice")).expect("applied");
    // Alice was there before anybody asked for bob, whom the log has before her.
    story.asked((0, 10), user("alice"), Answer::Done(alice));
    story.asked((11, 20), user("bob"), Answer::Done(bob));
    story.found_out("which the log does not say after 3");
}

#[test]
fn a_request_that_was_done_twice_is_found() {
    let mut story = Story::new();
    story.log_wrongly(11, user("alice"), made(1, "alice"));
    story.log_wrongly(11, user("alice"), made(2, "alice"));
    story.found_out("had two outcomes");

    // Asked again under another name, as a client does that goes elsewhere.
    let mut story = Story::new();
    story.log_wrongly(11, user("alice"), made(1, "alice"));
    story.log_wrongly(12, user("alice"), made(2, "alice"));
    story.found_out("was done twice");

    let mut story = Story::new();
    story.log_wrongly(11, user("alice"), made(1, "alice"));
    story.log_wrongly(11, user("bob"), made(2, "bob"));
    story.found_out("two commands are called");
}

#[test]
fn an_id_that_two_have_is_found() {
    let mut story = Story::new();
    story.log_wrongly(11, user("alice"), made(1, "alice"));
    story.log_wrongly(12, user("bob"), made(1, "bob"));
    story.found_out("has the id of something else");
}

#[test]
fn a_single_use_key_that_two_machines_used_is_found_and_a_reusable_one_is_not() {
    for reusable in [false, true] {
        let mut story = Story::new();
        story.log(user("alice")).expect("applied");
        story.log(key(reusable)).expect("applied");
        story.log_wrongly(13, joins(1), Ok(Done::Node(NodeId(1))));
        story.log_wrongly(14, joins(2), Ok(Done::Node(NodeId(2))));
        match reusable {
            true => drop(story.judged().expect("nothing is wrong")),
            false => story.found_out("the single-use key k was used by"),
        }
    }
}

#[test]
fn what_was_refused_as_not_written_and_is_there_is_found() {
    let mut story = Story::new();
    story.log(user("alice")).expect("applied");
    story.asked((0, 10), user("alice"), Answer::Never);
    story.found_out("was refused as not written, and is there");
}
