//! A provider inside the test, which says whatever a test wants it to say.

use axum::extract::{RawForm, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio_util::task::AbortOnDropHandle;

pub const CLIENT: &str = "quorum:scale";
pub const SECRET: &str = "se:cr et";

/// The provider. It ends with its last handle.
#[derive(Clone)]
pub struct Fake {
    pub issuer: String,
    shared: Arc<Shared>,
    _server: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    issuer: String,
    said: Mutex<Said>,
}

struct Said {
    key: EcdsaKeyPair,
    key_id: String,
    codes: BTreeMap<String, Code>,
    user_info: Value,
    /// Whether codes can be redeemed again and again, as no real provider's can.
    forgetful: bool,
    broken: bool,
    redeemed: usize,
    post_only: bool,
}

#[derive(Clone)]
struct Code {
    id_token: String,
    challenge: Option<(String, String)>,
    redirect_uri: String,
}

impl Fake {
    /// A provider on a port of its own, or on this one.
    pub async fn start(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let said = Said {
            key: new_key(),
            key_id: "first".into(),
            codes: BTreeMap::new(),
            user_info: Value::Null,
            forgetful: false,
            broken: false,
            redeemed: 0,
            post_only: false,
        };
        let shared = Arc::new(Shared { issuer: issuer.clone(), said: Mutex::new(said) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/user", get(user_info))
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, shared, _server: Arc::new(AbortOnDropHandle::new(server)) }
    }

    pub fn port(&self) -> u16 {
        self.issuer.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.shared.said.lock().unwrap()
    }

    /// What somebody is who logs in, without what the protocol adds.
    pub fn person(&self, subject: &str) -> Value {
        json!({
            "sub": subject, "preferred_username": subject, "name": format!("The {subject}"),
            "email": format!("{subject}@example.com"), "email_verified": true,
            "picture": format!("https://example.com/{subject}.png"), "groups": ["staff"],
        })
    }

    /// Somebody logs in at the page that `location` names: what they come back with.
    pub fn login(&self, location: &str, person: Value) -> String {
        self.login_with(location, person, |token| token)
    }

    /// The same, with another token than the right one.
    pub fn login_with(&self, location: &str, person: Value, alter: impl Fn(String) -> String) -> String {
        let (endpoint, query) = location.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.issuer));
        let asked: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!((&*asked["response_type"], &*asked["client_id"]), ("code", CLIENT));
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "nonce": asked["nonce"], "iat": now(), "exp": now() + 300,
        });
        // A person may say something else than the protocol wants.
        claims.as_object_mut().unwrap().extend(person.as_object().unwrap().clone());
        let mut said = self.said();
        let id_token = alter(sign(&said.key, &said.key_id, &claims));
        let challenge = asked.get("code_challenge").map(|c| (c.clone(), asked["code_challenge_method"].clone()));
        let code = format!("code-{}", said.codes.len());
        let redirect_uri = asked["redirect_uri"].clone();
        said.codes.insert(code.clone(), Code { id_token, challenge, redirect_uri });
        form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &asked["state"])
            .finish()
    }

    /// It signs with another key from now on.
    pub fn rotate(&self, key_id: &str) {
        let mut said = self.said();
        (said.key, said.key_id) = (new_key(), key_id.into());
    }

    pub fn says_of_users(&self, info: Value) {
        self.said().user_info = info;
    }

    pub fn forgets_codes(&self) {
        self.said().forgetful = true;
    }

    pub fn breaks(&self, broken: bool) {
        self.said().broken = broken;
    }

    pub fn takes_secrets_in_forms_alone(&self) {
        self.said().post_only = true;
    }

    /// How often somebody came with a code.
    pub fn redeemed(&self) -> usize {
        self.said().redeemed
    }
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
}

fn sign(key: &EcdsaKeyPair, key_id: &str, claims: &Value) -> String {
    let header = json!({ "alg": "ES256", "kid": key_id });
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

async fn configuration(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = &shared.issuer;
    let said = shared.said.lock().unwrap();
    if said.broken {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let methods = if said.post_only { json!(["client_secret_post"]) } else { json!(["client_secret_basic"]) };
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/user"), "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": methods,
    }))
    .into_response()
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let said = shared.said.lock().unwrap();
    let point = said.key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    Json(json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": said.key_id, "use": "sig", "x": x, "y": y }] }))
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, RawForm(form): RawForm) -> Response {
    let form: BTreeMap<String, String> = form_urlencoded::parse(&form).into_owned().collect();
    let mut said = shared.said.lock().unwrap();
    said.redeemed += 1;
    if said.broken {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let refuse = |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    let is_known = match headers.get("authorization") {
        Some(basic) => {
            let expected = STANDARD.encode("quorum%3Ascale:se%3Acr+et");
            !said.post_only && *basic == format!("Basic {expected}")
        }
        None => said.post_only && form["client_id"] == CLIENT && form["client_secret"] == SECRET,
    };
    if !is_known {
        return refuse("invalid_client");
    }
    let Some(code) = said.codes.get(&form["code"]).cloned() else { return refuse("invalid_grant") };
    if !said.forgetful {
        said.codes.get_mut(&form["code"]).unwrap().redirect_uri = "(used)".into();
    }
    let is_whole = match (&code.challenge, form.get("code_verifier")) {
        (None, None) => true,
        (Some((challenge, method)), Some(verifier)) if method == "S256" => {
            *challenge == BASE64.encode(Sha256::digest(verifier))
        }
        (Some((challenge, _)), Some(verifier)) => challenge == verifier,
        _ => false,
    };
    if !is_whole || code.redirect_uri != form["redirect_uri"] {
        return refuse("invalid_grant");
    }
    Json(json!({ "id_token": code.id_token, "access_token": "access", "token_type": "Bearer" })).into_response()
}

async fn user_info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let said = shared.said.lock().unwrap();
    if said.user_info.is_null() || headers["authorization"] != "Bearer access" {
        return StatusCode::FORBIDDEN.into_response();
    }
    Json(said.user_info.clone()).into_response()
}
