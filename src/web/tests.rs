//! Pages and endpoints as browsers and monitors meet them.

use super::{Hosts, LocalIp, Options, TrustedProxies, common, inside, no_foreign_origin, router};
use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::state::{Allocation, AuthId, Command, Owner, PendingLogin, RegisterMethod, Settings, Time, UserId, Verdict};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use std::time::Duration;
use tower::ServiceExt;

struct World {
    cluster: Cluster,
    site: Router,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: String::new(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        let hosts = Hosts::new(cluster.clone(), ["vpn.example.com".into()]);
        let limits = Limits { lookups_per_minute: LOOKUPS, ..Limits::default() };
        let server_url = "https://vpn.example.com?a&b".into();
        let options = Options { cluster: cluster.clone(), server_url, hosts, limits, oidc: None };
        Self { cluster, site: common(router(options), TrustedProxies::default()) }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let (parts, body) = self.site.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn login(&self, hostname: &str, lifetime: Duration) -> AuthId {
        let id = AuthId::generate();
        let now = Time::now();
        let login = PendingLogin {
            id: id.clone(),
            machine_key: MachineKey(rand::random()),
            node_key: NodeKey(rand::random()),
            hostinfo: Hostinfo {
                hostname: hostname.into(),
                os: "linux".into(),
                request_tags: vec!["tag:server".into()],
                json: "{}".into(),
                ..Hostinfo::default()
            },
            cap_ver: CapVer::MIN,
            expiry: None,
            source: "192.0.2.1".parse().unwrap(),
            created: now,
            deadline: now + lifetime,
            verdict: Verdict::Waiting,
        };
        self.cluster.write(Command::StartLogin(login)).await.unwrap();
        id
    }

    async fn decide(&self, auth_id: &AuthId, approve: bool) {
        self.cluster.write(Command::DecideLogin { auth_id: auth_id.clone(), approve }).await.unwrap();
    }
}

/// More than any other test here asks for.
const LOOKUPS: u32 = 20;
const QUARTER: Duration = Duration::from_secs(900);

#[tokio::test]
async fn the_page_of_a_waiting_login_says_who_asks_and_what_to_type() {
    let world = World::new();
    let id = world.login("laptop", QUARTER).await;
    let page = world.get(&format!("/register/{id}")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    for part in [
        "laptop",
        "linux",
        "tag:server",
        &format!("quorumscale nodes register --user USERNAME --key {id}"),
        &format!("quorumscale auth register --user USERNAME --auth-id {id}"),
        "quorumscale users create USERNAME",
        "valid for another 15 minutes",
        "width=device-width",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let page = world.get(&format!("/auth/{id}")).await;
    assert!(page.text.contains(&format!("quorumscale auth approve --auth-id {id}")), "{}", page.text);
}

#[tokio::test]
async fn a_page_runs_nothing_that_it_does_not_bring() {
    let world = World::new();
    let id = world.login("laptop", QUARTER).await;
    let page = world.get(&format!("/register/{id}")).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("script-src 'sha256-") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let inside = |name: &str| {
        let (_, rest) = page.text.split_once(&format!("<{name}>")).unwrap();
        rest.split_once(&format!("</{name}>")).unwrap().0.to_owned()
    };
    for name in ["style", "script"] {
        use base64::Engine;
        use sha2::Digest;
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(inside(name)));
        assert!(policy.contains(&format!("{name}-src 'sha256-{hash}'")), "{name}");
    }
    assert!(!page.text.contains("style=") && !page.text.contains("//"), "no inline styles, nothing from elsewhere");
    assert_eq!(page.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn what_a_machine_calls_itself_cannot_become_html() {
    let world = World::new();
    let id = world.login("<script>alert(1)</script>\u{202e}&\"'\n", QUARTER).await;
    let page = world.get(&format!("/register/{id}")).await;
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
    assert!(page.text.contains("<bdi>&lt;script&gt;alert(1)&lt;/script&gt;\u{202e}&amp;&quot;&#39;\u{fffd}</bdi>"));
    let long = world.login(&"x".repeat(5000), QUARTER).await;
    assert!(world.get(&format!("/register/{long}")).await.text.contains(&format!(">{}<", "x".repeat(100))));
}

#[tokio::test]
async fn the_page_says_what_was_decided() {
    let world = World::new();
    let create = Command::CreateUser {
        name: "alice".into(),
        display_name: String::new(),
        email: String::new(),
        profile_pic_url: String::new(),
    };
    world.cluster.write(create).await.unwrap();
    let id = world.login("laptop", QUARTER).await;
    let state = async |id: &AuthId| world.get(&format!("/register/{id}?state")).await.text;
    assert_eq!(state(&id).await, "waiting");
    let approve = Command::ApproveLogin {
        auth_id: id.clone(),
        user: UserId(1),
        owner: Owner::User(UserId(1)),
        method: RegisterMethod::Cli,
        policy_version: 0,
        seed: 0,
        v4_pools: Vec::new(),
        provider_expiry: None,
    };
    world.cluster.write(approve).await.unwrap();
    let page = world.get(&format!("/register/{id}")).await;
    assert!(page.status == 200 && page.text.contains("under the name laptop"), "{}", page.text);
    assert_eq!(state(&id).await, "registered");
    let rejected = world.login("stranger", QUARTER).await;
    world.decide(&rejected, false).await;
    assert!(world.get(&format!("/register/{rejected}")).await.text.contains("turned this login away"));
    let approved = world.login("check", QUARTER).await;
    world.decide(&approved, true).await;
    assert!(world.get(&format!("/auth/{approved}")).await.text.contains("You are done"));
}

#[tokio::test]
async fn a_link_that_is_no_good_says_what_to_do() {
    let world = World::new();
    for path in ["/register/hskey-authreq-0123456789abcdef01234567", "/auth/hskey-authreq-0123456789abcdef01234567"] {
        let page = world.get(path).await;
        assert!(page.status == 410 && page.text.contains("Run &quot;tailscale up&quot;"), "{}", page.text);
        assert!(page.text.contains("<title>Quorumscale - Error</title>") && page.text.contains("<h1>Gone</h1>"));
    }
    let expired = world.login("late", Duration::ZERO).await;
    assert_eq!(world.get(&format!("/register/{expired}")).await.status, 410);
    for path in ["/register/bogus", "/register/hskey-authreq-0123", "/register/%3Cscript%3E"] {
        let page = world.get(path).await;
        assert_eq!(page.status, 400, "{path}");
        assert!(!page.text.contains("bogus") && page.text.contains("not a complete login link"));
    }
}

#[tokio::test]
async fn a_replica_that_begins_to_stop_is_not_ready() {
    let world = World::new();
    world.cluster.leave().await;
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, answer.text.as_str()), (503, "stopping\n"));
    assert_eq!(world.get("/health").await.status, 200, "what is under way is served");
}

#[tokio::test]
async fn without_a_quorum_pages_and_health_say_so() {
    let world = World::new();
    let id = world.login("laptop", QUARTER).await;
    assert_eq!(world.get("/health").await.text, r#"{"status":"pass"}"#);
    assert_eq!(world.get("/readyz").await.status, 200);
    world.cluster.set_quorum(false);
    let page = world.get(&format!("/register/{id}")).await;
    assert!(page.status == 503 && page.text.contains("load this page again"), "{}", page.text);
    assert!(page.headers.contains_key("retry-after"));
    let health = world.get("/health").await;
    assert_eq!((health.status, health.text.as_str()), (503, r#"{"status":"fail"}"#));
    assert_eq!(health.headers["content-type"], "application/health+json; charset=utf-8");
    assert_eq!(world.get("/readyz").await.status, 503);
    assert_eq!(world.get("/livez").await.status, 200, "the process is alive");
}

#[tokio::test]
async fn a_profile_points_apples_devices_here() {
    let world = World::new();
    for (platform, domain) in [
        ("ios", "io.tailscale.ipn.ios"),
        ("macos-app-store", "io.tailscale.ipn.macos"),
        ("macos-standalone", "io.tailscale.ipn.macsys"),
    ] {
        let profile = world.get(&format!("/apple/{platform}")).await;
        assert_eq!(profile.headers["content-type"], "application/x-apple-aspen-config; charset=utf-8");
        assert!(profile.text.contains(&format!("<string>{domain}</string>")), "{}", profile.text);
        assert!(profile.text.contains("<key>ControlURL</key><string>https://vpn.example.com?a&amp;b</string>"));
    }
    assert_eq!(world.get("/apple/watch").await.status, 400);
    for path in ["/apple", "/windows"] {
        let page = world.get(path).await;
        assert!(page.text.contains("tailscale login --login-server https://vpn.example.com?a&amp;b"), "{}", page.text);
    }
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let world = World::new();
    for (path, status) in
        [("/", 200), ("/favicon.ico", 200), ("/robots.txt", 200), ("/version", 200), ("/nothing", 404)]
    {
        let answer = world.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in
            [("x-frame-options", "DENY"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(answer.headers[name], value, "{path}");
        }
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    }
    let version: serde_json::Value = serde_json::from_str(&world.get("/version").await.text).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["go"]["os"].is_string() && version["buildTime"].is_string() && version["dirty"].is_boolean());
    assert!(world.get("/nothing").await.text.contains("<h1>Not Found</h1>"));
    let post = Request::builder().method("POST").uri("/nothing").body(Body::empty()).unwrap();
    assert_eq!(world.site.clone().oneshot(post).await.unwrap().status(), StatusCode::NOT_FOUND);
}

impl World {
    async fn status(&self, site: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(LocalIp("192.0.2.9".parse().unwrap()));
        site.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    async fn member(&self) {
        use crate::state::{COMMAND_FORMAT, Replica, ReplicaId, Standing};
        let replica = Replica {
            id: ReplicaId(2),
            incarnation: 1,
            since: Time::now(),
            version: "0".into(),
            command_format: COMMAND_FORMAT,
            client_addresses: vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
            relay: None,
            config_differs: Vec::new(),
            standing: Standing::Serving,
        };
        self.cluster.write(Command::ReplicaUp(replica)).await.unwrap();
    }
}

const OURS: [&str; 9] = [
    "vpn.example.com",
    "VPN.example.com.:443",
    "localhost:8080",
    "127.0.0.3:9090",
    "[::1]:8080",
    "192.0.2.9:8080",
    "192.0.2.2",
    "[2001:db8::2]:8080",
    "192.0.2.2:443",
];
const NOT_OURS: [&str; 6] =
    ["evil.example", "vpn.example.com.evil.example", "192.0.2.3", "localhost.evil.example", "[2001:db8::3]", "a b"];

/// As in CVE-2022-41924 and 41925 (TS-2022-004, TS-2022-005).
#[tokio::test]
async fn pages_and_metrics_answer_under_no_name_that_was_rebound() {
    let world = World::new();
    world.member().await;
    let hosts = Hosts::new(world.cluster.clone(), ["vpn.example.com".into()]);
    let metrics = inside(Router::new().route("/metrics", axum::routing::get(async || "")), hosts);
    let paths = [(&world.site, "/"), (&world.site, "/apple"), (&world.site, "/windows"), (&metrics, "/metrics")];
    for (site, path) in paths {
        for host in OURS {
            assert_eq!(world.status(site, "GET", path, &[("host", host)]).await, 200, "{path} at {host}");
        }
        for host in NOT_OURS {
            assert_eq!(world.status(site, "GET", path, &[("host", host)]).await, 421, "{path} at {host}");
        }
    }
    let id = world.login("laptop", QUARTER).await;
    for path in [format!("/register/{id}"), format!("/auth/{id}"), format!("/register/{id}?state")] {
        assert_eq!(world.status(&world.site, "GET", &path, &[("host", "evil.example")]).await, 421, "{path}");
    }
}

#[tokio::test]
async fn what_programs_ask_is_answered_under_any_name() {
    let world = World::new();
    for path in ["/health", "/livez", "/readyz", "/version"] {
        assert_eq!(world.status(&world.site, "GET", path, &[("host", "first.example.com")]).await, 200, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::new();
    let hosts = Hosts::new(world.cluster.clone(), ["vpn.example.com".into()]);
    let any = Router::new().route("/api/v1/user", axum::routing::any(async || ""));
    let api = no_foreign_origin(any, hosts);
    for (method, host, origin, status) in [
        ("POST", "vpn.example.com", "https://vpn.example.com", 200),
        ("POST", "127.0.0.1:8080", "https://vpn.example.com", 200),
        ("DELETE", "ui.example.com", "https://ui.example.com", 200),
        ("POST", "vpn.example.com", "https://evil.example", 403),
        ("POST", "vpn.example.com", "https://vpn.example.com.evil.example", 403),
        ("PUT", "vpn.example.com", "null", 403),
        ("DELETE", "vpn.example.com", "", 403),
        ("GET", "vpn.example.com", "https://evil.example", 200),
    ] {
        let headers = [("host", host), ("origin", origin), ("authorization", "Bearer x")];
        assert_eq!(world.status(&api, method, "/api/v1/user", &headers).await, status, "{method} {host} {origin}");
    }
    assert_eq!(world.status(&api, "POST", "/api/v1/user", &[]).await, 200, "a program has no origin");
}

#[tokio::test]
async fn links_that_are_none_are_limited_by_address_and_keep_nobody_from_a_page_that_is_there() {
    let world = World::new();
    let waiting = world.login("laptop", QUARTER).await;
    let unknown = AuthId::generate();
    for page in ["register", "auth"].iter().cycle().take(LOOKUPS as usize) {
        assert_eq!(world.get(&format!("/{page}/{unknown}")).await.status, 410);
    }
    let limited = world.get(&format!("/register/{unknown}")).await;
    assert_eq!(limited.status, 429, "{}", limited.text);
    assert!(limited.text.contains("Load this page again in "), "{}", limited.text);
    let seconds: u64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    for _ in 0..LOOKUPS {
        assert_eq!(world.get(&format!("/register/{waiting}")).await.status, 200);
    }
    assert_eq!(world.get(&format!("/register/{waiting}")).await.status, 429);
    assert_eq!(world.get(&format!("/register/{waiting}?state")).await.text, "waiting", "the page itself goes on");
    world.decide(&waiting, false).await;
    assert_eq!(world.get(&format!("/register/{waiting}")).await.status, 200, "what is decided costs nobody anything");
    assert_eq!(world.get("/apple").await.status, 200);
}
