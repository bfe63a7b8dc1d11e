//! A complete map: the first message of a stream, and what is sent when nobody
//! knows what changed (protocol section 4.5).

use super::message::Message;
use super::node::{self, Shown};
use super::profile::{owner, profile};
use super::sent::{Sent, fingerprint};
use super::{Renderer, StreamOptions, filter_json, ssh_json};
use crate::netmap::dialplan::dial_plan;
use crate::netmap::idset::IdSet;
use crate::state::{NodeId, State, UserId};

impl Renderer {
    /// The complete map for one node. `None`: there is no such node, or it has no
    /// name that clients take.
    pub fn whole(&self, state: &State, viewer: NodeId, options: StreamOptions) -> Option<(Vec<u8>, Sent)> {
        let (message, sent) = self.whole_message(state, viewer, options)?;
        Some((message.encode(), sent))
    }

    /// The complete map for a stream that has had another one.
    pub fn again(&self, state: &State, options: StreamOptions, sent: &mut Sent) -> Option<Vec<u8>> {
        let (mut message, new) = self.whole_message(state, sent.own.node.id, options)?;
        if message.peers.is_empty() {
            // No peers at all reads as "unchanged".
            message.removed = sent.peers.iter().collect();
        }
        if new.dial_plan.is_none() && sent.dial_plan.is_some() {
            message.dial_plan = Some(Default::default());
        }
        *sent = new;
        Some(message.encode())
    }

    fn whole_message(&self, state: &State, viewer: NodeId, options: StreamOptions) -> Option<(Message, Sent)> {
        let scene = self.scene(state, viewer, options)?;
        let shown = Shown::new(state, scene.viewer);
        let own = node::own(state, &shown, self.features, &scene.attributes())?;
        let derp_map = self.derp_maps.get(state);
        let dial_plan = dial_plan(state, viewer);
        let dns = self.dns.get(state, scene.viewer);
        let mut sent = Sent {
            peers: IdSet::default(),
            expired: IdSet::default(),
            users: IdSet::default(),
            own: shown,
            essence: fingerprint(&own.essence),
            filter: scene.filter(),
            ssh: scene.ssh(),
            derp_map: derp_map.clone(),
            dial_plan: dial_plan.clone(),
            dns: fingerprint(dns.get()),
        };
        sent.users.insert(owner(scene.viewer).0);
        let mut peers = Vec::with_capacity(state.node_count());
        let mut cache = self.cache();
        for peer in state.nodes().filter(|peer| scene.sees(peer)) {
            let Some(json) = cache.peer(state, peer) else { continue };
            peers.push(json);
            sent.peers.insert(peer.id.0);
            sent.expired.set(peer.id.0, peer.expired);
            sent.users.insert(owner(peer).0);
        }
        drop(cache);
        let message = Message {
            node: Some(own.json),
            derp_map: Some(derp_map),
            peers,
            dns: Some(dns),
            filter: Some(filter_json(&sent.filter)),
            profiles: sent.users.iter().filter_map(|id| profile(state, UserId(id))).collect(),
            ssh: Some(ssh_json(&sent.ssh)),
            dial_plan,
            constants: Some(self.constants.clone()),
            ..Message::default()
        };
        Some((message, sent))
    }
}
