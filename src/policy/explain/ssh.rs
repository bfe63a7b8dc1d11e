//! Whether somebody may log in by SSH, and by which rule.

use super::super::alias::Alias;
use super::super::rule::{CheckPeriod, SshRule, SshUser};
use super::super::tailnet::Tailnet;
use super::super::{Policy, PolicyView};
use super::place::{Place, Places};
use super::subject::{End, Subject};
use super::told::{self, Packet};
use super::{ExplainError, Explainer, MAX_NEAR, NearMiss, Verdict, few, verdict};
use crate::state::NodeId;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// Names that mean more pairs of nodes than this are too wide a question.
const MAX_PAIRS: usize = 1_000;
/// How many pairs an answer lists; it counts all of them.
const MAX_SHOWN: usize = 50;
/// Where the client's own SSH server listens: packets have to get there too.
const PORT: u16 = 22;

/// The answer for sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshExplanation {
    pub source: String,
    /// Whom the session asks to be.
    pub user: String,
    pub destination: String,
    /// By the SSH rules; see [`SshPair::packets`] for the others.
    pub verdict: Verdict,
    pub asked: usize,
    pub allowed: usize,
    pub pairs: Vec<SshPair>,
    pub near_misses: Vec<NearMiss>,
    pub notes: Vec<String>,
}

/// A source and a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshPair {
    pub source: End,
    pub destination: End,
    /// `accept`, `check` or `deny`.
    pub action: String,
    /// Whom the session becomes.
    pub local_user: String,
    /// How long an approval holds, for `check`; empty otherwise.
    pub check_period: String,
    /// The rule that decides; none for `deny`.
    pub rule: Option<Place>,
    /// Whether packets get to the destination's SSH port at all.
    pub packets: bool,
}

pub(super) fn explain(explainer: &Explainer, source: &str, destination: &str) -> Result<SshExplanation, ExplainError> {
    let parts = destination.split_once('@').filter(|(user, name)| !user.is_empty() && !name.is_empty());
    let Some((user, name)) = parts else {
        let text = format!("destination {destination:?}: write USER@DST, such as \"root@server\"");
        return Err(ExplainError::Question(text));
    };
    let (sources, destinations) = (explainer.subjects(source)?, explainer.subjects(name)?);
    let count = sources.len() * destinations.len();
    if count > MAX_PAIRS {
        let text =
            format!("the question means {count} pairs of nodes, and at most {MAX_PAIRS} are looked at: name fewer");
        return Err(ExplainError::Question(text));
    }
    let tailnet = explainer.tailnet_of(&[&sources, &destinations]);
    let asker = Asker { explainer, places: Places::of(explainer.text), view: explainer.whole(&tailnet), tailnet, user };
    let mut pairs = Vec::new();
    let mut near = Vec::new();
    for from in sources.iter().filter(|from| !from.routed) {
        for to in destinations.iter().filter(|to| !to.routed) {
            let Some(device) = &to.device else { continue };
            if from.device.as_ref().is_some_and(|from| from.id == device.id) {
                continue;
            }
            let pair = asker.pair(from, to, device.id);
            if pair.action == "deny" && near.is_empty() {
                near = asker.near(&from.ips, device.id);
            }
            pairs.push(pair);
        }
    }
    let allowed = pairs.iter().filter(|pair| pair.action != "deny").count();
    let asked = pairs.len();
    let mut notes = Vec::new();
    if asked == 0 {
        notes.push("there is no pair of two nodes here: sessions go from one node to another".into());
    }
    if pairs.iter().any(|pair| pair.action != "deny" && !pair.packets) {
        notes.push(format!(
            "an SSH rule alone is not enough: packets have to get to port {PORT} too, see \"policy explain {source} {name}:{PORT}\""
        ));
    }
    notes.extend(asker.approvals(&sources, &destinations));
    pairs.sort_by_key(|pair| pair.action != "deny");
    pairs.truncate(MAX_SHOWN);
    Ok(SshExplanation {
        source: source.into(),
        user: user.into(),
        destination: name.into(),
        verdict: verdict(allowed, asked),
        asked,
        allowed,
        pairs,
        near_misses: near,
        notes,
    })
}

struct Asker<'a> {
    explainer: &'a Explainer<'a>,
    places: Places<'a>,
    view: PolicyView,
    tailnet: Tailnet,
    user: &'a str,
}

