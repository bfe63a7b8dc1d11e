//! Nodes as tables.

use crate::api::types::Node;
use crate::cli::go;
use crate::cli::table::{Cell, Table};
use crate::tailcfg::{MachineKey, NodeKey};
use jiff::Timestamp;

/// `nodes list`, at this time.
pub(super) fn nodes(nodes: &[Node], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "ID",
        "Hostname",
        "Name",
        "MachineKey",
        "NodeKey",
        "User",
        "Tags",
        "IP addresses",
        "Ephemeral",
        "Last seen",
        "Expiration",
        "Connected",
        "Expired",
    ]);
    for node in nodes {
        let expiry = node.expiry.as_deref().and_then(|expiry| expiry.parse::<Timestamp>().ok());
        // A time before all others stands for never.
        let expiry = expiry.filter(|expiry| *expiry > Timestamp::UNIX_EPOCH);
        let expired = expiry.is_some_and(|expiry| expiry < now);
        let expiry_text = expiry.map_or_else(|| "N/A".into(), |expiry| go::table_time(&expiry.to_string()));
        table.row(vec![
            node.id.as_str().into(),
            node.name.as_str().into(),
            node.given_name.as_str().into(),
            node.machine_key.parse().map(|key: MachineKey| key.short()).unwrap_or_default().into(),
            node.node_key.parse().map(|key: NodeKey| key.short()).unwrap_or_default().into(),
            user(node).into(),
            node.tags.join("\n").into(),
            node.ip_addresses.join("\n").into(),
            node.pre_auth_key.as_ref().is_some_and(|key| key.ephemeral).to_string().into(),
            node.last_seen.as_deref().map(go::table_time).unwrap_or_default().into(),
            if expired { Cell::good(expiry_text, false) } else { expiry_text.into() },
            Cell::good(if node.online { "online" } else { "offline" }, node.online),
            Cell::good(if expired { "yes" } else { "no" }, !expired),
        ]);
    }
    table
}

/// `nodes list-routes`.
pub(super) fn routes(nodes: &[Node]) -> Table {
    let mut table = Table::new(&["ID", "Hostname", "Approved", "Available", "Serving (Primary)"]);
    for node in nodes {
        table.row(vec![
            node.id.as_str().into(),
            node.given_name.as_str().into(),
            node.approved_routes.join("\n").into(),
            node.available_routes.join("\n").into(),
            node.subnet_routes.join("\n").into(),
        ]);
    }
    table
}

/// Tagged nodes belong to nobody, and are listed under one name.
fn user(node: &Node) -> &str {
    match &node.user {
        Some(user) => &user.name,
        None if !node.tags.is_empty() => "tagged-devices",
        None => "",
    }
}
