//! `hosts`, `autoApprovers`, `tests` and `sshTests`.

use super::super::PolicyError;
use super::super::alias::{Alias, AliasError, Names, network};
use super::super::hujson::Document;
use super::super::posture::Facts;
use super::super::rule::{Approver, Approvers, SshTest, Test};
use super::fields::{Fields, list, object};
use super::postures;
use ipnet::IpNet;
use jsonc_parser::ast::Value;
use std::collections::BTreeMap;

/// Reads `hosts`.
pub(super) fn hosts<'a>(document: &Document<'a>, value: &Value<'a>) -> Result<BTreeMap<String, IpNet>, PolicyError> {
    let mut hosts = BTreeMap::new();
    for (name, value) in document.members(object(document, value, "\"hosts\"")?)? {
        if name.is_empty() || name.contains([':', '@']) {
            return Err(document.error(value, format!("host name {name:?} must not be empty or contain ':' or '@'")));
        }
        let Value::StringLit(text) = value else {
            return Err(document.error(value, format!("hosts[{name:?}] must be an address or prefix, as a text")));
        };
        let net = network(&text.value).ok_or_else(|| {
            let text = format!("hostname contains invalid IP address: hostname {name:?} address {:?}", text.value);
            document.error(value, text)
        })?;
        hosts.insert(name, net);
    }
    Ok(hosts)
}

/// Reads `autoApprovers`.
pub(super) fn approvers<'a>(
    document: &Document<'a>,
    names: &Names,
    value: &Value<'a>,
) -> Result<Approvers, PolicyError> {
    let mut fields = Fields::of(document, value, "\"autoApprovers\"")?;
    let mut approvers = Approvers::default();
    if let Some(value) = fields.take("routes") {
        for (prefix, value) in document.members(object(document, value, "autoApprovers \"routes\"")?)? {
            let Some(net) = network(&prefix) else {
                return Err(document.error(value, format!("autoApprovers: {prefix:?} is no prefix")));
            };
            let mut who = Vec::new();
            for (text, place) in document.strings(value, &format!("autoApprovers[{prefix:?}]"))? {
                who.push(approver(names, text.trim()).map_err(|fault| document.error(place, fault))?);
            }
            approvers.routes.push((net, who));
        }
    }
    for (text, place) in fields.texts("exitNode")? {
        approvers.exit.push(approver(names, text.trim()).map_err(|fault| document.error(place, fault))?);
    }
    if fields.take("services").is_some() {
        return Err(document.error(value, "autoApprovers \"services\" is not supported yet: remove it"));
    }
    fields.finish()?;
    Ok(approvers)
}

fn approver(names: &Names, text: &str) -> Result<Approver, String> {
    match names.alias(text) {
        Ok(Alias::User(token)) => Ok(Approver::User(token)),
        Ok(Alias::Group(group)) => Ok(Approver::Group(group)),
        Ok(Alias::Tag(tag)) => Ok(Approver::Tag(tag)),
        Ok(Alias::Member) => Ok(Approver::Member),
        Ok(Alias::Tagged) => Ok(Approver::Tagged),
        Ok(Alias::Role(role)) => Ok(Approver::Role(role)),
        Err(AliasError::NotFound(kind @ ("tag" | "group"))) => {
            Err(format!("autoApprovers: {kind} not found: {text:?}"))
        }
        _ => Err(format!("autoApprovers: {text:?} is no user, group or tag")),
    }
}

/// Reads `tests`.
pub(super) fn tests<'a>(document: &Document<'a>, value: &Value<'a>) -> Result<Vec<Test>, PolicyError> {
    let mut tests = Vec::new();
    for value in &list(document, value, "\"tests\"")?.elements {
        let mut fields = Fields::of(document, value, "an entry of \"tests\"")?;
        let owned = |texts: Vec<(&str, &Value<'a>)>| texts.into_iter().map(|(text, _)| text.to_owned()).collect();
        tests.push(Test {
            source: fields.text("src")?.map_or_else(String::new, |(text, _)| text.into()),
            protocol: fields.text("proto")?.map_or_else(String::new, |(text, _)| text.into()),
            accept: owned(fields.texts("accept")?),
            deny: owned(fields.texts("deny")?),
            facts: match fields.take("srcPostureAttrs") {
                Some(value) => postures::facts(document, value)?,
                None => Facts::default(),
            },
        });
        fields.finish()?;
    }
    Ok(tests)
}

/// Reads `sshTests`.
pub(super) fn ssh_tests<'a>(
    document: &Document<'a>,
    names: &Names,
    value: &Value<'a>,
) -> Result<Vec<SshTest>, PolicyError> {
    let mut tests = Vec::new();
    for value in &list(document, value, "\"sshTests\"")?.elements {
        let mut fields = Fields::of(document, value, "an entry of \"sshTests\"")?;
        let owned = |texts: Vec<(&str, &Value<'a>)>| texts.into_iter().map(|(text, _)| text.to_owned()).collect();
        let source = fields.text("src")?.map_or_else(String::new, |(text, _)| text.to_owned());
        let mut destinations = Vec::new();
        for (text, place) in fields.texts("dst")? {
            destinations.push(ssh_test_destination(names, text).map_err(|fault| document.error(place, fault))?);
        }
        let (accept, deny) = (owned(fields.texts("accept")?), owned(fields.texts("deny")?));
        let check = owned(fields.texts("check")?);
        let facts = match fields.take("srcPostureAttrs") {
            Some(value) => postures::facts(document, value)?,
            None => Facts::default(),
        };
        fields.finish()?;
        tests.push(SshTest { source, destinations, accept, deny, check, facts });
    }
    Ok(tests)
}

fn ssh_test_destination(names: &Names, text: &str) -> Result<Alias, String> {
    let disallowed = || format!("SSH tests dst contains disallowed element {text:?}");
    match names.alias(text) {
        Ok(Alias::Net(net) | Alias::Host(_, net)) if net.prefix_len() != net.max_prefix_len() => Err(disallowed()),
        Ok(Alias::Any | Alias::Internet | Alias::DangerAll | Alias::UsersOf(_) | Alias::Role(_) | Alias::Group(_)) => {
            Err(disallowed())
        }
        Ok(alias) => Ok(alias),
        Err(AliasError::NotFound("tag")) => Err(format!("SSH tests dst contains unknown tag {text:?}")),
        Err(_) => Err(disallowed()),
    }
}
