use super::*;
use serde_json::json;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/client-requests/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn key(digit: char) -> String {
    format!("nodekey:{}", digit.to_string().repeat(64))
}

fn map(value: Value) -> Result<MapRequest, RequestError> {
    MapRequest::parse(value.to_string().as_bytes())
}

fn register(value: Value) -> Result<RegisterRequest, RequestError> {
    RegisterRequest::parse(value.to_string().as_bytes())
}

#[test]
fn every_captured_registration_is_read() {
    for (name, host) in [("01-register", "a"), ("07-register", "b"), ("15-register", "b")] {
        let request = RegisterRequest::parse(&fixture(name)).unwrap();
        assert_eq!(request.version, CapVer(142), "{name}");
        assert_eq!(request.auth_key, Some(AuthKeyText::new("x".into())), "{name}");
        assert_eq!(request.followup, None, "{name}");
        assert_eq!(request.hostinfo.hostname, host, "{name}");
        assert_eq!(request.hostinfo.os, "linux", "{name}");
        assert_eq!(request.hostinfo.ipn_version, "1.102.5-ERR-BuildInfo", "{name}");
    }
}

#[test]
fn a_captured_logout_has_its_time_and_a_join_has_none() {
    let logout = RegisterRequest::parse(&fixture("15-register")).unwrap();
    assert_eq!(logout.expiry, Some(Timestamp::from_second(123).unwrap()));
    assert_eq!(RegisterRequest::parse(&fixture("01-register")).unwrap().expiry, None);
}

#[test]
fn every_captured_map_request_is_read() {
    let modes = [
        ("02-map", true, false, 0, None),
        ("03-map", false, true, 0, None),
        ("04-map", false, true, 0, None),
        ("05-map", false, true, 2, None),
        ("06-map", false, true, 2, Some(903)),
        ("08-map", false, true, 0, None),
        ("09-map", true, false, 0, None),
        ("10-map", false, true, 0, None),
        ("11-map", false, true, 2, None),
        ("12-map", false, true, 2, Some(902)),
        ("13-map", true, false, 2, Some(903)),
        ("14-map", true, false, 2, Some(902)),
    ];
    for (name, stream, omit_peers, endpoints, derp) in modes {
        let request = MapRequest::parse(&fixture(name)).unwrap();
        assert_eq!((request.stream, request.omit_peers), (stream, omit_peers), "{name}");
        assert_eq!(request.endpoints.len(), endpoints, "{name}");
        assert!(request.endpoints.iter().all(|(_, kind)| *kind == 1), "{name}");
        assert!(request.zstd && request.keep_alive && !request.read_only, "{name}");
        assert!(request.disco_key.is_some(), "{name}");
        assert_eq!(request.hostinfo.unwrap().preferred_derp, derp, "{name}");
    }
}

#[test]
fn a_captured_hostinfo_survives_as_it_was() {
    let sent: Value = serde_json::from_slice(&fixture("06-map")).unwrap();
    let hostinfo = MapRequest::parse(&fixture("06-map")).unwrap().hostinfo.unwrap();
    let mut expected = sent["Hostinfo"].clone();
    let net_info = expected.as_object_mut().unwrap().remove("NetInfo").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&hostinfo.json).unwrap(), expected);
    assert_eq!(serde_json::from_str::<Value>(hostinfo.net_info.as_ref().unwrap()).unwrap(), net_info);
}

