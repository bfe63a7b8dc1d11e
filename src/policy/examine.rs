//! A policy's own `tests` and `sshTests`.

use super::alias::Alias;
use super::answer::{Answers, Packet};
use super::classes::Classes;
use super::parse::host_and_ports;
use super::rule::{SshTest, Test};
use super::ssh::{self, SshEntry};
use super::tailnet::Tailnet;
use super::{Policy, PolicyError};
use std::net::IpAddr;

/// The service's words, above what went wrong.
const FAILED: &str = "test(s) failed";
const TCP: u8 = 6;
const UDP: u8 = 17;

impl PolicyError {
    /// Whether the text is a policy that does not do what its own tests say.
    pub fn is_failed_test(&self) -> bool {
        self.0.starts_with(FAILED)
    }
}

impl Policy {
    /// Runs the policy's own tests.
    pub(super) fn run_tests(&self, tailnet: &Tailnet) -> Result<(), PolicyError> {
        if self.tests.is_empty() && self.ssh_tests.is_empty() {
            return Ok(());
        }
        let tailnet = &tailnet.with_stand_ins(self.tag_owners.keys());
        let mut faults = Vec::new();
        // What a test is about is what it says, whatever the machines are at the moment.
        let mut remaining: Vec<&Test> = self.tests.iter().collect();
        while let Some(first) = remaining.first().copied() {
            let alike = |test: &&Test| test.facts == first.facts || !self.asks_postures();
            let (now, later): (Vec<&Test>, Vec<&Test>) = remaining.into_iter().partition(alike);
            let tailnet = &tailnet.with_facts(&first.facts);
            let classes = Classes::of(self, tailnet.clone());
            let examiner = Examiner { policy: self, tailnet, answers: Answers::new(&classes) };
            now.into_iter().for_each(|test| examiner.test(test, &mut faults));
            remaining = later;
        }
        for test in &self.ssh_tests {
            let tailnet = &tailnet.with_facts(&test.facts);
            let entries = ssh::entries(&self.ssh, &self.names, tailnet);
            self.ssh_test(tailnet, &entries, test, &mut faults);
        }
        if faults.is_empty() { Ok(()) } else { Err(PolicyError(format!("{FAILED}:\n{}", faults.join("\n")))) }
    }

    fn ssh_test(&self, tailnet: &Tailnet, entries: &[SshEntry], test: &SshTest, faults: &mut Vec<String>) {
        let SshTest { source, destinations, accept, deny, check, .. } = test;
        if accept.is_empty() && deny.is_empty() && check.is_empty() {
            return faults.push(format!("{source}: a test needs \"accept\", \"deny\" or \"check\""));
        }
        let Some(sources) = self.devices(tailnet, source).filter(|devices| devices.contains(&true)) else {
            return faults.push(format!("{source}: the source means no node"));
        };
        let from: Vec<usize> = (0..sources.len()).filter(|place| sources[*place]).collect();
        for alias in destinations {
            let to: Vec<usize> = match alias {
                Alias::SelfOwned => from.clone(),
                _ => self.places(tailnet, alias),
            };
            let answer = |user: &str, from: usize, to: usize| {
                let fits = |entry: &&SshEntry| entry.sources[from] && entry.destinations[to] && entry.allows(user);
                entries.iter().find(fits).map(|entry| entry.check.is_some())
            };
            let pairs = || from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
            let mut expect = |users: &[String], expected: Option<bool>| {
                for user in users {
                    let wrong = to.is_empty() && expected.is_some();
                    let fault = pairs().map(|(from, to)| answer(user, from, to)).find(|answer| *answer != expected);
                    if wrong || fault.is_some() {
                        let (expected, got) = (said(expected), said(fault.flatten()));
                        faults.push(format!("{source}/{user} -> {alias:?}: expected {expected}, got {got}"));
                    }
                }
            };
            expect(accept, Some(false));
            expect(check, Some(true));
            expect(deny, None);
        }
    }

    /// The nodes that a name means, by their place; `None`: it means nothing.
    fn devices(&self, tailnet: &Tailnet, text: &str) -> Option<Vec<bool>> {
        let alias = self.names.alias(text).ok()?;
        let places = self.places(tailnet, &alias);
        let mut devices = vec![false; tailnet.devices.len()];
        places.into_iter().for_each(|place| devices[place] = true);
        Some(devices)
    }

