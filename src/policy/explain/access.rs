//! Whether packets get from one node to another, and by which rule.

use super::super::alias::Alias;
use super::super::parse::host_and_ports;
use super::super::rule::{Access, Ports, Rule};
use super::super::tailnet::Tailnet;
use super::place::Places;
use super::subject::{End, Subject};
use super::told::{self, FilterRule, Packet, protocol_name};
use super::{ExplainError, Explainer, MAX_NEAR, NearMiss, RuleMatch, Verdict, few, verdict};
use crate::state::NodeId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;

/// Names that mean more pairs of nodes than this are too wide a question.
const MAX_PAIRS: usize = 10_000;
/// How many pairs an answer lists; it counts all of them.
const MAX_SHOWN: usize = 50;

/// The answer for packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessExplanation {
    pub source: String,
    pub destination: String,
    pub protocol: String,
    pub port: u16,
    pub verdict: Verdict,
    /// How many pairs of nodes the question means, and how many of them are let through.
    pub asked: usize,
    pub allowed: usize,
    /// Some of the pairs, those that are refused first.
    pub pairs: Vec<Pair>,
    /// The rules that let pairs through, as in the document.
    pub rules: Vec<RuleMatch>,
    /// For pairs that are refused: the rules that come closest.
    pub near_misses: Vec<NearMiss>,
    pub notes: Vec<String>,
}

/// A source and a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    pub source: End,
    pub destination: End,
    pub allowed: bool,
}

/// A pair with the packets that stand for it, one for each address family.
struct Asked<'s> {
    source: &'s Subject,
    destination: &'s Subject,
    node: NodeId,
    packets: Vec<Packet>,
}

pub(super) fn explain(
    explainer: &Explainer,
    source: &str,
    destination: &str,
    protocol: &str,
) -> Result<AccessExplanation, ExplainError> {
    let protocol = read_protocol(protocol)?;
    let (name, port) = read_destination(destination, protocol)?;
    let (sources, destinations) = (explainer.subjects(source)?, explainer.subjects(&name)?);
    let tailnet = explainer.tailnet_of(&[&sources, &destinations]);
    let mut notes = Vec::new();
    if destinations.iter().any(|subject| subject.device.is_none()) {
        notes.push(format!("no node has the address {name}, and none routes to it: no packet gets there"));
    }
    let asked = pairs(&sources, &destinations, protocol, port)?;
    if asked.is_empty() && notes.is_empty() {
        notes.push("there is no pair of two nodes here: a node reaches itself without a rule".into());
    }
    let view = explainer.whole(&tailnet);
    let open = explainer.policy.rules.is_none();
    let is_allowed = |pair: &Asked| {
        let filter = told::filter(&view.filter_of(pair.node));
        passes(&filter, &pair.packets)
    };
    let (allowed, refused): (Vec<Asked>, Vec<Asked>) = asked.into_iter().partition(is_allowed);
    if open {
        notes.push("the policy has neither \"acls\" nor \"grants\": everything is allowed".into());
    }
    let places = Places::of(explainer.text);
    let rules = || explainer.policy.rules.iter().flatten();
    let rule_matches = rules().filter_map(|rule| matched(explainer, &places, &tailnet, rule, &allowed)).collect();
    let mut near: Vec<(u8, NearMiss)> = match refused.first() {
        Some(pair) => rules().filter_map(|rule| missed(explainer, &places, &tailnet, rule, pair)).collect(),
        None => Vec::new(),
    };
    near.sort_by_key(|(rank, _)| *rank);
    let show = |pair: &Asked, allowed| Pair {
        source: pair.source.show(explainer, pair.packets.first().map(|packet| packet.from)),
        destination: pair.destination.show(explainer, pair.packets.first().map(|packet| packet.to)),
        allowed,
    };
    let shown = refused.iter().map(|pair| show(pair, false)).chain(allowed.iter().map(|pair| show(pair, true)));
    Ok(AccessExplanation {
        source: source.into(),
        destination: name.into(),
        protocol: protocol_name(protocol),
        port,
        verdict: verdict(allowed.len(), allowed.len() + refused.len()),
        asked: allowed.len() + refused.len(),
        allowed: allowed.len(),
        pairs: shown.take(MAX_SHOWN).collect(),
        rules: rule_matches,
        near_misses: near.into_iter().take(MAX_NEAR).map(|(_, miss)| miss).collect(),
        notes,
    })
}

