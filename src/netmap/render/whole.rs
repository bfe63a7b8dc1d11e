//! A complete map: the first message of a stream, and what is sent when nobody
//! knows what changed (protocol section 4.5).

use super::blocks::{Block, IDS};
use super::message::Message;
use super::node::{self, Shown};
use super::profile::{owner, profile};
use super::sent::{Sent, fingerprint, told_fingerprint};
use super::{Draft, Json, Renderer, StreamOptions, filter_json, ssh_json};
use crate::netmap::dialplan::dial_plan;
use crate::netmap::idset::IdSet;
use crate::netmap::lock;
use crate::state::{NodeId, State, UserId};
use std::collections::HashMap;
use std::sync::Arc;

impl Renderer {
    /// The complete map for one node. `None`: there is no such node, or it has no
    /// name that clients take.
    pub fn whole(&self, state: &State, viewer: NodeId, options: StreamOptions) -> Option<(Draft, Sent)> {
        let (message, peers, sent) = self.whole_message(state, viewer, options)?;
        Some((self.complete(state, &message, peers, viewer), sent))
    }

    /// The complete map for a stream that has had another one.
    pub fn again(&self, state: &State, options: StreamOptions, sent: &mut Sent) -> Option<Draft> {
        let viewer = sent.own.node.id;
        let (mut message, peers, new) = self.whole_message(state, viewer, options)?;
        if peers.is_empty() {
            // No peers at all reads as "unchanged".
            message.removed = sent.peers.iter().collect();
        }
        if new.dial_plan.is_none() && sent.dial_plan.is_some() {
            message.dial_plan = Some(Default::default());
        }
        *sent = new;
        Some(self.complete(state, &message, peers, viewer))
    }

    /// The peers come in blocks that other maps share; the first one is this map's own,
    /// and the one that the viewer would be in.
    fn complete(&self, state: &State, message: &Message, peers: Vec<Group>, viewer: NodeId) -> Draft {
        let mut peers = peers.into_iter();
        let first = peers.next().map(|group| group.peers).unwrap_or_default();
        let mut shared = lock(&self.blocks);
        shared.sweep(state);
        let block = |group: Group| match group.number == viewer.0 / IDS {
            true => Arc::new(Block::new(group.peers)),
            false => shared.get(group.number, group.peers),
        };
        let blocks = peers.map(block).collect();
        drop(shared);
        Draft::complete(message, &first, blocks)
    }

    fn whole_message(
        &self,
        state: &State,
        viewer: NodeId,
        options: StreamOptions,
    ) -> Option<(Message, Vec<Group>, Sent)> {
        let scene = self.scene(state, viewer, options)?;
        let shown = Shown::new(state, scene.viewer);
        let own = node::own(&shown, &scene.told_itself(), self.features, &scene.attributes())?;
        let derp_map = self.derp_maps.get(state);
        let dial_plan = dial_plan(state, viewer);
        let dns = self.dns.get(state, scene.viewer, &scene.attributes());
        let mut sent = Sent {
            peers: IdSet::default(),
            expired: IdSet::default(),
            users: IdSet::default(),
            own: shown,
            essence: fingerprint(&own.essence),
            rules: scene.policy.rules(),
            filter: scene.filter_fingerprint(),
            ssh: scene.ssh(),
            derp_map: derp_map.clone(),
            dial_plan: dial_plan.clone(),
            dns: fingerprint(dns.get()),
            told: HashMap::new(),
        };
        sent.users.insert(owner(scene.viewer).0);
        let mut groups: Vec<Group> = Vec::new();
        let mut cache = self.cache();
        for peer in state.nodes().filter(|peer| scene.sees(peer)) {
            let told = scene.told(peer);
            let told_so = told_fingerprint(&told);
            let Some(json) = cache.peer(state, peer, told) else { continue };
            sent.set_told(peer.id.0, told_so);
            let number = peer.id.0 / IDS;
            match groups.last_mut().filter(|group| group.number == number) {
                Some(group) => group.peers.push(json),
                None => groups.push(Group { number, peers: vec![json] }),
            }
            sent.peers.insert(peer.id.0);
            sent.expired.set(peer.id.0, peer.expired);
            sent.users.insert(owner(peer).0);
        }
        drop(cache);
        let message = Message {
            node: Some(own.json),
            derp_map: Some(derp_map),
            dns: Some(dns),
            filter: Some(filter_json(&scene.filter())),
            profiles: sent.users.iter().filter_map(|id| profile(state, UserId(id))).collect(),
            ssh: Some(ssh_json(&sent.ssh)),
            dial_plan,
            constants: Some(self.constants.clone()),
            ..Message::default()
        };
        Some((message, groups, sent))
    }
}

/// Peers whose ids divided by [`IDS`] are `number`; at least one.
struct Group {
    number: u64,
    peers: Vec<Json>,
}
