//! The pages below `/debug/` that Headscale's users know: what this replica has in memory.
//!
//! Text for people; JSON, in Headscale's shapes, for whoever asks for `application/json`.

use crate::cluster::Cluster;
use crate::config::{Config, PolicySource};
use crate::metrics::Page;
use crate::netmap::{Hub, StreamOptions};
use crate::policy::{Policies, PolicyView};
use crate::state::{Node, NodeId, State};
use crate::tailcfg::DerpMap;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Nodes that a page shows at most, unless `?node=` names one: each may cost some kilobytes.
const SHOWN_NODES: usize = 500;

/// What the pages look into.
#[derive(Clone)]
pub struct Inside {
    pub cluster: Cluster,
    pub policies: Arc<Policies>,
    pub hub: Hub,
    pub derp_map: watch::Receiver<Arc<DerpMap>>,
    pub config: Arc<Config>,
    pub has_relay: bool,
}

/// All of them.
pub fn pages(inside: &Inside) -> Vec<Page> {
    let page = |path, title, make: fn(&Inside, &Asked) -> Shown| {
        let inside = inside.clone();
        let handler =
            get(async move |headers: HeaderMap, Query(query): Query<HashMap<String, String>>| {
                match Asked::of(&inside.cluster.view(), &query) {
                    Ok(asked) => make(&inside, &asked).answer(&headers),
                    Err(unknown) => (StatusCode::NOT_FOUND, unknown).into_response(),
                }
            });
        Page { path, title, handler }
    };
    vec![
        page("overview", "Nodes, users, policy and relays in numbers", overview),
        page("config", "The configuration, without secrets", config),
        page("policy", "The policy's text", policy),
        page("policy-manager", "What the policy in force was compiled to", policy_manager),
        page("filter", "The packet filter of each node (?node=ID)", filter),
        page("ssh", "The SSH rules of each node (?node=ID)", ssh),
        page("nodestore", "The nodes (?node=ID)", nodestore),
        page("registration-cache", "Logins that wait for a decision", registrations),
        page("routes", "Routes that are available, and who serves them", routes),
        page("batcher", "The streams of this replica by node", batcher),
        page("mapresponses", "A whole map, as a node would get it now (?node=ID)", maps),
    ]
}

/// Which nodes a page is about: one, or the first of them.
struct Asked {
    nodes: Vec<Arc<Node>>,
}

impl Asked {
    fn of(view: &State, query: &HashMap<String, String>) -> Result<Self, String> {
        let Some(name) = query.get("node") else {
            return Ok(Self { nodes: view.nodes().take(SHOWN_NODES).cloned().collect() });
        };
        let by_id = name.parse::<NodeId>().ok().and_then(|id| view.node(id));
        let by_ip = || name.parse().ok().and_then(|ip| view.node_by_ip(ip));
        let node = by_id.or_else(by_ip).or_else(|| view.node_by_name(name));
        let node = node.ok_or_else(|| format!("no node has the id, the address or the name {name:?}\n"))?;
        Ok(Self { nodes: vec![node.clone()] })
    }

    fn each(&self, make: impl Fn(&Node) -> Value) -> Value {
        Value::Object(self.nodes.iter().map(|node| (node.id.to_string(), make(node))).collect())
    }
}

/// What a page has to say.
enum Shown {
    /// The same as text and as JSON.
    Value(Value),
    /// Words for people, and the JSON.
    Both(String, Value),
}

impl Shown {
    fn content(text: String) -> Self {
        let json = json!({ "content": text });
        Self::Both(text, json)
    }

    fn answer(self, headers: &HeaderMap) -> Response {
        let wants_json = headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/json")));
        match self {
            Self::Value(value) | Self::Both(_, value) if wants_json => axum::Json(value).into_response(),
            Self::Value(value) => format!("{value:#}\n").into_response(),
            Self::Both(text, _) => text.into_response(),
        }
    }
}

