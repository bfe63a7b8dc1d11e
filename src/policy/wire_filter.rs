//! Packet filters, as clients read them (protocol section 6.5), made by class.
//!
//! Only a device's own addresses tell its filter from those of its class. The lists
//! of sources, which are most of it, are shared by all filters that have them.

use super::classes::{ClassId, Classes};
use super::posture::Posture;
use super::program::{Aim, From, Gives, Whither};
use super::ranges::{INTERNET, Range};
use super::rule::Ports;
use super::source::SourceList;
use super::tailnet::Device;
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// The filter of one class, but for the addresses of a device.
#[derive(Debug)]
pub(super) struct ClassFilter {
    rules: Vec<WireRule>,
    /// Equal for filters that read the same for one device.
    hash: u64,
    /// Where no rule has a device's own addresses: the filter.
    shared: OnceLock<Arc<str>>,
}

#[derive(Debug)]
struct WireRule {
    sources: Arc<SourceList>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Packets { protocol: Option<u8>, to: Vec<To> },
    Capabilities { map: Arc<str>, to: Vec<Whither> },
}

/// Destinations and their ports.
#[derive(Debug, Hash)]
enum To {
    Own(Vec<Ports>),
    /// As JSON.
    Named(String),
}

impl ClassFilter {
    pub fn new(classes: &Classes, class: ClassId) -> Self {
        let mut rules = Vec::new();
        // Rules with equal sources and protocol are one.
        let mut known = HashMap::new();
        let shape = &classes.class(class).shape;
        for (lines, own) in [(&shape.lines, false), (&shape.own_lines, true)] {
            for line in lines.iter().map(|line| &classes.program.lines[*line]) {
                let sources = match &line.from {
                    From::Sources(source) => classes.list(*source).clone(),
                    From::Own(_, postures) => own_list(classes, class, postures),
                };
                if sources.is_empty() && !line.kept_empty {
                    continue;
                }
                let here = line
                    .targets
                    .iter()
                    .filter(|aim| own || aim.here.as_ref().is_none_or(|here| here.meets(&shape.bits)));
                match &line.gives {
                    Gives::Packets(protocol) => {
                        let at = *known.entry((sources.hash, *protocol)).or_insert_with(|| {
                            let rest = Rest::Packets { protocol: *protocol, to: Vec::new() };
                            rules.push(WireRule { sources, rest });
                            rules.len() - 1
                        });
                        if let Rest::Packets { to, .. } = &mut rules[at].rest {
                            here.for_each(|aim| add_destination(to, aim));
                        }
                    }
                    Gives::Capabilities(map) => {
                        let to = here.map(|aim| aim.to.clone()).collect();
                        rules.push(WireRule { sources, rest: Rest::Capabilities { map: map.clone(), to } });
                    }
                }
            }
        }
        let hash = hash(&rules);
        Self { rules, hash, shared: OnceLock::new() }
    }

    /// The filter of one device of the class.
    pub fn of(&self, device: &Device) -> Arc<str> {
        if self.is_shared() {
            return self.shared.get_or_init(|| self.render(device).into()).clone();
        }
        self.render(device).into()
    }

    /// A number that differs where the filter of a device does.
    pub fn fingerprint(&self, device: &Device) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash.hash(&mut hasher);
        if !self.is_shared() {
            device.ips.hash(&mut hasher);
        }
        hasher.finish()
    }

    fn is_shared(&self) -> bool {
        let own = |to: &To| matches!(to, To::Own(_));
        !self.rules.iter().any(|rule| match &rule.rest {
            Rest::Packets { to, .. } => to.iter().any(own),
            Rest::Capabilities { .. } => true,
        })
    }

    fn render(&self, device: &Device) -> String {
        let mut text = String::from("[");
        for rule in &self.rules {
            let Some(rest) = rule.rest.render(device) else { continue };
            text.push_str(if text.len() > 1 { ",{\"SrcIPs\":[" } else { "{\"SrcIPs\":[" });
            rule.sources.write_to(&mut text);
            text.push_str("],");
            text.push_str(&rest);
            text.push('}');
        }
        text.push(']');
        text
    }
}

impl Rest {
    /// `None`: it is not about this device.
    fn render(&self, device: &Device) -> Option<String> {
        match self {
            Self::Packets { protocol, to } => {
                let mut list = String::new();
                for to in to {
                    match to {
                        To::Own(ports) => device.ips.iter().for_each(|ip| add_name(&mut list, ip, ports)),
                        To::Named(json) => {
                            list.push_str(if list.is_empty() { "" } else { "," });
                            list.push_str(json);
                        }
                    }
                }
                let protocol = protocol.map_or_else(String::new, |number| format!(r#""IPProto":[{number}],"#));
                (!list.is_empty()).then(|| format!(r#"{protocol}"DstPorts":[{list}]"#))
            }
            Self::Capabilities { map, to } => {
                let mut own: Vec<String> = Vec::new();
                for to in to {
                    let theirs = device.ips.iter().filter(|ip| match to {
                        Whither::Range(range) => range.contains(**ip),
                        Whither::Everything | Whither::Devices => true,
                        Whither::Internet => false,
                    });
                    for prefix in theirs.map(|ip| format!("\"{}\"", ipnet::IpNet::from(*ip))) {
                        if !own.contains(&prefix) {
                            own.push(prefix);
                        }
                    }
                }
                (!own.is_empty()).then(|| format!(r#""CapGrant":[{{"Dsts":[{}],"CapMap":{map}}}]"#, own.join(",")))
            }
        }
    }
}

/// The addresses of the devices of a class's user that have one of the postures, where there are any.
fn own_list(classes: &Classes, class: ClassId, postures: &[Arc<Posture>]) -> Arc<SourceList> {
    let own = classes.class(class).shape.own.into_iter().flat_map(|user| classes.devices_of(user));
    let own = own.filter(|device| postures.is_empty() || device.has_posture(postures));
    let ips: Vec<IpAddr> = own.flat_map(|device| device.ips.clone()).collect();
    Arc::new(SourceList::new(false, ips.into_iter().map(Range::from).collect()))
}

fn add_destination(to: &mut Vec<To>, aim: &Aim) {
    let mut named = String::new();
    match &aim.to {
        Whither::Devices => return to.push(To::Own(aim.ports.clone())),
        Whither::Everything => add_name(&mut named, &"*", &aim.ports),
        Whither::Range(range) => add_name(&mut named, range, &aim.ports),
        // Never as prefixes: the service's form.
        Whither::Internet => {
            for Range { first, last } in INTERNET {
                add_name(&mut named, &format_args!("{first}-{last}"), &aim.ports);
            }
        }
    }
    to.push(To::Named(named));
}

fn add_name(list: &mut String, name: &dyn std::fmt::Display, ports: &[Ports]) {
    for Ports { first, last } in ports {
        let comma = if list.is_empty() { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = write!(list, r#"{comma}{{"IP":"{name}","Ports":{{"First":{first},"Last":{last}}}}}"#);
    }
}

fn hash(rules: &[WireRule]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for rule in rules {
        rule.sources.hash.hash(&mut hasher);
        match &rule.rest {
            Rest::Packets { protocol, to } => (protocol, to).hash(&mut hasher),
            Rest::Capabilities { map, to } => (map, to).hash(&mut hasher),
        }
    }
    hasher.finish()
}
