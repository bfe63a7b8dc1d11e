//! Logins as browsers go through them, with several replicas on one state and a provider
//! that may say anything.

use super::testing::{CLIENT, Fake, SECRET, now};
use super::*;
use crate::config::Pkce;
use crate::state::*;
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use crate::web;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tower::ServiceExt;

const QUARTER: Duration = Duration::from_secs(900);

/// Three replicas of one cluster.
struct World {
    cluster: Cluster,
    fake: Fake,
    sites: Vec<Router>,
    _stop: tokio_util::sync::DropGuard,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn location(&self) -> &str {
        assert_eq!(self.status, 302, "{}", self.text);
        self.headers["location"].to_str().unwrap()
    }

    /// What a form on the page would send.
    fn form(&self) -> (String, String) {
        let between = |start: &str| {
            let (_, rest) = self.text.split_once(start).unwrap_or_else(|| panic!("{start}: {}", self.text));
            rest.split_once('"').unwrap().0.to_owned()
        };
        (between("action=\""), format!("token={}", between("name=\"token\" value=\"")))
    }
}

/// Keeps cookies as a browser does.
#[derive(Clone, Default)]
struct Browser {
    cookies: Vec<(String, String, String)>,
}

impl Browser {
    async fn ask(&mut self, site: &Router, method: &str, path: &str, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let sent = self.cookies.iter().filter(|(_, _, scope)| path.starts_with(scope));
        let sent: Vec<String> = sent.map(|(name, value, _)| format!("{name}={value}")).collect();
        if !sent.is_empty() {
            request = request.header("cookie", sent.join("; "));
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = site.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        };
        for set in answer.headers.get_all("set-cookie") {
            let set = set.to_str().unwrap();
            let (name, rest) = set.split_once('=').unwrap();
            let (value, attributes) = rest.split_once("; Path=").unwrap();
            let (path, rest) = attributes.split_once(';').unwrap();
            assert!(rest.contains("HttpOnly") && rest.contains("SameSite") && rest.contains("Secure"), "{set}");
            self.cookies.retain(|(known, _, _)| known != name);
            if !rest.contains("Max-Age=0;") {
                self.cookies.push((name.into(), value.into(), path.into()));
            }
        }
        answer
    }

    async fn get(&mut self, site: &Router, path: &str) -> Answer {
        self.ask(site, "GET", path, "").await
    }

    async fn come_back(&mut self, site: &Router, query: &str) -> Answer {
        self.get(site, &format!("/oidc/callback?{query}")).await
    }

    async fn submit(&mut self, site: &Router, page: &Answer) -> Answer {
        let (action, body) = page.form();
        self.ask(site, "POST", &action, &body).await
    }
}

pub(super) fn rules(issuer: &str) -> config::Oidc {
    config::Oidc {
        issuer: issuer.into(),
        when_unavailable: WhenUnavailable::Serve,
        client_id: CLIENT.into(),
        client_secret: ClientSecret::Text(SECRET.parse().unwrap()),
        scope: vec!["openid".into(), "email".into()],
        extra_params: vec![("domain_hint".into(), "a b".into())],
        allowed_domains: Vec::new(),
        allowed_users: Vec::new(),
        allowed_groups: Vec::new(),
        email_verified_required: true,
        use_expiry_from_token: false,
        pkce: None,
    }
}

impl World {
    async fn new() -> Self {
        Self::with(|rules| rules).await
    }

    async fn with(change: impl Fn(config::Oidc) -> config::Oidc) -> Self {
        let world = Self::around(Fake::start(0).await, change, Limits::default()).await;
        world.found().await;
        world
    }

