//! The policy's text, and those that were in force before it.

use super::super::table::{PolicyHistory, PolicyTable, SshApprovals};
use super::super::*;
use super::step::Step;

/// How many earlier policies are kept: a year of weekly changes and more.
const MAX_KEPT: usize = 100;
/// How many bytes of earlier policies are kept: they are part of every snapshot.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Without a memory of what was in force before: what the first release did.
pub(super) fn set(step: &mut Step, text: &str, author: &str, expected_version: Option<u64>) -> Outcome {
    check_version(step, expected_version)?;
    let policy = next(step, text, author, None);
    replace(step, policy)
}

/// With a memory. The text that is in force already is no new version.
pub(super) fn put(
    step: &mut Step,
    text: &str,
    author: &str,
    expected_version: Option<u64>,
    restores: Option<u64>,
) -> Outcome {
    check_version(step, expected_version)?;
    let Some(current) = step.policy().cloned() else {
        let policy = next(step, text, author, restores);
        return replace(step, policy);
    };
    if current.text == text {
        return Ok(Done::PolicyVersion(current.version));
    }
    let policy = next(step, text, author, restores);
    step.put::<PolicyHistory>(current.version, PolicyText::clone(&current));
    forget_oldest(step);
    replace(step, policy)
}

fn check_version(step: &Step, expected: Option<u64>) -> Result<(), Refused> {
    match expected {
        Some(expected) if expected != step.policy_version() => Err(Refused::Stale),
        _ => Ok(()),
    }
}

fn next(step: &Step, text: &str, author: &str, restores: Option<u64>) -> PolicyText {
    let version = step.policy_version() + 1;
    PolicyText { version, text: text.into(), updated: step.now(), author: author.into(), restores }
}

/// Another policy is in force. What was approved under the one before is asked anew.
fn replace(step: &mut Step, policy: PolicyText) -> Outcome {
    let version = policy.version;
    let approvals: Vec<_> = step.tables.ssh_approvals.keys().copied().collect();
    approvals.iter().for_each(|pair| step.delete::<SshApprovals>(pair));
    step.put::<PolicyTable>((), policy);
    Ok(Done::PolicyVersion(version))
}

fn forget_oldest(step: &mut Step) {
    let sizes: Vec<_> =
        step.tables.policy_history.iter().map(|(version, policy)| (*version, policy.text.len())).collect();
    let (mut count, mut bytes) = (sizes.len(), sizes.iter().map(|(_, size)| size).sum::<usize>());
    for (version, size) in sizes {
        if count <= MAX_KEPT && bytes <= MAX_KEPT_BYTES {
            return;
        }
        step.delete::<PolicyHistory>(&version);
        count -= 1;
        bytes -= size;
    }
}
