//! A policy's rules in terms of selectors: what is the same whatever users and
//! devices there are.

use super::Policy;
use super::alias::{Alias, Names};
use super::bits::Bits;
use super::posture::Posture;
use super::ranges::Range;
use super::rule::{Ports, Rule, SshRule, SshUser};
use super::selector::{Selector, Selectors};
use crate::state::{Tag, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Capabilities whose grant gives the destination one on the source in return.
pub(super) const COMPANIONS: [(&str, &str); 2] = [
    ("tailscale.com/cap/drive", "tailscale.com/cap/drive-sharer"),
    ("tailscale.com/cap/relay", "tailscale.com/cap/relay-target"),
];

/// The rules of one policy.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub selectors: Selectors,
    /// Each set of sources that a rule has, once.
    pub sources: Vec<SourceSpec>,
    pub lines: Vec<Line>,
    /// Those that ask come first, as in the document otherwise.
    pub ssh: Vec<SshLine>,
    index: Index,
    /// The classes that were seen so far: they keep their numbers.
    known: Mutex<BTreeMap<Key, (usize, Arc<Shape>)>>,
}

/// What the policy knows of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    bits: Bits,
    /// The user, where a rule is about each user's own devices.
    own: Option<UserId>,
}

/// What a class of devices is, whichever are in it.
#[derive(Debug)]
pub(super) struct Shape {
    pub bits: Bits,
    pub own: Option<UserId>,
    /// The sources that its devices are among.
    pub from: Bits,
    /// The sources whose packets may reach it.
    pub to: Bits,
    /// The sources whose lists have its addresses.
    pub feeds: Bits,
    /// The sources that its SSH rules name.
    pub ssh: Bits,
    /// Lines with a target here, ascending.
    pub lines: Vec<usize>,
    /// Lines from the user's own devices.
    pub own_lines: Vec<usize>,
}

/// What a class is found by: lines and sources that ask for a selector.
#[derive(Debug, Default)]
struct Index {
    /// By selector: lines with a target at devices for which it holds.
    lines_at: Vec<Vec<usize>>,
    /// Lines that concern every device.
    lines_at_all: Vec<usize>,
    /// Lines from each user's devices to the user's own.
    own_lines: Vec<usize>,
    /// By selector: sources that such a device is one of.
    sources_of: Vec<Vec<usize>>,
    /// Sources that every device is one of.
    sources_of_all: Vec<usize>,
    /// By selector: sources that have such a device's addresses.
    fed_by: Vec<Vec<usize>>,
}

/// Where packets or sessions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceSpec {
    /// All addresses there are.
    pub everywhere: bool,
    /// `*`: the tailnet, and all subnets behind it.
    pub any: bool,
    pub ranges: BTreeSet<Range>,
    /// Devices for which one of these holds, with their addresses.
    pub owners: Bits,
    /// Devices that have, or route to, an address of `ranges`.
    pub places: Bits,
}

/// One rule for packets or capabilities.
#[derive(Debug)]
pub(super) struct Line {
    pub from: From,
    pub gives: Gives,
    pub targets: Vec<Aim>,
    /// Whether it is kept where the sources mean nobody at the moment.
    pub kept_empty: bool,
}

#[derive(Debug)]
pub(super) enum From {
    /// By number in [`Program::sources`].
    Sources(usize),
    /// Each user's own devices, for users of whose devices one of these holds; `None`: for all;
    /// of those the ones with one of these postures, where there are any.
    Own(Option<Bits>, Vec<Arc<Posture>>),
}

#[derive(Debug)]
pub(super) enum Gives {
    /// `None`: TCP, UDP and ICMP.
    Packets(Option<u8>),
    /// A JSON object: capabilities and their values.
    Capabilities(Arc<str>),
}

/// A destination.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub to: Whither,
    pub ports: Vec<Ports>,
    /// A device is part of it when one of these holds; `None`: every device is.
    pub here: Option<Bits>,
    /// Only through routers with one of these tags, where it is not empty.
    pub via: Arc<[Tag]>,
    /// Whether it is a part of the internet, behind exit nodes.
    pub beyond: bool,
}

