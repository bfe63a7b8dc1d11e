//! A complete map: the first message of a stream, and what is sent when nobody
//! knows what changed (protocol section 4.5).

use super::blocks::{Block, IDS};
use super::message::Message;
use super::node::{self, Shown};
use super::profile::{owner, profile};
use super::roster::{Making, Roster};
use super::sent::{Sent, fingerprint, told_fingerprint};
use super::{Draft, Json, Renderer, Scene, StreamOptions, filter_json, ssh_json};
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
        Some((Draft::complete(&message, peers), sent))
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
        Some(Draft::complete(&message, peers))
    }

    fn whole_message(
        &self,
        state: &State,
        viewer: NodeId,
        options: StreamOptions,
    ) -> Option<(Message, Vec<Arc<Block>>, Sent)> {
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
        let blocks = self.peers(&scene, &mut sent);
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
        Some((message, blocks, sent))
    }

    /// All peers, in blocks that other maps share, but for the block that the viewer would be
    /// in, and those of which it may be told something that others are not.
    fn peers(&self, scene: &Scene, sent: &mut Sent) -> Vec<Arc<Block>> {
        let Some(roster) = self.roster(scene) else { return Vec::new() };
        let mut blocks = Vec::with_capacity(roster.segments.len());
        for segment in &roster.segments {
            let is_own = segment.number == scene.viewer.id.0 / IDS;
            if segment.is_common && !is_own {
                sent.peers.set_word(segment.number, segment.ids);
                sent.expired.set_word(segment.number, segment.expired);
                segment.users.iter().for_each(|user| _ = sent.users.insert(*user));
                blocks.push(segment.block.clone());
                continue;
            }
            let peers = self.peers_of(segment.number, scene, sent);
            if !peers.is_empty() {
                blocks.push(match is_own {
                    true => Arc::new(Block::new(peers)),
                    false => lock(&self.blocks).get(segment.number, peers),
                });
            }
        }
        blocks
    }

    fn roster(&self, scene: &Scene) -> Option<Arc<Roster>> {
        if scene.options.omit_peers {
            return None;
        }
        let class = scene.policy.viewer_class(scene.viewer.id)?;
        let mut rosters = lock(&self.rosters);
        let (mut cache, mut blocks) = (lock(&self.cache), lock(&self.blocks));
        blocks.sweep(scene.state);
        let making = Making { state: scene.state, policy: &scene.policy, cache: &mut cache, blocks: &mut blocks };
        Some(rosters.get(scene.viewer, class, making))
    }

    /// Peers whose ids divided by [`IDS`] are `number`, as this viewer is told of them.
    fn peers_of(&self, number: u64, scene: &Scene, sent: &mut Sent) -> Vec<Json> {
        let mut cache = self.cache();
        let mut peers = Vec::new();
        for id in number * IDS..(number + 1) * IDS {
            let Some(peer) = scene.state.node(NodeId(id)).filter(|peer| scene.sees(peer)) else { continue };
            let told = scene.told(peer);
            let told_so = told_fingerprint(&told);
            let Some(json) = cache.peer(scene.state, peer, told) else { continue };
            sent.set_told(id, told_so);
            sent.peers.insert(id);
            sent.expired.set(id, peer.expired);
            sent.users.insert(owner(peer).0);
            peers.push(json);
        }
        peers
    }
}
