//! What a policy can tell of a device: each is one bit of the device's class.

use super::Policy;
use super::alias::{Alias, Names, domain_of};
use super::bits::Bits;
use super::posture::Posture;
use super::ranges::Range;
use super::tailnet::{Device, Person};
use super::users::UserToken;
use crate::state::{Owner, Tag};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One thing that rules ask of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selector {
    /// It belongs to the one user that this text names.
    User(String),
    /// It belongs to a user of this group.
    Group(String),
    /// It belongs to a user whose e-mail address is in this domain.
    Domain(String),
    /// It belongs to a user with this role.
    Role(String),
    /// It belongs to a user.
    Member,
    /// It has a tag.
    Tagged,
    Tag(Tag),
    /// An address of its own is in the range.
    In(Range),
    /// It routes to a part of the range.
    RoutesTo(Range),
    /// It is an exit node.
    Exit,
    /// This one holds (`None`: any device will do), and its machine has one of the postures.
    Postured(Option<usize>, Vec<Arc<Posture>>),
    /// It has one of the tags, and routes to a part of the range; no range: it is an exit node.
    Router(Vec<Tag>, Option<Range>),
}

/// All selectors of one policy, numbered, and how those that hold for a device are
/// found without trying each.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    numbers: BTreeMap<Selector, usize>,
    /// Those of users and groups, by how a user may be named.
    by_name: HashMap<String, Vec<usize>>,
    by_tag: HashMap<Tag, usize>,
    /// Those that ask for addresses and routes.
    places: Vec<(usize, Selector)>,
}

impl Selectors {
    /// The number of a selector.
    pub fn number(&mut self, selector: Selector, names: &Names) -> usize {
        if let Some(known) = self.numbers.get(&selector) {
            return *known;
        }
        let number = self.numbers.len();
        match &selector {
            Selector::User(name) => self.by_name.entry(name.clone()).or_default().push(number),
            Selector::Group(group) => {
                for token in names.groups.get(group).into_iter().flatten() {
                    let there = self.by_name.entry(name_of(token).into()).or_default();
                    if !there.contains(&number) {
                        there.push(number);
                    }
                }
            }
            Selector::Tag(tag) => drop(self.by_tag.insert(tag.clone(), number)),
            Selector::In(_)
            | Selector::RoutesTo(_)
            | Selector::Exit
            | Selector::Router(..)
            | Selector::Postured(..) => self.places.push((number, selector.clone())),
            Selector::Domain(_) | Selector::Role(_) | Selector::Member | Selector::Tagged => {}
        }
        self.numbers.insert(selector, number);
        number
    }

    /// The selector of an alias that means devices by their owner or tags.
    pub fn of_owner(&mut self, alias: &Alias, names: &Names) -> Option<usize> {
        let selector = match alias {
            Alias::User(token) => Selector::User(name_of(token).into()),
            Alias::Group(group) => Selector::Group(group.clone()),
            Alias::UsersOf(domain) => Selector::Domain(domain.clone()),
            Alias::Role(role) => Selector::Role(role.clone()),
            Alias::Member => Selector::Member,
            Alias::Tagged => Selector::Tagged,
            Alias::Tag(tag) => Selector::Tag(tag.clone()),
            _ => return None,
        };
        Some(self.number(selector, names))
    }

    /// What holds for the devices of a user. `named`: the texts that name this user
    /// and nobody else.
    pub fn of_person<'t>(&self, person: &Person, named: impl Iterator<Item = &'t str>) -> Bits {
        let mut bits: Bits = named.filter_map(|name| self.by_name.get(name)).flatten().copied().collect();
        let domain = domain_of(&person.email).map(|domain| Selector::Domain(domain.into()));
        let roles = person.roles.iter().map(|role| Selector::Role(role.clone()));
        roles.chain(domain).filter_map(|selector| self.numbers.get(&selector)).for_each(|number| bits.set(*number));
        bits
    }

    /// What holds for a device, added to what holds for its owner as a user.
    pub fn of_device(&self, device: &Device, bits: &mut Bits) {
        let kind = match &device.owner {
            Owner::User(_) => Selector::Member,
            Owner::Tags(tags) => {
                tags.iter().filter_map(|tag| self.by_tag.get(tag)).for_each(|number| bits.set(*number));
                Selector::Tagged
            }
        };
        self.numbers.get(&kind).into_iter().for_each(|number| bits.set(*number));
        for (number, selector) in &self.places {
            let holds = match selector {
                Selector::In(range) => device.is_in(range),
                Selector::RoutesTo(range) => device.routes_to(range),
                Selector::Exit => device.exit,
                // The one that it is about has a lower number, and was looked at before.
                Selector::Postured(inner, postures) => {
                    inner.is_none_or(|inner| bits.has(inner)) && device.has_posture(postures)
                }
                Selector::Router(tags, to) => {
                    tags.iter().any(|tag| device.has_tag(tag))
                        && to.as_ref().map_or(device.exit, |range| device.routes_to(range))
                }
                _ => false,
            };
            if holds {
                bits.set(*number);
            }
        }
    }

    /// Numbers what the policy's node attributes ask for.
    pub fn add_attributes(&mut self, policy: &Policy) {
        for alias in policy.attrs.iter().flat_map(|entry| &entry.targets) {
            match alias.net() {
                Some(net) => drop(self.number(Selector::In(Range::from(net)), &policy.names)),
                None => drop(self.of_owner(alias, &policy.names)),
            }
        }
    }
}

/// What a token has to be equal to.
fn name_of(token: &UserToken) -> &str {
    token.as_str().strip_suffix('@').unwrap_or(token.as_str())
}
