//! What clients report: streams that begin and end, and news of themselves.

use super::super::table::{Nodes, Sessions};
use super::super::*;
use super::step::Step;
use crate::tailcfg::Hostinfo;

/// Each report is accepted or refused for itself.
pub(super) fn report(step: &mut Step, reports: &[Report]) -> Vec<Result<(), Refused>> {
    let one = |report: &Report| match report {
        Report::Open { session, update: news } => open(step, *session, news),
        Report::Update(news) => update(step, news),
        Report::Close { session } => {
            close(step, *session);
            Ok(())
        }
    };
    reports.iter().map(one).collect()
}

pub(super) fn close_all_of(step: &mut Step, replica: ReplicaId, incarnation: u64) -> Outcome {
    let is_current = step.replica(replica).is_none_or(|known| known.incarnation == incarnation);
    close_where(step, |session| session.replica == replica && (is_current || session.incarnation == incarnation));
    Ok(Done::Nothing)
}

/// Closes the sessions that `is_over` picks.
pub(super) fn close_where(step: &mut Step, is_over: impl Fn(&SessionId) -> bool) {
    let sessions: Vec<_> = step.sessions().filter(is_over).collect();
    for session in sessions {
        close(step, session);
    }
}

/// Takes over what a client says about its machine. What it leaves out stays:
/// most requests have no `NetInfo`, and a node without a home relay would be cut
/// off (protocol section 9.2).
pub(super) fn merge_hostinfo(step: &mut Step, id: NodeId, news: &Hostinfo) -> Result<(), Refused> {
    let node = step.node(id).cloned().ok_or(Refused::NodeNotFound)?;
    let old = &node.hostinfo;
    let merged = Hostinfo {
        net_info: news.net_info.clone().or_else(|| old.net_info.clone()),
        preferred_derp: news.preferred_derp.or(old.preferred_derp),
        ..news.clone()
    };
    if merged == *old {
        return Ok(());
    }
    let (base, old_base) = (names::sanitize(&merged.hostname), names::sanitize(&old.hostname));
    let keeps_name = node.renamed || base == old_base || base == node.given_name;
    let given_name = if keeps_name { node.given_name.clone() } else { step.choose_name(&base) };
    step.edit_node(id, |node| {
        node.hostinfo = merged;
        node.given_name = given_name;
    })
}

fn open(step: &mut Step, session: SessionId, news: &NodeUpdate) -> Result<(), Refused> {
    let is_of_an_earlier_run =
        step.replica(session.replica).is_some_and(|replica| replica.incarnation != session.incarnation);
    if is_of_an_earlier_run {
        return Err(Refused::ReplicaGone);
    }
    if session.node != news.node {
        return Err(Refused::NodeNotFound);
    }
    update(step, news)?;
    step.edit_node(session.node, |node| node.idle_since = None)?;
    if !step.tables.sessions.contains_key(&session) {
        let now = step.now();
        step.put::<Sessions>(session, now);
    }
    Ok(())
}

/// A session that is closed already is no error: its replica could not know.
fn close(step: &mut Step, session: SessionId) {
    if !step.tables.sessions.contains_key(&session) {
        return;
    }
    step.delete::<Sessions>(&session);
    if step.is_online(session.node) {
        return;
    }
    let Some(node) = step.node(session.node).cloned() else { return };
    let now = step.now();
    let idle_since = node.ephemeral.then(|| step.led());
    step.put::<Nodes>(node.id, Node { last_seen: Some(now), idle_since, ..Node::clone(&node) });
}

/// Stores what is new, and never overwrites something with nothing: a stream and
/// a lite update come in any order (protocol section 4.1).
fn update(step: &mut Step, news: &NodeUpdate) -> Result<(), Refused> {
    let node = step.node(news.node).ok_or(Refused::NodeNotFound)?;
    if node.node_key != news.node_key {
        return Err(Refused::NodeKeyUnknown);
    }
    if let Some(hostinfo) = &news.hostinfo {
        merge_hostinfo(step, news.node, hostinfo)?;
    }
    step.edit_node(news.node, |node| {
        node.cap_ver = news.cap_ver;
        node.disco_key = news.disco_key.filter(|key| !key.is_zero()).or(node.disco_key);
        if let Some(endpoints) = news.endpoints.as_ref().filter(|endpoints| !endpoints.is_empty()) {
            node.endpoints.clone_from(endpoints);
        }
    })
}
