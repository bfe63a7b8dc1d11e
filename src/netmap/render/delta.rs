//! What a client has to be told since its last message, and nothing else.

use super::message::Message;
use super::node::{self, Shown};
use super::patch::Patch;
use super::profile::{owner, profile};
use super::sent::{Sent, fingerprint, same, told_fingerprint};
use super::{Draft, Renderer, Scene, StreamOptions, filter_json, ssh_json};
use crate::netmap::dialplan::dial_plan;
use crate::netmap::mailbox::Marks;
use crate::state::{Node, NodeChange, NodeId, State, UserId};
use std::sync::Arc;

/// What became of some marks.
pub enum Delta {
    Message(Draft),
    /// They mean nothing to this client.
    Nothing,
    /// The client's own node is gone.
    Gone,
}

impl Renderer {
    /// The message for `marks`, from a state in which all of them are applied.
    pub fn delta(&self, state: &State, options: StreamOptions, marks: &Marks, sent: &mut Sent) -> Delta {
        let viewer = sent.own.node.id;
        if marks.everything {
            return self.again(state, options, sent).map_or(Delta::Gone, Delta::Message);
        }
        let Some(scene) = self.scene(state, viewer, options) else { return Delta::Gone };
        let mut message = Message::default();
        // The view may be ahead of what is marked: then nobody has marked who is now
        // seen by other rules, and all of a message is by the same rules.
        let is_ahead = !marks.policy && scene.policy.rules() != sent.rules;
        let policy = marks.policy || is_ahead;
        sent.rules = scene.policy.rules();
        let own_marked = policy || marks.rules || marks.nodes.contains_key(&viewer);
        let own_changed = own_marked && self.add_own(&scene, sent, &mut message);
        self.add_marked_peers(&scene, marks, sent, &mut message);
        if is_ahead {
            self.add_visibility(&scene, sent, &mut message);
        }
        // Another router may take the place of one that is gone, for some viewers only.
        let is_router = |id: &NodeId| state.node(*id).is_some_and(|node| !node.approved_routes.is_empty());
        if own_marked || marks.nodes.iter().any(|(id, what)| what.online && is_router(id)) {
            self.add_told(&scene, sent, &mut message);
        }
        if own_marked {
            add_rules(&scene, sent, &mut message);
        }
        let by_policy = policy && !message.is_empty();
        if marks.derp_map || marks.replicas {
            self.add_replicas(&scene, sent, &mut message);
        }
        if marks.dns || by_policy || own_changed {
            self.add_dns(&scene, by_policy, sent, &mut message);
        }
        add_profiles(&scene, marks, sent, &mut message);
        if message.is_empty() { Delta::Nothing } else { Delta::Message(Draft::of_change(&message)) }
    }

    /// The client's own node, if something changed that it does not know better.
    fn add_own(&self, scene: &Scene, sent: &mut Sent, message: &mut Message) -> bool {
        let shown = Shown::new(scene.state, scene.viewer);
        let own = node::own(&shown, &scene.told_itself(), self.features, &scene.attributes());
        sent.own = shown;
        let Some(own) = own else { return false };
        let essence = fingerprint(&own.essence);
        if essence == sent.essence {
            return false;
        }
        sent.essence = essence;
        message.node = Some(own.json);
        if sent.users.insert(owner(scene.viewer).0) {
            message.profiles.extend(profile(scene.state, owner(scene.viewer)));
        }
        true
    }

    fn add_marked_peers(&self, scene: &Scene, marks: &Marks, sent: &mut Sent, message: &mut Message) {
        for (&id, &what) in &marks.nodes {
            match scene.state.node(id).filter(|peer| scene.sees(peer)) {
                Some(peer) => self.add_peer(scene, peer, what, sent, message),
                None => remove_peer(id, sent, message),
            }
        }
    }