fn read_protocol(text: &str) -> Result<u8, ExplainError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(6),
        "udp" => Ok(17),
        "icmp" => Ok(1),
        "ipv6-icmp" | "icmpv6" => Ok(58),
        "sctp" => Ok(132),
        other => other.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
            let text = format!("unknown protocol {text:?}: write tcp, udp, icmp, sctp, or a number from 1 to 255");
            ExplainError::Question(text)
        }),
    }
}

fn read_destination(text: &str, protocol: u8) -> Result<(Cow<'_, str>, u16), ExplainError> {
    let wrong = |why: &str| {
        ExplainError::Question(format!("destination {text:?}: {why}; write DST:PORT, such as \"server:443\""))
    };
    match host_and_ports(text) {
        Ok((name, ports)) => match ports.as_slice() {
            [Ports { first, last }] if first == last => Ok((name, *first)),
            [ports] if *ports == Ports::ALL && matches!(protocol, 1 | 58) => Ok((name, 0)),
            _ => Err(wrong("one port is asked about at a time")),
        },
        Err(_) if matches!(protocol, 1 | 58) => Ok((text.into(), 0)),
        Err(why) => Err(wrong(&why)),
    }
}

fn pairs<'s>(
    sources: &'s [Subject],
    destinations: &'s [Subject],
    protocol: u8,
    port: u16,
) -> Result<Vec<Asked<'s>>, ExplainError> {
    let count = sources.len() * destinations.len();
    if count > MAX_PAIRS {
        let text =
            format!("the question means {count} pairs of nodes, and at most {MAX_PAIRS} are looked at: name fewer");
        return Err(ExplainError::Question(text));
    }
    let mut pairs = Vec::new();
    for source in sources {
        for destination in destinations {
            let Some(device) = &destination.device else { continue };
            let is_same = source.device.as_ref().is_some_and(|from| from.id == device.id);
            if is_same && !source.routed && !destination.routed {
                continue;
            }
            let packets = packets(&source.ips, &destination.ips, protocol, port);
            pairs.push(Asked { source, destination, node: device.id, packets });
        }
    }
    Ok(pairs)
}

fn packets(from: &[IpAddr], to: &[IpAddr], protocol: u8, port: u16) -> Vec<Packet> {
    let all = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    let same = all.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
    let number = |ip: &IpAddr| match protocol {
        // Each family has its own.
        1 | 58 => 1 + 57 * u8::from(ip.is_ipv6()),
        other => other,
    };
    same.map(|(from, to)| Packet { from, to, protocol: number(&to), port }).collect()
}

/// Whether one of the packets gets through: a name may have addresses of both families, and
/// a client uses the one that works.
fn passes(filter: &[FilterRule], packets: &[Packet]) -> bool {
    packets.iter().any(|packet| filter.iter().any(|rule| rule.lets_through(packet)))
}

/// What one rule alone tells the node that decides.
fn alone(explainer: &Explainer, tailnet: &Tailnet, rule: Rule, node: NodeId) -> Vec<FilterRule> {
    told::filter(&explainer.with_rule(rule, tailnet).filter_of(node))
}

