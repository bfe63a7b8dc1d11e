//! From text to policy: what is not supported is refused by name, never ignored.

use super::hujson::Document;
use super::users::UserToken;
use super::{Owner, Policy, PolicyError};
use crate::state::Tag;
use jsonc_parser::ast::{Array, Object, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Sections of a policy that other servers know and this one does not yet.
const NOT_YET: [&str; 7] = ["hosts", "autoApprovers", "ssh", "nodeAttrs", "tests", "sshTests", "randomizeClientPort"];
const ACCEPT_ALL: &str = r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#;

impl Policy {
    /// Reads HuJSON. What is not supported yet is refused by name.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document = Document::read(text)?;
        let mut policy = Self::default();
        let (mut rule_lists, mut tag_owners) = (Vec::new(), None);
        let members = document.root.as_ref().map(|root| document.members(root)).transpose()?.unwrap_or_default();
        for (name, value) in members {
            match name.to_ascii_lowercase().as_str() {
                "groups" => policy.groups = groups(&document, value)?,
                "tagowners" => tag_owners = Some(value),
                "acls" => rule_lists.push(rules(&document, "acls", value)?),
                "grants" => rule_lists.push(rules(&document, "grants", value)?),
                _ => return Err(document.error(value, refusal(&name))),
            }
        }
        if let Some(value) = tag_owners {
            policy.tag_owners = owners(&document, value, &policy.groups)?;
        }
        check_rules(&document, &rule_lists)?;
        Ok(policy)
    }
}

fn refusal(name: &str) -> String {
    match NOT_YET.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        None => format!("unknown field: {name:?}"),
        Some(known) => format!(
            "policy section {known:?} is not supported yet: remove it; supported are \"groups\", \"tagOwners\", and \
             no rules or the one that accepts everything, \"acls\": [{ACCEPT_ALL}]"
        ),
    }
}

fn groups(document: &Document, value: &Value) -> Result<BTreeMap<String, Vec<UserToken>>, PolicyError> {
    let Value::Object(object) = value else {
        return Err(document.error(value, "\"groups\" must be an object, {\"group:name\": [\"user@\"]}"));
    };
    let mut groups = BTreeMap::new();
    for (name, value) in document.members(object)? {
        if name.strip_prefix("group:").is_none_or(str::is_empty) {
            return Err(document.error(value, format!("group must start with 'group:', got: {name:?}")));
        }
        let mut members = Vec::new();
        for (member, place) in document.strings(value, &format!("groups[{name:?}]"))? {
            if member.starts_with("group:") {
                let text = format!("groups[{name:?}]: {member:?}: group members cannot be recursive");
                return Err(document.error(place, text));
            }
            let token = UserToken::parse(member);
            members.push(token.map_err(|text| document.error(place, format!("groups[{name:?}]: {text}")))?);
        }
        groups.insert(name, members);
    }
    Ok(groups)
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
            let owner = owner(text, name, groups, &names);
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
    if text.starts_with("autogroup:") {
        return Err(format!("tagOwners[{tag:?}]: {text:?} cannot own a tag: name users, groups or tags"));
    }
    UserToken::parse(text).map(Owner::User).map_err(|fault| format!("tagOwners[{tag:?}]: {fault}"))
}

/// The rules of one section, and where it is.
struct Rules<'v, 'a> {
    section: &'static str,
    list: &'v Array<'a>,
}

fn rules<'v, 'a>(
    document: &Document<'a>,
    section: &'static str,
    value: &'v Value<'a>,
) -> Result<Rules<'v, 'a>, PolicyError> {
    match value {
        Value::Array(list) => Ok(Rules { section, list }),
        other => Err(document.error(other, format!("{section:?} must be a list of rules"))),
    }
}

/// No rules at all, or exactly one that accepts everything.
fn check_rules<'a>(document: &Document<'a>, sections: &[Rules<'_, 'a>]) -> Result<(), PolicyError> {
    let all: Vec<_> =
        sections.iter().flat_map(|rules| rules.list.elements.iter().map(|rule| (rules.section, rule))).collect();
    if let (Some(first), []) = (sections.first(), &all[..]) {
        let text = format!(
            "\"{0}\": [] would deny everything, which is not supported yet: remove \"{0}\", or let it be \
             \"acls\": [{ACCEPT_ALL}]",
            first.section
        );
        return Err(document.error(first.list, text));
    }
    for (number, (section, rule)) in all.iter().enumerate() {
        let accepts_all = match rule {
            Value::Object(rule) if *section == "acls" => acl_accepts_all(document, rule)?,
            Value::Object(rule) => grant_accepts_all(document, rule)?,
            other => return Err(document.error(*other, format!("a rule in {section:?} must be an object, {{ … }}"))),
        };
        if !accepts_all || number > 0 {
            let text = format!(
                "rules in {section:?} are not supported yet but for exactly one that accepts everything: \
                 \"acls\": [{ACCEPT_ALL}]"
            );
            return Err(document.error(*rule, text));
        }
    }
    Ok(())
}

fn acl_accepts_all<'a>(document: &Document<'a>, rule: &Object<'a>) -> Result<bool, PolicyError> {
    let (mut action, mut sources, mut destinations) = (None, None, None);
    for (name, value) in document.members(rule)? {
        match name.to_ascii_lowercase().as_str() {
            "action" => action = Some(value),
            "src" => sources = Some(value),
            "dst" => destinations = Some(value),
            "proto" if is_text(value, "") => {}
            "proto" => return Ok(false),
            // What web consoles keep there for themselves.
            _ if name.starts_with('#') => {}
            _ => return Err(document.error(value, format!("unknown field: {name:?}"))),
        }
    }
    Ok(action.is_some_and(|action| is_text(action, "accept")) && only(sources, "*") && only(destinations, "*:*"))
}

fn grant_accepts_all<'a>(document: &Document<'a>, rule: &Object<'a>) -> Result<bool, PolicyError> {
    let (mut sources, mut destinations, mut ports) = (None, None, None);
    for (name, value) in document.members(rule)? {
        match name.to_ascii_lowercase().as_str() {
            "src" => sources = Some(value),
            "dst" => destinations = Some(value),
            "ip" => ports = Some(value),
            "app" | "via" => return Ok(false),
            _ if name.starts_with('#') => {}
            _ => return Err(document.error(value, format!("unknown field: {name:?}"))),
        }
    }
    Ok(only(sources, "*") && only(destinations, "*") && only(ports, "*"))
}

fn only(value: Option<&Value>, text: &str) -> bool {
    match value {
        Some(Value::Array(array)) => array.elements.len() == 1 && is_text(&array.elements[0], text),
        _ => false,
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    matches!(value, Value::StringLit(literal) if literal.value == text)
}
