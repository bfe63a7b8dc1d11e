//! What Tailscale's own service answered, capture by capture: the topology and the
//! policy go in, and each node's packet filter, SSH rules, peers and attributes, or
//! the refusal, must come out.
//!
//! `POLICY_CORPUS` names a folder with the captures' folders, or an archive of it.

use super::posture::Facts;
use super::tailnet::{Device, Person, Tailnet};
use super::{Policy, PolicyError, PolicyView};
use crate::state::{NodeId, Owner, Tag, UserId};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What the service tells its nodes whatever the policy says.
const USUAL_ATTRIBUTES: [&str; 12] = [
    "default-auto-update",
    "https://tailscale.com/cap/file-sharing",
    "https://tailscale.com/cap/is-admin",
    "https://tailscale.com/cap/is-owner",
    "https://tailscale.com/cap/ssh",
    "https://tailscale.com/cap/tailnet-lock",
    "https://tailscale.com/cap/warn-funnel-no-https",
    "probe-udp-lifetime",
    "ssh-behavior-v1",
    "ssh-env-vars",
    "store-appc-routes",
    "tailnet-display-name",
];

#[test]
fn the_service_answers_the_same() {
    let Some(corpus) = std::env::var_os("POLICY_CORPUS").filter(|path| !path.is_empty()) else {
        println!("no captures were compared: POLICY_CORPUS names none");
        return;
    };
    let cases = read(Path::new(&corpus));
    assert!(!cases.is_empty(), "{}: there are no captures", corpus.display());
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (path, text) in &cases {
        let folder = path.rsplit('/').nth(1).unwrap_or_default().to_owned();
        let (passed, failed) = table.entry(folder).or_default();
        match compare(text) {
            Ok(()) => *passed += 1,
            Err(fault) => {
                *failed += 1;
                println!("{path}: {fault}");
            }
        }
    }
    println!("{:<20} {:>8} {:>8}", "folder", "passed", "failed");
    for (folder, (passed, failed)) in &table {
        println!("{folder:<20} {passed:>8} {failed:>8}");
    }
    let passed: usize = table.values().map(|(passed, _)| passed).sum();
    println!("{passed} of {} passed", cases.len());
    assert_eq!(passed, cases.len(), "captures that we answer otherwise");
}

fn compare(text: &str) -> Result<(), String> {
    let capture: Value =
        jsonc_parser::parse_to_serde_value(text, &Default::default()).map_err(|error| error.to_string())?;
    let input = &capture["input"];
    let policy = match &input["full_policy"] {
        Value::String(text) => text.clone(),
        object => object.to_string(),
    };
    let topology = Topology::of(&capture);
    let tailnet = &topology.tailnet;
    let answer = answer(&policy, tailnet);
    let code = input["api_response_code"].as_u64().unwrap_or(200);
    if code != 200 {
        let message = input["api_response_body"]["message"].as_str().unwrap_or_default();
        return match answer {
            Ok(_) => Err(format!("accepted, but refused there: {message}")),
            // The service broke, and says nothing about the policy.
            Err(_) if code >= 500 => Ok(()),
            Err(error) if error.to_string().contains(message) => Ok(()),
            Err(error) => Err(format!("refused with {error:?}, there with {message:?}")),
        };
    }
    let view = answer.map_err(|error| format!("refused: {error}"))?;
    for (place, name) in topology.names.iter().enumerate() {
        node(&view, place, &topology, &capture["captures"][name]).map_err(|fault| format!("{name}: {fault}"))?;
    }
    Ok(())
}

fn answer(policy: &str, tailnet: &Tailnet) -> Result<PolicyView, PolicyError> {
    let policy = Policy::parse(policy)?;
    policy.check_domains(tailnet)?;
    policy.run_tests(tailnet)?;
    Ok(PolicyView::new(Arc::new(policy), tailnet.clone()))
}

/// Of the device at a place.
fn id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

