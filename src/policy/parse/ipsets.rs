//! `ipsets`: named sets of addresses, each from operations in order.

use super::super::PolicyError;
use super::super::alias::network;
use super::super::hujson::Document;
use super::super::ipset::{AddressSet, MAX_RANGES};
use super::super::ranges::{INTERNET, Range};
use super::fields::object;
use ipnet::IpNet;
use jsonc_parser::ast::Value;
use std::collections::BTreeMap;

/// How many sets may be part of each other, one in the other: they are read one inside
/// the other.
const MAX_DEPTH: usize = 32;
/// Operations of all sets together: each is a pass over up to [`MAX_RANGES`] ranges.
const MAX_OPERATIONS: usize = 10_000;

/// What a set means.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct IpSet {
    /// What was added as addresses, prefixes and hosts.
    pub plain: AddressSet,
    /// What is left of `autogroup:internet`: behind exit nodes.
    pub internet: AddressSet,
}

/// Reads `ipsets`.
pub(super) fn ipsets<'a>(
    document: &Document<'a>,
    hosts: &BTreeMap<String, IpNet>,
    value: &Value<'a>,
) -> Result<BTreeMap<String, IpSet>, PolicyError> {
    let members = document.members(object(document, value, "\"ipsets\"")?)?;
    let texts: BTreeMap<&str, &Value<'a>> = members.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let mut reader = Reader { document, hosts, texts, done: BTreeMap::new(), path: Vec::new(), operations: 0 };
    for (name, value) in &members {
        if name.strip_prefix("ipset:").is_none_or(str::is_empty) {
            return Err(document.error(*value, format!("ipset must start with 'ipset:', got: {name:?}")));
        }
        reader.read(name, value)?;
    }
    Ok(reader.done)
}

struct Reader<'d, 'v, 'a> {
    document: &'d Document<'a>,
    hosts: &'d BTreeMap<String, IpNet>,
    texts: BTreeMap<&'v str, &'v Value<'a>>,
    done: BTreeMap<String, IpSet>,
    /// The sets that are being read, each a part of the one before.
    path: Vec<String>,
    operations: usize,
}

impl<'a> Reader<'_, '_, 'a> {
    fn read(&mut self, name: &str, value: &Value<'a>) -> Result<(), PolicyError> {
        if self.done.contains_key(name) {
            return Ok(());
        }
        if self.path.iter().any(|open| open == name) {
            let path = self.path.join(" → ");
            return Err(self.document.error(value, format!("ipset {name:?} is a part of itself: {path} → {name}")));
        }
        if self.path.len() == MAX_DEPTH {
            let fault = format!("ipset {name:?}: at most {MAX_DEPTH} sets may be part of each other");
            return Err(self.document.error(value, fault));
        }
        self.path.push(name.into());
        let mut set = IpSet::default();
        for (text, place) in self.document.strings(value, &format!("ipsets[{name:?}]"))? {
            self.operations += 1;
            if self.operations > MAX_OPERATIONS {
                return Err(self.document.error(place, format!("ipsets have more than {MAX_OPERATIONS} operations")));
            }
            self.operation(&mut set, text, place, name)?;
            if set.plain.len() + set.internet.len() > MAX_RANGES {
                let fault = format!("ipsets[{name:?}]: it has more than {MAX_RANGES} ranges of addresses");
                return Err(self.document.error(place, fault));
            }
        }
        self.path.pop();
        self.done.insert(name.into(), set);
        Ok(())
    }

    /// `add TARGET`, `remove TARGET`, or a target, which is added.
    fn operation(&mut self, set: &mut IpSet, text: &str, place: &Value<'a>, name: &str) -> Result<(), PolicyError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (adds, target) = match words.as_slice() {
            ["add", target] | [target] => (true, *target),
            ["remove", target] => (false, *target),
            _ => {
                let fault = format!("ipsets[{name:?}]: {text:?}: write \"add TARGET\" or \"remove TARGET\"");
                return Err(self.document.error(place, fault));
            }
        };
        let of = |net: IpNet| [Range::from(net)].into_iter().collect();
        let part = if let Some(net) = network(target) {
            IpSet { plain: of(net), ..IpSet::default() }
        } else if target == "autogroup:internet" {
            IpSet { internet: INTERNET.into_iter().collect(), ..IpSet::default() }
        } else if let Some(value) = self.texts.get(target).copied() {
            self.read(target, value)?;
            self.done.get(target).cloned().unwrap_or_default()
        } else if let Some(net) = self.hosts.get(target) {
            IpSet { plain: of(*net), ..IpSet::default() }
        } else {
            let fault = match target.starts_with("ipset:") {
                true => format!("ipset not found: {target:?}"),
                false => format!("{target:?} is no address, prefix, host, ipset or autogroup:internet"),
            };
            return Err(self.document.error(place, format!("ipsets[{name:?}]: {fault}")));
        };
        if adds {
            set.plain.add(&part.plain);
            set.internet.add(&part.internet);
        } else {
            for set in [&mut set.plain, &mut set.internet] {
                set.remove(&part.plain);
                set.remove(&part.internet);
            }
        }
        Ok(())
    }
}
