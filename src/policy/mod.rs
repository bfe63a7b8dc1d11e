//! Policy: who owns which tag, who sees whom, who may do what.
//!
//! Pure, like `state`: each replica compiles the replicated text for itself.
//! `hujson` reads the text, `parse` makes a [`Policy`] of it, `users` finds the
//! users that it names, and [`Policies`] keeps the one that is in force.

mod hujson;
mod in_force;
mod parse;
#[cfg(test)]
mod tests;
mod users;

pub use in_force::Policies;

use crate::state::{Node, State, Tag, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use users::UserToken;

/// A policy that was read and found good. The default one has no rules, so
/// everybody may reach everything, and no tags.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    groups: BTreeMap<String, Vec<UserToken>>,
    tag_owners: BTreeMap<Tag, Vec<Owner>>,
    /// Nobody sees anybody: for when there is a policy, but it cannot be read.
    closed: bool,
}

/// Who may give a tag to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    User(UserToken),
    Group(String),
    /// Whoever may give that tag.
    Tag(Tag),
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
                    Owner::Group(group) => self.groups.get(group).into_iter().flatten().any(is_user),
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

    /// Refuses a policy that names a user in a way that fits several: to be asked
    /// before a text is put in force.
    pub fn check_users(&self, state: &State) -> Result<(), PolicyError> {
        let in_owners = self.tag_owners.values().flatten().filter_map(|owner| match owner {
            Owner::User(token) => Some(token),
            _ => None,
        });
        for token in self.groups.values().flatten().chain(in_owners) {
            let users: Vec<_> = token.candidates(state).map(|user| format!("{} (id {})", user.name, user.id)).collect();
            if users.len() > 1 {
                let (token, users) = (token.as_str(), users.join(", "));
                return Err(PolicyError::new(format!("multiple users found: token {token:?} found: {users}")));
            }
        }
        Ok(())
    }

    /// Whether `viewer` gets `peer` in its netmap.
    pub fn sees(&self, _viewer: &Node, _peer: &Node) -> bool {
        !self.closed
    }

    /// The rules of `PacketFilters["base"]` for this node, as JSON (protocol section 6.5).
    pub fn packet_filter(&self, _node: &Node) -> Arc<str> {
        static ALLOW_ALL: LazyLock<Arc<str>> =
            LazyLock::new(|| r#"[{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]"#.into());
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| "[]".into());
        if self.closed { NOTHING.clone() } else { ALLOW_ALL.clone() }
    }

    /// `SSHPolicy` for this node, as JSON (protocol section 6.8).
    pub fn ssh_policy(&self, _node: &Node) -> Arc<str> {
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| r#"{"rules":[]}"#.into());
        NOTHING.clone()
    }

    /// Nobody sees anybody, and nobody owns a tag.
    fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }
}