impl Aim {
    /// All devices, or those for which one of `here` holds.
    fn at(to: Whither, ports: Vec<Ports>, here: Option<Bits>) -> Self {
        Self { to, ports, here, via: Arc::default(), beyond: false }
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Whither {
    Everything,
    /// The devices themselves.
    Devices,
    Range(Range),
    Internet,
}

/// One rule for SSH.
#[derive(Debug)]
pub(super) struct SshLine {
    pub source: usize,
    /// Devices of others; the user's own are in `own`.
    pub destinations: Bits,
    /// Whether there are destinations but the user's own.
    pub to_others: bool,
    /// `autogroup:self`
    pub to_self: bool,
    /// Where a user may log in as the part of the e-mail address before the `@`.
    pub domains: Vec<String>,
    pub rule: SshRule,
}

impl Program {
    pub fn new(policy: &Policy) -> Self {
        let mut builder = Builder { names: &policy.names, program: Self::default(), known: BTreeMap::new() };
        match &policy.rules {
            _ if policy.closed => {}
            None => builder.everything(),
            Some(rules) => rules.iter().for_each(|rule| builder.rule(rule)),
        }
        for check in [true, false] {
            policy.ssh.iter().filter(|rule| rule.check.is_some() == check).for_each(|rule| builder.ssh(rule));
        }
        let mut program = builder.program;
        program.selectors.add_attributes(policy);
        program.index = Index::new(&program);
        program
    }

    /// The class of devices for which these selectors hold.
    pub fn class(&self, bits: Bits, user: Option<UserId>) -> (usize, Arc<Shape>) {
        let own = |line: &&usize| match &self.lines[**line].from {
            From::Own(of, _) => user.is_some() && of.as_ref().is_none_or(|of| of.meets(&bits)),
            From::Sources(_) => false,
        };
        let own_lines: Vec<usize> = self.index.own_lines.iter().filter(own).copied().collect();
        let has_own = !own_lines.is_empty() || self.ssh.iter().any(|line| line.is_for_own(self, &bits));
        let key = Key { bits, own: user.filter(|_| has_own) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len();
        let (id, shape) = known.entry(key).or_insert_with_key(|key| (next, Arc::new(self.shape(key, own_lines))));
        (*id, shape.clone())
    }

    fn shape(&self, key: &Key, own_lines: Vec<usize>) -> Shape {
        let bits = &key.bits;
        let mut lines: Vec<usize> =
            self.index.lines_at_all.iter().copied().chain(of(&self.index.lines_at, bits)).collect();
        lines.sort_unstable();
        lines.dedup();
        let ssh = self.ssh.iter().filter(|line| line.destinations.meets(bits) || line.is_for_own(self, bits));
        Shape {
            from: self.index.sources_of_all.iter().copied().chain(of(&self.index.sources_of, bits)).collect(),
            to: lines.iter().filter_map(|line| self.lines[*line].source()).collect(),
            feeds: of(&self.index.fed_by, bits).collect(),
            ssh: ssh.map(|line| line.source).collect(),
            lines,
            own_lines,
            bits: key.bits.clone(),
            own: key.own,
        }
    }

    /// Whether what a node is told hangs on the users' e-mail addresses themselves.
    pub fn names_people(&self) -> bool {
        self.ssh.iter().any(|line| !line.domains.is_empty())
    }
}

impl SshLine {
    /// Whether a user whose devices have these bits gets a rule for them.
    pub fn is_for_own(&self, program: &Program, bits: &Bits) -> bool {
        (self.to_self || !self.domains.is_empty()) && program.sources[self.source].owners.meets(bits)
    }
}

impl Line {
    /// The number of its sources, where they are not the user's own devices.
    pub fn source(&self) -> Option<usize> {
        match self.from {
            From::Sources(source) => Some(source),
            From::Own(..) => None,
        }
    }
}

fn of<'i>(index: &'i [Vec<usize>], bits: &'i Bits) -> impl Iterator<Item = usize> + 'i {
    bits.iter().filter_map(|bit| index.get(bit)).flatten().copied()
}

impl Index {
    fn new(program: &Program) -> Self {
        let mut index = Self::default();
        let add = |list: &mut Vec<Vec<usize>>, bits: &Bits, number: usize| {
            for bit in bits.iter() {
                if list.len() <= bit {
                    list.resize_with(bit + 1, Vec::new);
                }
                list[bit].push(number);
            }
        };
        for (number, line) in program.lines.iter().enumerate() {
            if matches!(line.from, From::Own(..)) {
                index.own_lines.push(number);
                continue;
            }
            for aim in &line.targets {
                match &aim.here {
                    None => index.lines_at_all.push(number),
                    Some(here) => add(&mut index.lines_at, here, number),
                }
            }
        }
        for (number, source) in program.sources.iter().enumerate() {
            if source.everywhere || source.any {
                index.sources_of_all.push(number);
            }
            add(&mut index.sources_of, &source.owners, number);
            add(&mut index.sources_of, &source.places, number);
            add(&mut index.fed_by, &source.owners, number);
        }
        index
    }
}

struct Builder<'p> {
    names: &'p Names,
    program: Program,
    known: BTreeMap<SourceSpec, usize>,
}

impl Builder<'_> {
    /// Everybody may reach everything.
    fn everything(&mut self) {
        let from = From::Sources(self.source(&[Alias::Any], &[]));
        let targets = vec![Aim::at(Whither::Everything, vec![Ports::ALL], None)];
        self.program.lines.push(Line { from, gives: Gives::Packets(None), targets, kept_empty: false });
    }

    fn rule(&mut self, rule: &Rule) {
        let source = self.source(&rule.sources, &rule.postures);
        for access in &rule.access {
            let destinations = || access.destinations.iter().map(|(alias, ports)| (alias, ports.as_slice()));
            let targets = self.targets(destinations(), &rule.via);
            self.line(From::Sources(source), Gives::Packets(access.protocol), targets, false);
            let own = destinations().filter(|(alias, _)| **alias == Alias::SelfOwned);
            let ports: Vec<Ports> = own.flat_map(|(_, ports)| ports.to_vec()).collect();
            if !ports.is_empty() {
                self.own(rule, Gives::Packets(access.protocol), ports);
            }
        }
        if !rule.app.is_empty() {
            self.capabilities(rule, source);
        }
    }

    fn capabilities(&mut self, rule: &Rule, source: usize) {
        let map: Arc<str> = json(&rule.app).into();
        let companions = COMPANIONS.iter().filter(|(name, _)| rule.app.contains_key(*name));
        let back: BTreeMap<&str, ()> = companions.map(|(_, companion)| (*companion, ())).collect();
        let back_map: Option<Arc<str>> = (!back.is_empty()).then(|| json(&back).into());
        if !rule.sources.is_empty() {
            let targets = self.targets(rule.app_destinations.iter().map(|alias| (alias, [].as_slice())), &rule.via);
            self.line(From::Sources(source), Gives::Capabilities(map.clone()), targets, true);
        }
        if rule.app_destinations.contains(&Alias::SelfOwned) {
            for map in [Some(map), back_map.clone()].into_iter().flatten() {
                self.own(rule, Gives::Capabilities(map), Vec::new());
            }
        }
        if let Some(map) = back_map {
            let from = From::Sources(self.source(&rule.app_destinations, &[]));
            let targets = if rule.postures.is_empty() {
                self.targets(rule.sources.iter().map(|alias| (alias, [].as_slice())), &[])
            } else {
                // Back to the machines that the rule lets in.
                let here = self.program.sources[source].owners.clone();
                vec![Aim::at(Whither::Devices, Vec::new(), Some(here))]
            };
            self.line(from, Gives::Capabilities(map), targets, false);
        }
    }

    /// From each user's devices to the user's own.
    fn own(&mut self, rule: &Rule, gives: Gives, ports: Vec<Ports>) {
        let sources = &rule.sources;
        let everybody = sources.iter().any(|alias| matches!(alias, Alias::Any | Alias::Member));
        let users = sources.iter().filter(|alias| alias.is_personal());
        let of: Bits = users.filter_map(|alias| self.program.selectors.of_owner(alias, self.names)).collect();
        let targets = vec![Aim::at(Whither::Devices, ports, None)];
        self.line(From::Own((!everybody).then_some(of), rule.postures.clone()), gives, targets, false);
    }

    fn line(&mut self, from: From, gives: Gives, targets: Vec<Aim>, kept_empty: bool) {
        if !targets.is_empty() {
            self.program.lines.push(Line { from, gives, targets, kept_empty });
        }
    }

    fn source(&mut self, aliases: &[Alias], postures: &[Arc<Posture>]) -> usize {
        let mut spec = SourceSpec::default();
        if !postures.is_empty() {
            // Addresses of machines only: of others nothing is known.
            aliases.iter().for_each(|alias| spec.owners.add(&self.postured(alias, postures)));
            return self.intern(spec);
        }
        for alias in aliases {
            match alias {
                Alias::Any => spec.any = true,
                Alias::DangerAll => spec.everywhere = true,
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => {
                    let range = Range::from(*net);
                    spec.ranges.insert(range);
                    spec.places.add(&self.at(range));
                }
                _ => self.owners(alias).into_iter().for_each(|number| spec.owners.set(number)),
            }
        }
        self.intern(spec)
    }

    fn intern(&mut self, spec: SourceSpec) -> usize {
        let next = self.program.sources.len();
        let number = *self.known.entry(spec.clone()).or_insert(next);
        if number == next {
            self.program.sources.push(spec);
        }
        number
    }

    fn owners(&mut self, alias: &Alias) -> Option<usize> {
        self.program.selectors.of_owner(alias, self.names)
    }

    /// Devices that an alias means by their owner or address, as far as their machines
    /// have one of these postures.
    fn postured(&mut self, alias: &Alias, postures: &[Arc<Posture>]) -> Bits {
        let inner = match (alias, alias.net()) {
            (Alias::Any | Alias::DangerAll, _) => None,
            (_, Some(net)) => Some(self.selector(Selector::In(Range::from(net)))),
            _ => match self.owners(alias) {
                Some(number) => Some(number),
                None => return Bits::default(),
            },
        };
        Bits::from_iter([self.selector(Selector::Postured(inner, postures.to_vec()))])
    }

    fn selector(&mut self, selector: Selector) -> usize {
        self.program.selectors.number(selector, self.names)
    }

    /// Devices that have, or route to, an address of the range.
    fn at(&mut self, range: Range) -> Bits {
        [self.selector(Selector::In(range)), self.selector(Selector::RoutesTo(range))].into_iter().collect()
    }

    /// Destinations but for `autogroup:self`, which is another one for each user.
    fn targets<'a>(&mut self, aliases: impl Iterator<Item = (&'a Alias, &'a [Ports])>, via: &[Tag]) -> Vec<Aim> {
        let mut targets = Vec::new();
        for (alias, ports) in aliases {
            let beyond = matches!(alias, Alias::Beyond(_));
            let (to, here) = match alias {
                Alias::SelfOwned => continue,
                Alias::Any | Alias::DangerAll => (Whither::Everything, None),
                Alias::Internet => {
                    let exit = self.selector(Selector::Exit);
                    (Whither::Internet, Some(Bits::from_iter([exit])))
                }
                Alias::Host(_, net) | Alias::Net(net) | Alias::Beyond(net) => {
                    let range = Range::from(*net);
                    let mut here = self.at(range);
                    if beyond {
                        here.set(self.selector(Selector::Exit));
                    }
                    (Whither::Range(range), Some(here))
                }
                _ => (Whither::Devices, Some(self.owners(alias).into_iter().collect())),
            };
            let here = if via.is_empty() { here } else { Some(self.routers(&to, via, beyond)) };
            targets.push(Aim { to, ports: ports.to_vec(), here, via: via.into(), beyond });
        }
        targets
    }

