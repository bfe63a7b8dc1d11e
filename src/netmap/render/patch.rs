//! A node's change as a patch, where a patch can say it (protocol sections 4.4, 6.2).

use super::node::{Shown, home_derp};
use super::{Json, to_json};
use crate::state::{NodeChange, Time};
use crate::tailcfg::{KeyExpiry, PeerChange};

/// How peers are told of a change.
#[derive(Clone, Debug)]
pub enum Patch {
    /// Only the whole node says it.
    Whole,
    /// These say it, in this order. None: there is nothing to say.
    Small(Vec<Json>),
}

/// How to tell peers that know the node, and know whether it is expired.
pub fn patch(shown: &Shown, what: NodeChange) -> Patch {
    let node = &*shown.node;
    let what = if node.expired {
        // Shown without everything by which one could reach it.
        NodeChange { online: what.online, record: what.record, ..NodeChange::default() }
    } else {
        what
    };
    // A patch cannot take a relay or a key for path discovery away.
    let takes_away = what.home_derp && home_derp(node) == 0 || what.disco_key && node.disco_key.is_none();
    if what.record || takes_away {
        return Patch::Whole;
    }
    if what.is_empty() {
        return Patch::Small(Vec::new());
    }
    let offline = what.online && !shown.online;
    let mut change = PeerChange {
        node_id: node.id.0,
        derp_region: what.home_derp.then(|| home_derp(node)),
        endpoints: what.endpoints.then(|| node.endpoints.iter().map(|e| e.addr).collect()),
        key: what.key.then_some(node.node_key),
        disco_key: node.disco_key.filter(|_| what.disco_key),
        online: what.online.then_some(shown.online),
        last_seen: node.last_seen.filter(|_| offline).map(Time::to_jiff),
        key_expiry: what.key.then(|| node.expiry.map_or(KeyExpiry::Never, |time| KeyExpiry::At(time.to_jiff()))),
    };
    let mut patches = Vec::new();
    if offline && change.disco_key.is_some() {
        // A client drops a patch with both when it has seen the node later than
        // `LastSeen` says: the key goes by itself.
        let disco_key = change.disco_key.take();
        patches.push(to_json(&PeerChange { node_id: node.id.0, disco_key, ..PeerChange::default() }));
    }
    patches.push(to_json(&change));
    Patch::Small(patches)
}
