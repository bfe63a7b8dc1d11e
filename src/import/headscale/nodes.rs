//! Nodes. Nobody logs in again, and no address changes.

use super::Report;
use super::database::{Database, DatabaseError};
use super::row::{Row, ValueError};
use crate::config::HeadscaleConfig;
use crate::state::{
    AuthKeyId, Endpoint, Node, NodeId, Owner, PreAuthKey, RegisterMethod, Tag, User, UserId, given_name_fault, label_of,
};
use crate::tailcfg::{CapVer, DiscoKey, Hostinfo, MachineKey, NodeKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Endpoints that are kept of a node; real ones have fewer than 20.
const MAX_ENDPOINTS: usize = 64;

/// What nodes refer to.
pub struct Around<'a> {
    pub users: &'a [User],
    pub keys: &'a [PreAuthKey],
    pub config: &'a HeadscaleConfig,
}

/// All that are not deleted.
pub fn read(database: &Database, around: &Around, report: &mut Report) -> Result<Vec<Node>, DatabaseError> {
    let mut reader = Reader {
        users: around.users.iter().map(|user| user.id).collect(),
        keys: around.keys.iter().map(|key| (key.id, key.ephemeral)).collect(),
        config: around.config,
        report,
        deleted: 0,
    };
    let rows = database.rows("nodes", |row| reader.node(row))?;
    if reader.deleted > 0 {
        reader.report.note(format!("{} deleted nodes stay behind", reader.deleted));
    }
    let mut nodes: Vec<Node> = rows.into_iter().flatten().collect();
    reader.name(&mut nodes);
    reader.check_unique(&nodes);
    Ok(nodes)
}

struct Reader<'a> {
    users: BTreeSet<UserId>,
    /// And whether its nodes are ephemeral.
    keys: BTreeMap<AuthKeyId, bool>,
    config: &'a HeadscaleConfig,
    report: &'a mut Report,
    deleted: usize,
}

impl Reader<'_> {
    /// `None`: it stays behind, which is told.
    fn node(&mut self, row: &Row) -> Result<Option<Node>, ValueError> {
        if row.time("deleted_at")?.is_some() {
            self.deleted += 1;
            return Ok(None);
        }
        let (id, host_name) = (NodeId(row.number()?), row.text("hostname")?);
        let keys = (row.parsed::<MachineKey>("machine_key")?, row.parsed::<NodeKey>("node_key")?);
        let (Some(machine_key), Some(node_key)) = keys else { return Ok(self.keyless(id, &host_name)) };
        if machine_key.is_zero() || node_key.is_zero() {
            return Ok(self.keyless(id, &host_name));
        }
        let Some(owner) = self.owner(row, id, &host_name)? else { return Ok(None) };
        let auth_key = row.reference("auth_key_id")?.map(AuthKeyId).filter(|key| self.keys.contains_key(key));
        Ok(Some(Node {
            id,
            machine_key,
            node_key,
            disco_key: row.parsed::<DiscoKey>("disco_key")?.filter(|key| !key.is_zero()),
            owner,
            given_name: row.text("given_name")?,
            renamed: false,
            ipv4: self.address(row, "ipv4", id)?.and_then(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None }),
            ipv6: self.address(row, "ipv6", id)?.and_then(|ip| if let IpAddr::V6(v6) = ip { Some(v6) } else { None }),
            hostinfo: hostinfo(row, host_name)?,
            endpoints: endpoints(row)?,
            // Headscale does not keep it. Older clients than this cannot connect, and the node says it again.
            cap_ver: CapVer::MIN,
            created: row.time("created_at")?.unwrap_or_default(),
            expiry: row.time("expiry")?,
            expired: false,
            last_seen: row.time("last_seen")?,
            register_method: method(&row.text("register_method")?),
            auth_key,
            ephemeral: auth_key.and_then(|key| self.keys.get(&key)).is_some_and(|ephemeral| *ephemeral),
            idle_since: None,
            approved_routes: routes(row)?,
            version: 0,
        }))
    }

    fn keyless(&mut self, id: NodeId, host_name: &str) -> Option<Node> {
        self.report.note(format!("node {id} ({host_name}) stays behind: it has no key, so no machine can be it"));
        None
    }

    /// Tags, or a user. (0.28 writes down who made a tagged node; its tags count.)
    fn owner(&mut self, row: &Row, id: NodeId, host_name: &str) -> Result<Option<Owner>, ValueError> {
        let mut tags = BTreeSet::new();
        for text in row.list::<String>("tags")? {
            match text.parse::<Tag>() {
                Ok(tag) => drop(tags.insert(tag)),
                Err(error) => {
                    let remedy = format!("give it other tags in Headscale (\"headscale nodes tag -i {id} -t ...\")");
                    self.report.problem(format!("node {id} ({host_name}) has the tag {text:?}: {error}; {remedy}"));
                    return Ok(None);
                }
            }
        }
        if !tags.is_empty() {
            return Ok(Some(Owner::Tags(tags)));
        }
        let user = row.reference("user_id")?.map(UserId).filter(|user| self.users.contains(user));
        if user.is_none() {
            self.report.note(format!("node {id} ({host_name}) stays behind: it belongs neither to a user nor to tags"));
        }
        Ok(user.map(Owner::User))
    }

    /// An address stays, also one that is outside of the prefixes.
    fn address(&mut self, row: &Row, column: &'static str, id: NodeId) -> Result<Option<IpAddr>, ValueError> {
        let Some(address) = row.parsed::<IpAddr>(column)? else { return Ok(None) };
        if address.is_ipv4() != (column == "ipv4") {
            return Err(ValueError::new(column, format!("{address} is of the other family")));
        }
        let prefixes = &self.config.prefixes;
        let inside = prefixes.v4.is_some_and(|net| IpNet::V4(net).contains(&address))
            || prefixes.v6.is_some_and(|net| IpNet::V6(net).contains(&address));
        if !inside {
            self.report
                .note(format!("node {id} has the address {address}, which is outside of the prefixes: it keeps it"));
        }
        Ok(Some(address))
    }

    /// Names stay. One that cannot be in DNS, or that another node has, becomes another one.
    fn name(&mut self, nodes: &mut [Node]) {
        let base_domain = &self.config.base_domain;
        let is_good = |name: &str| given_name_fault(name, base_domain).is_none();
        let all: BTreeSet<String> = nodes.iter().map(|node| node.given_name.clone()).collect();
        let mut taken = BTreeSet::new();
        for node in nodes {
            let wanted = node.given_name.clone();
            if !is_good(&wanted) || taken.contains(&wanted) {
                let from = if wanted.is_empty() { &node.hostinfo.hostname } else { &wanted };
                let base: String = label_of(from).chars().take(50).collect();
                let base = base.trim_end_matches('-');
                let numbered = (1u64..).map(|number| format!("{base}-{number}"));
                let mut names = std::iter::once(base.to_owned()).chain(numbered);
                let free = names.find(|name| is_good(name) && !taken.contains(name) && !all.contains(name));
                node.given_name = free.unwrap_or_else(|| format!("node-{}", node.id));
                self.report.note(format!(
                    "node {} is called {:?} in MagicDNS here: {wanted:?} {}",
                    node.id,
                    node.given_name,
                    if is_good(&wanted) { "is another node's name too" } else { "is no name for DNS" }
                ));
            }
            node.renamed = !follows(&node.given_name, &node.hostinfo.hostname);
            taken.insert(node.given_name.clone());
        }
    }

    fn check_unique(&mut self, nodes: &[Node]) {
        let mut seen: BTreeMap<String, NodeId> = BTreeMap::new();
        for node in nodes {
            let v4 = node.ipv4.map(|address| format!("address {address}"));
            let v6 = node.ipv6.map(|address| format!("address {address}"));
            let key = Some(format!("node key {}", node.node_key));
            for value in [key, v4, v6].into_iter().flatten() {
                if let Some(other) = seen.insert(value.clone(), node.id) {
                    let remedy = "delete one of them in Headscale (\"headscale nodes delete -i ID\")";
                    self.report.problem(format!("nodes {other} and {} have the same {value}: {remedy}", node.id));
                }
            }
        }
    }
}