#[test]
fn the_rust_clients_names_become_gos() {
    let hostinfo = json!({
        "Hostname": "rusty", "App": "demo", "IpnVersion": "0.6.1", "BackendLogId": null, "Os": "linux",
        "RoutableIps": ["10.0.0.0/8"], "SshHostKeys": ["ssh-ed25519 AAAA"], "WolMacs": null,
        "NetInfo": {
            "PreferredDerp": 7, "DerpLatency": {"7-v4": 0.25}, "MappingVariesByDestIp": false, "WorkingIpv6": null,
            "Pmp": true, "Pcp": null, "Upnp": false
        }
    });
    let request = map(json!({
        "Version": 130, "KeepAlive": true, "NodeKey": key('1'), "DiscoKey": format!("discokey:{}", "2".repeat(64)),
        "Stream": true, "HostInfo": hostinfo, "Compress": null, "Endpoints": null, "OmitPeers": false
    }));
    let request = request.unwrap();
    let hostinfo = request.hostinfo.unwrap();
    assert!(!request.zstd);
    assert_eq!(
        hostinfo.json,
        r#"{"App":"demo","Hostname":"rusty","IPNVersion":"0.6.1","OS":"linux","RoutableIPs":["10.0.0.0/8"],"sshHostKeys":["ssh-ed25519 AAAA"]}"#
    );
    assert_eq!(
        hostinfo.net_info.unwrap(),
        r#"{"DERPLatency":{"7-v4":0.25},"MappingVariesByDestIP":false,"PMP":true,"PreferredDERP":7,"UPnP":false}"#
    );
    assert_eq!(hostinfo.preferred_derp, Some(7));
}

#[test]
fn a_rust_clients_registration_needs_no_more_than_it_sends() {
    let request = register(json!({
        "Version": 130, "NodeKey": key('1'), "NLKey": format!("nlpub:{}", "3".repeat(64)),
        "Auth": {"AuthKey": "hskey-auth-a-b"}, "HostInfo": {"Hostname": "rusty"}, "Followup": null, "Ephemeral": false
    }));
    let request = request.unwrap();
    assert_eq!(request.hostinfo.hostname, "rusty");
    assert_eq!(request.auth_key, Some(AuthKeyText::new("hskey-auth-a-b".into())));
    assert_eq!((request.followup, request.expiry), (None, None));
}