impl Asker<'_> {
    fn pair(&self, from: &Subject, to: &Subject, node: NodeId) -> SshPair {
        let decided = decide(&self.view, &from.ips, node, self.user);
        let rule = decided.as_ref().and_then(|_| self.deciding(&from.ips, node));
        let period = rule.and_then(|number| self.explainer.policy.ssh[number].check);
        let filter = told::filter(&self.view.filter_of(node));
        let all = from.ips.iter().flat_map(|from| to.ips.iter().map(move |to| (*from, *to)));
        let mut packets = all.map(|(from, to)| Packet { from, to, protocol: 6, port: PORT });
        SshPair {
            source: from.show(self.explainer, None),
            destination: to.show(self.explainer, None),
            action: match &decided {
                None => "deny".into(),
                Some((_, true)) => "check".into(),
                Some((_, false)) => "accept".into(),
            },
            local_user: decided.map(|(local, _)| local).unwrap_or_default(),
            check_period: period.map(period_text).unwrap_or_default(),
            rule: rule.map(|number| self.places.entry("ssh", number)),
            packets: packets.any(|packet| filter.iter().any(|rule| rule.lets_through(&packet))),
        }
    }

    /// The number of the rule that decides: those that ask come first.
    fn deciding(&self, from: &[IpAddr], node: NodeId) -> Option<usize> {
        let rules = || self.explainer.policy.ssh.iter().enumerate();
        let asks = rules().filter(|(_, rule)| rule.check.is_some());
        let mut ordered = asks.chain(rules().filter(|(_, rule)| rule.check.is_none()));
        let decides = |rule: &SshRule| decide(&self.alone(rule.clone()), from, node, self.user).is_some();
        ordered.find(|(_, rule)| decides(rule)).map(|(number, _)| number)
    }

    fn alone(&self, rule: SshRule) -> PolicyView {
        let policy = Policy { ssh: vec![rule], ..self.explainer.base.clone() };
        PolicyView::new(Arc::new(policy), self.tailnet.clone())
    }

    /// The rules that come closest.
    fn near(&self, from: &[IpAddr], node: NodeId) -> Vec<NearMiss> {
        let rules = self.explainer.policy.ssh.iter().enumerate();
        let mut near: Vec<(u8, NearMiss)> = rules.filter_map(|(n, rule)| self.missed(n, rule, from, node)).collect();
        near.sort_by_key(|(rank, _)| *rank);
        near.into_iter().take(MAX_NEAR).map(|(_, miss)| miss).collect()
    }

    fn missed(&self, number: usize, rule: &SshRule, from: &[IpAddr], node: NodeId) -> Option<(u8, NearMiss)> {
        let everybody = || vec![Alias::Member, Alias::Tagged];
        let anybody = || vec![SshUser::Literal(self.user.into())];
        let is_let_in = |rule: SshRule| decide(&self.alone(rule), from, node, self.user).is_some();
        let texts = |field: &str| few(&self.places.texts("ssh", number, field));
        let is_source = is_let_in(SshRule { destinations: everybody(), users: anybody(), ..rule.clone() });
        let is_pair = is_let_in(SshRule { users: anybody(), ..rule.clone() });
        let own = rule.destinations.contains(&Alias::SelfOwned);
        let is_destination = !own && is_let_in(SshRule { sources: everybody(), users: anybody(), ..rule.clone() });
        let (rank, why) = if is_pair {
            (
                0,
                format!(
                    "source and destination match, but the session may not become {:?}: {}",
                    self.user,
                    texts("users")
                ),
            )
        } else if is_source {
            (1, format!("the source matches, the destination does not: {}", texts("dst")))
        } else if is_destination {
            (2, format!("the destination matches, the source does not: {}", texts("src")))
        } else {
            return None;
        };
        Some((rank, NearMiss { rule: self.places.entry("ssh", number), why }))
    }

    /// Approvals that hold between the nodes.
    fn approvals(&self, sources: &[Subject], destinations: &[Subject]) -> Vec<String> {
        let ids = |subjects: &[Subject]| -> Vec<NodeId> {
            subjects.iter().filter_map(|subject| subject.device.as_ref()).map(|device| device.id).collect()
        };
        let state = self.explainer.state;
        let name = |id: NodeId| state.node(id).map_or_else(String::new, |node| node.given_name.clone());
        let (from, to) = (ids(sources), ids(destinations));
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let approved = pairs.filter_map(|(from, to)| Some((from, to, state.ssh_approval(from, to)?)));
        let alive = approved.filter(|(_, _, approval)| approval.until > state.clock());
        let text = |(from, to, approval): (NodeId, NodeId, &Arc<crate::state::SshApproval>)| {
            let (from, to) = (name(from), name(to));
            format!("checked sessions from {from} to {to} were approved by {} until {}", approval.by, approval.until)
        };
        alive.take(MAX_NEAR).map(text).collect()
    }
}

/// Whom the session becomes, and whether somebody has to let it through first.
fn decide(view: &PolicyView, from: &[IpAddr], node: NodeId, user: &str) -> Option<(String, bool)> {
    let rules = told::ssh(&view.ssh_of(node));
    rules.iter().filter(|rule| rule.is_from(from)).find_map(|rule| Some((rule.becomes(user)?, rule.asks())))
}

fn period_text(period: CheckPeriod) -> String {
    match period {
        CheckPeriod::Always => "always".into(),
        CheckPeriod::For(period) => {
            let minutes = period.as_secs() / 60;
            match (minutes / 60, minutes % 60) {
                (0, minutes) => format!("{minutes}m"),
                (hours, 0) => format!("{hours}h"),
                (hours, minutes) => format!("{hours}h{minutes}m"),
            }
        }
    }
}
