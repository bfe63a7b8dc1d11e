//! How a policy names sources and destinations.

use super::parse::IpSet;
use super::posture::Posture;
use super::tailnet::{Device, Person, Tailnet};
use super::users::UserToken;
use crate::state::{Tag, UserId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One name in a rule, with what the document says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// `*`
    Any,
    User(UserToken),
    Group(String),
    Tag(Tag),
    /// A name of `hosts`, and what it stands for.
    Host(String, IpNet),
    /// An address or prefix, also one of an `ipset`.
    Net(IpNet),
    /// A prefix that an `ipset` has from `autogroup:internet`: behind exit nodes too.
    Beyond(IpNet),
    /// `user:*@domain`: all users with an e-mail address there.
    UsersOf(String),
    /// `autogroup:member`
    Member,
    /// `autogroup:admin` and its like: users with a role.
    Role(String),
    /// `autogroup:tagged`
    Tagged,
    /// `autogroup:self`
    SelfOwned,
    /// `autogroup:internet`
    Internet,
    /// `autogroup:danger-all`: all addresses, tailnet or not.
    DangerAll,
}

/// Roles of users at Tailscale, as autogroups name them.
pub(super) const ROLES: [&str; 6] = ["owner", "admin", "it-admin", "network-admin", "billing-admin", "auditor"];

/// What a document defines that aliases refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub groups: BTreeMap<String, Vec<UserToken>>,
    pub tags: BTreeSet<String>,
    pub hosts: BTreeMap<String, IpNet>,
    pub ipsets: BTreeMap<String, IpSet>,
    pub postures: BTreeMap<String, Arc<Posture>>,
    /// Of rules that name none.
    pub default_postures: Vec<Arc<Posture>>,
}

/// Why a text is no alias here.
pub(super) enum AliasError {
    /// In the service's words, `tag not found: "tag:x"`.
    NotFound(&'static str),
    Unknown(String),
}

impl Names {
    /// As [`Names::alias`], or the prefixes of an `ipset`.
    pub fn aliases(&self, text: &str) -> Result<Vec<Alias>, AliasError> {
        if !text.starts_with("ipset:") {
            return Ok(vec![self.alias(text)?]);
        }
        let set = self.ipsets.get(text).ok_or(AliasError::NotFound("ipset"))?;
        let plain = set.plain.prefixes().into_iter().map(Alias::Net);
        Ok(plain.chain(set.internet.prefixes().into_iter().map(Alias::Beyond)).collect())
    }

    /// Reads an alias, whatever it may be used for.
    pub fn alias(&self, text: &str) -> Result<Alias, AliasError> {
        if let Some(net) = network(text) {
            return Ok(Alias::Net(net));
        }
        match text {
            "*" => return Ok(Alias::Any),
            "autogroup:member" | "autogroup:members" => return Ok(Alias::Member),
            "autogroup:tagged" => return Ok(Alias::Tagged),
            "autogroup:self" => return Ok(Alias::SelfOwned),
            "autogroup:internet" => return Ok(Alias::Internet),
            "autogroup:danger-all" => return Ok(Alias::DangerAll),
            _ => {}
        }
        let Some((kind, rest)) = text.split_once(':') else {
            if let Some(net) = self.hosts.get(text) {
                return Ok(Alias::Host(text.into(), *net));
            }
            if text.contains('@') {
                return UserToken::parse(text).map(Alias::User).map_err(AliasError::Unknown);
            }
            return Err(AliasError::NotFound("host"));
        };
        match kind {
            "tag" if !self.tags.contains(text) => Err(AliasError::NotFound("tag")),
            "tag" => text.parse().map(Alias::Tag).map_err(|_| AliasError::NotFound("tag")),
            "group" if !self.groups.contains_key(text) => Err(AliasError::NotFound("group")),
            "group" => Ok(Alias::Group(text.into())),
            "user" => match rest.strip_prefix("*@") {
                Some(domain) if !domain.is_empty() => Ok(Alias::UsersOf(domain.into())),
                _ => Err(AliasError::Unknown(format!("{text:?} is no user: write user:*@domain"))),
            },
            "autogroup" if ROLES.contains(&rest) => Ok(Alias::Role(rest.into())),
            "autogroup" => Err(AliasError::Unknown(format!(
                "invalid autogroup: got {text:?}, must be one of [autogroup:internet autogroup:member autogroup:nonroot \
                 autogroup:tagged autogroup:self autogroup:danger-all]"
            ))),
            "ipset" if self.ipsets.contains_key(text) => {
                Err(AliasError::Unknown(format!("{text:?} cannot be used here: ipsets are for src and dst")))
            }
            "ipset" => Err(AliasError::NotFound("ipset")),
            "svc" => Err(AliasError::Unknown(format!("{text:?}: services are not supported: name a tag or a host"))),
            "posture" => {
                Err(AliasError::Unknown(format!("{text:?} cannot be used here: postures are for \"srcPosture\"")))
            }
            _ => Err(AliasError::Unknown(format!("{text:?} names no user, group, tag, host or address"))),
        }
    }
}

/// An address or prefix, without its host bits.
pub(super) fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
    }
}

impl Alias {
    /// The addresses that it stands for by itself.
    pub fn net(&self) -> Option<IpNet> {
        match self {
            Self::Host(_, net) | Self::Net(net) | Self::Beyond(net) => Some(*net),
            _ => None,
        }
    }

    /// Whether it can be a user's alone: what may use `autogroup:self`.
    pub fn is_personal(&self) -> bool {
        matches!(self, Self::User(_) | Self::Group(_) | Self::UsersOf(_) | Self::Role(_) | Self::Member)
    }

    /// The users whose personal devices it means; `None`: it does not mean users.
    pub fn users(&self, names: &Names, tailnet: &Tailnet) -> Option<BTreeSet<UserId>> {
        let people = &tailnet.people;
        match self {
            Self::User(token) => Some(token.find(people).map(|person| person.id).into_iter().collect()),
            Self::Group(name) => {
                let members = names.groups.get(name).into_iter().flatten();
                Some(members.filter_map(|token| token.find(people)).map(|person| person.id).collect())
            }
            Self::UsersOf(domain) => {
                let there = |person: &&Person| domain_of(&person.email) == Some(domain);
                Some(people.iter().filter(there).map(|person| person.id).collect())
            }
            Self::Role(role) => {
                let has_it = |person: &&Person| person.roles.iter().any(|other| other == role);
                Some(people.iter().filter(has_it).map(|person| person.id).collect())
            }
            Self::Member | Self::Any => Some(people.iter().map(|person| person.id).collect()),
            _ => None,
        }
    }

    /// Whether a device belongs to it by its owner or tags. Addresses and `*` do not count here.
    pub fn owns(&self, users: Option<&BTreeSet<UserId>>, device: &Device) -> bool {
        match self {
            Self::Tag(tag) => device.has_tag(tag),
            Self::Tagged => device.user().is_none(),
            Self::Member => device.user().is_some(),
            Self::User(_) | Self::Group(_) | Self::UsersOf(_) | Self::Role(_) => {
                device.user().is_some_and(|user| users.is_some_and(|users| users.contains(&user)))
            }
            _ => false,
        }
    }
}

/// The part of an e-mail address after `@`.
pub(super) fn domain_of(email: &str) -> Option<&str> {
    email.rsplit_once('@').map(|(_, domain)| domain)
}