#[test]
fn unknown_fields_are_accepted_and_kept_in_hostinfo() {
    let request = register(json!({
        "Version": 200, "NodeKey": key('1'), "Novelty": {"a": [1]},
        "Hostinfo": {"Zebra": {"deep": [1, null]}, "hostname": "h", "Aardvark": "x"}
    }));
    let json = request.unwrap().hostinfo.json;
    assert_eq!(json, r#"{"Aardvark":"x","Hostname":"h","Zebra":{"deep":[1,null]}}"#);
}

#[test]
fn zero_keys_and_zero_times_are_absent() {
    let request = map(json!({
        "Version": 113, "NodeKey": key('1'), "DiscoKey": format!("discokey:{}", "0".repeat(64))
    }));
    assert_eq!(request.unwrap().disco_key, None);
    let zero_in_a_zone = json!({"Version": 113, "NodeKey": key('1'), "Expiry": "0001-01-01T00:00:00+00:53"});
    assert_eq!(register(zero_in_a_zone).unwrap().expiry, None);
    assert!(matches!(register(json!({"Version": 113, "NodeKey": key('0')})), Err(RequestError::Value { .. })));
}

#[test]
fn a_logout_in_a_local_zone_is_in_the_past() {
    let request = register(json!({"Version": 142, "NodeKey": key('1'), "Expiry": "1970-01-01T01:02:03+01:00"}));
    assert_eq!(request.unwrap().expiry, Some(Timestamp::from_second(123).unwrap()));
}

#[test]
fn an_old_client_hears_so_even_if_nothing_else_is_right() {
    let error = register(json!({"version": 112, "NodeKey": 5})).unwrap_err();
    assert_eq!(error.to_string(), "unsupported client version 112: Tailscale 1.80 or newer is needed");
    assert!(matches!(map(json!({"NodeKey": key('1')})), Err(RequestError::Version(0))));
    assert!(matches!(map(json!({"Version": -1})), Err(RequestError::Version(-1))));
}

#[test]
fn what_a_peers_decoder_would_stumble_over_is_refused() {
    let bad = [
        (json!({"OS": 5}), "field Hostinfo.OS: expected a string"),
        (json!({"os": true}), "field Hostinfo.OS: expected a string"),
        (json!({"ShieldsUp": "yes"}), "field Hostinfo.ShieldsUp: expected true or false"),
        (
            json!({"Services": [{"Proto": "tcp", "Port": 70000}]}),
            "field Hostinfo.Services.Port: expected a whole number from 0 to 65535",
        ),
        (json!({"Services": [7]}), "field Hostinfo.Services: expected a list of objects"),
        (json!({"NetInfo": {"PreferredDERP": 1.5}}), "field Hostinfo.NetInfo.PreferredDERP: expected a whole number"),
        (
            json!({"NetInfo": {"DERPLatency": {"1-v4": "x"}}}),
            "field Hostinfo.NetInfo.DERPLatency: expected an object of numbers",
        ),
        (json!({"RequestTags": ["tag:a", 1]}), "field Hostinfo.RequestTags: expected a list of strings"),
        (
            json!({"RoutableIPs": ["10.0.0.0"]}),
            "field Hostinfo.RoutableIPs: \"10.0.0.0\" is not a prefix such as 10.0.0.0/8",
        ),
    ];
    for (hostinfo, expected) in bad {
        let error = register(json!({"Version": 142, "NodeKey": key('1'), "Hostinfo": hostinfo})).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_key_that_go_would_fold_to_a_known_one_does_not_reach_peers() {
    let hostinfo = json!({"Ho\u{17f}tname": 5, "Hostname": "h"});
    let request = register(json!({"Version": 142, "NodeKey": key('1'), "Hostinfo": hostinfo})).unwrap();
    assert_eq!(request.hostinfo.json, r#"{"Hostname":"h"}"#);
}

#[test]
fn routes_are_sorted_canonical_and_without_duplicates() {
    let hostinfo = json!({"RoutableIPs": ["10.1.2.3/8", "0.0.0.0/0", "10.0.0.0/8", "::/0"], "RequestTags": ["tag:b", "tag:a", "tag:b"]});
    let hostinfo = register(json!({"Version": 142, "NodeKey": key('1'), "Hostinfo": hostinfo})).unwrap().hostinfo;
    let routes: Vec<_> = hostinfo.routable_ips.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["0.0.0.0/0", "10.0.0.0/8", "::/0"]);
    assert_eq!(hostinfo.request_tags, ["tag:a", "tag:b"]);
}

#[test]
fn a_hostinfo_too_large_to_send_to_everybody_is_refused() {
    let hostinfo = json!({"Env": "x".repeat(crate::tailcfg::MAX_HOSTINFO)});
    let error = register(json!({"Version": 142, "NodeKey": key('1'), "Hostinfo": hostinfo})).unwrap_err();
    assert!(error.to_string().starts_with("field Hostinfo: "), "{error}");
}

#[test]
fn endpoints_go_with_their_types_and_useless_ones_are_left_out() {
    let request = map(json!({
        "Version": 142, "NodeKey": key('1'),
        "Endpoints": ["192.0.2.1:1", "[fe80::1%eth0]:2", "[2001:db8::1]:3", ""], "EndpointTypes": [1, 1, 2]
    }));
    let expected = vec![("192.0.2.1:1".parse().unwrap(), 1), ("[2001:db8::1]:3".parse().unwrap(), 2)];
    assert_eq!(request.unwrap().endpoints, expected);
    assert!(map(json!({"Version": 142, "NodeKey": key('1'), "Endpoints": ["nonsense"]})).is_err());
    let many = vec!["192.0.2.1:1"; MAX_ENDPOINTS + 5];
    let request = map(json!({"Version": 142, "NodeKey": key('1'), "Endpoints": many}));
    assert_eq!(request.unwrap().endpoints.len(), MAX_ENDPOINTS);
}

#[test]
fn malformed_bodies_are_errors_and_nothing_else() {
    let deep = "[".repeat(100_000);
    for body in ["", "{", "[]", "null", "7", "{\"Version\":", "\u{0}", deep.as_str()] {
        assert!(matches!(MapRequest::parse(body.as_bytes()), Err(RequestError::Json(_))), "{:.20}", body);
        assert!(RegisterRequest::parse(body.as_bytes()).is_err());
    }
    assert!(MapRequest::parse(b"{\"Version\":142,\"NodeKey\":\"\xff\"}").is_err());
}

#[test]
fn an_auth_key_never_prints() {
    let request = register(json!({"Version": 142, "NodeKey": key('1'), "Auth": {"AuthKey": "hskey-auth-secret"}}));
    assert!(!format!("{:?}", request.unwrap()).contains("secret"));
}
