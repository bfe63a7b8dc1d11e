//! `autoApprovers`: routes that need no administrator.

use super::Policy;
use super::rule::Approver;
use super::tailnet::Tailnet;
use crate::state::{Owner, UserId};
use ipnet::IpNet;

impl Policy {
    /// Whether a node with this owner may have this route: one that is part of a prefix
    /// which the owner may have, or an exit route.
    pub(super) fn approves(&self, tailnet: &Tailnet, owner: &Owner, route: IpNet) -> bool {
        let Some(approvers) = &self.approvers else { return false };
        let is_user =
            |user: Option<UserId>| matches!((owner, user), (Owner::User(owner), Some(user)) if *owner == user);
        let is_one = |approver: &Approver| match approver {
            Approver::User(token) => is_user(token.find(&tailnet.people).map(|person| person.id)),
            Approver::Group(group) => {
                let members = self.names.groups.get(group).into_iter().flatten();
                members.into_iter().any(|token| is_user(token.find(&tailnet.people).map(|person| person.id)))
            }
            Approver::Member => matches!(owner, Owner::User(_)),
            Approver::Tagged => matches!(owner, Owner::Tags(_)),
            Approver::Role(role) => tailnet
                .people
                .iter()
                .any(|person| is_user(Some(person.id)) && person.roles.iter().any(|other| other == role)),
            Approver::Tag(tag) => matches!(owner, Owner::Tags(tags) if tags.contains(tag)),
        };
        if route.prefix_len() == 0 {
            return approvers.exit.iter().any(is_one);
        }
        let covering = approvers.routes.iter().filter(|(prefix, _)| prefix.prefix_len() > 0 && prefix.contains(&route));
        covering.flat_map(|(_, approvers)| approvers).any(is_one)
    }
}
