//! SSH rules, as clients read them (protocol section 6.8), made by class.

use super::alias::Alias;
use super::classes::{ClassId, Classes};
use super::program::SshLine;
use super::rule::SshUser;
use super::ssh::{SshEntry, local_part};
use super::tailnet::Device;
use crate::state::Owner;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `SSHPolicy` of the devices of a class.
pub(super) fn policy(classes: &Classes, class: ClassId) -> String {
    let entries = entries(classes, class);
    serde_json::json!({ "rules": entries.iter().map(SshEntry::wire).collect::<Vec<_>>() }).to_string()
}

/// The entries that the devices of a class are told, in order.
pub(super) fn entries(classes: &Classes, class: ClassId) -> Vec<SshEntry> {
    let mut entries = Vec::new();
    classes.program.ssh.iter().for_each(|line| add(classes, class, line, &mut entries));
    entries.retain(|entry: &SshEntry| !entry.principals.is_empty());
    entries
}

fn add(classes: &Classes, class: ClassId, line: &SshLine, entries: &mut Vec<SshEntry>) {
    let shape = &classes.class(class).shape;
    let here = line.destinations.meets(&shape.bits);
    let own = shape.own.filter(|_| line.is_for_own(&classes.program, &shape.bits));
    if !here && own.is_none() {
        return;
    }
    let mut common = BTreeMap::from([("root".to_owned(), String::new())]);
    for user in &line.rule.users {
        match user {
            SshUser::Literal(name) => drop(common.insert(name.clone(), name.clone())),
            SshUser::NonRoot => drop(common.insert("*".into(), "=".into())),
            SshUser::LocalPart(_) => {}
        }
    }
    let mut add = |principals: Vec<IpAddr>, users: BTreeMap<String, String>| {
        entries.push(SshEntry::told(&line.rule, principals, users));
    };
    let ips = |device: &Device| device.ips.clone();
    if line.domains.is_empty() {
        if let Some(user) = own.filter(|_| line.to_self) {
            add(classes.devices_of(user).flat_map(ips).collect(), common.clone());
        }
        if here && line.to_others {
            add(principals(classes, line, |_| true), common);
        }
        return;
    }
    // Each user may log in as somebody else, and on their own devices too.
    let owners = &classes.program.sources[line.source].owners;
    for person in classes.people.iter().filter(|person| here || own == Some(person.id)) {
        let is_source = |device: &&Device| {
            let placed = classes.placed(device.id);
            placed.is_some_and(|placed| owners.meets(&classes.class(placed.class).shape.bits))
        };
        let from: Vec<IpAddr> = classes.devices_of(person.id).filter(is_source).flat_map(ips).collect();
        let local = line.domains.iter().filter_map(|domain| local_part(person, domain));
        let local: BTreeMap<String, String> = local.map(|name| (name.clone(), name)).collect();
        add(from.clone(), common.clone());
        if !local.is_empty() {
            add(from, local);
        }
    }
    if here {
        add(principals(classes, line, |device| device.user().is_none()), common);
    }
}

/// The sources' addresses. With `autogroup:tagged`, a node is named once for each of its
/// tags, as the service does.
fn principals(classes: &Classes, line: &SshLine, which: impl Fn(&Device) -> bool) -> Vec<IpAddr> {
    let by_tag = line.rule.sources.contains(&Alias::Tagged);
    let times = |device: &Device| match &device.owner {
        Owner::Tags(tags) if by_tag => tags.len(),
        _ => 1,
    };
    let mut nodes: Vec<_> = classes.nodes_of(&classes.source(line.source).fed_by).collect();
    nodes.sort_unstable();
    let placed = nodes.into_iter().filter_map(|node| classes.placed(node));
    placed
        .map(|placed| &placed.device)
        .filter(|device| which(device))
        .flat_map(|device| device.ips.repeat(times(device)))
        .collect()
}
