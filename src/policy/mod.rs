//! Policy: who owns which tag, who sees whom, who may do what.
//!
//! Pure, like `state`: each replica compiles the replicated text for itself.
//! `hujson` and `parse` read the text and make a [`Policy`] of it (`rule` has its
//! parts, `alias` the names in them). `program` says its rules in terms of what they
//! ask of a device (`selector`), and `classes` keeps the devices of a `tailnet` in
//! classes that these cannot tell apart; `wire_filter` and `wire_ssh` say what a class
//! is told in the client's terms. `examine` runs the policy's own tests, with what
//! `answer` says of single addresses. [`Policies`] keeps the policy that is in force.

mod alias;
mod answer;
mod approve;
mod attrs;
mod bits;
mod classes;
#[cfg(test)]
mod corpus;
mod examine;
pub mod explain;
mod hujson;
mod in_force;
mod ipset;
#[cfg(test)]
mod language_tests;
mod parse;
mod people;
mod posture;
mod program;
mod ranges;
#[cfg(test)]
mod reference;
mod rule;
mod selector;
mod source;
mod ssh;
mod step;
mod tailnet;
#[cfg(test)]
mod tests;
mod told;
mod users;
mod view;
mod wire_filter;
mod wire_ssh;

pub use attrs::Attributes;
pub use in_force::Policies;
pub use ssh::SshAnswer;
pub use step::{Plan, Step};
pub use told::Told;
pub use view::{PolicyView, RulesId, ViewerClass};

use crate::state::{State, Tag, UserId};
use alias::{Alias, Names};
use rule::{Approver, Approvers, NodeAttr, Rule, SshRule, SshTest, SshUser, Test};
use std::collections::{BTreeMap, BTreeSet};
use tailnet::Tailnet;
use users::UserToken;

/// A policy that was read and found good. The default one has no rules, so
/// everybody may reach everything, and no tags.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    names: Names,
    tag_owners: BTreeMap<Tag, Vec<Owner>>,
    /// `None`: neither `acls` nor `grants` is there, and everything is allowed.
    rules: Option<Vec<Rule>>,
    ssh: Vec<SshRule>,
    attrs: Vec<NodeAttr>,
    approvers: Option<Approvers>,
    tests: Vec<Test>,
    ssh_tests: Vec<SshTest>,
    randomize_client_port: bool,
    disable_ipv4: bool,
    /// Nobody sees anybody: for when there is a policy, but it cannot be read.
    closed: bool,
}

/// The longest text of a policy, in bytes: it is replicated, and read by every replica.
pub const MAX_TEXT: usize = 4 << 20;

/// Who may give a tag to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    User(UserToken),
    Group(String),
    /// Whoever may give that tag.
    Tag(Tag),
    /// `autogroup:member`: every user.
    Member,
    /// `autogroup:admin` and its like.
    Role(String),
}

/// Why a text is no policy; with line and column where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

impl PolicyError {
    fn new(what: String) -> Self {
        Self(format!("parsing policy: {what}"))
    }
}

impl Policy {
    /// Whether `tagOwners` has the tag at all.
    pub fn defines_tag(&self, tag: &Tag) -> bool {
        self.tag_owners.contains_key(tag)
    }

    /// Whether `tagOwners` lets this user give the tag to a node.
    pub fn may_own(&self, state: &State, user: UserId, tag: &Tag) -> bool {
        let is_user = |token: &UserToken| token.resolve(state).is_some_and(|named| named.id == user);
        // Tags may own each other in a circle: each is looked at once.
        let (mut seen, mut todo) = (BTreeSet::from([tag]), vec![tag]);
        while let Some(tag) = todo.pop() {
            for owner in self.tag_owners.get(tag).into_iter().flatten() {
                let owns = match owner {
                    Owner::User(token) => is_user(token),
                    Owner::Member => state.user(user).is_some(),
                    // Users have no roles here.
                    Owner::Role(_) => false,
                    Owner::Group(group) => self.names.groups.get(group).into_iter().flatten().any(is_user),
                    Owner::Tag(other) => {
                        if seen.insert(other) {
                            todo.push(other);
                        }
                        false
                    }
                };
                if owns {
                    return true;
                }
            }
        }
        false
    }

