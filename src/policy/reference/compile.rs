//! Each rule becomes entries, one for each set of sources and each protocol, with all
//! devices that are a source or a destination of it.

use crate::policy::alias::{Alias, Names};
use crate::policy::program::COMPANIONS;
use crate::policy::ranges::{Range, TAILNET};
use crate::policy::rule::{Ports, Rule};
use crate::policy::tailnet::{Device, Tailnet};
use crate::state::{Tag, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sources, and what they may reach.
#[derive(Debug)]
pub(super) struct Entry {
    pub sources: Sources,
    pub grant: Grant,
}

/// Where packets may come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// All addresses there are.
    pub everywhere: bool,
    pub ranges: BTreeSet<Range>,
    /// By the device's place in [`Tailnet::devices`].
    pub devices: Vec<bool>,
}

/// What an entry allows.
#[derive(Debug)]
pub(super) enum Grant {
    /// `None`: TCP, UDP and ICMP.
    Packets { protocol: Option<u8>, targets: Vec<Target> },
    /// A JSON object: capabilities and their values.
    Capabilities { map: Arc<str>, targets: Vec<Target> },
}

/// A destination.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub to: Place,
    pub ports: Vec<Ports>,
    /// Through routers with one of these tags only, where it is not empty.
    pub via: Vec<Tag>,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Everything,
    /// By the device's place in [`Tailnet::devices`].
    Devices(Vec<bool>),
    Range(Range),
    Internet,
}

/// The entries of all rules.
pub(super) fn entries(rules: Option<&[Rule]>, names: &Names, tailnet: &Tailnet) -> Vec<Entry> {
    let mut compiler =
        Compiler { names, tailnet, routes: routes(tailnet), entries: Vec::new(), known: BTreeMap::new() };
    match rules {
        None => {
            let target = Target { to: Place::Everything, ports: vec![Ports::ALL], via: Vec::new() };
            compiler.packets(compiler.sources(&[Alias::Any]), None, vec![target]);
        }
        Some(rules) => rules.iter().for_each(|rule| compiler.rule(rule)),
    }
    compiler.entries
}

/// All subnets behind routers, and addresses of devices outside the usual ranges:
/// with [`TAILNET`], what `*` means as a source.
fn routes(tailnet: &Tailnet) -> BTreeSet<Range> {
    let mut all: BTreeSet<Range> = TAILNET.into_iter().collect();
    for device in &tailnet.devices {
        all.extend(device.routes.iter().map(|route| Range::from(*route)));
        let outside = device.ips.iter().filter(|ip| !TAILNET.iter().any(|range| range.contains(**ip)));
        all.extend(outside.map(|ip| Range::from(*ip)));
    }
    all
}

/// What tells entries apart that could be one.
type Key = (bool, BTreeSet<Range>, Option<u8>);

struct Compiler<'p> {
    names: &'p Names,
    tailnet: &'p Tailnet,
    routes: BTreeSet<Range>,
    entries: Vec<Entry>,
    /// Entries for packets, by their sources and protocol.
    known: BTreeMap<Key, usize>,
}

