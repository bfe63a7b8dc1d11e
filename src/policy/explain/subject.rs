//! What the names in a question mean.

use super::super::alias::Alias;
use super::super::ranges::Range;
use super::super::tailnet::{Device, Tailnet};
use super::{ExplainError, Explainer};
use crate::state::{Node, NodeId, Owner, State, User, UserId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One end of a connection, as an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    pub ip: String,
    /// The node that has the address, or routes to it.
    pub node: String,
    /// Its user or tags.
    pub owner: String,
}

/// Addresses that are asked about together, and the node that decides about them: their
/// own, or one that routes to them.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub ips: Vec<IpAddr>,
    /// `None`: nobody has or routes to them.
    pub device: Option<Device>,
    /// Whether the device only routes to them.
    pub routed: bool,
}

impl Subject {
    fn own(device: &Device) -> Self {
        Self { ips: device.ips.clone(), device: Some(device.clone()), routed: false }
    }

    pub fn show(&self, explainer: &Explainer, ip: Option<IpAddr>) -> End {
        let ip = ip.or(self.ips.first().copied()).map_or_else(String::new, |ip| ip.to_string());
        let Some(device) = &self.device else { return End { ip, node: String::new(), owner: String::new() } };
        let name = match explainer.state.node(device.id) {
            Some(node) => node.given_name.clone(),
            None => "(no node yet)".into(),
        };
        let node = if self.routed { format!("behind {name}") } else { name };
        End { ip, node, owner: owner(explainer.state, &device.owner) }
    }
}

/// A user's name, or tags.
pub(super) fn owner(state: &State, owner: &Owner) -> String {
    match owner {
        Owner::User(id) => state.user(*id).map_or_else(|| format!("user {id}"), |user| user.name.clone()),
        Owner::Tags(tags) => tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

impl Explainer<'_> {
    /// What a name means: nodes by name, id or address, a user, or anything that the
    /// policy's rules may name. Users and tags without a node get one for the question.
    pub fn subjects(&self, text: &str) -> Result<Vec<Subject>, ExplainError> {
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(self.address(ip));
        }
        if let Some(node) = find_node(self.state, text) {
            return Ok(self.tailnet.devices.iter().filter(|device| device.id == node.id).map(Subject::own).collect());
        }
        match self.policy.names.alias(text) {
            Ok(Alias::Net(net) | Alias::Host(_, net)) => {
                if net.prefix_len() == net.max_prefix_len() {
                    return Ok(self.address(net.addr()));
                }
                let text = format!("{text:?} is a whole prefix ({net}): name one address of it");
                return Err(ExplainError::Question(text));
            }
            Ok(alias @ (Alias::User(_) | Alias::Group(_) | Alias::UsersOf(_) | Alias::Tag(_))) => {
                self.checked_user(text, &alias)?;
                return Ok(self.owned(|device| self.owns(&alias, device)));
            }
            Ok(alias @ (Alias::Member | Alias::Tagged)) => return Ok(self.owned(|device| self.owns(&alias, device))),
            _ => {}
        }
        match find_user(self.state, text) {
            Some(user) => Ok(self.owned(|device| device.user() == Some(user.id))),
            None => Err(ExplainError::Question(format!(
                "{text:?} is no node (name, id or address), no user, and no tag, group or host of this policy: see \
                 \"nodes list\", \"users list\" and \"policy get\""
            ))),
        }
    }

    fn owns(&self, alias: &Alias, device: &Device) -> bool {
        alias.owns(alias.users(&self.policy.names, &self.tailnet).as_ref(), device)
    }

    fn checked_user(&self, text: &str, alias: &Alias) -> Result<(), ExplainError> {
        let Alias::User(token) = alias else { return Ok(()) };
        match token.find(&self.tailnet.people) {
            Some(_) => Ok(()),
            None => {
                let text = format!("{text:?} is no user, or fits several: see \"users list\"");
                Err(ExplainError::Question(text))
            }
        }
    }

    fn owned(&self, is_one: impl Fn(&Device) -> bool) -> Vec<Subject> {
        let there: Vec<Subject> = self.tailnet.devices.iter().filter(|d| is_one(d)).map(Subject::own).collect();
        if !there.is_empty() {
            return there;
        }
        let stand_ins = self.tailnet.with_stand_ins(self.policy.tag_owners.keys());
        let new = stand_ins.devices.iter().skip(self.tailnet.devices.len()).enumerate();
        // Ids that no node has, and each another: they count from 1.
        let new = new.map(|(n, device)| Device { id: NodeId(u64::MAX - n as u64), ..device.clone() });
        new.filter(|device| is_one(device)).map(|device| Subject::own(&device)).collect()
    }

    /// An address, and who decides about packets to it: its node, else the routers with the
    /// longest prefix that has it, else the exit nodes.
    fn address(&self, ip: IpAddr) -> Vec<Subject> {
        let subject = |device: Option<&Device>, routed| Subject { ips: vec![ip], device: device.cloned(), routed };
        let devices = &self.tailnet.devices;
        if let Some(device) = devices.iter().find(|device| device.ips.contains(&ip)) {
            return vec![subject(Some(device), false)];
        }
        let length = |device: &Device| {
            let there = device.routes.iter().filter(|route| route.contains(&ip));
            there.map(ipnet::IpNet::prefix_len).max()
        };
        let longest = devices.iter().filter_map(length).max();
        let mut routers: Vec<&Device> =
            devices.iter().filter(|device| longest.is_some() && length(device) == longest).collect();
        if routers.is_empty() {
            routers = devices.iter().filter(|device| device.exit).collect();
        }
        match routers.is_empty() {
            true => vec![subject(None, false)],
            false => routers.into_iter().map(|device| subject(Some(device), true)).collect(),
        }
    }

    /// The devices that matter for these ends, and what routes to them.
    pub fn tailnet_of(&self, ends: &[&[Subject]]) -> Tailnet {
        let subjects = || ends.iter().copied().flatten();
        let mut devices: Vec<Device> = subjects().filter_map(|subject| subject.device.clone()).collect();
        let routes = |device: &&Device| {
            let mut ips = subjects().flat_map(|subject| &subject.ips);
            ips.any(|ip| device.routes_to(&Range::from(*ip)))
        };
        devices.extend(self.tailnet.devices.iter().filter(routes).cloned());
        devices.sort_by_key(|device| device.id);
        devices.dedup_by_key(|device| device.id);
        Tailnet { devices, ..self.tailnet.clone() }
    }
}

/// A node by its id, its name, or its name with the tailnet's domain.
pub(super) fn find_node<'s>(state: &'s State, text: &str) -> Option<&'s Node> {
    if let Ok(id) = text.parse::<NodeId>() {
        return state.node(id).map(AsRef::as_ref);
    }
    let base = state.settings().map_or("", |settings| settings.base_domain.as_str());
    let short = text.trim_end_matches('.').strip_suffix(base).and_then(|name| name.strip_suffix('.'));
    let name = short.filter(|_| !base.is_empty()).unwrap_or(text);
    state.node_by_name(name).map(AsRef::as_ref)
}

/// A user by name, e-mail address or id; a name may end in `@`, as in policies.
pub(super) fn find_user<'s>(state: &'s State, text: &str) -> Option<&'s User> {
    let name = text.strip_suffix('@').unwrap_or(text);
    let by_id = || text.parse::<UserId>().ok().and_then(|id| state.user(id));
    let by_email = || state.users().find(|user| !user.email.is_empty() && user.email == name);
    state.user_by_name(name).or_else(by_email).or_else(by_id).map(AsRef::as_ref)
}