/// Whether a node's name is its host name's, so that it may follow that.
fn follows(given_name: &str, host_name: &str) -> bool {
    let label = label_of(host_name);
    let suffix = given_name.strip_prefix(&label).and_then(|rest| rest.strip_prefix('-'));
    given_name == label || suffix.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The column has the host name as the node said it; the object may lack it.
fn hostinfo(row: &Row, host_name: String) -> Result<Hostinfo, ValueError> {
    let hostinfo = Hostinfo::parse(&row.text("host_info")?).map_err(|error| ValueError::new("host_info", error))?;
    let hostname = if hostinfo.hostname.is_empty() { host_name } else { hostinfo.hostname };
    let json = if hostinfo.json.is_empty() { "{}".into() } else { hostinfo.json };
    Ok(Hostinfo { hostname, json, ..hostinfo })
}

/// How a node learned of them is not kept; an unknown kind is 0.
fn endpoints(row: &Row) -> Result<Vec<Endpoint>, ValueError> {
    let texts = row.list::<String>("endpoints")?;
    let addresses = texts.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
    Ok(addresses.take(MAX_ENDPOINTS).map(|addr| Endpoint { addr, kind: 0 }).collect())
}

/// The two exit routes are approved together.
fn routes(row: &Row) -> Result<BTreeSet<IpNet>, ValueError> {
    let mut routes = BTreeSet::new();
    for text in row.list::<String>("approved_routes")? {
        let route: IpNet =
            text.parse().map_err(|error| ValueError::new("approved_routes", format!("{text:?}: {error}")))?;
        routes.insert(route.trunc());
    }
    if routes.iter().any(|route| route.prefix_len() == 0) {
        routes.extend([IpNet::V4(Default::default()), IpNet::V6(Default::default())]);
    }
    Ok(routes)
}

fn method(text: &str) -> RegisterMethod {
    match text {
        "authkey" => RegisterMethod::AuthKey,
        "oidc" => RegisterMethod::Oidc,
        _ => RegisterMethod::Cli,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_the_host_name_that_it_came_from() {
        for (given, host, expected) in [
            ("web", "web", true),
            ("web-3", "Web.local", true),
            ("web-x", "web", false),
            ("web-", "web", false),
            ("shop", "web", false),
        ] {
            assert_eq!(follows(given, host), expected, "{given} {host}");
        }
    }
}