    /// Reads a text that is to be put in force, and refuses it where it would not act
    /// as it says: it does not parse, names a user in a way that fits several, has
    /// parts that this server does not act on, or fails its own tests.
    pub fn check(text: &str, state: &State) -> Result<Self, PolicyError> {
        if text.len() > MAX_TEXT {
            return Err(PolicyError::new(format!("the text has {} bytes; at most {MAX_TEXT} are taken", text.len())));
        }
        let policy = Self::parse(text)?;
        policy.check_supported()?;
        policy.check_users(state)?;
        let tailnet = Tailnet::of(state, &policy);
        policy.check_domains(&tailnet)?;
        policy.run_tests(&tailnet)?;
        Ok(policy)
    }

    /// Refuses by name what is understood but not acted on.
    fn check_supported(&self) -> Result<(), PolicyError> {
        let in_rules = self.aliases().find_map(|alias| match alias {
            Alias::Role(role) => Some(role),
            _ => None,
        });
        let in_owners = self.tag_owners.values().flatten().find_map(|owner| match owner {
            Owner::Role(role) => Some(role),
            _ => None,
        });
        let approvers =
            self.approvers.iter().flat_map(|all| all.routes.iter().flat_map(|(_, who)| who).chain(&all.exit));
        let mut in_approvers = approvers.filter_map(|approver| match approver {
            Approver::Role(role) => Some(role),
            _ => None,
        });
        match in_rules.or(in_owners).or_else(|| in_approvers.next()) {
            None => Ok(()),
            Some(role) => Err(PolicyError::new(format!(
                "policy alias \"autogroup:{role}\" is not supported: users have no roles here; name users or a group"
            ))),
        }
    }

    /// Whether a rule asks what machine its source is.
    fn asks_postures(&self) -> bool {
        let rules = self.rules.iter().flatten().map(|rule| &rule.postures);
        rules.chain(self.ssh.iter().map(|rule| &rule.postures)).any(|postures| !postures.is_empty())
    }

    /// All names in rules and node attributes.
    fn aliases(&self) -> impl Iterator<Item = &Alias> {
        let from_rules = self.rules.iter().flatten().flat_map(|rule| {
            let accessed = rule.access.iter().flat_map(|access| access.destinations.iter().map(|(alias, _)| alias));
            rule.sources.iter().chain(&rule.app_destinations).chain(accessed)
        });
        let from_ssh = self.ssh.iter().flat_map(|rule| rule.sources.iter().chain(&rule.destinations));
        from_rules.chain(from_ssh).chain(self.attrs.iter().flat_map(|entry| &entry.targets))
    }

    /// Refuses a domain that no user's e-mail address has.
    fn check_domains(&self, tailnet: &Tailnet) -> Result<(), PolicyError> {
        let domains = self.aliases().filter_map(|alias| match alias {
            Alias::UsersOf(domain) => Some(domain),
            _ => None,
        });
        let logins = self.ssh.iter().flat_map(|rule| &rule.users).filter_map(|user| match user {
            SshUser::LocalPart(domain) => Some(domain),
            _ => None,
        });
        for domain in domains.chain(logins) {
            if !tailnet.people.iter().any(|person| alias::domain_of(&person.email) == Some(domain)) {
                return Err(PolicyError::new(format!(
                    "{domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions"
                )));
            }
        }
        Ok(())
    }

    /// Refuses a policy that names a user in a way that fits several.
    fn check_users(&self, state: &State) -> Result<(), PolicyError> {
        let in_owners = self.tag_owners.values().flatten().filter_map(|owner| match owner {
            Owner::User(token) => Some(token),
            _ => None,
        });
        let in_rules = self.aliases().filter_map(|alias| match alias {
            Alias::User(token) => Some(token),
            _ => None,
        });
        for token in self.names.groups.values().flatten().chain(in_owners).chain(in_rules) {
            let users: Vec<_> = token.candidates(state).map(|user| format!("{} (id {})", user.name, user.id)).collect();
            if users.len() > 1 {
                let (token, users) = (token.as_str(), users.join(", "));
                return Err(PolicyError::new(format!("multiple users found: token {token:?} found: {users}")));
            }
        }
        Ok(())
    }

    /// Nobody sees anybody, and nobody owns a tag.
    fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }
}

#[cfg(test)]
mod fuzz_tests;
