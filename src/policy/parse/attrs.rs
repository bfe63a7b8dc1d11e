//! `nodeAttrs`.

use super::super::PolicyError;
use super::super::alias::{Alias, AliasError, Names};
use super::super::hujson::Document;
use super::super::rule::NodeAttr;
use super::fields::{Fields, list, object};
use super::rules::json;
use ipnet::Ipv4Net;
use jsonc_parser::ast::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The longest name of an attribute: each is in the map of every node that it is for.
const MAX_ATTRIBUTE: usize = 256;
/// The only attribute of applications: the domains of app connectors.
const APP_CONNECTORS: &str = "tailscale.com/app-connectors";

/// Reads `nodeAttrs`.
pub(super) fn node_attrs<'a>(
    document: &Document<'a>,
    names: &Names,
    value: &Value<'a>,
) -> Result<Vec<NodeAttr>, PolicyError> {
    list(document, value, "\"nodeAttrs\"")?.elements.iter().map(|value| entry(document, names, value)).collect()
}

fn entry<'a>(document: &Document<'a>, names: &Names, value: &Value<'a>) -> Result<NodeAttr, PolicyError> {
    let mut fields = Fields::of(document, value, "an entry of \"nodeAttrs\"")?;
    let mut targets = Vec::new();
    for (text, place) in fields.texts("target")? {
        targets.push(target(names, text.trim()).map_err(|fault| document.error(place, fault))?);
    }
    let mut attributes = Vec::new();
    for (text, place) in fields.texts("attr")? {
        attributes.push(attribute(text).map_err(|fault| document.error(place, fault))?);
    }
    let mut pools = Vec::new();
    for (text, place) in fields.texts("ipPool")? {
        pools.push(pool(text.trim()).map_err(|fault| document.error(place, fault))?);
    }
    let mut app = BTreeMap::new();
    if let Some(value) = fields.take("app") {
        for (name, value) in document.members(object(document, value, "\"app\"")?)? {
            if name != APP_CONNECTORS {
                let fault = format!("nodeAttrs: app {name:?} is not supported: {APP_CONNECTORS:?} is");
                return Err(document.error(value, fault));
            }
            let values = &list(document, value, "\"app\"")?.elements;
            app.insert(name, values.iter().map(json).collect());
        }
    }
    fields.finish()?;
    Ok(NodeAttr { targets, attributes, app, pools })
}

fn target(names: &Names, text: &str) -> Result<Alias, String> {
    match names.alias(text) {
        Ok(Alias::SelfOwned | Alias::Internet | Alias::DangerAll) => Err(format!("nodeAttrs: invalid target {text:?}")),
        Ok(alias) => Ok(alias),
        Err(AliasError::NotFound(kind)) => Err(format!("nodeAttrs: target={kind} not found: {text:?}")),
        Err(AliasError::Unknown(fault)) => Err(fault),
    }
}

/// Any text is one: what a client does not know it leaves alone.
fn attribute(text: &str) -> Result<String, String> {
    let is_good = !text.is_empty() && text.len() <= MAX_ATTRIBUTE && !text.contains(char::is_control);
    if !is_good {
        return Err(format!("nodeAttrs: attr {text:?} must have 1 to {MAX_ATTRIBUTE} bytes and no control characters"));
    }
    let Some(profile) = text.strip_prefix("nextdns:") else { return Ok(text.into()) };
    // It becomes part of a resolver's address.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if profile.is_empty() || profile.len() > 64 || !profile.chars().all(is_name) {
        return Err(format!("nodeAttrs: attr {text:?}: a profile has 1 to 64 letters, digits, '.', '_' and '-'"));
    }
    Ok(text.into())
}

/// Tailscale's addresses for nodes: a pool is a part of them.
fn pool(text: &str) -> Result<Ipv4Net, String> {
    let all = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    match text.parse::<Ipv4Net>() {
        Ok(net) if all.contains(&net.trunc()) => Ok(net.trunc()),
        _ => Err(format!("nodeAttrs: ipPool {text:?} must be an IPv4 prefix in {all}")),
    }
}
