//! Who approves a route of a node, and who may use it.

use super::super::rule::Approvers;
use super::super::tailnet::{Device, Tailnet};
use super::super::{Policy, rule};
use super::place::{Place, Places};
use super::subject::{find_node, owner};
use super::told::{self, FilterRule};
use super::{ExplainError, Explainer};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How many nodes that may use a route are named.
const MAX_NAMED: usize = 20;

/// The answer for a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteExplanation {
    pub prefix: String,
    pub node: String,
    /// Its user or tags.
    pub owner: String,
    /// Whether the node offers the route.
    pub announced: bool,
    /// Whether it may.
    pub approved: bool,
    /// Whether packets go through this node now; exit routes have no such node.
    pub primary: bool,
    /// Whether the policy approves it without an administrator.
    pub auto_approved: bool,
    /// What `autoApprovers` has for this route.
    pub approvers: Vec<RouteApprover>,
    /// The rules that let somebody use it.
    pub uses: Vec<RouteUse>,
    pub notes: Vec<String>,
}

/// One name in `autoApprovers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteApprover {
    pub place: Place,
    pub name: String,
    /// Whether it means this node's owner.
    pub matches: bool,
}

/// A rule that lets packets into the route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteUse {
    pub rule: Place,
    /// Its `src`.
    pub sources: Vec<String>,
    pub protocols: String,
    pub ports: Vec<String>,
    /// Nodes that it means now, the first of them.
    pub nodes: Vec<String>,
}

pub(super) fn explain(explainer: &Explainer, prefix: &str, node: &str) -> Result<RouteExplanation, ExplainError> {
    let net = super::super::alias::network(prefix).ok_or_else(|| {
        ExplainError::Question(format!(
            "{prefix:?} is no prefix: write one such as \"10.0.0.0/8\", or \"0.0.0.0/0\" for an exit node"
        ))
    })?;
    let state = explainer.state;
    let node = find_node(state, node)
        .ok_or_else(|| ExplainError::Question(format!("{node:?} is no node (name or id): see \"nodes list\"")))?;
    let places = Places::of(explainer.text);
    let approvers = approvers(explainer, &places, &node.owner, net);
    let is_exit = net.prefix_len() == 0;
    let mut explanation = RouteExplanation {
        prefix: net.to_string(),
        node: node.given_name.clone(),
        owner: owner(state, &node.owner),
        announced: node.hostinfo.routable_ips.contains(&net),
        approved: node.approved_routes.contains(&net),
        primary: state.primary_routes(node.id).contains(&net),
        auto_approved: explainer.policy.approves(&explainer.tailnet, &node.owner, net),
        approvers,
        uses: uses(explainer, &places, node.id, net),
        notes: Vec::new(),
    };
    explanation.notes = notes(explainer, &explanation, node.id, is_exit);
    Ok(explanation)
}

fn notes(explainer: &Explainer, is: &RouteExplanation, id: crate::state::NodeId, is_exit: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if explainer.policy.rules.is_none() {
        notes.push("the policy has neither \"acls\" nor \"grants\": everybody may use it".into());
    }
    match (is.announced, is.approved) {
        (false, _) => notes.push(format!(
            "the node does not offer it: \"tailscale set {}\" on the node",
            if is_exit { "--advertise-exit-node".into() } else { format!("--advertise-routes={}", is.prefix) }
        )),
        (true, false) => {
            notes.push(format!("it is not approved: \"nodes approve-routes --identifier {id} --routes {}\"", is.prefix))
        }
        (true, true) if !is_exit && !is.primary => {
            notes.push("packets go through another router of the prefix, or this node is offline".into());
        }
        _ => {}
    }
    notes
}

fn approvers(explainer: &Explainer, places: &Places, owner: &crate::state::Owner, net: IpNet) -> Vec<RouteApprover> {
    let Some(all) = &explainer.policy.approvers else { return Vec::new() };
    let approves = |approvers: Approvers| {
        let policy = Policy { approvers: Some(approvers), ..explainer.base.clone() };
        policy.approves(&explainer.tailnet, owner, net)
    };
    let mut found = Vec::new();
    if net.prefix_len() == 0 {
        let path = ["autoApprovers", "exitNode"];
        let place = places.path(&path);
        for (name, one) in places.texts_at(&path).into_iter().zip(&all.exit) {
            let matches = approves(Approvers { exit: vec![one.clone()], ..Approvers::default() });
            found.push(RouteApprover { place: place.clone(), name, matches });
        }
        return found;
    }
    for (prefix, who) in &all.routes {
        if prefix.prefix_len() == 0 || !prefix.contains(&net) {
            continue;
        }
        let Some(text) = prefix_text(places, *prefix) else { continue };
        let path = ["autoApprovers", "routes", text.as_str()];
        let place = places.path(&path);
        for (name, one) in places.texts_at(&path).into_iter().zip(who) {
            let routes = vec![(*prefix, vec![one.clone()])];
            let matches = approves(Approvers { routes, ..Approvers::default() });
            found.push(RouteApprover { place: place.clone(), name, matches });
        }
    }
    found
}

/// A prefix as the document writes it.
fn prefix_text(places: &Places, prefix: IpNet) -> Option<String> {
    places
        .names_at(&["autoApprovers", "routes"])
        .into_iter()
        .find(|text| super::super::alias::network(text) == Some(prefix))
}

/// As if the node had the route, offered and approved.
fn uses(explainer: &Explainer, places: &Places, id: crate::state::NodeId, net: IpNet) -> Vec<RouteUse> {
    let Some(device) = explainer.tailnet.devices.iter().find(|device| device.id == id) else { return Vec::new() };
    let router = match net.prefix_len() {
        0 => Device { exit: true, ..device.clone() },
        _ => Device { routes: vec![net], ..device.clone() },
    };
    let others = explainer.tailnet.devices.iter().filter(|device| device.id != id).cloned();
    let tailnet = Tailnet { devices: others.chain([router]).collect(), ..explainer.tailnet.clone() };
    let one = |rule: &rule::Rule| {
        let told = told::filter(&explainer.with_rule(rule.clone(), &tailnet).filter_of(id));
        let there: Vec<&FilterRule> = told.iter().filter(|rule| !rule.ports_in(net).is_empty()).collect();
        let first = there.first()?;
        let is_source = |device: &&Device| device.ips.iter().any(|ip| there.iter().any(|rule| rule.is_from(*ip)));
        let sources = tailnet.devices.iter().filter(|device| device.id != id).filter(is_source);
        let name = |device: &Device| explainer.state.node(device.id).map(|node| node.given_name.clone());
        let (section, number) = rule.number;
        let mut ports: Vec<String> = there.iter().flat_map(|rule| rule.ports_in(net)).collect();
        ports.sort();
        ports.dedup();
        Some(RouteUse {
            rule: places.entry(section, number),
            sources: places.texts(section, number, "src"),
            protocols: first.protocols(),
            ports,
            nodes: sources.filter_map(name).take(MAX_NAMED).collect(),
        })
    };
    explainer.policy.rules.iter().flatten().filter_map(one).collect()
}
