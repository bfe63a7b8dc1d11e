//! The parts of one message, and how they become JSON. The peers of a complete map
//! are not among them: `draft` adds those.

use super::Json;
use crate::state::Time;
use crate::tailcfg::{ControlDialPlan, Debug, MapResponse, UserProfile};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What one message says. Empty parts are left out: unchanged.
#[derive(Debug, Default)]
pub struct Message {
    pub node: Option<Json>,
    pub derp_map: Option<Json>,
    pub changed: Vec<Json>,
    pub removed: Vec<u64>,
    pub patches: Vec<Json>,
    pub dns: Option<Json>,
    pub filter: Option<Json>,
    pub profiles: Vec<UserProfile>,
    pub ssh: Option<Json>,
    pub dial_plan: Option<ControlDialPlan>,
    /// In whole messages only.
    pub constants: Option<Constants>,
}

/// What stays the same as long as the replica runs.
#[derive(Clone, Debug)]
pub struct Constants {
    pub domain: String,
    pub logtail: bool,
}

impl Message {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        let Self { node, derp_map, changed, removed, patches, dns, filter, profiles, ssh, dial_plan, constants } = self;
        node.is_none()
            && derp_map.is_none()
            && changed.is_empty()
            && removed.is_empty()
            && patches.is_empty()
            && dns.is_none()
            && filter.is_none()
            && profiles.is_empty()
            && ssh.is_none()
            && dial_plan.is_none()
            && constants.is_none()
    }

    /// The message's JSON.
    pub fn encode(&self, time: Option<Time>) -> Vec<u8> {
        let response = MapResponse {
            control_time: time.map(Time::to_jiff),
            node: self.node.as_deref(),
            derp_map: self.derp_map.as_deref(),
            peers_changed: refs(&self.changed),
            peers_removed: &self.removed,
            peers_changed_patch: refs(&self.patches),
            dns_config: self.dns.as_deref(),
            domain: self.constants.as_ref().map_or("", |c| &c.domain),
            collect_services: self.constants.as_ref().map(|_| false),
            packet_filters: self.filter.as_deref().map(|rules| BTreeMap::from([("base", rules)])).unwrap_or_default(),
            user_profiles: &self.profiles,
            ssh_policy: self.ssh.as_deref(),
            debug: self.constants.as_ref().filter(|c| !c.logtail).map(|_| Debug { disable_log_tail: true }),
            control_dial_plan: self.dial_plan.as_ref(),
        };
        serde_json::to_vec(&response).expect("all keys are strings")
    }
}

fn refs(parts: &[Json]) -> Vec<&RawValue> {
    parts.iter().map(|part| &**part).collect()
}
