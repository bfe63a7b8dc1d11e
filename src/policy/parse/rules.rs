//! `acls` and `grants`.

use super::super::PolicyError;
use super::super::alias::{Alias, AliasError, Names};
use super::super::hujson::Document;
use super::super::rule::{Access, Ports, Rule};
use super::fields::{Fields, list, object};
use super::{ports, postures};
use crate::state::Tag;
use jsonc_parser::ast::Value;
use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Capabilities in Tailscale's own domain that a policy may grant.
const TAILSCALE_CAPS: [&str; 6] = [
    "tailscale.com/cap/drive",
    "tailscale.com/cap/relay",
    "tailscale.com/cap/webui",
    "tailscale.com/cap/kubernetes",
    "tailscale.com/cap/tsidp",
    "tailscale.com/cap/secrets",
];

const SELF_NEEDS_USERS: &str = "autogroup:self can only be used with users, groups, or supported autogroups";

/// Reads `acls`.
pub(super) fn acls<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<Vec<Rule>, PolicyError> {
    let rules = list(document, value, "\"acls\"")?.elements.iter().enumerate();
    rules.map(|(n, value)| Ok(Rule { number: ("acls", n), ..acl(document, names, value)? })).collect()
}

fn acl<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<Rule, PolicyError> {
    let mut fields = Fields::of(document, value, "a rule in \"acls\"")?;
    match fields.text("action")? {
        Some(("accept", _)) => {}
        Some((other, place)) => {
            return Err(document.error(place, format!("{other:?} is not a valid action: write \"accept\"")));
        }
        None => return Err(document.error(value, "action must be specified: \"accept\"")),
    }
    let (protocol_name, place) = fields.text("proto")?.unwrap_or(("", value));
    let protocol = ports::protocol(protocol_name).map_err(|fault| document.error(place, fault))?;
    // What `src` and `dst` were called once.
    let sources = sources(document, names, fields.either("src", "users")?)?;
    let mut destinations = Vec::new();
    for (text, place) in fields.either("dst", "ports")? {
        let text = text.trim();
        let fault = |fault: String| document.error(place, format!("dst={text:?}: {fault}"));
        let (name, ports) = host_and_ports(text).map_err(fault)?;
        ports::check(protocol, protocol_name, &ports).map_err(fault)?;
        for alias in destination(document, names, &name, place)? {
            destinations.push((alias, ports.clone()));
        }
    }
    let postures = postures::of_rule(&mut fields, document, names)?;
    fields.finish()?;
    let aliases = || destinations.iter().map(|(alias, _)| alias);
    let may_be_self = |alias: &Alias| alias.is_personal() || *alias == Alias::Any;
    if aliases().any(|alias| *alias == Alias::SelfOwned) && !sources.iter().all(may_be_self) {
        return Err(document.error(value, SELF_NEEDS_USERS));
    }
    Ok(Rule { sources, access: vec![Access { protocol, destinations }], postures, ..Rule::default() })
}

/// `alias:ports`, where the alias may be an IPv6 address or prefix, in brackets or not.
pub(in super::super) fn host_and_ports(text: &str) -> Result<(Cow<'_, str>, Vec<Ports>), String> {
    let Some((name, ports)) = text.rsplit_once(':') else {
        return Err("hostport must contain a colon (\":\"): end it with ports, \"…:443\" or \"…:*\"".into());
    };
    let ports = ports::ports(ports)?;
    let Some(rest) = name.strip_prefix('[') else { return Ok((name.into(), ports)) };
    let Some((address, length)) = rest.split_once(']') else { return Err("a bracket is not closed".into()) };
    // `[fd7a::]/64`: the same without its brackets.
    let name: Cow<str> = if length.is_empty() { address.into() } else { format!("{address}{length}").into() };
    let is_length = length.is_empty() || length.starts_with('/');
    if address.parse::<Ipv6Addr>().is_err() || !is_length || super::super::alias::network(&name).is_none() {
        return Err("brackets are for IPv6 addresses only, \"[fd7a::1]:443\" or \"[fd7a::]/64:443\"".into());
    }
    Ok((name, ports))
}

/// Reads `grants`.
pub(super) fn grants<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<Vec<Rule>, PolicyError> {
    let rules = list(document, value, "\"grants\"")?.elements.iter().enumerate();
    rules.map(|(n, value)| Ok(Rule { number: ("grants", n), ..grant(document, names, value)? })).collect()
}

fn grant<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<Rule, PolicyError> {
    let mut fields = Fields::of(document, value, "a rule in \"grants\"")?;
    let sources = sources(document, names, fields.texts("src")?)?;
    let mut destinations = Vec::new();
    for (text, place) in fields.texts("dst")? {
        let text = text.trim();
        let aliases = destination(document, names, text, place)?;
        if aliases.iter().any(|alias| matches!(alias, Alias::Net(net) if net.prefix_len() == 0)) {
            let fault = format!("dst {text:?}: to allow all IP addresses, use \"*\" or \"autogroup:internet\"");
            return Err(document.error(place, fault));
        }
        destinations.extend(aliases);
    }
    let access = access(document, &destinations, fields.texts("ip")?)?;
    let mut rule = Rule { sources, access, ..Rule::default() };
    if let Some(value) = fields.take("app") {
        for (name, value) in document.members(object(document, value, "\"app\"")?)? {
            check_capability(&name).map_err(|fault| document.error(value, fault))?;
            if !matches!(value, Value::Array(_)) {
                return Err(document.error(value, format!("app {name:?} must be a list of values, [{{ … }}]")));
            }
            rule.app.insert(name, json(value));
        }
    }
    for (text, place) in fields.texts("via")? {
        rule.via.push(via(document, names, text.trim(), place)?);
    }
    rule.postures = postures::of_rule(&mut fields, document, names)?;
    fields.finish()?;
    if rule.access.is_empty() && rule.app.is_empty() {
        return Err(document.error(value, "ip and app can not both be empty"));
    }
    if !rule.app.is_empty() && destinations.contains(&Alias::Internet) {
        return Err(document.error(value, "cannot use app grants with autogroup:internet"));
    }
    if destinations.contains(&Alias::SelfOwned) && !rule.sources.iter().all(Alias::is_personal) {
        return Err(document.error(value, SELF_NEEDS_USERS));
    }
    if !rule.app.is_empty() {
        rule.app_destinations = destinations;
    }
    Ok(rule)
}

