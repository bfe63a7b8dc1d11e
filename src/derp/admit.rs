//! Who may use the relay: the nodes of this tailnet. (Protocol sections 1.2 and 8.3.)

use crate::cluster::{Cluster, Unavailable};
use crate::state::State;
use crate::tailcfg::NodeKey;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

/// Decides whether the holder of a key, who comes from an address, may use the relay.
pub type Admit = Arc<dyn Fn(NodeKey, IpAddr) -> BoxFuture<'static, bool> + Send + Sync>;

/// A relay waits 10 s for its client's whole handshake, and a relay elsewhere waits 5 s
/// for `/verify`.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest time between two questions to the leader. Anyone can come with keys that
/// nobody knows; those who come together share one question.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// The largest body of `/verify`.
const MAX_BODY: usize = 4096;

/// Admits everyone: `derp.server.verify_clients: false`.
pub fn admit_all() -> Admit {
    Arc::new(|_, _| futures::future::ready(true).boxed())
}

/// Admits the nodes of the tailnet, by their current key, expired or not.
///
/// A key that this replica does not know may have been registered on another one a
/// millisecond ago, so it is looked for again in a view that is surely as new. Without
/// a quorum the nodes that this replica knows are admitted, and others are not.
pub fn verify_against(cluster: &Cluster) -> Admit {
    let (view, ask) = (cluster.clone(), cluster.clone());
    verify_with(
        move || view.view(),
        move || {
            let cluster = ask.clone();
            async move { cluster.linearizable().await }.boxed()
        },
    )
}

type Newest = Result<Arc<State>, Unavailable>;

/// As [`verify_against`], with a way to see what is known here and one to ask the leader.
fn verify_with(
    view: impl Fn() -> Arc<State> + Send + Sync + 'static,
    ask: impl Fn() -> BoxFuture<'static, Newest> + Send + Sync + 'static,
) -> Admit {
    let never = Answer { number: 0, at: None, state: Err(Unavailable::Timeout(0)) };
    let leader = Arc::new(Leader { ask, asked: AtomicU64::new(0), answer: Mutex::new(never) });
    Arc::new(move |key, _| {
        if view().node_by_key(&key).is_some() {
            return futures::future::ready(true).boxed();
        }
        let leader = leader.clone();
        async move { leader.knows(&key).await }.boxed()
    })
}

struct Leader<F> {
    ask: F,
    /// How many questions began.
    asked: AtomicU64,
    /// The newest answer; locked while the next question is under way.
    answer: Mutex<Answer>,
}

struct Answer {
    /// That of its question.
    number: u64,
    at: Option<Instant>,
    state: Newest,
}

impl<F: Fn() -> BoxFuture<'static, Newest>> Leader<F> {
    async fn knows(&self, key: &NodeKey) -> bool {
        match self.newest().await {
            Ok(state) => state.node_by_key(key).is_some(),
            Err(e) => {
                tracing::debug!("relay: {key:?} is unknown here, and the leader cannot be asked: {e}");
                false
            }
        }
    }

    /// A view that holds everything that was acknowledged before the call. One question is
    /// under way at a time, and answers all who came before it began.
    async fn newest(&self) -> Newest {
        let begun = self.asked.load(Ordering::SeqCst);
        let mut answer = self.answer.lock().await;
        if answer.number > begun {
            return answer.state.clone();
        }
        if let Some(at) = answer.at {
            sleep_until(at + ASK_INTERVAL).await;
        }
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let state = timeout(ASK_TIMEOUT, (self.ask)()).await;
        let state = state.unwrap_or(Err(Unavailable::Timeout(ASK_TIMEOUT.as_secs())));
        *answer = Answer { number, at: Some(Instant::now()), state: state.clone() };
        state
    }
}

/// `POST /verify`, with which a relay elsewhere (`derper --verify-client-url`) asks whether
/// a client may use it. (Protocol section 1.2.)
pub fn verify_router(admit: Admit) -> Router {
    Router::new().route("/verify", post(move |request| verify(admit, request)))
}

#[derive(Deserialize)]
struct VerifyRequest {
    #[serde(rename = "NodePublic")]
    node_public: NodeKey,
    /// The client's address, as the relay sees it.
    #[serde(rename = "Source", default)]
    source: String,
}

#[derive(Serialize)]
struct VerifyResponse {
    #[serde(rename = "Allow")]
    allow: bool,
}

