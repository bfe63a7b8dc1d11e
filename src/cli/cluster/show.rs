//! The cluster's state at a glance.

use crate::cli::error::Error;
use crate::cli::table::{Cell, Colour, Table, paint};
use crate::cluster::{ClusterStatus, MemberStatus, Verification, VerifiedReplica};

/// A headline that tells how things are, what to do if they are bad, then the
/// replicas, then warnings.
pub(super) fn status(status: &ClusterStatus, colour: bool, program: &str) -> String {
    let (headline, shade) = headline(status);
    let mut text = paint(&headline, Some(shade).filter(|_| colour)) + "\n";
    for step in next_steps(status, program) {
        text += &format!("{step}\n");
    }
    text += "\n";
    text += &members(status).render(colour);
    if !status.warnings.is_empty() {
        text += "\n";
    }
    for warning in &status.warnings {
        text += &format!("{} {warning}\n", paint("Warning:", Some(Colour::Yellow).filter(|_| colour)));
    }
    text
}

fn headline(status: &ClusterStatus) -> (String, Colour) {
    let (total, well) = (status.members.len(), well(status));
    let replicas = if total == 1 { "replica" } else { "replicas" };
    let Some(leader) = status.leader.filter(|_| status.has_quorum) else {
        return (format!("NO QUORUM: {well} of {total} {replicas} healthy, nothing can be written"), Colour::Red);
    };
    if status.writes_refused.is_some() {
        let are = if well == 1 { "is" } else { "are" };
        let headline =
            format!("NO WRITES: leader {leader} takes none, reads go on; {well} of {total} {replicas} {are} well");
        return (headline, Colour::Red);
    }
    let word = if well == total { "healthy" } else { "DEGRADED" };
    let shade = if well == total { Colour::Green } else { Colour::Yellow };
    let tolerates = tolerates(status.failures_tolerated);
    (format!("{word}: {well} of {total} {replicas}, leader {leader}, {tolerates}"), shade)
}

fn next_steps(status: &ClusterStatus, program: &str) -> Vec<String> {
    if let Some(reason) = &status.writes_refused {
        return vec![format!("Next: {reason}")];
    }
    let ill: Vec<String> =
        status.members.iter().filter(|member| !member.healthy).map(|m| format!("{} ({})", m.id, m.address)).collect();
    if !ill.is_empty() {
        let many = if ill.len() == 1 { "replica" } else { "replicas" };
        return vec![format!("Next: start or reconnect {many} {}, and look at the log there.", ill.join(", "))];
    }
    if !(status.has_quorum && status.leader.is_some()) {
        return vec!["Next: wait a few seconds for an election, then look again.".into()];
    }
    let learners = status.members.iter().filter(|member| !votes(member));
    learners.map(|m| format!("Next: \"{program} cluster promote {}\" lets replica {} vote.", m.id, m.id)).collect()
}

pub(super) fn members(status: &ClusterStatus) -> Table {
    let mut table =
        Table::new(&["ID", "ADDRESS", "ROLE", "HEALTH", "TERM", "APPLIED", "LAG", "CLIENTS", "VERSION", "SECRET"]);
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for member in &status.members {
        table.row(vec![
            member.id.to_string().into(),
            member.address.as_str().into(),
            member.role.as_str().into(),
            Cell::good(health(member), is_well(member)),
            number(member.term).into(),
            number(member.applied).into(),
            number(member.lag).into(),
            number(member.clients).into(),
            text(&member.version).into(),
            text(&member.secret).into(),
        ]);
    }
    table
}