    /// A peer that the client may see: as a patch if that says it, else whole.
    fn add_peer(&self, scene: &Scene, peer: &Arc<Node>, what: NodeChange, sent: &mut Sent, message: &mut Message) {
        let id = peer.id.0;
        let knows = sent.peers.contains(id) && sent.expired.contains(id) == peer.expired;
        if knows && let Patch::Small(patches) = self.cache().patch(scene.state, peer, what) {
            message.patches.extend(patches);
            return;
        }
        let told = scene.told(peer);
        let fingerprint = told_fingerprint(&told);
        let Some(json) = self.cache().peer(scene.state, peer, told) else {
            return remove_peer(peer.id, sent, message);
        };
        message.changed.push(json);
        sent.peers.insert(id);
        sent.set_told(id, fingerprint);
        sent.expired.set(id, peer.expired);
        if sent.users.insert(owner(peer).0) {
            message.profiles.extend(profile(scene.state, owner(peer)));
        }
    }

    /// Who came into sight, and who is out of it: the one case that looks at all nodes.
    fn add_visibility(&self, scene: &Scene, sent: &mut Sent, message: &mut Message) {
        let hidden = |id: &u64| !scene.state.node(NodeId(*id)).is_some_and(|peer| scene.sees(peer));
        let hidden: Vec<u64> = sent.peers.iter().filter(hidden).collect();
        for id in hidden {
            remove_peer(NodeId(id), sent, message);
        }
        let new = |peer: &&Arc<Node>| !sent.peers.contains(peer.id.0) && scene.sees(peer);
        let new: Vec<_> = scene.state.nodes().filter(new).collect();
        let what = NodeChange { record: true, ..NodeChange::default() };
        for peer in new {
            self.add_peer(scene, peer, what, sent, message);
        }
    }

    /// Peers that the client has, and is now told otherwise of: their routes are others
    /// to it.
    fn add_told(&self, scene: &Scene, sent: &mut Sent, message: &mut Message) {
        let what = NodeChange { record: true, ..NodeChange::default() };
        for id in scene.policy.special().iter().filter(|id| sent.peers.contains(id.0)).copied().collect::<Vec<_>>() {
            let Some(peer) = scene.state.node(id) else { continue };
            if sent.told(id.0) != told_fingerprint(&scene.told(peer)) {
                self.add_peer(scene, peer, what, sent, message);
            }
        }
    }

    /// The relays and addresses of replicas.
    fn add_replicas(&self, scene: &Scene, sent: &mut Sent, message: &mut Message) {
        let derp_map = self.derp_maps.get(scene.state);
        if !Arc::ptr_eq(&derp_map, &sent.derp_map) {
            if derp_map.get() != sent.derp_map.get() {
                message.derp_map = Some(derp_map.clone());
            }
            sent.derp_map = derp_map;
        }
        let plan = dial_plan(scene.state, scene.viewer.id);
        if plan != sent.dial_plan {
            // An empty plan takes the last one back.
            message.dial_plan = Some(plan.clone().unwrap_or_default());
            sent.dial_plan = plan;
        }
    }

    /// The DNS configuration if it changed, or with every effective change of the
    /// policy: clients have lost it there (protocol section 6.6).
    fn add_dns(&self, scene: &Scene, always: bool, sent: &mut Sent, message: &mut Message) {
        let dns = self.dns.get(scene.state, scene.viewer, &scene.attributes());
        let now = fingerprint(dns.get());
        if now != sent.dns || always {
            sent.dns = now;
            message.dns = Some(dns);
        }
    }
}

fn remove_peer(id: NodeId, sent: &mut Sent, message: &mut Message) {
    if sent.peers.remove(id.0) {
        sent.expired.remove(id.0);
        sent.set_told(id.0, 0);
        message.removed.push(id.0);
    }
}

fn add_rules(scene: &Scene, sent: &mut Sent, message: &mut Message) {
    let (filter, ssh) = (scene.filter_fingerprint(), scene.ssh());
    if filter != sent.filter {
        message.filter = Some(filter_json(&scene.filter()));
        sent.filter = filter;
    }
    if !same(&ssh, &sent.ssh) {
        message.ssh = Some(ssh_json(&ssh));
        sent.ssh = ssh;
    }
}

/// Profiles that changed, of those that the client has.
fn add_profiles(scene: &Scene, marks: &Marks, sent: &Sent, message: &mut Message) {
    for &UserId(id) in &marks.users {
        let is_new = message.profiles.iter().any(|profile| profile.id == id);
        if sent.users.contains(id) && !is_new {
            message.profiles.extend(profile(scene.state, UserId(id)));
        }
    }
}