async fn verify(admit: Admit, request: Request) -> Response {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MAX_BODY} bytes\n"));
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        return too_large().into_response();
    };
    match serde_json::from_slice::<VerifyRequest>(&body) {
        Ok(question) => {
            let source = question.source.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let allow = admit(question.node_public, source).await;
            axum::Json(VerifyResponse { allow }).into_response()
        }
        Err(e) => (StatusCode::BAD_REQUEST, format!("not the JSON of a verification request: {e}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Method;
    use tower::ServiceExt;

    use crate::state::{Allocation, Command, Owner, Registration, SecretHash, Settings};
    use crate::tailcfg::{CapVer, Hostinfo, MachineKey};
    use std::sync::atomic::AtomicUsize;

    /// A cluster with one node, whose key it returns.
    async fn cluster_with_a_node() -> (Cluster, NodeKey) {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: "tailnet.internal".into(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        let tags = ["tag:server".parse().unwrap()].into();
        let (prefix, hash) = ("0123456789ab".to_owned(), SecretHash::of("secret"));
        let create = Command::CreatePreAuthKey {
            prefix: prefix.clone(),
            hash,
            owner: Owner::Tags(tags),
            reusable: false,
            ephemeral: false,
            expiration: None,
        };
        cluster.write(create).await.unwrap();
        let node_key = NodeKey([1; 32]);
        let registration = Registration {
            machine_key: MachineKey([2; 32]),
            node_key,
            hostinfo: Hostinfo::default(),
            cap_ver: CapVer(130),
            expiry: None,
            seed: 1,
            v4_pools: Vec::new(),
        };
        cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await.unwrap();
        (cluster, node_key)
    }

    fn localhost() -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    #[tokio::test]
    async fn nodes_of_the_tailnet_are_admitted_and_others_are_not() {
        let (cluster, node) = cluster_with_a_node().await;
        let admit = verify_against(&cluster);
        assert!(admit(node, localhost()).await);
        assert!(!admit(NodeKey([9; 32]), localhost()).await);
    }

    #[tokio::test]
    async fn a_node_that_another_replica_just_registered_is_admitted() {
        let (elsewhere, node) = cluster_with_a_node().await;
        let here = Arc::new(State::default());
        let admit = verify_with(
            move || here.clone(),
            move || {
                let newest = elsewhere.view();
                async move { Ok(newest) }.boxed()
            },
        );
        assert!(admit(node, localhost()).await);
        assert!(!admit(NodeKey([9; 32]), localhost()).await);
    }

    #[tokio::test]
    async fn without_a_quorum_the_nodes_that_are_known_here_are_admitted() {
        let (here, node) = cluster_with_a_node().await;
        let admit = verify_with(move || here.view(), || async { Err(Unavailable::NoQuorum) }.boxed());
        assert!(admit(node, localhost()).await);
        assert!(!admit(NodeKey([9; 32]), localhost()).await);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_asks_the_leader_a_few_times_only() {
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        let admit = verify_with(
            || Arc::new(State::default()),
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
                async {
                    tokio::task::yield_now().await;
                    Ok(Arc::new(State::default()))
                }
                .boxed()
            },
        );
        let flood = (0..200).map(|n| admit(NodeKey([n; 32]), localhost()));
        let admitted = futures::future::join_all(flood).await;
        assert!(admitted.iter().all(|admitted| !admitted));
        // The first asks for itself, and one more question answers all others.
        assert_eq!(questions.load(Ordering::SeqCst), 2);
    }

    const KNOWN: NodeKey = NodeKey([7; 32]);

    async fn ask(method: Method, body: String) -> (StatusCode, String) {
        let admit: Admit = Arc::new(|key, _| futures::future::ready(key == KNOWN).boxed());
        let request = Request::builder().method(method).uri("/verify").body(Body::from(body)).unwrap();
        let response = verify_router(admit).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn verify_allows_the_keys_that_are_admitted() {
        let question = |key: NodeKey| format!(r#"{{"NodePublic":"{key}","Source":"192.0.2.1"}}"#);
        assert_eq!(ask(Method::POST, question(KNOWN)).await, (StatusCode::OK, r#"{"Allow":true}"#.into()));
        let other = question(NodeKey([8; 32]));
        assert_eq!(ask(Method::POST, other).await, (StatusCode::OK, r#"{"Allow":false}"#.into()));
    }

    #[tokio::test]
    async fn verify_refuses_what_is_no_question() {
        assert_eq!(ask(Method::POST, "{".into()).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(ask(Method::POST, r#"{"NodePublic":"mkey:00"}"#.into()).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(ask(Method::POST, " ".repeat(MAX_BODY + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ask(Method::GET, String::new()).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}
