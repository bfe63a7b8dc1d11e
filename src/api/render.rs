//! The state's records as the API's objects.

use super::types;
use crate::state::{ApiKey, Node, Owner, PreAuthKey, RegisterMethod, State, Tag, Time, User, tagged_devices};
use crate::tailcfg::DiscoKey;
use ipnet::IpNet;
use std::collections::BTreeSet;

/// A user.
pub fn user(user: &User) -> types::User {
    types::User {
        created_at: user.created.to_string(),
        display_name: user.display_name.clone(),
        email: user.email.clone(),
        id: user.id.to_string(),
        name: user.name.clone(),
        profile_pic_url: user.profile_pic_url.clone(),
        provider: user.provider.clone(),
        provider_id: user.provider_id.clone(),
    }
}

/// A pre-authenticated key, its secret masked.
pub fn pre_auth_key(view: &State, key: &PreAuthKey) -> types::PreAuthKey {
    let (owner, tags) = match &key.owner {
        Owner::User(id) => (view.user(*id).map(|owner| user(owner)), Vec::new()),
        Owner::Tags(tags) => (None, tag_texts(tags)),
    };
    types::PreAuthKey {
        acl_tags: tags,
        created_at: key.created.to_string(),
        ephemeral: key.ephemeral,
        expiration: time(key.expiration),
        id: key.id.to_string(),
        key: format!("{}{}-***", super::preauthkeys::KEY_START, key.prefix),
        reusable: key.reusable,
        used: key.used,
        user: owner,
    }
}

/// An API key, its secret masked.
pub fn api_key(key: &ApiKey) -> types::ApiKey {
    types::ApiKey {
        created_at: key.created.to_string(),
        expiration: time(key.expiration),
        id: key.id.to_string(),
        last_seen: time(key.last_used),
        owner: key.owner.clone(),
        prefix: format!("{}{}-***", super::apikeys::KEY_START, key.prefix),
        role: key.role.to_string(),
    }
}

/// A node, with its owner and its key.
pub fn node(view: &State, node: &Node) -> types::Node {
    let (owner, tags) = match &node.owner {
        Owner::User(id) => (view.user(*id).map(|owner| user(owner)), Vec::new()),
        Owner::Tags(tags) => (Some(user(&tagged_devices())), tag_texts(tags)),
    };
    let addresses = node.ipv4.iter().map(ToString::to_string).chain(node.ipv6.iter().map(ToString::to_string));
    types::Node {
        approved_routes: route_texts(&node.approved_routes),
        available_routes: route_texts(&node.hostinfo.routable_ips),
        created_at: node.created.to_string(),
        disco_key: node.disco_key.unwrap_or(DiscoKey([0; 32])).to_string(),
        expiry: time(node.expiry),
        given_name: node.given_name.clone(),
        id: node.id.to_string(),
        ip_addresses: addresses.collect(),
        last_seen: time(node.last_seen),
        machine_key: node.machine_key.to_string(),
        name: node.hostinfo.hostname.clone(),
        node_key: node.node_key.to_string(),
        online: view.is_online(node.id),
        pre_auth_key: node.auth_key.and_then(|id| view.pre_auth_key(id)).map(|key| pre_auth_key(view, key)),
        register_method: register_method(node.register_method).into(),
        subnet_routes: route_texts(&serving(view, node)),
        tags,
        user: owner,
    }
}

/// What goes through the node now: subnet routes of which it is primary, and exit routes.
fn serving(view: &State, node: &Node) -> BTreeSet<IpNet> {
    let exit = view.effective_routes(node).into_iter().filter(|route| route.prefix_len() == 0);
    view.primary_routes(node.id).into_iter().chain(exit).collect()
}

fn register_method(method: RegisterMethod) -> &'static str {
    match method {
        RegisterMethod::AuthKey => "REGISTER_METHOD_AUTH_KEY",
        RegisterMethod::Cli => "REGISTER_METHOD_CLI",
        RegisterMethod::Oidc => "REGISTER_METHOD_OIDC",
    }
}

fn time(time: Option<Time>) -> Option<String> {
    time.map(|time| time.to_string())
}

fn tag_texts(tags: &BTreeSet<Tag>) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

fn route_texts<'a>(routes: impl IntoIterator<Item = &'a IpNet>) -> Vec<String> {
    routes.into_iter().map(ToString::to_string).collect()
}
