//! A policy's own tests, one by one.

use super::super::rule::{SshTest, Test};
use super::super::tailnet::Tailnet;
use super::super::{Policy, PolicyError};
use super::bare;
use super::place::Places;
use crate::state::State;
use serde::{Deserialize, Serialize};

/// How the tests went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trials {
    pub passed: usize,
    pub failed: usize,
    pub tests: Vec<Trial>,
}

/// One line of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// `tests[0]`
    pub test: String,
    pub line: usize,
    pub source: String,
    /// `accept`, `deny` or `check`.
    pub expected: String,
    /// The destination, or whom a session becomes.
    pub what: String,
    pub passed: bool,
    /// What happened instead; empty where it passed.
    pub fault: String,
}

/// Runs the `tests` and `sshTests` of a text against the users and nodes of `state`. A test
/// that fails is no error, a text that is no policy is.
pub fn trials(text: &str, state: &State) -> Result<Trials, PolicyError> {
    let policy = Policy::parse(text)?;
    let tailnet = Tailnet::of(state, &policy);
    let base = Policy { rules: policy.rules.clone(), ssh: policy.ssh.clone(), ..bare(&policy) };
    let runner = Runner { all_pass: policy.run_tests(&tailnet).is_ok(), base, tailnet, places: Places::of(text) };
    let mut tests = Vec::new();
    for (number, test) in policy.tests.iter().enumerate() {
        for (expected, list) in [("accept", &test.accept), ("deny", &test.deny)] {
            for what in list {
                let (accept, deny) = only(expected == "accept", what);
                let one = Policy { tests: vec![Test { accept, deny, ..test.clone() }], ..runner.base.clone() };
                tests.push(runner.run(one, ("tests", number), &test.source, expected, what));
            }
        }
        if test.accept.is_empty() && test.deny.is_empty() {
            let one = Policy { tests: vec![test.clone()], ..runner.base.clone() };
            tests.push(runner.run(one, ("tests", number), &test.source, "", ""));
        }
    }
    for (number, test) in policy.ssh_tests.iter().enumerate() {
        let none = SshTest { accept: Vec::new(), deny: Vec::new(), check: Vec::new(), ..test.clone() };
        let lists = [("accept", &test.accept), ("deny", &test.deny), ("check", &test.check)];
        for (expected, list) in lists {
            for what in list {
                let mut alone = none.clone();
                match expected {
                    "accept" => alone.accept.push(what.clone()),
                    "deny" => alone.deny.push(what.clone()),
                    _ => alone.check.push(what.clone()),
                }
                let one = Policy { ssh_tests: vec![alone], ..runner.base.clone() };
                tests.push(runner.run(one, ("sshTests", number), &test.source, expected, what));
            }
        }
        if lists.iter().all(|(_, list)| list.is_empty()) {
            let one = Policy { ssh_tests: vec![none], ..runner.base.clone() };
            tests.push(runner.run(one, ("sshTests", number), &test.source, "", ""));
        }
    }
    let passed = tests.iter().filter(|test| test.passed).count();
    Ok(Trials { passed, failed: tests.len() - passed, tests })
}

fn only(accept: bool, what: &str) -> (Vec<String>, Vec<String>) {
    match accept {
        true => (vec![what.into()], Vec::new()),
        false => (Vec::new(), vec![what.into()]),
    }
}

struct Runner<'t> {
    base: Policy,
    tailnet: Tailnet,
    places: Places<'t>,
    /// Then none has to be run by itself.
    all_pass: bool,
}

impl Runner<'_> {
    fn run(&self, one: Policy, test: (&str, usize), source: &str, expected: &str, what: &str) -> Trial {
        let fault = match self.all_pass {
            true => None,
            false => one.run_tests(&self.tailnet).err(),
        };
        let place = self.places.entry(test.0, test.1);
        // The first line says only that something failed.
        let fault = fault.map(|error| error.to_string().lines().skip(1).collect::<Vec<_>>().join("; "));
        Trial {
            test: place.name,
            line: place.line,
            source: source.into(),
            expected: expected.into(),
            what: what.into(),
            passed: fault.is_none(),
            fault: fault.unwrap_or_default(),
        }
    }
}