fn node(view: &PolicyView, place: usize, topology: &Topology, there: &Value) -> Result<(), String> {
    let names = &topology.names;
    if there.is_null() {
        return Ok(());
    }
    let json = |text: String| {
        let text = Renaming::shown(&text);
        serde_json::from_str::<Value>(&text).map_err(|e| format!("{e}: {text}"))
    };
    same("filter", &json(view.filter_of(id(place)).to_string())?, &there["packet_filter_rules"])?;
    same("ssh", &json(view.ssh_of(id(place)).to_string())?["rules"], &there["ssh_rules"])?;
    let netmap = &there["netmap"];
    if netmap.is_null() {
        return Ok(());
    }
    let peers = |name: &str| {
        let label = |peer: &Value| peer["Name"].as_str().unwrap_or_default().split('.').next() == Some(name);
        netmap["Peers"].as_array().is_some_and(|peers| peers.iter().any(label))
    };
    for (other, name) in names.iter().enumerate().filter(|(other, _)| *other != place) {
        let (ours, theirs) = (view.reach_each_other(id(place), id(other)), peers(name));
        if ours != theirs {
            return Err(format!("sees {name}: {ours}, there {theirs}"));
        }
    }
    for peer in netmap["Peers"].as_array().into_iter().flatten() {
        let label = peer["Name"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        if let Some(other) = names.iter().position(|name| name == label) {
            routes(view, place, other, topology, peer).map_err(|fault| format!("of {label}: {fault}"))?;
        }
    }
    let theirs: BTreeSet<String> =
        netmap["SelfNode"]["CapMap"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let ours: BTreeSet<String> = view.attributes_of(id(place)).into_keys().collect();
    if let Some(extra) = ours.difference(&theirs).next() {
        return Err(format!("attribute {extra} is not there"));
    }
    let missing = theirs.difference(&ours).find(|name| !USUAL_ATTRIBUTES.contains(&name.as_str()));
    missing.map_or(Ok(()), |name| Err(format!("attribute {name} is missing")))
}

/// The routes that the device at `viewer` is told of the one at `other`, and whether it may
/// be offered as an exit node.
fn routes(view: &PolicyView, viewer: usize, other: usize, topology: &Topology, peer: &Value) -> Result<(), String> {
    let set = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let theirs: BTreeSet<String> = set(&peer["AllowedIPs"]).difference(&set(&peer["Addresses"])).cloned().collect();
    let is_primary = |route: IpNet, place: usize| topology.primary.get(&route) == Some(&place);
    let leads = |route: IpNet, tags: Option<&[Tag]>| match tags {
        None => is_primary(route, other),
        Some(tags) => {
            let has_tag = |place: usize| tags.iter().any(|tag| topology.tailnet.devices[place].has_tag(tag));
            let routers = (0..topology.tailnet.devices.len()).filter(|place| topology.routes[*place].contains(&route));
            routers.filter(|place| has_tag(*place)).min_by_key(|place| (!is_primary(route, *place), *place))
                == Some(other)
        }
    };
    let (exits, subnets) = view.routes_told(id(viewer), id(other), &topology.routes[other], &leads);
    let ours: BTreeSet<String> = exits.iter().chain(&subnets).map(IpNet::to_string).collect();
    if ours != theirs {
        return Err(format!("told the routes {ours:?}, there {theirs:?}"));
    }
    if exits.is_empty() == peer["CapMap"].get("suggest-exit-node").is_some() {
        return Err("an exit node is offered to those who are told of its exit routes".into());
    }
    Ok(())
}

/// Rules and their lists are compared without their order.
fn same(what: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if ours == theirs || nothing(&ours) && nothing(&theirs) {
        return Ok(());
    }
    Err(format!("{what}: {ours}\n    there: {theirs}"))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(sorted).collect();
            list.sort_by_key(Value::to_string);
            list.into()
        }
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect(),
        other => other.clone(),
    }
}

/// Users and nodes of a capture.
struct Topology {
    tailnet: Tailnet,
    /// Of the devices, by place; so are `routes`.
    names: Vec<String>,
    /// All approved routes, exit routes too.
    routes: Vec<Vec<IpNet>>,
    /// The place of the router that the service had chosen for a route.
    primary: BTreeMap<IpNet, usize>,
}

impl Topology {
    fn of(capture: &Value) -> Self {
        let (tailnet, names, routes) = tailnet(capture);
        let chosen = |name: &String| -> Vec<IpNet> {
            let routes = capture["captures"][name]["netmap"]["SelfNode"]["PrimaryRoutes"].as_array();
            routes.into_iter().flatten().filter_map(|route| route.as_str()?.parse().ok()).collect()
        };
        let each = names.iter().enumerate();
        let primary = each.flat_map(|(place, name)| chosen(name).into_iter().map(move |route| (route, place)));
        Self { primary: primary.collect(), tailnet, names, routes }
    }
}

