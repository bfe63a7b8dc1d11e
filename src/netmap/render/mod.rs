//! From state to messages: whole maps, and what is different since the last one.

mod blocks;
mod cache;
mod delta;
mod dns;
mod draft;
mod message;
mod node;
mod patch;
mod profile;
mod roster;
mod sent;
mod whole;

pub use profile::profile;

pub(super) use delta::Delta;
pub(super) use draft::Draft;
pub(super) use sent::Sent;

use super::derpmap::DerpMaps;
use super::{Environment, StreamOptions, lock};
use crate::dns::DnsSettings;
use crate::policy::{Attributes, Policies, PolicyView, Told};
use crate::state::{Node, NodeId, State};
use crate::tailcfg::DerpMap;
use blocks::Blocks;
use bytes::Bytes;
use cache::Cache;
use dns::DnsConfigs;
use draft::Press;
use message::Constants;
use node::Features;
use roster::Rosters;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// A part of a message, made once and shared.
pub(super) type Json = Arc<RawValue>;

/// Makes messages. One for all streams of a replica.
pub(super) struct Renderer {
    policies: Arc<Policies>,
    derp_maps: DerpMaps,
    dns: DnsConfigs,
    constants: Constants,
    features: Features,
    /// Locked in this order, where more than one is.
    rosters: Mutex<Rosters>,
    cache: Mutex<Cache>,
    blocks: Mutex<Blocks>,
    press: Press,
}

/// What a message is made for and from.
struct Scene<'a> {
    state: &'a State,
    viewer: &'a Arc<Node>,
    policy: Arc<PolicyView>,
    options: StreamOptions,
}

impl Renderer {
    /// Renders with what the environment says.
    pub fn new(environment: &Environment) -> Self {
        let Environment { policies, derp_map, dns, domain, .. } = environment;
        Self {
            constants: Constants { domain: domain.clone(), logtail: environment.logtail },
            features: Features { taildrop: environment.taildrop, auto_update: environment.auto_update },
            ..Self::of(policies.clone(), derp_map.clone(), dns.clone(), domain.clone())
        }
    }

    /// Renders with what it must have.
    pub fn of(
        policies: Arc<Policies>,
        derp_map: watch::Receiver<Arc<DerpMap>>,
        dns: watch::Receiver<Arc<DnsSettings>>,
        domain: String,
    ) -> Self {
        Self {
            policies,
            derp_maps: DerpMaps::new(derp_map),
            dns: DnsConfigs::new(dns),
            constants: Constants { domain, logtail: false },
            features: Features { taildrop: true, auto_update: false },
            rosters: Mutex::default(),
            cache: Mutex::default(),
            blocks: Mutex::default(),
            press: Press::default(),
        }
    }

    /// The last message of a stream whose node is gone from `state`.
    pub fn farewell(&self, state: &State, sent: &Sent) -> Option<Draft> {
        if state.node(sent.own.node.id).is_some() {
            return None;
        }
        let node = node::farewell(&sent.own, self.features)?;
        Some(Draft::of_change(&message::Message { node: Some(node), ..Default::default() }))
    }

    /// The bytes of a message, in parts that follow each other.
    pub fn frame(&self, draft: Draft, zstd: bool) -> Vec<Bytes> {
        self.press.frame(draft, zstd)
    }

    fn scene<'a>(&self, state: &'a State, viewer: NodeId, options: StreamOptions) -> Option<Scene<'a>> {
        let viewer = state.node(viewer)?;
        Some(Scene { state, viewer, policy: self.policies.in_force(state), options })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

impl Scene<'_> {
    /// Whether the viewer is told of this node at all.
    fn sees(&self, peer: &Node) -> bool {
        !self.options.omit_peers && peer.id != self.viewer.id && self.policy.sees(self.viewer, peer)
    }

    fn filter(&self) -> Arc<str> {
        self.policy.packet_filter(self.viewer)
    }

    fn filter_fingerprint(&self) -> u64 {
        self.policy.filter_fingerprint(self.viewer)
    }

    fn attributes(&self) -> Attributes {
        self.policy.attributes(self.viewer)
    }

    /// What the viewer is told of a peer, where others may be told otherwise.
    fn told(&self, peer: &Node) -> Told {
        self.policy.told(self.state, self.viewer.id, peer)
    }

    fn told_itself(&self) -> Told {
        self.policy.told_itself(self.state, self.viewer)
    }

    fn ssh(&self) -> Arc<str> {
        self.policy.ssh_policy(self.viewer)
    }
}

/// The JSON of one of the protocol's types.
pub(super) fn to_json(value: &impl Serialize) -> Json {
    serde_json::value::to_raw_value(value).expect("the protocol's types have only strings as keys").into()
}

/// JSON that came as text; `instead` if it is none.
fn checked_json(text: &str, instead: &'static str) -> Json {
    let parse = |text: &str| RawValue::from_string(text.to_owned());
    parse(text)
        .or_else(|error| {
            tracing::error!(%error, instead, "a part of a map is not JSON and was replaced");
            parse(instead)
        })
        .expect("what is sent instead is JSON")
        .into()
}

/// A filter, where the policy's is no JSON it lets nothing in.
fn filter_json(filter: &str) -> Json {
    checked_json(filter, "[]")
}

/// An SSH policy, where the policy's is no JSON it lets nobody in.
fn ssh_json(ssh: &str) -> Json {
    checked_json(ssh, r#"{"rules":[]}"#)
}
