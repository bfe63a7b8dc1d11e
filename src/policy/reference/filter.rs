//! Packet filters, as clients read them (protocol section 6.5).

use super::compile::{Entry, Grant, Place, Target};
use crate::policy::ranges::{INTERNET, Range};
use crate::policy::rule::Ports;
use crate::policy::tailnet::Device;
use std::fmt::Write;
use std::net::IpAddr;

/// The rules of one device, at `place` in the tailnet: those of the entries that
/// concern it, cut down to what concerns it.
pub(super) fn packet_filter(entries: &[Entry], device: &Device, place: usize) -> String {
    let rules = entries.iter().filter_map(|entry| rule(entry, device, place));
    format!("[{}]", rules.collect::<Vec<_>>().join(","))
}

fn rule(entry: &Entry, device: &Device, place: usize) -> Option<String> {
    let here = entry.grant.targets().iter().filter(|target| target.is_at(device, place));
    let rest = match &entry.grant {
        Grant::Packets { protocol, .. } => {
            let destinations: Vec<String> = here.flat_map(|target| destinations(target, device)).collect();
            if destinations.is_empty() {
                return None;
            }
            let protocol = protocol.map_or_else(String::new, |number| format!(r#""IPProto":[{number}],"#));
            format!(r#"{protocol}"DstPorts":[{}]"#, destinations.join(","))
        }
        Grant::Capabilities { map, .. } => {
            let mut own: Vec<IpAddr> = Vec::new();
            for target in here {
                let theirs = device.ips.iter().filter(|ip| match &target.to {
                    Place::Range(range) => range.contains(**ip),
                    Place::Everything | Place::Devices(_) => true,
                    Place::Internet => false,
                });
                let new: Vec<IpAddr> = theirs.filter(|ip| !own.contains(ip)).copied().collect();
                own.extend(new);
            }
            if own.is_empty() {
                return None;
            }
            let prefixes: Vec<String> = own.iter().map(|ip| format!("\"{}\"", ipnet::IpNet::from(*ip))).collect();
            format!(r#""CapGrant":[{{"Dsts":[{}],"CapMap":{map}}}]"#, prefixes.join(","))
        }
    };
    let sources = source_list(entry);
    Some(format!(r#"{{"SrcIPs":[{sources}],{rest}}}"#))
}

/// The inside of `SrcIPs`: the same for all devices, and long where many users are meant.
fn source_list(entry: &Entry) -> String {
    if entry.sources.everywhere {
        return "\"*\"".into();
    }
    let mut list = String::new();
    for range in &entry.sources.ranges {
        let comma = if list.is_empty() { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = write!(list, "{comma}\"{range}\"");
    }
    list
}

fn destinations(target: &Target, device: &Device) -> Vec<String> {
    let names: Vec<String> = match &target.to {
        Place::Everything => vec!["*".into()],
        Place::Devices(_) => device.ips.iter().map(IpAddr::to_string).collect(),
        Place::Range(range) => vec![range.to_string()],
        // Never as prefixes: the service's form.
        Place::Internet => INTERNET.iter().map(|Range { first, last }| format!("{first}-{last}")).collect(),
    };
    let one = |name: &String| {
        let name = name.clone();
        target
            .ports
            .iter()
            .map(move |Ports { first, last }| format!(r#"{{"IP":"{name}","Ports":{{"First":{first},"Last":{last}}}}}"#))
    };
    names.iter().flat_map(one).collect()
}
