//! What is derived from records so that they are found without a search. Not
//! stored: [`State::load`](super::State::load) makes it anew.

use super::bookkeeping::{Incarnation, RememberedRequest};
use super::*;
use crate::tailcfg::{MachineKey, NodeKey};
use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All indexes.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    pub user_by_name: OrdMap<String, UserId>,
    /// Of users that came from an identity provider.
    pub user_by_provider_id: OrdSet<(String, UserId)>,
    pub auth_key_by_prefix: OrdMap<String, AuthKeyId>,
    pub api_key_by_prefix: OrdMap<String, ApiKeyId>,

    pub node_by_key: OrdMap<NodeKey, NodeId>,
    pub node_by_name: OrdMap<String, NodeId>,
    pub node_by_v4: OrdMap<Ipv4Addr, NodeId>,
    pub node_by_v6: OrdMap<Ipv6Addr, NodeId>,
    pub node_of_machine: OrdSet<(MachineKey, NodeId)>,
    pub node_of_user: OrdSet<(UserId, NodeId)>,
    pub node_of_auth_key: OrdSet<(AuthKeyId, NodeId)>,
    /// Which nodes announce which approved subnet route.
    pub router: OrdSet<(IpNet, NodeId)>,
    pub primary_of_node: OrdSet<(NodeId, IpNet)>,
    pub names: names::FreeSuffixes,

    /// Keys that will expire.
    pub expiry: OrdSet<(Time, NodeId)>,
    /// Ephemeral nodes without a session, and since when.
    pub idle: OrdSet<(Time, NodeId)>,
    /// How many sessions each run of a replica has.
    pub sessions_of_run: OrdMap<(ReplicaId, u64), u64>,
    pub login_deadline: OrdSet<(Time, AuthId)>,
    /// Logins that wait for a decision.
    pub waiting_login: OrdSet<(IpAddr, Time, AuthId)>,
    pub ssh_check_deadline: OrdSet<(Time, AuthId)>,
    /// SSH checks that wait for a decision, by the node that the session comes from.
    pub waiting_ssh_check: OrdSet<(NodeId, NodeId, Time, AuthId)>,
    pub ssh_approval_end: OrdSet<(Time, NodeId, NodeId)>,
    pub incarnation: OrdSet<(Time, u64)>,
    pub remembered_request: OrdSet<(Time, String)>,
}

/// For tables without indexes.
pub(super) fn none<K, R>(_: &mut Indexes, _: &K, _: Option<&R>, _: Option<&R>) {}

pub(super) fn users(ix: &mut Indexes, id: &UserId, old: Option<&User>, new: Option<&User>) {
    let name = |user: &User| user.name.clone();
    move_unique(&mut ix.user_by_name, *id, old.map(name), new.map(name));
    let identity = |user: &User| (!user.provider_id.is_empty()).then(|| (user.provider_id.clone(), *id));
    move_member(&mut ix.user_by_provider_id, old.and_then(identity), new.and_then(identity));
}

pub(super) fn pre_auth_keys(ix: &mut Indexes, id: &AuthKeyId, old: Option<&PreAuthKey>, new: Option<&PreAuthKey>) {
    let prefix = |key: &PreAuthKey| key.prefix.clone();
    move_unique(&mut ix.auth_key_by_prefix, *id, old.map(prefix), new.map(prefix));
}

pub(super) fn api_keys(ix: &mut Indexes, id: &ApiKeyId, old: Option<&ApiKey>, new: Option<&ApiKey>) {
    let prefix = |key: &ApiKey| key.prefix.clone();
    move_unique(&mut ix.api_key_by_prefix, *id, old.map(prefix), new.map(prefix));
}

pub(super) fn nodes(ix: &mut Indexes, &id: &NodeId, old: Option<&Node>, new: Option<&Node>) {
    let name = |node: &Node| node.given_name.clone();
    if let Some(old) = old
        && new.is_none_or(|new| new.given_name != old.given_name)
    {
        ix.names.release(&old.given_name);
    }
    move_unique(&mut ix.node_by_name, id, old.map(name), new.map(name));
    move_unique(&mut ix.node_by_key, id, old.map(|n| n.node_key), new.map(|n| n.node_key));
    move_unique(&mut ix.node_by_v4, id, old.and_then(|n| n.ipv4), new.and_then(|n| n.ipv4));
    move_unique(&mut ix.node_by_v6, id, old.and_then(|n| n.ipv6), new.and_then(|n| n.ipv6));

    let machine = |node: &Node| (node.machine_key, id);
    move_member(&mut ix.node_of_machine, old.map(machine), new.map(machine));
    let user = |node: &Node| match node.owner {
        Owner::User(user) => Some((user, id)),
        Owner::Tags(_) => None,
    };
    move_member(&mut ix.node_of_user, old.and_then(user), new.and_then(user));
    let auth_key = |node: &Node| node.auth_key.map(|key| (key, id));
    move_member(&mut ix.node_of_auth_key, old.and_then(auth_key), new.and_then(auth_key));

    let expiry = |node: &Node| node.expiry.filter(|_| !node.expired).map(|time| (time, id));
    move_member(&mut ix.expiry, old.and_then(expiry), new.and_then(expiry));
    let idle = |node: &Node| node.idle_since.map(|since| (since, id));
    move_member(&mut ix.idle, old.and_then(idle), new.and_then(idle));

    let routes = |node: Option<&Node>| node.map(apply::routes::subnet_routes).unwrap_or_default();
    let (before, after) = (routes(old), routes(new));
    if before != after {
        before.iter().for_each(|route| {
            ix.router.remove(&(*route, id));
        });
        ix.router.extend(after.into_iter().map(|route| (route, id)));
    }
}

