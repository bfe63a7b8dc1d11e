//! A reader as strict as Tailscale's Rust client (protocol section 11): it borrows
//! its strings, takes no `null` where it expects a value, and stops at one error.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Panics if the Rust client would stop, or the Go client would misread it.
pub fn check(json: &[u8]) {
    let text = std::str::from_utf8(json).expect("JSON is UTF-8");
    if let Err(error) = serde_json::from_str::<MapResponse>(text) {
        panic!("the Rust client stops: {error}\n{text}");
    }
    let value: Value = serde_json::from_str(text).unwrap();
    assert_ne!(value["Peers"], serde_json::json!([]), "Go reads no peers as unchanged: {text}");
    no_null(&value, text);
}

fn no_null(value: &Value, text: &str) {
    match value {
        Value::Null => panic!("a null in {text}"),
        Value::Array(items) => items.iter().for_each(|item| no_null(item, text)),
        Value::Object(fields) => fields.values().for_each(|field| no_null(field, text)),
        _ => {}
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
#[allow(dead_code)]
struct MapResponse<'a> {
    keep_alive: Option<bool>,
    #[serde(borrow)]
    node: Option<Node<'a>>,
    #[serde(rename = "DERPMap")]
    derp_map: Option<DerpMap<'a>>,
    peers: Option<Vec<Node<'a>>>,
    peers_changed: Option<Vec<Node<'a>>>,
    peers_removed: Option<Vec<i64>>,
    peers_changed_patch: Option<Vec<PeerChange>>,
    #[serde(rename = "DNSConfig")]
    dns_config: Option<DnsConfig<'a>>,
    domain: &'a str,
    collect_services: Option<bool>,
    packet_filters: BTreeMap<&'a str, Option<Vec<FilterRule<'a>>>>,
    user_profiles: Vec<UserProfile<'a>>,
    control_time: Option<jiff::Timestamp>,
    debug: Option<Debug>,
    control_dial_plan: Option<DialPlan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct Node<'a> {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "StableID")]
    stable_id: &'a str,
    name: &'a str,
    user: i64,
    key: Key<'a>,
    key_expiry: Option<jiff::Timestamp>,
    machine: Option<Key<'a>>,
    disco_key: Option<Key<'a>>,
    addresses: (ipnet::Ipv4Net, ipnet::Ipv6Net),
    #[serde(rename = "AllowedIPs")]
    allowed_ips: Vec<ipnet::IpNet>,
    #[serde(default)]
    endpoints: Vec<SocketAddr>,
    #[serde(rename = "HomeDERP", default)]
    home_derp: u32,
    created: jiff::Timestamp,
    #[serde(default)]
    cap: u16,
    #[serde(default, borrow)]
    tags: Option<Vec<&'a str>>,
    #[serde(default)]
    primary_routes: Vec<ipnet::IpNet>,
    last_seen: Option<jiff::Timestamp>,
    online: Option<bool>,
    machine_authorized: bool,
    #[serde(default, borrow)]
    cap_map: BTreeMap<&'a str, Option<Vec<Value>>>,
    #[serde(default)]
    expired: bool,
}

/// A prefix and 64 hex digits.
struct Key<'a>(#[allow(dead_code)] &'a str);

impl<'a, 'de: 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <&'a str>::deserialize(d)?;
        let digits = text.split_once(':').map(|(_, digits)| digits).unwrap_or_default();
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(text));
        }
        Err(serde::de::Error::custom(format!("not a key: {text}")))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct PeerChange {
    #[serde(rename = "NodeID")]
    node_id: i64,
    #[serde(rename = "DERPRegion", default)]
    derp_region: u32,
    endpoints: Option<Vec<SocketAddr>>,
    online: Option<bool>,
    last_seen: Option<jiff::Timestamp>,
    key_expiry: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct UserProfile<'a> {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "LoginName")]
    login_name: &'a str,
    #[serde(rename = "DisplayName")]
    display_name: &'a str,
    #[serde(rename = "ProfilePicURL", default)]
    profile_pic_url: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct DerpMap<'a> {
    #[serde(borrow)]
    regions: BTreeMap<u32, Region<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Region<'a> {
    #[serde(rename = "RegionID")]
    id: u32,
    #[serde(rename = "RegionCode")]
    code: &'a str,
    #[serde(rename = "RegionName")]
    name: &'a str,
    #[serde(rename = "Nodes", borrow)]
    nodes: Vec<DerpServer<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct DerpServer<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "RegionID")]
    region: u32,
    #[serde(rename = "HostName")]
    host: &'a str,
    #[serde(rename = "IPv4", default)]
    ipv4: &'a str,
    #[serde(rename = "STUNPort", default)]
    stun_port: i32,
    #[serde(rename = "DERPPort", default)]
    derp_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
#[allow(dead_code)]
struct DnsConfig<'a> {
    #[serde(borrow)]
    resolvers: Vec<Resolver<'a>>,
    #[serde(borrow)]
    routes: BTreeMap<&'a str, Option<Vec<Resolver<'a>>>>,
    fallback_resolvers: Vec<Resolver<'a>>,
    domains: Vec<&'a str>,
    proxied: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct Resolver<'a> {
    addr: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct FilterRule<'a> {
    #[serde(rename = "SrcIPs", borrow)]
    src_ips: Vec<&'a str>,
    #[serde(borrow)]
    dst_ports: Vec<DstPort<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct DstPort<'a> {
    #[serde(rename = "IP")]
    ip: &'a str,
    #[serde(rename = "Ports")]
    ports: BTreeMap<&'a str, u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct Debug {
    disable_log_tail: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code)]
struct DialPlan {
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(dead_code)]
struct Candidate {
    #[serde(rename = "IP")]
    ip: IpAddr,
    dial_start_delay_sec: f64,
    dial_timeout_sec: f64,
    priority: i64,
}

#[test]
fn the_checker_finds_what_the_rust_client_stops_at() {
    let breaks = [
        r#"{"Domain":null}"#,
        r#"{"Domain":"a\"b"}"#,
        r#"{"UserProfiles":[{"LoginName":"a","DisplayName":"a"}]}"#,
        r#"{"Peers":[]}"#,
        r#"{"PeersChangedPatch":[{"NodeID":1,"Endpoints":null}]}"#,
    ];
    for json in breaks {
        assert!(std::panic::catch_unwind(|| check(json.as_bytes())).is_err(), "{json}");
    }
    check(br#"{"KeepAlive":true}"#);
}
