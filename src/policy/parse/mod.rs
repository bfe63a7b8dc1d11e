//! From text to policy: what is not supported is refused by name, never ignored.

mod attrs;
mod fields;
mod ipsets;
mod ports;
mod postures;
mod rest;
mod rules;
mod ssh;

pub(super) use ipsets::IpSet;
pub(super) use rules::host_and_ports;

use super::alias::{Names, ROLES};
use super::hujson::Document;
use super::users::UserToken;
use super::{Owner, Policy, PolicyError};
use crate::state::Tag;
use jsonc_parser::ast::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Sections of Tailscale's that this server does not act on.
const NOT_YET: [&str; 5] = ["derpMap", "OneCGNATRoute", "attrConfig", "extraDNSRecords", "services"];

impl Policy {
    /// Reads HuJSON. Everything that the text can say wrong by itself is refused here.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document = Document::read(text)?;
        let members = document.root.as_ref().map(|root| document.fields(root)).transpose()?.unwrap_or_default();
        let section = |name: &str| {
            let found = members.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            found.map(|(_, value)| *value).filter(|value| !matches!(value, Value::NullKeyword(_)))
        };
        for (name, value) in &members {
            if !SECTIONS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(document.error(*value, refusal(name)));
            }
        }
        let mut policy = Self::default();
        // First what the rules refer to.
        let mut names = Names::default();
        if let Some(value) = section("groups") {
            names.groups = groups(&document, value)?;
        }
        if let Some(value) = section("hosts") {
            names.hosts = rest::hosts(&document, value)?;
        }
        if let Some(value) = section("ipsets") {
            names.ipsets = ipsets::ipsets(&document, &names.hosts, value)?;
        }
        if let Some(value) = section("postures") {
            names.postures = postures::postures(&document, value)?;
        }
        if let Some(value) = section("defaultSrcPosture") {
            names.default_postures = postures::default(&document, &names, value)?;
        }
        if let Some(value) = section("tagOwners") {
            policy.tag_owners = owners(&document, value, &names.groups)?;
            names.tags = policy.tag_owners.keys().map(|tag| tag.as_str().to_owned()).collect();
        }
        let (acls, grants) = (section("acls"), section("grants"));
        if acls.is_some() || grants.is_some() {
            let mut all = acls.map(|value| rules::acls(&document, &names, value)).transpose()?.unwrap_or_default();
            all.extend(grants.map(|value| rules::grants(&document, &names, value)).transpose()?.unwrap_or_default());
            policy.rules = Some(all);
        }
        if let Some(value) = section("ssh") {
            policy.ssh = ssh::ssh(&document, &names, value)?;
        }
        if let Some(value) = section("nodeAttrs") {
            policy.attrs = attrs::node_attrs(&document, &names, value)?;
        }
        if let Some(value) = section("autoApprovers") {
            policy.approvers = Some(rest::approvers(&document, &names, value)?);
        }
        if let Some(value) = section("tests") {
            policy.tests = rest::tests(&document, value)?;
        }
        if let Some(value) = section("sshTests") {
            policy.ssh_tests = rest::ssh_tests(&document, &names, value)?;
        }
        let flag = |name: &str| match section(name) {
            None => Ok(false),
            Some(Value::BooleanLit(on)) => Ok(on.value),
            Some(other) => Err(document.error(other, format!("{name:?} must be true or false"))),
        };
        policy.randomize_client_port = flag("randomizeClientPort")?;
        policy.disable_ipv4 = flag("disableIPv4")?;
        policy.names = names;
        Ok(policy)
    }
}

const SECTIONS: [&str; 15] = [
    "groups",
    "hosts",
    "ipsets",
    "postures",
    "defaultSrcPosture",
    "tagOwners",
    "acls",
    "grants",
    "ssh",
    "nodeAttrs",
    "autoApprovers",
    "tests",
    "sshTests",
    "randomizeClientPort",
    "disableIPv4",
];

