//! The policy's text.

use super::super::table::PolicyTable;
use super::super::*;
use super::step::Step;

pub(super) fn set(step: &mut Step, text: &str, author: &str, expected_version: Option<u64>) -> Outcome {
    if expected_version.is_some_and(|expected| expected != step.policy_version()) {
        return Err(Refused::Stale);
    }
    let version = step.policy_version() + 1;
    let policy = PolicyText { version, text: text.into(), updated: step.now(), author: author.into() };
    step.put::<PolicyTable>((), policy);
    Ok(Done::PolicyVersion(version))
}
