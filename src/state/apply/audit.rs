//! The record of what people change.

use super::super::audit::AuditList;
use super::super::table::AuditTable;
use super::super::*;
use super::step::Step;
use std::collections::BTreeSet;

/// The longest text of each field of a record, in characters.
const MAX_TEXT: usize = 200;

/// Records a command that was applied, if it says on whose behalf it is and changed something.
pub(super) fn record(step: &mut Step, proposal: &Proposal, done: &Done) {
    let Some(origin) = &proposal.origin else { return };
    let Some(Told { action, subject, detail }) = tell(step, &proposal.command, done) else { return };
    let list = match proposal.command {
        // Whoever has an account at the provider can log in as often as they like.
        Command::PutProviderUser(_) | Command::ApproveLogin { method: RegisterMethod::Oidc, .. } => AuditList::Machines,
        Command::RegisterWithKey { .. } | Command::Logout { .. } => AuditList::Machines,
        _ => AuditList::Administration,
    };
    let record = AuditRecord {
        id: step.index(),
        time: step.now(),
        by: clip(&origin.by),
        from: clip(&origin.from),
        action: clip(&action),
        subject: clip(&subject),
        detail: clip(&detail),
    };
    append(step, list, record);
}

fn append(step: &mut Step, list: AuditList, record: AuditRecord) {
    let (first, last) = {
        let mut kept = step.tables.audit.range((list as u64, 0)..=(list as u64, u64::MAX)).map(|((_, n), _)| *n);
        let first = kept.next();
        (first, kept.next_back().or(first))
    };
    // Numbers have no gaps, so that counting costs nothing.
    let number = last.map_or(1, |last| last + 1);
    step.put::<AuditTable>((list as u64, number), record);
    if let Some(first) = first.filter(|first| number - first >= list.bound()) {
        step.delete::<AuditTable>(&(list as u64, first));
    }
}

/// What a record says.
struct Told {
    action: String,
    subject: String,
    detail: String,
}

fn told(action: &str, subject: impl Into<String>, detail: impl Into<String>) -> Option<Told> {
    Some(Told { action: action.into(), subject: subject.into(), detail: detail.into() })
}

/// `None`: nothing changed, or it is not what the record is for. Every kind of command is
/// named, so that a new one is thought about.
#[allow(clippy::too_many_lines)] // One line for each kind.
fn tell(step: &Step, command: &Command, done: &Done) -> Option<Told> {
    let before = step.before();
    match command {
        Command::CreateUser { .. } => match done {
            Done::User(user) => told("user.create", user_name(step, user.id), ""),
            _ => None,
        },
        Command::RenameUser { id, name } => told("user.rename", user_name(before, *id), format!("now {name}")),
        Command::DeleteUser { id } => told("user.delete", user_name(before, *id), ""),

        Command::PutProviderUser(_) => match done {
            Done::User(user) => provider_user(step, user),
            _ => None,
        },

        Command::CreatePreAuthKey { .. } => match done {
            Done::PreAuthKey(key) => told("preauthkey.create", auth_key(key), terms(step, key)),
            _ => None,
        },
        Command::ExpirePreAuthKey { id } => told("preauthkey.expire", auth_key(before.pre_auth_key(*id)?), ""),
        Command::DeletePreAuthKey { id } => told("preauthkey.delete", auth_key(before.pre_auth_key(*id)?), ""),

        Command::CreateApiKey { .. } => match done {
            Done::ApiKey(key) => told("apikey.create", api_key(key), api_key_terms(key)),
            _ => None,
        },
        Command::ExpireApiKey { id } => told("apikey.expire", api_key(before.api_key(*id)?), ""),
        Command::DeleteApiKey { id } => told("apikey.delete", api_key(before.api_key(*id)?), ""),

        Command::RegisterWithKey { .. } => registration(step, done),
        Command::ApproveLogin { .. } => match done {
            Done::Node(id) => told("login.approve", node_name(step, *id), belongs(step, &step.node(*id)?.owner)),
            _ => None,
        },
        Command::DecideLogin { auth_id, approve } => {
            let login = before.login(auth_id)?;
            let action = if *approve { "login.approve" } else { "login.reject" };
            told(action, format!("machine {:?}", login.hostinfo.hostname), format!("asked from {}", login.source))
        }
        Command::Logout { node_key, .. } => {
            told("node.logout", node_name(before, before.node_by_key(node_key)?.id), "")
        }

        Command::SetNodeExpiry { id, expiry } => {
            let detail = match expiry {
                Expiry::Never => "never".into(),
                Expiry::Now => "now".into(),
                Expiry::At(time) => format!("at {time}"),
            };
            told("node.expire", node_name(before, *id), detail)
        }
        Command::RenameNode { id, given_name } => {
            told("node.rename", node_name(before, *id), format!("now {given_name}"))
        }
        Command::SetTags { id, tags, .. } => told("node.tags", node_name(before, *id), joined(tags)),
        Command::SetApprovedRoutes { id, routes } => {
            let detail = if routes.is_empty() { "none".into() } else { joined(routes) };
            told("node.routes", node_name(before, *id), detail)
        }
        Command::DeleteNode { id } => told("node.delete", node_name(before, *id), ""),
        Command::BackfillIps { .. } => match done {
            Done::Changes(changes) => told("node.backfillips", format!("{} addresses", changes.len()), ""),
            _ => None,
        },

        Command::Import { content, .. } => match done {
            Done::Changes(_) => told(
                "cluster.import",
                content.source.as_str(),
                format!("{} nodes, {} users", content.nodes.len(), content.users.len()),
            ),
            _ => None,
        },

        Command::SetPolicy { .. } => policy(step, None),
        Command::PutPolicy { restores, .. } => policy(step, *restores),
        Command::DecideSshCheck { auth_id, approve, .. } => {
            let check = before.ssh_check(auth_id)?;
            let action = if *approve { "ssh.approve" } else { "ssh.reject" };
            let (from, to) = (node_name(before, check.source), node_name(before, check.destination));
            told(action, format!("{from} to {to}"), format!("as {:?}", check.local_user))
        }
        Command::Note(Deed { action, subject, detail }) => told(action, subject, detail),

        // The cluster's own doings, and what clients report of themselves. A login that
        // waits is recorded when somebody decides.
        Command::Bootstrap { .. }
        | Command::WrapDataKey { .. }
        | Command::ReplicaUp(_)
        | Command::ReplicaRemoved(_)
        | Command::StartLogin(_)
        | Command::StartBoundedLogin { .. }
        | Command::ShortenExpiry { .. }
        | Command::ApproveRoutes { .. }
        | Command::StartSshCheck(_)
        | Command::UseApiKeys(_)
        | Command::AdoptKey { .. }
        | Command::Report(_)
        | Command::CloseSessionsOf { .. }
        | Command::SetStanding { .. }
        | Command::Tick => None,
    }
}

