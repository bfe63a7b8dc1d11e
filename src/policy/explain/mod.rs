//! Why the policy says what it says: which rule lets somebody through, or why none does.
//!
//! Every answer is read from what nodes are told: the packet filter and the SSH rules of
//! the node that would decide, made by the code that makes them for nodes. Which rule it
//! was is found by asking the same of policies that have one rule each. So an explanation
//! cannot differ from what happens. It looks at the nodes that are asked about and at those
//! that route to them, so its work grows with the rules, not with the tailnet.

mod access;
mod place;
mod route;
mod ssh;
mod subject;
mod tag;
#[cfg(test)]
mod tests;
mod told;
mod trial;

pub use access::{AccessExplanation, Pair};
pub use place::Place;
pub use route::{RouteApprover, RouteExplanation, RouteUse};
pub use ssh::{SshExplanation, SshPair};
pub use subject::End;
pub use tag::{TagExplanation, TagOwner};
pub use trial::{Trial, Trials, trials};

use super::rule::Rule;
use super::tailnet::Tailnet;
use super::{Policy, PolicyError, PolicyView};
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether packets get from one to another; `destination` ends in a port.
    Access { source: String, destination: String, protocol: String },
    /// Whether somebody may log in; `destination` is `USER@DST`.
    Ssh { source: String, destination: String },
    /// Who approves a node's route, and who may use it.
    Route { prefix: String, node: String },
    /// Whether a user may give a tag to nodes.
    Tag { tag: String, user: String },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Explanation {
    Access(AccessExplanation),
    Ssh(SshExplanation),
    Route(RouteExplanation),
    Tag(TagExplanation),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A part of the question means nothing; the text says which, and what to write.
    #[error("{0}")]
    Question(String),
}

/// Whether all, some or none of what was asked about is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allowed,
    Partly,
    Denied,
}

/// A rule that does not let it through, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    pub rule: Place,
    pub why: String,
}

/// A rule that lets it through, with the names in it that fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleMatch {
    pub rule: Place,
    /// Those of its `src` that mean a source of the question.
    pub sources: Vec<String>,
    /// Those of its `dst` that mean a destination of the question.
    pub destinations: Vec<String>,
}

/// More rules that miss by more say nothing.
const MAX_NEAR: usize = 5;

/// Answers by the policy of this text, applied to the users and nodes of `state`.
pub fn explain(text: &str, state: &State, question: &Question) -> Result<Explanation, ExplainError> {
    let policy = Policy::parse(text)?;
    let tailnet = Tailnet::of(state, &policy);
    let explainer = Explainer { text, base: bare(&policy), policy, state, tailnet };
    match question {
        Question::Access { source, destination, protocol } => {
            access::explain(&explainer, source, destination, protocol).map(Explanation::Access)
        }
        Question::Ssh { source, destination } => ssh::explain(&explainer, source, destination).map(Explanation::Ssh),
        Question::Route { prefix, node } => route::explain(&explainer, prefix, node).map(Explanation::Route),
        Question::Tag { tag, user } => tag::explain(&explainer, tag, user).map(Explanation::Tag),
    }
}

/// What a question is answered by.
struct Explainer<'e> {
    text: &'e str,
    policy: Policy,
    /// The policy's names without its rules.
    base: Policy,
    state: &'e State,
    tailnet: Tailnet,
}

fn bare(policy: &Policy) -> Policy {
    Policy {
        rules: Some(Vec::new()),
        ssh: Vec::new(),
        attrs: Vec::new(),
        approvers: None,
        tests: Vec::new(),
        ssh_tests: Vec::new(),
        ..policy.clone()
    }
}

impl Explainer<'_> {
    /// What nodes are told by a policy with this rule alone.
    fn with_rule(&self, rule: Rule, tailnet: &Tailnet) -> PolicyView {
        let policy = Policy { rules: Some(vec![rule]), ..self.base.clone() };
        PolicyView::new(Arc::new(policy), tailnet.clone())
    }

    /// What nodes are told.
    fn whole(&self, tailnet: &Tailnet) -> PolicyView {
        let policy = Policy { rules: self.policy.rules.clone(), ssh: self.policy.ssh.clone(), ..self.base.clone() };
        PolicyView::new(Arc::new(policy), tailnet.clone())
    }
}

/// By how many of all are let through.
fn verdict(allowed: usize, all: usize) -> Verdict {
    match allowed {
        0 => Verdict::Denied,
        allowed if allowed == all => Verdict::Allowed,
        _ => Verdict::Partly,
    }
}

/// A few texts of a list, for a sentence.
fn few(texts: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = texts.iter().take(SHOWN).map(|text| format!("{text:?}")).collect();
    let more = texts.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