fn overview(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    let count = |is: &dyn Fn(&Node) -> bool| view.nodes().filter(|node| is(node)).count();
    let (online, expired) = (count(&|node| view.is_online(node.id)), count(&|node| node.expired));
    let ephemeral = count(&|node| node.ephemeral);
    let users: Map<String, Value> =
        view.users().map(|user| (user.name.clone(), view.nodes_of_user(user.id).count().into())).collect();
    let (mode, path) = match &inside.config.policy {
        PolicySource::Database => ("database", String::new()),
        PolicySource::File(path) => ("file", path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
    };
    let primaries = view.nodes().filter(|node| !view.primary_routes(node.id).is_empty()).count();
    let regions = inside.derp_map.borrow().regions.len();
    let relay = if inside.has_relay { "a relay here" } else { "no relay here" };
    let text = format!(
        "Replica {}, log index {}\n\nNodes: {} ({online} online, {expired} expired, {ephemeral} ephemeral)\nUsers: {}\n\
         Policy: version {}, from the {mode} {path}\nRelays: {relay}, {regions} configured regions\nPrimary routers: \
         {primaries}\nStreams here: {}\n",
        inside.cluster.id(),
        view.index(),
        view.node_count(),
        view.users().count(),
        view.policy_version(),
        inside.hub.streams(),
    );
    let json = json!({
        "nodes": {"total": view.node_count(), "online": online, "expired": expired, "ephemeral": ephemeral},
        "users": users,
        "total_users": view.users().count(),
        "policy": {"mode": mode, "path": path},
        "derp": {"configured": inside.has_relay || regions > 0, "regions": regions},
        "primary_routes": primaries,
    });
    Shown::Both(text, json)
}

/// Secrets are of a type that shows itself redacted.
fn config(inside: &Inside, _: &Asked) -> Shown {
    Shown::content(format!("{:#?}\n", inside.config))
}

fn policy(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    Shown::content(view.policy().map_or_else(String::new, |policy| policy.text.clone()))
}

fn policy_manager(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    let in_force = inside.policies.in_force(&view);
    Shown::content(format!(
        "policy version {}\n{} classes of nodes that it cannot tell apart\n",
        view.policy_version(),
        in_force.class_count()
    ))
}

fn filter(inside: &Inside, asked: &Asked) -> Shown {
    of_policy(inside, asked, PolicyView::packet_filter)
}

fn ssh(inside: &Inside, asked: &Asked) -> Shown {
    of_policy(inside, asked, PolicyView::ssh_policy)
}

fn of_policy(inside: &Inside, asked: &Asked, what: fn(&PolicyView, &Node) -> Arc<str>) -> Shown {
    let in_force = inside.policies.in_force(&inside.cluster.view());
    Shown::Value(asked.each(|node| serde_json::from_str(&what(&in_force, node)).unwrap_or(Value::Null)))
}

fn nodestore(_: &Inside, asked: &Asked) -> Shown {
    Shown::Value(asked.each(|node| serde_json::to_value(node).unwrap_or(Value::Null)))
}

/// Without the links: whoever has one sees the page of the login.
fn registrations(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    let logins = view.logins().take(SHOWN_NODES).map(|login| {
        json!({
            "hostname": login.hostinfo.hostname,
            "machine_key": login.machine_key.short(),
            "from": login.source,
            "created": login.created.to_string(),
            "deadline": login.deadline.to_string(),
            "verdict": format!("{:?}", login.verdict),
        })
    });
    Shown::Value(Value::Array(logins.collect()))
}

fn routes(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    let (mut available, mut primary) = (Map::new(), Map::new());
    for node in view.nodes() {
        let routes: Vec<String> = view.effective_routes(node).iter().map(ToString::to_string).collect();
        if !routes.is_empty() {
            available.insert(node.id.to_string(), routes.into());
        }
        for route in view.primary_routes(node.id) {
            primary.insert(route.to_string(), node.id.0.into());
        }
    }
    Shown::Value(json!({ "available_routes": available, "primary_routes": primary, "unhealthy_nodes": [] }))
}

fn batcher(inside: &Inside, _: &Asked) -> Shown {
    let view = inside.cluster.view();
    let here = |node: &Node| view.sessions_of(node.id).filter(|session| session.replica == inside.cluster.id()).count();
    let connected = view.nodes().map(|node| (node, here(node))).filter(|(_, count)| *count > 0);
    let connected: Map<String, Value> = connected
        .map(|(node, count)| (node.id.to_string(), json!({"connected": true, "active_connections": count})))
        .collect();
    Shown::Value(json!({ "total_nodes": connected.len(), "connected_nodes": connected }))
}

/// One node at a time: a map has all its peers.
fn maps(inside: &Inside, asked: &Asked) -> Shown {
    let [node] = asked.nodes.as_slice() else {
        return Shown::content("name a node: /debug/mapresponses?node=ID\n".into());
    };
    let options = StreamOptions { cap_ver: node.cap_ver, zstd: false, keep_alive: false, omit_peers: false };
    let map = inside.hub.snapshot(node.id, options);
    let map = map.and_then(|frame| serde_json::from_slice::<Value>(frame.get(4..)?).ok());
    Shown::Value(json!({ node.id.to_string(): map.into_iter().collect::<Vec<_>>() }))
}
