//! What another server held comes in, whole or not at all; and its keys, once they are used.

use super::super::table::{
    ApiKeys, CountersTable, Imports, Logins, Nodes, PreAuthKeys, ServerKeysTable, SettingsTable, Users,
};
use super::super::*;
use super::register::{first_poll_due, is_expired};
use super::step::Step;
use super::{policy, users};
use std::collections::BTreeSet;
use std::fmt::Display;

/// How an import is asked for, beside its content.
pub(super) struct Terms<'a> {
    /// The private keys with the imported Noise key among them, as in [`ServerKeys::sealed`].
    pub sealed: &'a str,
    pub with_policy: bool,
    pub author: &'a str,
}

/// The same content again changes nothing; anything else is refused once there is something.
pub(super) fn import(step: &mut Step, import: &Import, terms: &Terms) -> Outcome {
    let fingerprint = import.fingerprint();
    if let Some(before) = step.imported() {
        let same = before.fingerprint == fingerprint;
        let refused = Refused::ImportedBefore { origin: before.source.clone(), at: before.at };
        return if same { Ok(Done::Nothing) } else { Err(refused) };
    }
    check_empty(step)?;
    check(import).map_err(Refused::ImportInvalid)?;

    take_settings(step, import, terms.sealed)?;
    for user in &import.users {
        step.put::<Users>(user.id, user.clone());
    }
    for key in &import.pre_auth_keys {
        step.put::<PreAuthKeys>(key.id, key.clone());
    }
    let changes = take_api_keys(step, import)?;
    take_nodes(step, import);
    count(step, &import.last, import);
    if let (Some(text), true) = (&import.policy, terms.with_policy) {
        policy::put(step, text, terms.author, None, None)?;
    }
    let at = step.now();
    let imported = Imported { fingerprint, source: import.source.clone(), at, author: terms.author.into() };
    step.put::<Imports>((), imported);
    Ok(Done::Changes(changes))
}

/// The key was used, so its secret is known: from now on a fast hash checks it.
pub(super) fn adopt_key(step: &mut Step, key: AdoptedKey, hash: SecretHash) -> Outcome {
    match key {
        AdoptedKey::PreAuth(id) => {
            let key = step.pre_auth_key(id).cloned().ok_or(Refused::AuthKeyNotFound)?;
            if key.hash.bcrypt().is_some() {
                step.put::<PreAuthKeys>(id, PreAuthKey { hash: hash.into(), ..PreAuthKey::clone(&key) });
            }
        }
        AdoptedKey::Api(id) => {
            let key = step.api_key(id).cloned().ok_or(Refused::ApiKeyNotFound)?;
            if key.hash.bcrypt().is_some() {
                step.put::<ApiKeys>(id, ApiKey { hash: hash.into(), ..ApiKey::clone(&key) });
            }
        }
    }
    Ok(Done::Nothing)
}

/// API keys may be there: with one, somebody asks for the import.
fn check_empty(step: &Step) -> Result<(), Refused> {
    let kinds = [
        ("nodes", step.nodes().count()),
        ("users", step.users().count()),
        ("pre-authenticated keys", step.pre_auth_keys().count()),
    ];
    match kinds.into_iter().find(|(_, count)| *count > 0) {
        Some((kind, count)) => Err(Refused::ImportNeedsEmpty { kind: kind.into(), count }),
        None => Ok(()),
    }
}

fn take_settings(step: &mut Step, import: &Import, sealed: &str) -> Result<(), Refused> {
    let keys = step.server_keys().cloned().ok_or(Refused::NotBootstrapped)?;
    step.put::<SettingsTable>((), import.settings.clone());
    if keys.noise_public == import.noise_public {
        return Ok(());
    }
    let keys = ServerKeys { noise_public: import.noise_public, sealed: sealed.into(), ..ServerKeys::clone(&keys) };
    step.put::<ServerKeysTable>((), keys);
    // Whoever waits for a decision knows the server by the key before, and would not find it again.
    let waiting: Vec<_> = step.tables.logins.keys().cloned().collect();
    waiting.iter().for_each(|id| step.delete::<Logins>(id));
    Ok(())
}

/// A number that one of the cluster's own keys has is not taken from it.
fn take_api_keys(step: &mut Step, import: &Import) -> Result<Vec<String>, Refused> {
    let mut changes = Vec::new();
    let own = step.api_keys().map(|key| key.id.0).max().unwrap_or(0);
    let highest = import.api_keys.iter().map(|key| key.id.0).max().unwrap_or(0);
    let mut next = own.max(highest).max(import.last.api_keys);
    for key in &import.api_keys {
        if step.api_key_by_prefix(&key.prefix).is_some() {
            return Err(Refused::KeyPrefixTaken);
        }
        let mut id = key.id;
        if step.api_key(id).is_some() {
            next += 1;
            id = ApiKeyId(next);
            changes.push(format!("API key {} has the number {id} here: {} was taken", key.prefix, key.id));
        }
        step.put::<ApiKeys>(id, ApiKey { id, ..key.clone() });
    }
    step.count(|counters| counters.api_keys = counters.api_keys.max(next));
    Ok(changes)
}

