use super::update::load_and_publish;
use super::*;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

const JSON: &str = r#"{"Regions": {
    "1": {"RegionID": 1, "RegionCode": "nyc", "RegionName": "New York", "Latitude": 40.7, "SomethingNew": [1],
          "Nodes": [{"Name": "1a", "RegionID": 1, "HostName": "derp1.example.com", "IPv4": "192.0.2.1", "IPv6": "none",
                     "CanPort80": true, "STUNTestIP": "192.0.2.3"}]},
    "2": {"RegionID": 2, "RegionCode": "sfo", "RegionName": "San Francisco",
          "Nodes": [{"Name": "2a", "RegionID": 2, "HostName": "derp2.example.com"}]}
}}"#;

/// As in Headscale's documentation.
const YAML: &str = r#"
regions:
  900:
    regionid: 900
    regioncode: custom
    regionname: My Region
    nodes:
      - name: 900a
        regionid: 900
        hostname: myderp.example.com
        ipv4: 198.51.100.1
        ipv6: 2001:db8::1
        stunport: -1
        stunonly: false
        derpport: 8443
  1: null
"#;

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn regions(map: &DerpMap) -> Vec<u32> {
    map.regions.keys().copied().collect()
}

/// A server whose answer can be changed.
struct Server {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(answer: &str) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, answer.to_owned())));
        let shown = answer.clone();
        let router = Router::new().route("/map", get(move || async move { shown.lock().unwrap().clone() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/map", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, answer, _serving: AbortOnDropHandle::new(serving) }
    }

    fn set(&self, status: StatusCode, text: &str) {
        *self.answer.lock().unwrap() = (status, text.to_owned());
    }
}

#[tokio::test]
async fn files_are_merged_over_urls_and_null_removes_a_region() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(JSON).await;
    let paths = vec![file(&dir, "derp.yaml", YAML)];
    let mut loader = MapLoader::new(Sources { urls: vec![server.url.clone()], paths });
    let loaded = loader.load().await;
    assert_eq!(loaded.failed, []);
    assert_eq!(regions(&loaded.map), [2, 900]);
    let region = &loaded.map.regions[&900];
    assert_eq!((region.region_code.as_str(), region.region_name.as_str()), ("custom", "My Region"));
    let node = &region.nodes[0];
    assert_eq!((node.name.as_str(), node.host_name.as_str()), ("900a", "myderp.example.com"));
    assert_eq!((node.ipv4.as_str(), node.ipv6.as_str()), ("198.51.100.1", "2001:db8::1"));
    assert_eq!((node.stun_port, node.derp_port, node.region_id), (-1, 8443, 900));
}

#[test]
fn names_may_have_any_case_and_unknown_ones_are_ignored() {
    let json = parse::json(JSON.as_bytes()).unwrap();
    assert_eq!(parse::yaml(JSON).unwrap(), json);
    assert_eq!(parse::json(JSON.to_lowercase().as_bytes()).unwrap().regions.len(), 2);
    let region = json.regions[&1].as_ref().unwrap();
    assert_eq!(region.latitude, 40.7);
    assert!(region.nodes[0].can_port_80);
    assert!(parse::yaml("omitDefaultRegions: true").unwrap().omit_default_regions);
    for nothing in ["", "# nothing\n", "{}", "regions:\n"] {
        assert_eq!(parse::yaml(nothing).unwrap(), Part::default(), "{nothing:?}");
    }
}

#[test]
fn texts_that_look_like_something_else_in_yaml_stay_texts() {
    let part = parse::yaml("regions: {900: {regioncode: no, nodes: [{name: 900, hostname: h}]}}").unwrap();
    let region = part.regions[&900].as_ref().unwrap();
    assert_eq!((region.region_code.as_str(), region.nodes[0].name.as_str()), ("no", "900"));
}