    fn places(&self, tailnet: &Tailnet, alias: &Alias) -> Vec<usize> {
        let users = alias.users(&self.names, tailnet);
        let range = alias.net().map(super::ranges::Range::from);
        let devices = tailnet.devices.iter().enumerate();
        let is_one = |device: &super::tailnet::Device| match range {
            Some(range) => device.is_in(&range),
            None => *alias == Alias::Any || alias.owns(users.as_ref(), device),
        };
        devices.filter(|(_, device)| is_one(device)).map(|(place, _)| place).collect()
    }
}

fn said(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "ALLOWED via check",
        Some(false) => "ALLOWED via accept",
        None => "DENIED",
    }
}

struct Examiner<'p> {
    policy: &'p Policy,
    tailnet: &'p Tailnet,
    answers: Answers<'p>,
}

impl Examiner<'_> {
    fn test(&self, test: &Test, faults: &mut Vec<String>) {
        let Test { source, protocol, accept, deny, .. } = test;
        if accept.is_empty() && deny.is_empty() {
            return faults.push(format!("{source}: a test needs \"accept\" or \"deny\""));
        }
        let protocols: &[u8] = match protocol.as_str() {
            "" => &[TCP, UDP],
            "tcp" | "6" => &[TCP],
            "udp" | "17" => &[UDP],
            "sctp" | "132" => &[132],
            _ => {
                return faults.push(format!("{source}: proto {protocol:?} must be \"tcp\", \"udp\", \"sctp\" or none"));
            }
        };
        let Some(sources) = self.addresses(source) else {
            return faults.push(format!("{source:?}: the source means no user, group, tag, host or address"));
        };
        for (destinations, expected) in [(accept, true), (deny, false)] {
            for destination in destinations {
                match self.answer(source, &sources, destination, protocols) {
                    Err(fault) => faults.push(format!("{source} -> {destination}: {fault}")),
                    Ok((all, any)) => {
                        let right = if expected { all } else { !any };
                        if !right {
                            let protocol = if protocol.is_empty() { String::new() } else { format!(" ({protocol})") };
                            let words = if expected { ("ALLOWED", "DENIED") } else { ("DENIED", "ALLOWED") };
                            let (expected, got) = words;
                            faults.push(format!("{source} -> {destination}{protocol}: expected {expected}, got {got}"));
                        }
                    }
                }
            }
        }
    }

    /// The addresses of a source; `None`: the name means nothing.
    fn addresses(&self, text: &str) -> Option<Vec<IpAddr>> {
        let alias = self.policy.names.alias(text).ok()?;
        if let Alias::User(token) = &alias {
            token.find(&self.tailnet.people)?;
        }
        match alias.net() {
            Some(net) if net.prefix_len() == net.max_prefix_len() => Some(vec![net.addr()]),
            Some(_) => None,
            None => {
                let places = self.policy.places(self.tailnet, &alias);
                Some(places.into_iter().flat_map(|place| self.tailnet.devices[place].ips.clone()).collect())
            }
        }
    }

    /// Whether all, and whether any, of the sources reach the destination.
    fn answer(
        &self,
        source: &str,
        sources: &[IpAddr],
        destination: &str,
        protocols: &[u8],
    ) -> Result<(bool, bool), String> {
        let (name, ports) = host_and_ports(destination)?;
        let &[ports] = ports.as_slice() else { return Err("a test is for one port".into()) };
        if ports.first != ports.last {
            return Err("a test is for one port".into());
        }
        let name = &*name;
        let alias = self.policy.names.alias(name).map_err(|_| format!("{name:?} is not known"))?;
        let targets = match alias {
            Alias::Any | Alias::Internet | Alias::DangerAll => return Err(format!("{name:?} is no single place")),
            Alias::SelfOwned => {
                let personal = self.policy.names.alias(source).is_ok_and(|alias| alias.is_personal());
                if !personal {
                    return Err("only users have autogroup:self".into());
                }
                sources.to_vec()
            }
            _ => self.addresses(name).ok_or_else(|| format!("{name:?} is no single place"))?,
        };
        let (mut all, mut any, mut pairs) = (true, false, 0);
        for from in sources {
            for to in targets.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
                let reached = self.reaches(*from, *to, ports.first, protocols);
                all &= reached;
                any |= reached;
                pairs += 1;
            }
        }
        Ok((all && pairs > 0, any))
    }

    fn reaches(&self, from: IpAddr, to: IpAddr, port: u16, protocols: &[u8]) -> bool {
        self.answers.lines(from, to, Packet { protocols, port }).next().is_some()
    }
}