fn take_nodes(step: &mut Step, import: &Import) {
    let now = step.now();
    // Their machines come when they are told of the new server, which may take its time.
    let first_poll_due = first_poll_due(step);
    for node in &import.nodes {
        let node = Node {
            expired: is_expired(node, now),
            idle_since: node.ephemeral.then_some(first_poll_due),
            version: 0,
            ..node.clone()
        };
        step.put::<Nodes>(node.id, node);
    }
}

fn count(step: &mut Step, last: &LastNumbers, import: &Import) {
    let users = import.users.iter().map(|user| user.id.0).max().unwrap_or(0).max(last.users);
    let nodes = import.nodes.iter().map(|node| node.id.0).max().unwrap_or(0).max(last.nodes);
    let keys = import.pre_auth_keys.iter().map(|key| key.id.0).max().unwrap_or(0).max(last.pre_auth_keys);
    let mut counters = step.tables.counters.get(&()).map_or_else(Default::default, |counters| **counters);
    counters.users = counters.users.max(users);
    counters.nodes = counters.nodes.max(nodes);
    counters.pre_auth_keys = counters.pre_auth_keys.max(keys);
    step.put::<CountersTable>((), counters);
}

/// Whether the content can be a state: everything that [`super::super::index`] relies on.
fn check(import: &Import) -> Result<(), String> {
    let mut seen = Seen::default();
    for user in &import.users {
        users::validate(&user.name).map_err(|error| format!("user {}: {error}", user.id))?;
        seen.number("user", user.id.0)?;
        seen.value("user", user.id, "name", &user.name)?;
    }
    let users: BTreeSet<UserId> = import.users.iter().map(|user| user.id).collect();
    for key in &import.pre_auth_keys {
        seen.number("pre-authenticated key", key.id.0)?;
        seen.value("pre-authenticated key", key.id, "prefix", &key.prefix)?;
        check_owner("pre-authenticated key", key.id, &key.owner, &users)?;
    }
    for key in &import.api_keys {
        seen.number("API key", key.id.0)?;
        seen.value("API key", key.id, "prefix", &key.prefix)?;
    }
    let keys: BTreeSet<AuthKeyId> = import.pre_auth_keys.iter().map(|key| key.id).collect();
    for node in &import.nodes {
        check_node(import, node, &mut seen)?;
        check_owner("node", node.id, &node.owner, &users)?;
        if node.auth_key.is_some_and(|key| !keys.contains(&key)) {
            return Err(format!("node {} registered with a key that is not there", node.id));
        }
    }
    Ok(())
}

fn check_node(import: &Import, node: &Node, seen: &mut Seen) -> Result<(), String> {
    let id = node.id;
    seen.number("node", id.0)?;
    names::validate(&node.given_name, &import.settings.base_domain).map_err(|error| format!("node {id}: {error}"))?;
    if node.node_key.is_zero() || node.machine_key.is_zero() {
        return Err(format!("node {id} has no key"));
    }
    seen.value("node", id, "name", &node.given_name)?;
    seen.value("node", id, "node key", &node.node_key)?;
    let addresses = node.ipv4.iter().map(ToString::to_string).chain(node.ipv6.iter().map(ToString::to_string));
    addresses.into_iter().try_for_each(|address| seen.value("node", id, "address", &address))
}

fn check_owner(kind: &str, id: impl Display, owner: &Owner, users: &BTreeSet<UserId>) -> Result<(), String> {
    match owner {
        Owner::User(user) if !users.contains(user) => {
            Err(format!("{kind} {id} belongs to user {user}, who is not there"))
        }
        Owner::Tags(tags) if tags.is_empty() => Err(format!("{kind} {id} belongs to nobody")),
        _ => Ok(()),
    }
}

/// What may be there once.
#[derive(Default)]
struct Seen(BTreeSet<(&'static str, &'static str, String)>);

impl Seen {
    /// Numbers that one more can be added to, and that mean nothing else.
    fn number(&mut self, kind: &'static str, number: u64) -> Result<(), String> {
        let end = if kind == "user" { UserId::TAGGED_DEVICES.0 } else { i64::MAX as u64 };
        if number == 0 || number >= end {
            return Err(format!("{kind} {number} has a number that none can have"));
        }
        self.value(kind, number, "number", &number)
    }

    fn value(
        &mut self,
        kind: &'static str,
        id: impl Display,
        what: &'static str,
        value: &impl ToString,
    ) -> Result<(), String> {
        let value = value.to_string();
        if self.0.insert((kind, what, value.clone())) {
            return Ok(());
        }
        Err(format!("{kind} {id} has the {what} {value}, which another one has too"))
    }
}