/// A machine that comes back as it was is nothing new.
fn registration(step: &Step, done: &Done) -> Option<Told> {
    let Done::Node(id) = done else { return None };
    let node = step.node(*id)?;
    let action = match step.before().node(*id) {
        None => "node.register",
        Some(old) if old.node_key != node.node_key || old.owner != node.owner || old.expired => "node.login",
        Some(_) => return None,
    };
    told(action, node_name(step, *id), belongs(step, &node.owner))
}

/// Who logs in as they were is nothing new.
fn provider_user(step: &Step, user: &User) -> Option<Told> {
    let action = match step.before().user(user.id) {
        None => "user.create",
        Some(before) if **before != *user => "user.update",
        Some(_) => return None,
    };
    told(action, user_name(step, user.id), format!("as {} says", user.provider_id))
}

/// The text that is in force already is no change.
fn policy(step: &Step, restores: Option<u64>) -> Option<Told> {
    let version = step.policy_version();
    if version == step.before().policy_version() {
        return None;
    }
    let subject = format!("policy version {version}");
    match restores {
        None => told("policy.set", subject, ""),
        Some(earlier) => told("policy.rollback", subject, format!("to version {earlier}")),
    }
}

fn user_name(state: &State, id: UserId) -> String {
    state.user(id).map_or_else(|| format!("user {id}"), |user| format!("user {id} ({})", user.name))
}

fn node_name(state: &State, id: NodeId) -> String {
    state.node(id).map_or_else(|| format!("node {id}"), |node| format!("node {id} ({})", node.given_name))
}

fn belongs(state: &State, owner: &Owner) -> String {
    match owner {
        Owner::User(id) => format!("of {}", user_name(state, *id)),
        Owner::Tags(tags) => format!("of {}", joined(tags)),
    }
}

fn auth_key(key: &PreAuthKey) -> String {
    format!("pre-auth key {} ({})", key.id, key.prefix)
}

fn terms(state: &State, key: &PreAuthKey) -> String {
    let mut words = vec![belongs(state, &key.owner)];
    words.extend(key.reusable.then(|| "reusable".into()));
    words.extend(key.ephemeral.then(|| "ephemeral".into()));
    words.extend(key.expiration.map(|end| format!("until {end}")));
    words.join(", ")
}

fn api_key(key: &ApiKey) -> String {
    format!("API key {} ({})", key.id, key.prefix)
}

fn api_key_terms(key: &ApiKey) -> String {
    let mut words = vec![format!("role {}", key.role)];
    words.extend((!key.owner.is_empty()).then(|| format!("owner {}", key.owner)));
    words.extend(key.expiration.map(|end| format!("until {end}")));
    words.join(", ")
}

fn joined<T: ToString>(set: &BTreeSet<T>) -> String {
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Short enough to be kept, and safe on a terminal.
fn clip(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    match text.chars().count() {
        0..=MAX_TEXT => shown.collect(),
        _ => shown.take(MAX_TEXT - 1).chain(['…']).collect(),
    }
}