fn refusal(name: &str) -> String {
    match NOT_YET.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        None => format!("unknown field: {name:?}"),
        Some(known) => format!("policy section {known:?} is not supported yet: remove it"),
    }
}

fn groups(document: &Document, value: &Value) -> Result<BTreeMap<String, Vec<UserToken>>, PolicyError> {
    let Value::Object(object) = value else {
        return Err(document.error(value, "\"groups\" must be an object, {\"group:name\": [\"user@\"]}"));
    };
    let mut groups = BTreeMap::new();
    // All of them at once: whoever has one of these has to take several groups apart.
    let mut recursive: Vec<(String, &Value)> = Vec::new();
    for (name, value) in document.members(object)? {
        if name.strip_prefix("group:").is_none_or(str::is_empty) {
            return Err(document.error(value, format!("group must start with 'group:', got: {name:?}")));
        }
        let mut members = Vec::new();
        for (member, place) in document.strings(value, &format!("groups[{name:?}]"))? {
            if member.starts_with("group:") {
                let text = format!("groups[{name:?}]: {member:?}: group members cannot be recursive");
                recursive.push((text, place));
                continue;
            }
            let token = UserToken::parse(member);
            members.push(token.map_err(|text| document.error(place, format!("groups[{name:?}]: {text}")))?);
        }
        groups.insert(name, members);
    }
    match recursive.first() {
        None => Ok(groups),
        Some((_, place)) => {
            let texts: Vec<&str> = recursive.iter().map(|(text, _)| text.as_str()).collect();
            Err(document.error(*place, texts.join("; ")))
        }
    }
}

fn owners(
    document: &Document,
    value: &Value,
    groups: &BTreeMap<String, Vec<UserToken>>,
) -> Result<BTreeMap<Tag, Vec<Owner>>, PolicyError> {
    let Value::Object(object) = value else {
        return Err(document.error(value, "\"tagOwners\" must be an object, {\"tag:name\": [\"user@\"]}"));
    };
    let members = document.members(object)?;
    let names: BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let mut tag_owners = BTreeMap::new();
    for (name, value) in &members {
        let tag: Tag = name.parse().map_err(|e| document.error(*value, tag_fault(name, &e)))?;
        let mut owners = Vec::new();
        for (text, place) in document.strings(value, &format!("tagOwners[{name:?}]"))? {
            let owner = owner(text.trim(), name, groups, &names);
            owners.push(owner.map_err(|text| document.error(place, text))?);
        }
        tag_owners.insert(tag, owners);
    }
    Ok(tag_owners)
}

fn tag_fault(name: &str, error: &crate::state::TagError) -> String {
    let digit_first =
        name.strip_prefix("tag:").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    if digit_first {
        return format!("tagOwners[{name:?}]: tag names must start with a letter, after 'tag:'");
    }
    format!("tagOwners[{name:?}]: {error}")
}

fn owner(
    text: &str,
    tag: &str,
    groups: &BTreeMap<String, Vec<UserToken>>,
    tags: &BTreeSet<&str>,
) -> Result<Owner, String> {
    if text.starts_with("group:") {
        let defined = groups.contains_key(text);
        return if defined {
            Ok(Owner::Group(text.into()))
        } else {
            Err(format!("group not defined in policy: {text:?}"))
        };
    }
    if text.starts_with("tag:") {
        if !tags.contains(text) {
            return Err(format!("tag {tag:?} references undefined tag {text:?}"));
        }
        return text.parse().map(Owner::Tag).map_err(|e| format!("tagOwners[{tag:?}]: {e}"));
    }
    if let Some(kind) = text.strip_prefix("autogroup:") {
        return match kind {
            "member" | "members" => Ok(Owner::Member),
            role if ROLES.contains(&role) => Ok(Owner::Role(role.into())),
            _ => Err(format!(
                "tagOwners[{tag:?}]: {text:?} cannot own a tag: name users, groups, tags or autogroup:member"
            )),
        };
    }
    UserToken::parse(text).map(Owner::User).map_err(|fault| format!("tagOwners[{tag:?}]: {fault}"))
}
