//! SSH rules, as clients read them (protocol section 6.8).

use super::alias::{Alias, Names, domain_of};
use super::rule::{CheckPeriod, SshRule, SshUser};
use super::tailnet::{Device, Person, Tailnet};
use crate::state::{Owner, UserId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Where the client asks whether a session may start, on its connection to this server.
const ACTION: &str = "https://unused/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER";

/// One rule of the wire, and who gets it. Devices are by their place in the tailnet.
#[derive(Debug)]
pub(super) struct SshEntry {
    pub principals: Vec<IpAddr>,
    pub sources: Vec<bool>,
    pub destinations: Vec<bool>,
    /// Whom a session may log in as: the name that was asked for, and the one it becomes.
    pub users: BTreeMap<String, String>,
    /// Whether somebody has to let each session through, and how long that holds.
    pub check: Option<CheckPeriod>,
    pub accept_env: Vec<String>,
}

/// The entries of all rules; those that ask come first.
pub(super) fn entries(rules: &[SshRule], names: &Names, tailnet: &Tailnet) -> Vec<SshEntry> {
    let mut entries = Vec::new();
    for check in [true, false] {
        for rule in rules.iter().filter(|rule| rule.check.is_some() == check) {
            of_rule(rule, names, tailnet, &mut entries);
        }
    }
    entries.retain(|entry| !entry.principals.is_empty());
    entries
}

/// `SSHPolicy` of the device at `place`.
#[cfg(test)]
pub(super) fn policy(entries: &[SshEntry], place: usize) -> String {
    let here = entries.iter().filter(|entry| entry.destinations.get(place).copied().unwrap_or(false));
    json!({ "rules": here.map(SshEntry::wire).collect::<Vec<_>>() }).to_string()
}

impl SshEntry {
    /// One that is only told to somebody.
    pub fn told(rule: &SshRule, principals: Vec<IpAddr>, users: BTreeMap<String, String>) -> Self {
        let (check, accept_env) = (rule.check, rule.accept_env.clone());
        Self { principals, sources: Vec::new(), destinations: Vec::new(), users, check, accept_env }
    }

    pub fn wire(&self) -> Value {
        let principals: Vec<Value> = self.principals.iter().map(|ip| json!({ "nodeIP": ip })).collect();
        let action = if self.check.is_some() {
            json!({ "holdAndDelegate": ACTION })
        } else {
            json!({
                "accept": true,
                "allowAgentForwarding": true,
                "allowLocalPortForwarding": true,
                "allowRemotePortForwarding": true,
            })
        };
        let mut rule = json!({ "principals": principals, "sshUsers": self.users, "action": action });
        if !self.accept_env.is_empty() {
            rule["acceptEnv"] = json!(self.accept_env);
        }
        rule
    }

    /// Whether it lets a session log in as `user`.
    pub fn allows(&self, user: &str) -> bool {
        match self.users.get(user).or_else(|| self.users.get("*")) {
            Some(local) => !local.is_empty(),
            None => false,
        }
    }

    /// Whether some session that it lets in becomes `local`.
    fn becomes(&self, local: &str) -> bool {
        let as_asked = |asked: &str| asked == "*" && !self.users.contains_key(local);
        let mut users = self.users.iter();
        !local.is_empty() && users.any(|(asked, becomes)| becomes == local || (becomes == "=" && as_asked(asked)))
    }
}

/// What the policy says about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshAnswer {
    Denied,
    Accepted,
    /// Somebody has to let it through; this holds so long for later ones (zero: not at all).
    Checked(Duration),
}

/// About a session from a device that becomes `local_user`, by the entries of its
/// destination: the first entry that fits decides, as at the client.
pub(super) fn answer(entries: &[SshEntry], source: &Device, local_user: &str) -> SshAnswer {
    let from = |entry: &SshEntry| source.ips.iter().any(|ip| entry.principals.contains(ip));
    let fits = |entry: &&SshEntry| from(entry) && entry.becomes(local_user);
    match entries.iter().find(fits).map(|entry| entry.check) {
        None => SshAnswer::Denied,
        Some(None) => SshAnswer::Accepted,
        Some(Some(CheckPeriod::Always)) => SshAnswer::Checked(Duration::ZERO),
        Some(Some(CheckPeriod::For(period))) => SshAnswer::Checked(period),
    }
}