    /// The routers with one of these tags through which packets for `to` go.
    fn routers(&mut self, to: &Whither, via: &[Tag], beyond: bool) -> Bits {
        let mut routers = Bits::default();
        if let Whither::Range(range) = to {
            routers.set(self.selector(Selector::Router(via.to_vec(), Some(*range))));
        }
        if beyond || matches!(to, Whither::Internet) {
            routers.set(self.selector(Selector::Router(via.to_vec(), None)));
        }
        routers
    }

    fn ssh(&mut self, rule: &SshRule) {
        let owners = |builder: &mut Self, aliases: &[Alias]| -> Bits {
            aliases.iter().filter_map(|alias| builder.owners(alias)).collect()
        };
        let domain = |user: &SshUser| match user {
            SshUser::LocalPart(domain) => Some(domain.clone()),
            _ => None,
        };
        let line = SshLine {
            source: self.source(&rule.sources, &rule.postures),
            destinations: owners(self, &rule.destinations),
            to_others: rule.destinations.iter().any(|alias| *alias != Alias::SelfOwned),
            to_self: rule.destinations.contains(&Alias::SelfOwned),
            domains: rule.users.iter().filter_map(domain).collect(),
            rule: rule.clone(),
        };
        self.program.ssh.push(line);
    }
}

fn json(map: &impl serde::Serialize) -> String {
    serde_json::to_string(map).expect("JSON values have only texts as keys")
}