/// The `ip` of a grant: each protocol once, with all ports that it is for.
fn access<'a>(
    document: &Document<'a>,
    destinations: &[Alias],
    texts: Vec<(&str, &Value<'a>)>,
) -> Result<Vec<Access>, PolicyError> {
    let mut access: Vec<Access> = Vec::new();
    for (text, place) in texts {
        let (protocol, ports) = protocol_and_ports(text.trim()).map_err(|fault| document.error(place, fault))?;
        match access.iter_mut().find(|access| access.protocol == protocol) {
            Some(known) => known.destinations.iter_mut().for_each(|(_, known)| known.push(ports)),
            None => {
                let destinations = destinations.iter().map(|alias| (alias.clone(), vec![ports])).collect();
                access.push(Access { protocol, destinations });
            }
        }
    }
    Ok(access)
}

/// The value as it is sent to nodes. The reader bounds its depth.
pub(super) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::StringLit(text) => text.value.as_ref().into(),
        Value::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_default(),
        Value::BooleanLit(on) => on.value.into(),
        Value::NullKeyword(_) => serde_json::Value::Null,
        Value::Array(list) => list.elements.iter().map(json).collect(),
        Value::Object(object) => {
            object.properties.iter().map(|member| (member.name.as_str().to_owned(), json(&member.value))).collect()
        }
    }
}

/// `*`, `443`, `80-90`, `tcp:443`, `icmp:*`.
fn protocol_and_ports(text: &str) -> Result<(Option<u8>, Ports), String> {
    let Some((name, text)) = text.rsplit_once(':') else { return Ok((None, ports::range(text)?)) };
    if name.is_empty() {
        return Err(format!("empty protocol: \":{text}\" must start with one, \"tcp:{text}\""));
    }
    if name.contains(',') {
        return Err(format!("host cannot contain a comma (\",\"): write an entry for each protocol of {name:?}"));
    }
    let ports = ports::range(text)?;
    if name == "*" {
        return Ok((None, ports));
    }
    let protocol = ports::protocol(name)?;
    ports::check(protocol, name, &[ports])?;
    Ok((protocol, ports))
}

/// Refuses what is no name of an application's capability.
pub(super) fn check_capability(name: &str) -> Result<(), String> {
    if name.contains("://") {
        return Err(format!("capability name {name:?} must have the form domain/path, without a scheme"));
    }
    let Some((domain, path)) = name.split_once('/') else {
        return Err(format!("capability name {name:?} must have the form domain/path"));
    };
    if domain.is_empty() || path.is_empty() {
        return Err(format!("capability name {name:?} must have the form domain/path"));
    }
    if (domain == "tailscale.com" || domain.ends_with(".tailscale.com")) && !TAILSCALE_CAPS.contains(&name) {
        return Err("capability name must not be in the tailscale.com domain".into());
    }
    Ok(())
}

fn via<'a>(document: &Document<'a>, names: &Names, text: &str, place: &Value<'a>) -> Result<Tag, PolicyError> {
    match names.alias(text) {
        Ok(Alias::Tag(tag)) => Ok(tag),
        Err(AliasError::NotFound("tag")) => Err(document.error(place, format!("tag {text:?} not found"))),
        _ => Err(document.error(place, format!("via can only be a tag, got: {text:?}"))),
    }
}

fn sources<'a>(
    document: &Document<'a>,
    names: &Names,
    texts: Vec<(&str, &Value<'a>)>,
) -> Result<Vec<Alias>, PolicyError> {
    let mut sources = Vec::new();
    for (text, place) in texts {
        let text = text.trim();
        match names.aliases(text) {
            Ok(aliases) if aliases.contains(&Alias::SelfOwned) => {
                return Err(document.error(place, "\"autogroup:self\" not valid on the src side of a rule"));
            }
            Ok(aliases) if aliases.contains(&Alias::Internet) => {
                return Err(document.error(place, "\"autogroup:internet\" not valid on the src side of a rule"));
            }
            Ok(aliases) => sources.extend(aliases),
            Err(AliasError::NotFound(kind)) => {
                return Err(document.error(place, format!("src={kind} not found: {text:?}")));
            }
            Err(AliasError::Unknown(fault)) => return Err(document.error(place, fault)),
        }
    }
    Ok(sources)
}

fn destination<'a>(
    document: &Document<'a>,
    names: &Names,
    text: &str,
    place: &Value<'a>,
) -> Result<Vec<Alias>, PolicyError> {
    match names.aliases(text) {
        Ok(aliases) if aliases.contains(&Alias::DangerAll) => {
            Err(document.error(place, "cannot use autogroup:danger-all as a dst"))
        }
        Ok(aliases) => Ok(aliases),
        Err(AliasError::NotFound(kind)) => {
            Err(document.error(place, format!("dst={text:?}: {kind} not found: {text:?}")))
        }
        Err(AliasError::Unknown(fault)) => Err(document.error(place, fault)),
    }
}