fn tailnet(capture: &Value) -> (Tailnet, Vec<String>, Vec<Vec<IpNet>>) {
    let topology = &capture["topology"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let people: Vec<Person> = list(&topology["users"])
        .iter()
        .map(|user| Person {
            id: UserId(user["id"].as_u64().expect("an id")),
            name: text(&user["name"]),
            email: text(&user["email"]),
            provider_id: String::new(),
            roles: roles(capture, &text(&user["name"])),
        })
        .collect();
    let renaming = Renaming::of(topology);
    let (mut devices, mut names, mut all_routes) = (Vec::new(), Vec::new(), Vec::new());
    for (name, node) in topology["nodes"].as_object().into_iter().flatten() {
        let tags: BTreeSet<_> = list(&node["tags"]).iter().map(|tag| text(tag).parse().expect("a tag")).collect();
        let owner = match people.iter().find(|person| person.name == text(&node["user"])) {
            Some(person) if tags.is_empty() => Owner::User(person.id),
            _ => Owner::Tags(tags),
        };
        let announced = list(&node["routable_ips"]);
        let routes = list(&node["approved_routes"]).into_iter().filter(|route| announced.contains(route));
        let routes: Vec<IpNet> = routes.map(|route| text(&route).parse().expect("a prefix")).collect();
        all_routes.push(routes.clone());
        let (exits, routes): (Vec<IpNet>, _) = routes.into_iter().partition(|route| route.prefix_len() == 0);
        let ips = [text(&node["ipv4"]), renaming.theirs(&text(&node["ipv6"]))];
        let ips = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let id = id(devices.len());
        devices.push(Device { id, owner, ips, routes, exit: !exits.is_empty(), facts: Facts::default() });
        names.push(name.clone());
    }
    (Tailnet { people, devices }, names, all_routes)
}

/// Whether the IPv6 addresses of a capture are not those that the service worked with.
///
/// The captures' nodes were given IPv4 addresses through the service's API, 100.64.0.1
/// and on, which it used as they are. IPv6 addresses cannot be given to a node there:
/// those of the topology and of the answers were renamed afterwards, to `::1` and on.
/// The policy's text was not, so an IPv6 address in it is that of no node.
struct Renaming(bool);

impl Renaming {
    const PREFIX: &str = "fd7a:115c:a1e0::";
    /// Where in the prefix the nodes are put, out of reach of a policy's text: the service's own
    /// end in 37 there.
    const AWAY: &str = "fd7a:115c:a1e0::ab38:";

    fn of(topology: &Value) -> Self {
        let renamed = |node: &Value| {
            let ipv4: Option<std::net::Ipv4Addr> = node["ipv4"].as_str().and_then(|ip| ip.parse().ok());
            let last = ipv4.filter(|ip| ip.octets()[..3] == [100, 64, 0]).map(|ip| ip.octets()[3]);
            last.is_some_and(|last| node["ipv6"] == format!("{}{last:x}", Self::PREFIX))
        };
        let mut nodes = topology["nodes"].as_object().into_iter().flatten();
        Self(nodes.all(|(_, node)| renamed(node)))
    }

    /// The service's address of a node.
    fn theirs(&self, ipv6: &str) -> String {
        if self.0 { ipv6.replace(Self::PREFIX, Self::AWAY) } else { ipv6.to_owned() }
    }

    /// An answer of ours with the capture's names.
    fn shown(text: &str) -> String {
        text.replace(Self::AWAY, Self::PREFIX)
    }
}

/// The roles of a user, which the service tells the user's own nodes.
fn roles(capture: &Value, user: &str) -> Vec<String> {
    let nodes = capture["topology"]["nodes"].as_object().into_iter().flatten();
    let own = nodes.filter(|(_, node)| node["user"] == user && node["tags"].as_array().is_none_or(Vec::is_empty));
    let told = |name: &String, attribute: &str| {
        let attributes = &capture["captures"][name]["netmap"]["SelfNode"]["CapMap"];
        attributes.get(format!("https://tailscale.com/cap/{attribute}")).is_some()
    };
    let mut roles = BTreeSet::new();
    for (name, _) in own {
        for (attribute, role) in [("is-owner", "owner"), ("is-admin", "admin")] {
            if told(name, attribute) {
                roles.insert(role.to_owned());
            }
        }
    }
    roles.into_iter().collect()
}

/// Each capture's path and text.
fn read(corpus: &Path) -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    if corpus.is_dir() {
        for folder in std::fs::read_dir(corpus).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
            for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
                let text = std::fs::read_to_string(file.path()).expect("a capture");
                cases.insert(file.path().display().to_string(), text);
            }
        }
        return cases;
    }
    let file = std::fs::File::open(corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
    let archive = zstd::decode_all(file).expect("a zstd archive");
    // A tar archive: a header of 512 bytes, then the file, filled up to 512 bytes.
    let mut rest = archive.as_slice();
    while let Some((header, after)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let field = |from: usize, to: usize| {
            let text = String::from_utf8_lossy(&header[from..to]);
            text.trim_end_matches(['\0', ' ']).to_owned()
        };
        let size = usize::from_str_radix(&field(124, 136), 8).expect("a size");
        if header[156] == b'0' {
            cases.insert(field(0, 100), String::from_utf8(after[..size].to_vec()).expect("text"));
        }
        rest = after.get(size.next_multiple_of(512)..).unwrap_or_default();
    }
    cases
}