fn of_rule(rule: &SshRule, names: &Names, tailnet: &Tailnet, entries: &mut Vec<SshEntry>) {
    let mut sources = devices_of(&rule.sources, names, tailnet);
    for (device, is_source) in tailnet.devices.iter().zip(&mut sources) {
        *is_source &= rule.postures.is_empty() || device.has_posture(&rule.postures);
    }
    let others: Vec<Alias> = rule.destinations.iter().filter(|alias| **alias != Alias::SelfOwned).cloned().collect();
    let destinations = devices_of(&others, names, tailnet);
    let mut common = BTreeMap::from([("root".to_owned(), String::new())]);
    let mut domains = Vec::new();
    for user in &rule.users {
        match user {
            SshUser::Literal(name) => drop(common.insert(name.clone(), name.clone())),
            SshUser::NonRoot => drop(common.insert("*".into(), "=".into())),
            SshUser::LocalPart(domain) => domains.push(domain),
        }
    }
    let entry = |sources: Vec<bool>, destinations: Vec<bool>, users: BTreeMap<String, String>| SshEntry {
        principals: principals(rule, tailnet, &sources),
        sources,
        destinations,
        users,
        check: rule.check,
        accept_env: rule.accept_env.clone(),
    };
    let to_self = rule.destinations.contains(&Alias::SelfOwned);
    if !domains.is_empty() {
        // Each user may log in as somebody else, and on their own devices too.
        for person in &tailnet.people {
            let own = owned_by(tailnet, person.id);
            let from: Vec<bool> = own.iter().zip(&sources).map(|(own, source)| *own && *source).collect();
            let to: Vec<bool> = own.iter().zip(&destinations).map(|(own, there)| *own || *there).collect();
            entries.push(entry(from.clone(), to.clone(), common.clone()));
            let local: BTreeMap<String, String> = domains
                .iter()
                .filter_map(|domain| local_part(person, domain))
                .map(|name| (name.clone(), name))
                .collect();
            if !local.is_empty() {
                entries.push(entry(from, to, local));
            }
        }
        let tagged = |device: &Device| device.user().is_none();
        let from = tailnet.devices.iter().zip(&sources).map(|(device, source)| *source && tagged(device)).collect();
        entries.push(entry(from, destinations, common));
        return;
    }
    if to_self {
        for person in &tailnet.people {
            let own = owned_by(tailnet, person.id);
            let from: Vec<bool> = own.iter().zip(&sources).map(|(own, source)| *own && *source).collect();
            entries.push(entry(from, own, common.clone()));
        }
    }
    if !others.is_empty() {
        entries.push(entry(sources, destinations, common));
    }
}

/// The sources' addresses. With `autogroup:tagged`, a node is named once for each of its
/// tags, as the service does.
fn principals(rule: &SshRule, tailnet: &Tailnet, sources: &[bool]) -> Vec<IpAddr> {
    let by_tag = rule.sources.contains(&Alias::Tagged);
    let times = |device: &Device| match &device.owner {
        Owner::Tags(tags) if by_tag => tags.len(),
        _ => 1,
    };
    let there = tailnet.devices.iter().zip(sources).filter(|(_, is_source)| **is_source);
    there.flat_map(|(device, _)| device.ips.repeat(times(device))).collect()
}

pub(super) fn local_part(person: &Person, domain: &str) -> Option<String> {
    let (local, _) = person.email.rsplit_once('@')?;
    (domain_of(&person.email) == Some(domain)).then(|| local.to_owned())
}

fn owned_by(tailnet: &Tailnet, user: UserId) -> Vec<bool> {
    tailnet.devices.iter().map(|device| device.user() == Some(user)).collect()
}

fn devices_of(aliases: &[Alias], names: &Names, tailnet: &Tailnet) -> Vec<bool> {
    let users: Vec<_> = aliases.iter().map(|alias| alias.users(names, tailnet)).collect();
    let is_one = |device: &Device| aliases.iter().zip(&users).any(|(alias, users)| alias.owns(users.as_ref(), device));
    tailnet.devices.iter().map(is_one).collect()
}