/// A headline, then each replica with what is wrong with it.
pub(super) fn verification(verification: &Verification, colour: bool) -> String {
    let replicas = &verification.replicas;
    let differ = |r: &&VerifiedReplica| !r.differs.is_empty() || !r.differs_on_disk.is_empty();
    let (count, differing) = (replicas.len(), replicas.iter().filter(differ).count());
    let compared = replicas.iter().filter(|replica| replica.problem.is_none()).count();
    let (headline, shade) = match (differing, verification.equal) {
        (0, true) => (format!("equal: {count} of {count} replicas"), Colour::Green),
        (0, false) => {
            (format!("INCOMPLETE: {compared} of {count} replicas could be compared, and are equal"), Colour::Yellow)
        }
        _ if verification.majority => (format!("DIFFERENT: {differing} of {count} replicas"), Colour::Red),
        _ => ("DIFFERENT: no majority of the replicas has the same".into(), Colour::Red),
    };
    let headline = format!("{headline}, at log entry {}", verification.index);
    let mut table = Table::new(&["ID", "RECORDS", "HASH", "MEMORY", "DISK"]);
    for replica in replicas {
        let verdict = |different: &[String], good: &str| match (&replica.problem, different) {
            (Some(_), []) => Cell::good("-", false),
            (_, []) => Cell::good(good, true),
            (_, kinds) => Cell::good(format!("differs: {}", kinds.join(", ")), false),
        };
        table.row(vec![
            replica.id.to_string().into(),
            replica.records.map_or("-".into(), |records| records.to_string()).into(),
            if replica.hash.is_empty() { "-" } else { &replica.hash[..replica.hash.len().min(16)] }.into(),
            verdict(&replica.differs, "equal"),
            verdict(&replica.differs_on_disk, "as in memory"),
        ]);
    }
    let mut text = paint(&headline, Some(shade).filter(|_| colour)) + "\n\n" + &table.render(colour);
    let problems = replicas.iter().filter_map(|r| Some((r.id, r.problem.as_ref()?)));
    for (n, (id, problem)) in problems.enumerate() {
        let gap = if n == 0 { "\n" } else { "" };
        text +=
            &format!("{gap}{} replica {id}: {problem}\n", paint("Warning:", Some(Colour::Yellow).filter(|_| colour)));
    }
    text
}

/// What the removal of a replica would leave.
pub(super) fn removal(status: &ClusterStatus, id: u64) -> Result<String, Error> {
    let gone = status.members.iter().find(|member| member.id == id);
    let gone = gone.ok_or_else(|| Error::said(format!("there is no replica {id}: see \"cluster status\"")))?;
    let rest: Vec<&MemberStatus> = status.members.iter().filter(|member| votes(member) && member.id != id).collect();
    if rest.is_empty() && votes(gone) {
        return Err(Error::said(format!("replica {id} is the only voter, and a cluster needs one: add another first")));
    }
    let healthy = rest.iter().filter(|member| member.healthy).count();
    let voters = if rest.len() == 1 { "voter" } else { "voters" };
    let what = if votes(gone) { "replica" } else { "replica (which does not vote)" };
    let left = format!("Without {what} {id} there are {} {voters}, {healthy} of them healthy", rest.len());
    let needed = rest.len() / 2 + 1;
    let consequence = match healthy.checked_sub(needed) {
        None => "the cluster would have NO QUORUM, and nothing could be written".into(),
        Some(spare) => format!("the cluster {}", tolerates(spare)),
    };
    Ok(format!("{left}: {consequence}."))
}

fn tolerates(failures: usize) -> String {
    match failures {
        0 => "tolerates no failure".into(),
        1 => "tolerates 1 failure".into(),
        many => format!("tolerates {many} failures"),
    }
}

fn well(status: &ClusterStatus) -> usize {
    status.members.iter().filter(|member| is_well(member)).count()
}

fn is_well(member: &MemberStatus) -> bool {
    member.healthy && member.problems.is_empty()
}

/// A word, or what is wrong with it.
fn health(member: &MemberStatus) -> String {
    let problems = member.problems.iter().map(|problem| problem.kind.name());
    let answer = match (member.healthy, member.problems.is_empty()) {
        (true, true) => Some("healthy"),
        (true, false) => None,
        (false, _) => Some("unhealthy"),
    };
    answer.into_iter().chain(problems).collect::<Vec<_>>().join(", ")
}

fn votes(member: &MemberStatus) -> bool {
    member.role != "learner"
}