/// The rule with its names that fit, if it lets one of the pairs through.
fn matched(
    explainer: &Explainer,
    places: &Places,
    tailnet: &Tailnet,
    rule: &Rule,
    allowed: &[Asked],
) -> Option<RuleMatch> {
    let view = explainer.with_rule(rule.clone(), tailnet);
    let let_through = |pair: &&Asked| passes(&told::filter(&view.filter_of(pair.node)), &pair.packets);
    let pair = allowed.iter().find(let_through)?;
    let passes_alone = |rule: Rule| passes(&alone(explainer, tailnet, rule, pair.node), &pair.packets);
    let (section, number) = rule.number;
    let names = |field: &str, count: usize, variant: &dyn Fn(usize) -> Rule| -> Vec<String> {
        let texts = places.texts(section, number, field);
        if texts.len() != count {
            return texts;
        }
        texts.into_iter().enumerate().filter(|(n, _)| passes_alone(variant(*n))).map(|(_, text)| text).collect()
    };
    let destinations = rule.access.first().map_or(0, |access| access.destinations.len());
    Some(RuleMatch {
        rule: places.entry(section, number),
        sources: names("src", rule.sources.len(), &|n| Rule { sources: vec![rule.sources[n].clone()], ..rule.clone() }),
        destinations: names("dst", destinations, &|n| with_destination(rule, n)),
    })
}

fn with_destination(rule: &Rule, n: usize) -> Rule {
    let one = |access: &Access| Access {
        destinations: access.destinations.get(n).cloned().into_iter().collect(),
        ..access.clone()
    };
    Rule { access: rule.access.iter().map(one).collect(), ..rule.clone() }
}

/// How close a rule comes that does not let the pair through, and what is missing.
fn missed(
    explainer: &Explainer,
    places: &Places,
    tailnet: &Tailnet,
    rule: &Rule,
    pair: &Asked,
) -> Option<(u8, NearMiss)> {
    let (section, number) = rule.number;
    let everything = Access { protocol: None, destinations: vec![(Alias::Any, vec![Ports::ALL])] };
    let from_here = Rule { access: vec![everything], app: Default::default(), via: Vec::new(), ..rule.clone() };
    let told = alone(explainer, tailnet, from_here, pair.node);
    let is_source = pair.packets.iter().any(|packet| told.iter().any(|rule| rule.is_from(packet.from)));
    let is_self = |access: &Access| access.destinations.iter().any(|(alias, _)| *alias == Alias::SelfOwned);
    // Whose devices autogroup:self means depends on the source.
    let own = rule.access.iter().any(is_self);
    let from_all = match own {
        true => rule.clone(),
        false => Rule { sources: vec![Alias::DangerAll], ..rule.clone() },
    };
    let told = alone(explainer, tailnet, from_all, pair.node);
    let there: Vec<(&FilterRule, &Packet)> =
        pair.packets.iter().flat_map(|packet| told.iter().map(move |rule| (rule, packet))).collect();
    let at: Vec<_> = there
        .into_iter()
        .filter(|(rule, packet)| rule.is_to(packet.to) && (!own || rule.is_from(packet.from)))
        .collect();
    let (dst, src) = (few(&places.texts(section, number, "dst")), few(&places.texts(section, number, "src")));
    let packet = pair.packets.first()?;
    let with_protocol: Vec<_> = at.iter().filter(|(rule, packet)| rule.has_protocol(packet.protocol)).collect();
    let fits = with_protocol.iter().any(|(rule, packet)| rule.lets_through(packet));
    let (rank, why) = if rule.access.is_empty() && is_source {
        (3, "the source matches, but the rule grants capabilities only and lets no packet through".into())
    } else if is_source && !at.is_empty() && with_protocol.is_empty() {
        let known: Vec<String> = at.iter().map(|(rule, _)| rule.protocols()).collect();
        let name = protocol_name(packet.protocol);
        (0, format!("source and destination match, but it is for {}, not {name}", unique(known)))
    } else if is_source && !at.is_empty() {
        let ports = with_protocol.iter().flat_map(|(rule, packet)| rule.ports_at(packet.to)).collect();
        (1, format!("source and destination match, but it is for port {}, not {}", unique(ports), packet.port))
    } else if is_source {
        (3, format!("the source matches, the destination does not: {dst}"))
    } else if fits {
        (2, format!("destination and port match, the source does not: {src}"))
    } else if !at.is_empty() {
        (4, format!("the destination matches, the source does not: {src}"))
    } else {
        return None;
    };
    Some((rank, NearMiss { rule: places.entry(section, number), why }))
}

fn unique(mut texts: Vec<String>) -> String {
    texts.sort();
    texts.dedup();
    texts.join(", ")
}
