//! Whatever machines send as requests.

use super::{MapRequest, RegisterRequest};
use crate::fuzzing::{Bent, bent, bent_json};
use serde_json::{Value, json};

fn good() -> Vec<Value> {
    let key = |kind: &str| format!("{kind}:{}", "ab".repeat(32));
    let hostinfo = json!({
        "IPNVersion": "1.102.5", "OS": "linux", "Hostname": "laptop", "RoutableIPs": ["10.0.0.0/8", "::/0"],
        "RequestTags": ["tag:server"], "Services": [{"Proto": "tcp", "Port": 22}], "NetInfo": {"PreferredDERP": 901},
        "SSH_HostKeys": ["ssh-ed25519 AAAA"], "Location": null,
    });
    vec![
        json!({
            "Version": 142, "NodeKey": key("nodekey"), "OldNodeKey": key("nodekey"), "Hostinfo": hostinfo,
            "Auth": {"AuthKey": "hskey-auth-x"}, "Expiry": "2030-01-02T03:04:05Z", "Followup": "http://x/register/y",
        }),
        json!({
            "Version": 142, "NodeKey": key("nodekey"), "DiscoKey": key("discokey"), "Hostinfo": hostinfo,
            "Endpoints": ["192.0.2.1:41641", "[2001:db8::1]:1"], "EndpointTypes": [1, 2], "Stream": true,
            "OmitPeers": false, "KeepAlive": true, "Compress": "zstd",
        }),
    ]
}

fn read(body: &[u8]) {
    let _ = RegisterRequest::parse(body);
    let _ = MapRequest::parse(body);
}

#[test]
fn fuzz_requests_as_bytes() {
    let good: Vec<Vec<u8>> = good().iter().map(|value| value.to_string().into_bytes()).collect();
    bolero::check!().with_type::<Bent>().for_each(|input| read(&bent(&good, input)));
}

#[test]
fn fuzz_requests_as_json() {
    let good = good();
    bolero::check!().with_type::<Bent>().for_each(|input| read(bent_json(&good, input).to_string().as_bytes()));
}

#[test]
fn a_request_that_is_nested_without_end_is_refused() {
    for open in ["[", "{\"Hostinfo\":"] {
        let body = format!("{{\"Version\":142,\"Hostinfo\":{}", open.repeat(100_000));
        assert!(RegisterRequest::parse(body.as_bytes()).is_err() && MapRequest::parse(body.as_bytes()).is_err());
    }
}