impl Compiler<'_> {
    fn rule(&mut self, rule: &Rule) {
        assert!(rule.postures.is_empty(), "postures are not in the plain semantics");
        let sources = self.sources(&rule.sources);
        for access in &rule.access {
            let destinations = || access.destinations.iter().map(|(alias, ports)| (alias, ports.as_slice()));
            let targets = self.targets(destinations(), &rule.via);
            self.packets(sources.clone(), access.protocol, targets);
            let own: Vec<Ports> = destinations()
                .filter(|(alias, _)| **alias == Alias::SelfOwned)
                .flat_map(|(_, ports)| ports.to_vec())
                .collect();
            if !own.is_empty() {
                for (sources, to) in self.own_devices(&rule.sources) {
                    let target = Target { to, ports: own.clone(), via: Vec::new() };
                    self.packets(sources, access.protocol, vec![target]);
                }
            }
        }
        if !rule.app.is_empty() {
            self.capabilities(rule, &sources);
        }
    }

    /// Adds destinations for packets, to an entry with the same sources if there is one.
    fn packets(&mut self, sources: Sources, protocol: Option<u8>, targets: Vec<Target>) {
        if sources.is_empty() || targets.is_empty() {
            return;
        }
        let key = (sources.everywhere, sources.ranges.clone(), protocol);
        if let Some(known) = self.known.get(&key) {
            let entry = &mut self.entries[*known];
            // Nobody else adds to `known`.
            if let Grant::Packets { targets: known, .. } = &mut entry.grant {
                known.extend(targets);
            }
            return;
        }
        self.known.insert(key, self.entries.len());
        self.entries.push(Entry { sources, grant: Grant::Packets { protocol, targets } });
    }

    fn capabilities(&mut self, rule: &Rule, sources: &Sources) {
        let destinations = || rule.app_destinations.iter().map(|alias| (alias, [].as_slice()));
        let targets = self.targets(destinations(), &rule.via);
        let map = serde_json::to_string(&rule.app).expect("JSON values have only texts as keys");
        let back: BTreeMap<&str, ()> = COMPANIONS
            .iter()
            .filter(|(name, _)| rule.app.contains_key(*name))
            .map(|(_, companion)| (*companion, ()))
            .collect();
        let back_map = serde_json::to_string(&back).expect("JSON values have only texts as keys");
        if !rule.sources.is_empty() {
            self.grant(sources.clone(), &map, targets);
        }
        let own = if rule.app_destinations.contains(&Alias::SelfOwned) {
            self.own_devices(&rule.sources)
        } else {
            Vec::new()
        };
        for (sources, to) in &own {
            let target = Target { to: to.clone(), ports: Vec::new(), via: Vec::new() };
            self.grant(sources.clone(), &map, vec![target]);
        }
        if back.is_empty() {
            return;
        }
        let back_sources = self.sources(&rule.app_destinations);
        let back_targets = self.targets(rule.sources.iter().map(|alias| (alias, [].as_slice())), &[]);
        if !back_sources.is_empty() {
            self.grant(back_sources, &back_map, back_targets);
        }
        for (sources, to) in own {
            self.grant(sources, &back_map, vec![Target { to, ports: Vec::new(), via: Vec::new() }]);
        }
    }

    /// Sources that mean nobody at the moment are kept, as the service does.
    fn grant(&mut self, sources: Sources, map: &str, targets: Vec<Target>) {
        if !targets.is_empty() {
            let grant = Grant::Capabilities { map: map.into(), targets };
            self.entries.push(Entry { sources, grant });
        }
    }

    fn sources(&self, aliases: &[Alias]) -> Sources {
        let devices = &self.tailnet.devices;
        let mut sources = Sources { devices: vec![false; devices.len()], ..Sources::default() };
        for alias in aliases {
            match alias {
                Alias::Any => {
                    sources.ranges.extend(&self.routes);
                    sources.devices.fill(true);
                }
                Alias::DangerAll => {
                    sources.everywhere = true;
                    sources.devices.fill(true);
                }
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => {
                    let range = Range::from(*net);
                    sources.ranges.insert(range);
                    for (device, is_source) in devices.iter().zip(&mut sources.devices) {
                        *is_source |= device.is_in(&range) || device.routes_to(&range);
                    }
                }
                Alias::SelfOwned | Alias::Internet => {}
                _ => {
                    let users = alias.users(self.names, self.tailnet);
                    for (device, is_source) in devices.iter().zip(&mut sources.devices) {
                        if alias.owns(users.as_ref(), device) {
                            *is_source = true;
                            sources.ranges.extend(device.ips.iter().map(|ip| Range::from(*ip)));
                        }
                    }
                }
            }
        }
        sources
    }

    /// Destinations but for `autogroup:self`, which is another one for each user.
    fn targets<'a>(&self, destinations: impl Iterator<Item = (&'a Alias, &'a [Ports])>, via: &[Tag]) -> Vec<Target> {
        let mut targets = Vec::new();
        for (alias, ports) in destinations {
            let to = match alias {
                Alias::SelfOwned => continue,
                Alias::Any | Alias::DangerAll => Place::Everything,
                Alias::Internet => Place::Internet,
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => Place::Range(Range::from(*net)),
                _ => {
                    let users = alias.users(self.names, self.tailnet);
                    let devices = self.tailnet.devices.iter();
                    Place::Devices(devices.map(|device| alias.owns(users.as_ref(), device)).collect())
                }
            };
            targets.push(Target { to, ports: ports.to_vec(), via: via.to_vec() });
        }
        targets
    }

    /// For each user of these sources: the user's own devices, as sources and as a destination.
    fn own_devices(&self, aliases: &[Alias]) -> Vec<(Sources, Place)> {
        let of_alias = |alias: &Alias| alias.users(self.names, self.tailnet).unwrap_or_default();
        let users: BTreeSet<UserId> = aliases.iter().flat_map(of_alias).collect();
        let own = |user: UserId| {
            let is_own = |device: &Device| device.user() == Some(user);
            let devices: Vec<bool> = self.tailnet.devices.iter().map(is_own).collect();
            let ips = self.tailnet.devices.iter().filter(|device| is_own(device)).flat_map(|device| &device.ips);
            let ranges: BTreeSet<Range> = ips.map(|ip| Range::from(*ip)).collect();
            (Sources { everywhere: false, ranges, devices: devices.clone() }, Place::Devices(devices))
        };
        users.into_iter().map(own).filter(|(sources, _)| !sources.is_empty()).collect()
    }
}

impl Sources {
    pub fn is_empty(&self) -> bool {
        !self.everywhere && self.ranges.is_empty()
    }
}

impl Grant {
    pub fn targets(&self) -> &[Target] {
        match self {
            Self::Packets { targets, .. } | Self::Capabilities { targets, .. } => targets,
        }
    }
}

impl Target {
    /// Whether packets for it go to this device, the one at `place` in the tailnet.
    pub fn is_at(&self, device: &Device, place: usize) -> bool {
        if !self.via.is_empty() {
            return self.via.iter().any(|tag| device.has_tag(tag))
                && match &self.to {
                    Place::Range(range) => device.routes_to(range),
                    Place::Internet => device.exit,
                    Place::Everything | Place::Devices(_) => false,
                };
        }
        match &self.to {
            Place::Everything => true,
            Place::Devices(devices) => devices.get(place).copied().unwrap_or(false),
            Place::Range(range) => device.is_in(range) || device.routes_to(range),
            Place::Internet => device.exit,
        }
    }
}