pub(super) fn sessions(ix: &mut Indexes, id: &SessionId, old: Option<&Time>, new: Option<&Time>) {
    let run = (id.replica, id.incarnation);
    let before = ix.sessions_of_run.get(&run).copied().unwrap_or(0);
    let now = match (old, new) {
        (None, Some(_)) => before + 1,
        (Some(_), None) => before.saturating_sub(1),
        _ => return,
    };
    if now == 0 {
        ix.sessions_of_run.remove(&run);
    } else {
        ix.sessions_of_run.insert(run, now);
    }
}

pub(super) fn logins(ix: &mut Indexes, id: &AuthId, old: Option<&PendingLogin>, new: Option<&PendingLogin>) {
    let deadline = |login: &PendingLogin| (login.deadline, id.clone());
    move_member(&mut ix.login_deadline, old.map(deadline), new.map(deadline));
    let waiting =
        |login: &PendingLogin| (login.verdict == Verdict::Waiting).then(|| (login.source, login.deadline, id.clone()));
    move_member(&mut ix.waiting_login, old.and_then(waiting), new.and_then(waiting));
}

pub(super) fn ssh_checks(ix: &mut Indexes, id: &AuthId, old: Option<&SshCheck>, new: Option<&SshCheck>) {
    let deadline = |check: &SshCheck| (check.deadline, id.clone());
    move_member(&mut ix.ssh_check_deadline, old.map(deadline), new.map(deadline));
    let waiting = |check: &SshCheck| {
        let key = (check.source, check.destination, check.deadline, id.clone());
        (check.verdict == SshVerdict::Waiting).then_some(key)
    };
    move_member(&mut ix.waiting_ssh_check, old.and_then(waiting), new.and_then(waiting));
}

pub(super) fn ssh_approvals(
    ix: &mut Indexes,
    &(source, destination): &(NodeId, NodeId),
    old: Option<&SshApproval>,
    new: Option<&SshApproval>,
) {
    let end = |approval: &SshApproval| (approval.until, source, destination);
    move_member(&mut ix.ssh_approval_end, old.map(end), new.map(end));
}

pub(super) fn primaries(ix: &mut Indexes, route: &IpNet, old: Option<&NodeId>, new: Option<&NodeId>) {
    let member = |node: &NodeId| (*node, *route);
    move_member(&mut ix.primary_of_node, old.map(member), new.map(member));
}

pub(super) fn incarnations(ix: &mut Indexes, id: &u64, old: Option<&Incarnation>, new: Option<&Incarnation>) {
    let member = |incarnation: &Incarnation| (incarnation.forget_at, *id);
    move_member(&mut ix.incarnation, old.map(member), new.map(member));
}

pub(super) fn remembered_requests(
    ix: &mut Indexes,
    key: &str,
    old: Option<&RememberedRequest>,
    new: Option<&RememberedRequest>,
) {
    let member = |request: &RememberedRequest| (request.at, key.to_owned());
    move_member(&mut ix.remembered_request, old.map(member), new.map(member));
}

/// Follows a value that only one record may have. Who writes a record makes sure
/// of that before; a replica where it failed stops rather than serve two owners.
fn move_unique<K: Ord + Clone + std::fmt::Debug, I: Copy + PartialEq + std::fmt::Debug>(
    map: &mut OrdMap<K, I>,
    id: I,
    old: Option<K>,
    new: Option<K>,
) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        map.remove(&old);
    }
    if let Some(new) = new {
        let other = map.insert(new.clone(), id);
        assert!(other.is_none(), "{new:?} belongs to both {other:?} and {id:?}");
    }
}

fn move_member<T: Ord + Clone>(set: &mut OrdSet<T>, old: Option<T>, new: Option<T>) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        set.remove(&old);
    }
    if let Some(new) = new {
        set.insert(new);
    }
}