#[test]
fn each_mistake_is_named() {
    let node = |more: &str| format!("regions: {{900: {{nodes: [{{name: n, hostname: h, {more}}}]}}}}");
    let cases = [
        ("regions: {0: {}}".to_owned(), r#"region "0": its id must be a number above 0"#),
        ("regions: {x: null}".into(), r#"region "x""#),
        ("regions: {900: {}}".into(), "region 900 has no nodes"),
        ("regions: {900: {regionid: 901, nodes: [{}]}}".into(), "its RegionID is 901"),
        ("regions: {900: {nodes: [{hostname: h}]}}".into(), "it has no name"),
        ("regions: {900: {nodes: [{name: n}]}}".into(), "it has no hostname"),
        (node("regionid: 1"), "it must be its region's"),
        (node("ipv4: 1.2.3"), r#"its IPv4 is "1.2.3""#),
        (node("ipv6: 1.2.3.4"), r#"its IPv6 is "1.2.3.4""#),
        (node("stunport: -2"), "its STUNPort is -2"),
        (node("derpport: 70000"), "its DERPPort is 70000"),
        (node("derpport: abc"), "not a DERP map"),
        (
            "regions: {9: {nodes: [{name: n, hostname: h}, {name: n, hostname: i}]}}".into(),
            "another node has this name",
        ),
        ("regions: [".into(), "not a YAML DERP map"),
        ("just a text".into(), "not a DERP map"),
    ];
    for (text, expected) in cases {
        let error = parse::yaml(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[tokio::test]
async fn two_sources_cannot_give_one_node_name_to_two_regions() {
    let dir = tempfile::tempdir().unwrap();
    let one = file(&dir, "one.yaml", "regions: {901: {nodes: [{name: same, hostname: h}]}}");
    let two = file(&dir, "two.yaml", "regions: {902: {nodes: [{name: same, hostname: h}]}}");
    let mut loader = MapLoader::new(Sources { urls: vec![], paths: vec![one, two.clone()] });
    let loaded = loader.load().await;
    assert_eq!(regions(&loaded.map), [901]);
    assert_eq!(loaded.failed[0].from, Source::Path(two));
    assert!(loaded.failed[0].reason.contains("region 901"), "{}", loaded.failed[0]);
}

#[tokio::test]
async fn a_source_that_fails_keeps_its_last_good_regions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(JSON).await;
    let path = file(&dir, "derp.yaml", YAML);
    let mut loader = MapLoader::new(Sources { urls: vec![server.url.clone()], paths: vec![path.clone()] });
    let (publish, map) = watch::channel(Arc::new(loader.load().await.map));

    server.set(StatusCode::INTERNAL_SERVER_ERROR, "broken");
    std::fs::write(&path, YAML.replace("900", "910")).unwrap();
    assert!(!load_and_publish(&mut loader, &publish).await);
    assert_eq!(regions(&map.borrow()), [2, 910], "the file's change is used, the URL's regions stay");
    let failed = loader.load().await.failed;
    assert!(failed[0].to_string().contains(&server.url), "{}", failed[0]);
    assert!(failed[0].to_string().contains("500"), "{}", failed[0]);

    server.set(StatusCode::OK, "{ not JSON");
    assert!(!load_and_publish(&mut loader, &publish).await);
    assert_eq!(regions(&map.borrow()), [2, 910]);

    server.set(StatusCode::OK, r#"{"Regions":{}}"#);
    assert!(load_and_publish(&mut loader, &publish).await);
    assert_eq!(regions(&map.borrow()), [910]);
}

#[tokio::test]
async fn the_map_is_read_again_while_the_server_runs() {
    let server = Server::start(JSON).await;
    let mut loader = MapLoader::new(Sources { urls: vec![server.url.clone()], paths: vec![] });
    let (publish, mut map) = watch::channel(Arc::new(loader.load().await.map));
    let updating = tokio::spawn(keep_current(loader, Duration::from_millis(20), publish));
    server.set(StatusCode::OK, r#"{"Regions":{}}"#);
    let emptied = map.wait_for(|map| map.regions.is_empty());
    tokio::time::timeout(Duration::from_secs(10), emptied).await.unwrap().unwrap();
    drop(map);
    tokio::time::timeout(Duration::from_secs(10), updating).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_fetched_is_an_error_that_says_why() {
    let server = Server::start(JSON).await;
    let http = Http::new(Limits { body: 100, ..FETCH });
    let error = async |url: &str| http.get(url).await.unwrap_err();
    assert!(error("ftp://example.com").await.contains("http://"));
    assert!(error(":").await.contains("not a URL"));
    assert!(error(&server.url).await.contains("100 bytes"));
    assert!(error("http://127.0.0.1:1/").await.contains("connecting"));
    assert!(error(&server.url.replace("http:", "https:")).await.contains("TLS"));
    server.set(StatusCode::NOT_FOUND, "");
    assert!(error(&server.url).await.contains("404"));
}

#[tokio::test]
async fn a_server_with_a_certificate_of_a_known_ca_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cert.pem");
    let certificate = crate::derp::Certificate::load_or_make(&path, "127.0.0.1").unwrap();
    let relay = crate::derp::tests::relay_for_tests(crate::derp::admit_all());
    let router = Router::new().route("/map", get(|| async { JSON }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/map", listener.local_addr().unwrap());
    let serving = crate::derp::serve_relay(listener, certificate.server_config().unwrap(), relay, router);
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));

    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&path).unwrap()).unwrap();
    let mut loader =
        MapLoader::with_http(Sources { urls: vec![url.clone()], paths: vec![] }, Http::with_roots(roots, FETCH));
    let loaded = loader.load().await;
    assert_eq!(loaded.failed, []);
    assert_eq!(regions(&loaded.map), [1, 2]);

    let untrusted = MapLoader::new(Sources { urls: vec![url], paths: vec![] }).load().await;
    assert!(untrusted.failed[0].reason.contains("TLS"), "{}", untrusted.failed[0]);
}