    async fn around(fake: Fake, change: impl Fn(config::Oidc) -> config::Oidc, limits: Limits) -> Self {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: String::new(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        let rules = change(rules(&fake.issuer));
        let stop = CancellationToken::new();
        let mut sites = Vec::new();
        for n in 1..=3 {
            let server_url = format!("https://vpn{n}.example.com");
            let policies = Arc::new(Policies::default());
            let environment =
                Environment { cluster: cluster.clone(), policies, server_url: server_url.clone(), limits };
            let oidc = Found::look(&rules).await.unwrap().serve(environment, stop.clone());
            let names = (1..=3).map(|n| format!("vpn{n}.example.com"));
            let hosts = web::Hosts::new(cluster.clone(), names);
            let options = web::Options { cluster: cluster.clone(), server_url, hosts, limits, oidc: Some(oidc) };
            sites.push(web::common(web::router(options), web::TrustedProxies::default()));
        }
        Self { cluster, fake, sites, _stop: stop.drop_guard() }
    }

    /// Until all replicas have found the provider.
    async fn found(&self) {
        let id = self.waits("probe", &[]).await;
        for site in &self.sites {
            while Browser::default().get(site, &format!("/register/{id}")).await.status != 302 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn site(&self, n: usize) -> &Router {
        &self.sites[n - 1]
    }

    async fn waits(&self, name: &str, tags: &[&str]) -> AuthId {
        self.machine_waits(name, MachineKey(rand::random()), tags).await
    }

    async fn machine_waits(&self, name: &str, machine_key: MachineKey, tags: &[&str]) -> AuthId {
        let now = Time::now();
        let login = PendingLogin {
            id: AuthId::generate(),
            machine_key,
            node_key: NodeKey(rand::random()),
            hostinfo: Hostinfo {
                hostname: name.into(),
                os: "linux".into(),
                request_tags: tags.iter().map(|tag| tag.to_string()).collect(),
                json: "{}".into(),
                ..Hostinfo::default()
            },
            cap_ver: CapVer(130),
            expiry: None,
            source: "192.0.2.1".parse().unwrap(),
            created: now,
            deadline: now + QUARTER,
            verdict: Verdict::Waiting,
        };
        let id = login.id.clone();
        self.cluster.write(Command::StartLogin(login)).await.unwrap();
        id
    }

    /// Somebody logs in for a machine, at one replica for all: the last page.
    async fn logs_in(&self, id: &AuthId, person: Value) -> Answer {
        let mut browser = Browser::default();
        let begun = browser.get(self.site(1), &format!("/register/{id}")).await;
        let query = self.fake.login(begun.location(), person);
        let page = browser.come_back(self.site(1), &query).await;
        if page.status == 200 { browser.submit(self.site(1), &page).await } else { page }
    }

    /// The answer to somebody who comes back with such a token.
    async fn comes_back_with(&self, person: Value, alter: impl Fn(String) -> String) -> Answer {
        let mut browser = Browser::default();
        let id = self.waits("laptop", &[]).await;
        let begun = browser.get(self.site(1), &format!("/register/{id}")).await;
        let query = self.fake.login_with(begun.location(), person, alter);
        browser.come_back(self.site(1), &query).await
    }

    fn node(&self, id: &AuthId) -> Option<Arc<Node>> {
        let view = self.cluster.view();
        match view.login(id)?.verdict {
            Verdict::Registered(node) => view.node(node).cloned(),
            _ => None,
        }
    }

    fn user(&self, subject: &str) -> Option<Arc<User>> {
        self.cluster.view().user_by_provider_id(&format!("{}/{subject}", self.fake.issuer)).cloned()
    }
}

#[tokio::test]
async fn a_login_begins_at_one_replica_comes_back_to_another_and_is_confirmed_at_a_third() {
    let world = World::with(|rules| config::Oidc { pkce: Some(Pkce::S256), ..rules }).await;
    let id = world.waits("laptop", &[]).await;
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    assert!(begun.location().contains("&domain_hint=a+b") && begun.location().contains("scope=openid+email"));
    assert!(begun.location().contains("redirect_uri=https%3A%2F%2Fvpn1.example.com%2Foidc%2Fcallback"));
    assert!(!begun.location().contains(id.as_str()), "the provider does not learn the machine's link");
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let page = browser.come_back(world.site(2), &query).await;
    assert_eq!(page.status, 200, "{}", page.text);
    for said in ["Is this your machine?", "laptop", "linux", "The carol (carol@example.com)", "Add this machine"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("form-action 'self'"));
    assert_eq!(page.headers["referrer-policy"], "same-origin");
    assert!(world.node(&id).is_none(), "nothing is in before its owner says so");
    let done = browser.submit(world.site(3), &page).await;
    assert!(done.status == 200 && done.text.contains("<h1>Node registered</h1>"), "{}", done.text);
    let (node, carol) = (world.node(&id).unwrap(), world.user("carol").unwrap());
    assert_eq!((node.owner.clone(), node.register_method), (Owner::User(carol.id), RegisterMethod::Oidc));
    assert_eq!((&*carol.name, &*carol.email, &*carol.provider), ("carol", "carol@example.com", "oidc"));
    assert_eq!(carol.profile_pic_url, "https://example.com/carol.png");
    let again = browser.submit(world.site(1), &page).await;
    assert_eq!(again.status, 400, "the form's cookie is gone: {}", again.text);
    let page = browser.get(world.site(2), &format!("/register/{id}")).await;
    assert!(page.text.contains("You are done"), "{}", page.text);
    let view = world.cluster.view();
    let record = view.audit().find(|record| record.action == "login.approve").unwrap();
    assert_eq!(record.by, format!("oidc {}/carol", world.fake.issuer));
}

#[tokio::test]
async fn a_token_that_is_not_for_this_login_lets_nobody_in() {
    let world = World::new().await;
    let person = |change: Value| {
        let mut person = world.fake.person("carol");
        person.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        person
    };
    for change in [
        json!({ "nonce": "another" }),
        json!({ "nonce": "" }),
        json!({ "nonce": null }),
        json!({ "aud": "another" }),
        json!({ "aud": [] }),
        json!({ "aud": ["another", CLIENT], "azp": "another" }),
        json!({ "iss": "https://id.example.com" }),
        json!({ "exp": now() - 1 }),
        json!({ "exp": "tomorrow" }),
        json!({ "exp": null }),
        json!({ "nbf": now() + 3600 }),
        json!({ "nbf": "tomorrow" }),
        json!({ "sub": "" }),
        json!({ "sub": " / /" }),
        json!({ "sub": "x".repeat(300) }),
        json!({ "sub": null }),
    ] {
        let page = world.comes_back_with(person(change.clone()), |token| token).await;
        assert_eq!(page.status, 403, "{change}: {}", page.text);
        assert!(page.text.contains("could not be verified"), "{}", page.text);
    }
    let none = |token: String| {
        let payload = token.split('.').nth(1).unwrap();
        format!("{}.{payload}.", BASE64.encode(br#"{"alg":"none"}"#))
    };
    let broken = |token: String| format!("{}AAAA", &token[..token.len() - 4]);
    let alters: [&dyn Fn(String) -> String; 4] = [&none, &broken, &|_| "garbage".into(), &|_| String::new()];
    for alter in alters {
        assert_eq!(world.comes_back_with(world.fake.person("carol"), alter).await.status, 403);
    }
    assert_eq!(world.cluster.view().users().count(), 0);
    let several = person(json!({ "aud": ["another", CLIENT], "azp": CLIENT }));
    assert_eq!(world.comes_back_with(several, |token| token).await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for() {
    let world = World::new().await;
    let login = async || world.comes_back_with(world.fake.person("carol"), |token| token).await.status;
    assert_eq!(login().await, 200);
    world.fake.rotate("second");
    assert_eq!(login().await, 200, "the provider has a new key");
    let stranger = |token: String| {
        let (_, rest) = token.split_once('.').unwrap();
        format!("{}.{rest}", BASE64.encode(br#"{"alg":"ES256","kid":"third"}"#))
    };
    let page = world.comes_back_with(world.fake.person("carol"), stranger).await;
    assert_eq!(page.status, 403, "nobody has that key");
}

#[tokio::test]
async fn a_return_is_taken_once_and_from_the_browser_that_began() {
    let world = World::new().await;
    world.fake.forgets_codes();
    let id = world.waits("laptop", &[]).await;
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let stranger = Browser::default().come_back(world.site(1), &query).await;
    assert!(stranger.status == 400 && stranger.text.contains("no cookie"), "{}", stranger.text);
    let mut other = browser.clone();
    other.cookies[0].1 = "x".repeat(43);
    assert_eq!(other.come_back(world.site(1), &query).await.status, 403);
    assert_eq!(world.fake.redeemed(), 0, "the provider is not asked for strangers");
    assert_eq!(browser.come_back(world.site(1), &query).await.status, 200);
    let again = browser.come_back(world.site(1), &query).await;
    assert!(again.status == 400 && again.text.contains("came back before"), "{}", again.text);
    assert_eq!(world.fake.redeemed(), 1);

    for (query, status) in [
        ("", 400),
        ("code=x", 400),
        ("code=&state=x", 400),
        ("code=x&state=forged", 400),
        (&format!("code={}&state=x", "x".repeat(5000)), 400),
        (&format!("code=x&state={}", "x".repeat(5000)), 400),
    ] {
        assert_eq!(browser.come_back(world.site(1), query).await.status, status, "{query}");
    }
    assert_eq!(browser.come_back(world.site(1), "").await.status, 400);
}

#[tokio::test]
async fn what_the_provider_refuses_is_said_and_is_no_markup() {
    let world = World::new().await;
    let id = world.waits("laptop", &[]).await;
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let (_, state) = query.split_once("state=").unwrap();
    let page = browser.come_back(world.site(2), &format!("error=%3Cb%3Edenied&state={state}")).await;
    assert!(page.status == 403 && page.text.contains("&lt;b&gt;denied"), "{}", page.text);
    assert_eq!(browser.come_back(world.site(2), &format!("{query}&iss=https://evil.example")).await.status, 403);
    assert_eq!(browser.come_back(world.site(2), &query).await.status, 200, "and the login goes on");
}

#[tokio::test]
async fn several_tabs_do_not_disturb_each_other() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let ids = [world.waits("one", &[]).await, world.waits("two", &[]).await];
    let mut queries = Vec::new();
    for id in [&ids[0], &ids[1], &ids[0]] {
        let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
        queries.push(world.fake.login(begun.location(), world.fake.person("carol")));
    }
    let mut pages = Vec::new();
    for query in queries.iter().rev() {
        pages.push(browser.come_back(world.site(2), query).await);
    }
    for (page, expected) in pages.iter().zip(["Node registered", "Node registered"]) {
        let done = browser.submit(world.site(3), page).await;
        assert!(done.text.contains(expected), "{}", done.text);
    }
    assert!(ids.iter().all(|id| world.node(id).is_some()));
    let done = browser.submit(world.site(3), &pages[2]).await;
    assert!(done.text.contains("Node registered"), "the same login in another tab is done too: {}", done.text);
}

#[tokio::test]
async fn a_form_counts_only_from_the_browser_and_the_page_that_it_was_made_for() {
    let world = World::new().await;
    let (id, other) = (world.waits("laptop", &[]).await, world.waits("other", &[]).await);
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let page = browser.come_back(world.site(1), &query).await;
    let (action, body) = page.form();
    assert_eq!(action, format!("/register/confirm/{id}"));
    assert_eq!(Browser::default().ask(world.site(1), "POST", &action, &body).await.status, 400, "no cookie");
    let mut thief = browser.clone();
    thief.cookies.iter_mut().for_each(|cookie| cookie.1 = "x".repeat(43));
    assert_eq!(thief.ask(world.site(1), "POST", &action, &body).await.status, 403);
    let elsewhere = format!("/register/confirm/{other}");
    assert_eq!(browser.ask(world.site(1), "POST", &elsewhere, &body).await.status, 400);
    let state = begun.location().split_once("state=").unwrap().1.split_once('&').unwrap().0.to_owned();
    assert_eq!(browser.ask(world.site(1), "POST", &action, &format!("token={state}")).await.status, 400);
    for body in ["", "token=", "token=x"] {
        assert_eq!(browser.ask(world.site(1), "POST", &action, body).await.status, 400, "{body}");
    }
    assert_eq!(browser.ask(world.site(1), "POST", &action, &"x".repeat(100_000)).await.status, 413);
    assert_eq!(browser.ask(world.site(1), "GET", &action, "").await.status, 405);
    assert_eq!(browser.ask(world.site(1), "POST", "/register/confirm/bogus", &body).await.status, 400);
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("https://vpn2.example.com", 200)] {
        let cookies: Vec<String> = browser.cookies.iter().map(|(n, v, _)| format!("{n}={v}")).collect();
        let request = Request::builder()
            .method("POST")
            .uri(&action)
            .header("host", "vpn2.example.com")
            .header("origin", origin)
            .header("cookie", cookies.join("; "));
        let request = request.body(Body::from(body.clone())).unwrap();
        assert_eq!(world.site(2).clone().oneshot(request).await.unwrap().status(), status, "{origin}");
    }
    assert!(world.node(&id).is_some() && world.node(&other).is_none());
}

#[tokio::test]
async fn who_is_not_allowed_is_told_why_and_leaves_nothing_behind() {
    let list = |text: &str| vec![text.to_owned()];
    let world = World::with(|rules| config::Oidc {
        allowed_domains: list("Example.com"),
        allowed_groups: list("staff"),
        allowed_users: vec!["carol@example.com".into(), "dave@example.org".into()],
        ..rules
    })
    .await;
    for (change, expected) in [
        (json!({ "groups": ["guests"] }), "none of your groups"),
        (json!({ "groups": null }), "none of your groups"),
        (json!({ "email_verified": false }), "is not verified"),
        (json!({ "email_verified": "false" }), "is not verified"),
        (json!({ "email_verified": null }), "is not verified"),
        (json!({ "email": "" }), "is not verified"),
        (json!({ "email": "evil\"@example.com" }), "is not verified"),
        (json!({ "email": "dave@example.org" }), "of your domain"),
        (json!({ "email": "carol@example.com.evil.example" }), "of your domain"),
        (json!({ "email": "eve@example.com" }), "your account is not"),
    ] {
        let mut person = world.fake.person("carol");
        person.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let page = world.comes_back_with(person, |token| token).await;
        let text = page.text.to_lowercase();
        assert!(page.status == 401 && text.contains(expected), "{change}: {}", page.text);
        assert!(text.contains("ask an administrator"), "{}", page.text);
    }
    assert_eq!(world.cluster.view().users().count(), 0);
    let mut person = world.fake.person("carol");
    person["groups"] = json!("staff");
    person["email_verified"] = json!("true");
    assert_eq!(world.comes_back_with(person, |token| token).await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_not_kept_unless_the_operator_trusts_it() {
    let person = |fake: &Fake| {
        let mut person = fake.person("carol");
        person["email_verified"] = json!(false);
        person
    };
    let world = World::new().await;
    world.logs_in(&world.waits("laptop", &[]).await, person(&world.fake)).await;
    assert_eq!(world.user("carol").unwrap().email, "");
    let trusting = World::with(|rules| config::Oidc { email_verified_required: false, ..rules }).await;
    trusting.logs_in(&trusting.waits("laptop", &[]).await, person(&trusting.fake)).await;
    assert_eq!(trusting.user("carol").unwrap().email, "carol@example.com");
}

#[tokio::test]
async fn what_the_user_information_says_of_the_same_person_counts_more() {
    let world = World::new().await;
    world.fake.says_of_users(json!({ "sub": "carol", "name": "Carol C.", "email": "c@example.org" }));
    world.logs_in(&world.waits("laptop", &[]).await, world.fake.person("carol")).await;
    let carol = world.user("carol").unwrap();
    assert_eq!((&*carol.display_name, &*carol.name), ("Carol C.", "carol"));
    assert_eq!(carol.email, "", "another address is not verified because the first one was");
    world.fake.says_of_users(json!({ "sub": "carol", "email": "c@example.org", "email_verified": true }));
    world.logs_in(&world.waits("laptop", &[]).await, world.fake.person("carol")).await;
    assert_eq!(world.user("carol").unwrap().email, "c@example.org");
    world.fake.says_of_users(json!({ "sub": "mallory", "email": "m@example.org", "email_verified": true }));
    world.logs_in(&world.waits("laptop", &[]).await, world.fake.person("carol")).await;
    assert_eq!(world.user("carol").unwrap().email, "carol@example.com", "it was about somebody else");
}

#[tokio::test]
async fn a_code_is_bound_as_the_configuration_says_and_the_secret_sent_as_the_provider_says() {
    for pkce in [None, Some(Pkce::S256), Some(Pkce::Plain)] {
        let world = World::with(|rules| config::Oidc { pkce, ..rules }).await;
        let done = world.logs_in(&world.waits("laptop", &[]).await, world.fake.person("carol")).await;
        assert_eq!(done.status, 200, "{pkce:?}: {}", done.text);
    }
    let fake = Fake::start(0).await;
    fake.takes_secrets_in_forms_alone();
    let world = World::around(fake, |rules| rules, Limits::default()).await;
    world.found().await;
    let done = world.logs_in(&world.waits("laptop", &[]).await, world.fake.person("carol")).await;
    assert_eq!(done.status, 200, "{}", done.text);
}

#[tokio::test]
async fn the_same_person_logs_the_same_machine_in_again_and_another_gets_another_node() {
    let world = World::with(|rules| config::Oidc { use_expiry_from_token: true, ..rules }).await;
    let machine = MachineKey(rand::random());
    let first = world.machine_waits("laptop", machine, &[]).await;
    assert!(world.logs_in(&first, world.fake.person("carol")).await.text.contains("Node registered"));
    let node = world.node(&first).unwrap();
    let ends = node.expiry.unwrap().0 / 1000;
    assert!((now() + 200..=now() + 300).contains(&ends), "with the token");
    let second = world.machine_waits("laptop", machine, &[]).await;
    assert!(world.logs_in(&second, world.fake.person("carol")).await.text.contains("Node reauthenticated"));
    let again = world.node(&second).unwrap();
    assert_eq!((again.id, again.ipv4), (node.id, node.ipv4));
    let third = world.machine_waits("laptop", machine, &[]).await;
    assert!(world.logs_in(&third, world.fake.person("dave")).await.text.contains("Node registered"));
    let other = world.node(&third).unwrap();
    assert_ne!(other.id, node.id);
    assert_eq!(other.owner, Owner::User(world.user("dave").unwrap().id));
    let tagged = world.waits("server", &["tag:server"]).await;
    let page = world.logs_in(&tagged, world.fake.person("carol")).await;
    assert!(page.status == 403 && page.text.contains("tag:server"), "{}", page.text);
}

#[tokio::test]
async fn while_there_is_no_provider_administrators_let_machines_in_and_it_is_looked_for() {
    let fake = Fake::start(0).await;
    let port = fake.port();
    fake.breaks(true);
    let world = World::around(fake, |rules| rules, Limits::default()).await;
    let id = world.waits("laptop", &[]).await;
    let page = Browser::default().get(world.site(1), &format!("/register/{id}")).await;
    assert!(page.status == 200 && page.text.contains("nodes register --user"), "{}", page.text);
    assert!(page.text.contains("cannot be reached at the moment"), "{}", page.text);
    world.fake.breaks(false);
    world.found().await;
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    world.fake.breaks(true);
    let page = browser.come_back(world.site(1), &query).await;
    assert!(page.status == 503 && page.text.contains("cannot be asked at the moment"), "{}", page.text);
    assert!(world.node(&id).is_none() && port > 0);
}

#[tokio::test]
async fn where_the_provider_must_be_there_a_start_without_it_fails_by_name() {
    let mut rules = rules("http://127.0.0.1:1");
    rules.client_secret = ClientSecret::File("/nonexistent/secret".into());
    let error = Found::look(&rules).await.err().unwrap().to_string();
    assert!(error.contains("oidc.client_secret_path: /nonexistent/secret"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), " hunter2\n").unwrap();
    rules.client_secret = ClientSecret::File(dir.path().join("secret"));
    assert_eq!(*Found::look(&rules).await.unwrap().secret, "hunter2");
    let provider = Provider::new(&rules.issuer);
    let error = provider.find_within(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1: connecting"), "{error}");
    let fake = Fake::start(0).await;
    let other = Provider::new(&format!("{}/", fake.issuer));
    let error = other.find_within(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("set oidc.issuer to exactly that"), "{error}");
}

#[tokio::test]
async fn one_address_that_comes_back_without_end_has_to_wait() {
    let limits = Limits { pending_logins_per_address: 3, ..Limits::default() };
    let world = World::around(Fake::start(0).await, |rules| rules, limits).await;
    world.found().await;
    let id = world.waits("laptop", &[]).await;
    let mut last = 0;
    for _ in 0..4 {
        let mut browser = Browser::default();
        let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
        let query = world.fake.login(begun.location(), world.fake.person("carol"));
        last = browser.come_back(world.site(1), &query).await.status;
    }
    assert_eq!((last, world.fake.redeemed()), (429, 3));
}

#[tokio::test]
async fn an_ssh_session_is_let_through_by_the_owner_of_the_machine_that_it_comes_from() {
    let world = World::new().await;
    let laptop = world.waits("laptop", &[]).await;
    world.logs_in(&laptop, world.fake.person("carol")).await;
    let node = world.node(&laptop).unwrap().id;
    let check = |id: &AuthId| SshCheck {
        id: id.clone(),
        source: node,
        destination: node,
        local_user: "root".into(),
        period: Duration::from_secs(60),
        policy_version: 0,
        created: Time::now(),
        deadline: Time::now() + QUARTER,
        verdict: SshVerdict::Waiting,
    };
    let id = AuthId::generate();
    world.cluster.write(Command::StartSshCheck(check(&id))).await.unwrap();
    let visit = async |person: &str| {
        let mut browser = Browser::default();
        let begun = browser.get(world.site(1), &format!("/auth/{id}")).await;
        let query = world.fake.login(begun.location(), world.fake.person(person));
        browser.come_back(world.site(2), &query).await
    };
    let other = visit("dave").await;
    assert!(other.status == 403 && other.text.contains("not for you"), "{}", other.text);
    assert_eq!(world.cluster.view().ssh_check(&id).unwrap().verdict, SshVerdict::Waiting);
    let owner = visit("carol").await;
    assert!(owner.status == 200 && owner.text.contains("SSH session authorized"), "{}", owner.text);
    let view = world.cluster.view();
    assert_eq!(view.ssh_check(&id).unwrap().verdict, SshVerdict::Approved);
    let page = Browser::default().get(world.site(3), &format!("/auth/{id}")).await;
    assert!(page.text.contains("goes on by itself"), "{}", page.text);

    let tags = std::collections::BTreeSet::from(["tag:server".parse().unwrap()]);
    let version = world.cluster.view().policy_version();
    world.cluster.write(Command::SetTags { id: node, tags, policy_version: version }).await.unwrap();
    let id = AuthId::generate();
    world.cluster.write(Command::StartSshCheck(check(&id))).await.unwrap();
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/auth/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    assert_eq!(browser.come_back(world.site(2), &query).await.status, 403, "a tagged machine is nobody's");
}

#[tokio::test]
async fn a_login_that_is_over_says_what_to_do() {
    let world = World::new().await;
    let id = world.waits("laptop", &[]).await;
    let mut browser = Browser::default();
    let begun = browser.get(world.site(1), &format!("/register/{id}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let page = browser.come_back(world.site(1), &query).await;
    world.cluster.write(Command::DecideLogin { auth_id: id.clone(), approve: false }).await.unwrap();
    let done = browser.submit(world.site(1), &page).await;
    assert!(done.status == 409 && done.text.contains("already decided"), "{}", done.text);
    let other = world.waits("desk", &[]).await;
    let begun = browser.get(world.site(1), &format!("/register/{other}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let page = browser.come_back(world.site(1), &query).await;
    let carol = world.user("carol").unwrap().id;
    world.cluster.write(Command::DeleteUser { id: carol }).await.unwrap();
    assert_eq!(browser.submit(world.site(1), &page).await.status, 410, "the user was deleted meanwhile");
    let begun = browser.get(world.site(1), &format!("/register/{other}")).await;
    let query = world.fake.login(begun.location(), world.fake.person("carol"));
    let id = world.cluster.view().login(&other).unwrap().id.clone();
    let approve = Command::CreateUser {
        name: "eve".into(),
        display_name: String::new(),
        email: String::new(),
        profile_pic_url: String::new(),
    };
    let Done::User(eve) = world.cluster.write(approve).await.unwrap() else { panic!("a user") };
    let approve = Command::ApproveLogin {
        auth_id: id,
        user: eve.id,
        owner: Owner::User(eve.id),
        method: RegisterMethod::Cli,
        policy_version: 0,
        seed: 0,
        v4_pools: Vec::new(),
        provider_expiry: None,
    };
    world.cluster.write(approve).await.unwrap();
    let page = browser.come_back(world.site(1), &query).await;
    assert!(page.text.contains("You are done"), "an administrator was faster: {}", page.text);
}
