//! The relays that clients are told of: the configured ones and the replicas' own
//! (protocol section 6.7).

use super::lock;
use super::render::{Json, to_json};
use crate::state::{Relay, Replica, State};
use crate::tailcfg::{DerpMap, DerpNode, DerpRegion};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Makes the DERP map, and keeps its JSON until something in it changes.
pub(super) struct DerpMaps {
    configured: watch::Receiver<Arc<DerpMap>>,
    last: Mutex<Option<Made>>,
}

struct Made {
    configured: Arc<DerpMap>,
    replicas: Vec<Arc<Replica>>,
    json: Json,
}

impl DerpMaps {
    /// `configured` is what came from files and URLs.
    pub fn new(configured: watch::Receiver<Arc<DerpMap>>) -> Self {
        Self { configured, last: Mutex::default() }
    }

    /// The DERP map at this state. A replica's own relay wins over a configured
    /// region with the same number.
    pub fn get(&self, state: &State) -> Json {
        let configured = self.configured.borrow().clone();
        let mut last = lock(&self.last);
        if let Some(made) = &*last
            && Arc::ptr_eq(&made.configured, &configured)
            && made.replicas.len() == state.replicas().count()
            && made.replicas.iter().zip(state.replicas()).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return made.json.clone();
        }
        let replicas: Vec<_> = state.replicas().cloned().collect();
        let mut map = DerpMap::clone(&configured);
        for relay in replicas.iter().filter_map(|replica| replica.relay.as_ref()) {
            map.regions.insert(relay.region_id, region(relay));
        }
        let json = to_json(&map);
        *last = Some(Made { configured, replicas, json: json.clone() });
        json
    }
}

/// The region of one replica's relay.
fn region(relay: &Relay) -> DerpRegion {
    // "none" keeps a client from asking DNS for the family that the relay lacks; a
    // relay without any address is found by its name.
    let by_name = relay.ipv4.is_none() && relay.ipv6.is_none();
    let address = |ip: Option<String>| ip.unwrap_or_else(|| if by_name { String::new() } else { "none".into() });
    let node = DerpNode {
        name: relay.region_id.to_string(),
        region_id: relay.region_id,
        host_name: relay.host_name.clone(),
        cert_name: relay.cert_sha256.as_ref().map(|hash| format!("sha256-raw:{hash}")).unwrap_or_default(),
        ipv4: address(relay.ipv4.map(|ip| ip.to_string())),
        ipv6: address(relay.ipv6.map(|ip| ip.to_string())),
        stun_port: if relay.stun_port == 0 { -1 } else { relay.stun_port.into() },
        derp_port: relay.derp_port,
        insecure_for_tests: relay.insecure_for_tests,
        ..DerpNode::default()
    };
    DerpRegion {
        region_id: relay.region_id,
        region_code: relay.region_code.clone(),
        region_name: relay.region_name.clone(),
        nodes: vec![node],
        ..DerpRegion::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_on_one_address_is_pinned_and_never_looked_up() {
        let relay = Relay {
            region_id: 902,
            region_code: "r2".into(),
            region_name: "Replica 2".into(),
            host_name: "127.0.0.2".into(),
            ipv4: Some([127, 0, 0, 2].into()),
            ipv6: None,
            derp_port: 8443,
            stun_port: 0,
            cert_sha256: Some("ab".repeat(32)),
            insecure_for_tests: false,
        };
        let json = serde_json::to_value(region(&relay)).unwrap();
        let expected = serde_json::json!({
            "RegionID": 902, "RegionCode": "r2", "RegionName": "Replica 2",
            "Nodes": [{
                "Name": "902", "RegionID": 902, "HostName": "127.0.0.2", "IPv4": "127.0.0.2", "IPv6": "none",
                "CertName": format!("sha256-raw:{}", "ab".repeat(32)), "DERPPort": 8443, "STUNPort": -1,
            }],
        });
        assert_eq!(json, expected);
    }
}
