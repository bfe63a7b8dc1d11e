//! Maps as people and Tailscale write them: names in any case (`regionid` in YAML files
//! written for Headscale, `RegionID` in JSON), unknown ones ignored.

use crate::tailcfg::{DerpNode, DerpRegion};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One source's map, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Part {
    /// `None` removes an earlier source's region.
    pub(super) regions: BTreeMap<u32, Option<DerpRegion>>,
    pub(super) omit_default_regions: bool,
}

/// Reads a map in JSON; the error says what is wrong where.
pub(super) fn json(bytes: &[u8]) -> Result<Part, String> {
    let value = serde_json::from_slice(bytes).map_err(|e| format!("not a JSON DERP map: {e}"))?;
    part(value)
}

/// Reads a map in YAML; the error says what is wrong where.
pub(super) fn yaml(text: &str) -> Result<Part, String> {
    // Norway's code is "no", and "n" is a name.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value = serde_saphyr::from_str_with_options(text, options);
    match value.map_err(|e| format!("not a YAML DERP map: {e}"))? {
        // Nothing but comments.
        Value::Null => Ok(Part::default()),
        value => part(value),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMap {
    regions: Option<BTreeMap<String, Option<RawRegion>>>,
    omitdefaultregions: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRegion {
    regionid: u32,
    #[serde(deserialize_with = "text")]
    regioncode: String,
    #[serde(deserialize_with = "text")]
    regionname: String,
    latitude: f64,
    longitude: f64,
    avoid: bool,
    nomeasurenohome: bool,
    nodes: Option<Vec<RawNode>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNode {
    #[serde(deserialize_with = "text")]
    name: String,
    regionid: u32,
    #[serde(deserialize_with = "text")]
    hostname: String,
    certname: String,
    ipv4: String,
    ipv6: String,
    stunport: i32,
    stunonly: bool,
    derpport: i32,
    insecurefortests: bool,
    canport80: bool,
}

/// A text that may look like a number: nodes are often named after their region.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok(String::new()),
        other => Err(serde::de::Error::custom(format!("{other} is not a text; put it in quotes"))),
    }
}

fn part(value: Value) -> Result<Part, String> {
    let raw: RawMap = serde_json::from_value(lower_names(value)).map_err(|e| format!("not a DERP map: {e}"))?;
    let mut part = Part { regions: BTreeMap::new(), omit_default_regions: raw.omitdefaultregions };
    let mut names = HashSet::new();
    for (key, region) in raw.regions.unwrap_or_default() {
        let id = key.parse().ok().filter(|id| *id != 0);
        let id: u32 = id.ok_or_else(|| format!("region {key:?}: its id must be a number above 0"))?;
        let region = region.map(|region| check_region(id, region)).transpose()?;
        for node in region.iter().flat_map(|region| &region.nodes) {
            if !names.insert(node.name.clone()) {
                return Err(format!("region {id}: node {:?}: another node has this name; rename one", node.name));
            }
        }
        part.regions.insert(id, region);
    }
    Ok(part)
}

fn check_region(id: u32, raw: RawRegion) -> Result<DerpRegion, String> {
    if raw.regionid != 0 && raw.regionid != id {
        return Err(format!("region {id}: its RegionID is {}; both must be the same", raw.regionid));
    }
    let nodes = raw.nodes.unwrap_or_default();
    if nodes.is_empty() {
        return Err(format!("region {id} has no nodes; add one, or write null instead of the region to remove it"));
    }
    let nodes: Result<_, _> = nodes.into_iter().map(|node| check_node(id, node)).collect();
    Ok(DerpRegion {
        region_id: id,
        region_code: raw.regioncode,
        region_name: raw.regionname,
        latitude: raw.latitude,
        longitude: raw.longitude,
        avoid: raw.avoid,
        no_measure_no_home: raw.nomeasurenohome,
        nodes: nodes?,
    })
}

fn check_node(region: u32, raw: RawNode) -> Result<DerpNode, String> {
    let fail = |what: String| format!("region {region}: node {:?}: {what}", raw.name);
    if raw.name.is_empty() {
        return Err(fail("it has no name".into()));
    }
    if raw.hostname.is_empty() {
        return Err(fail("it has no hostname".into()));
    }
    if raw.regionid != 0 && raw.regionid != region {
        return Err(fail(format!("its RegionID is {}; it must be its region's", raw.regionid)));
    }
    if !is_address::<Ipv4Addr>(&raw.ipv4) {
        return Err(fail(format!("its IPv4 is {:?}; it must be an address, \"none\" or empty", raw.ipv4)));
    }
    if !is_address::<Ipv6Addr>(&raw.ipv6) {
        return Err(fail(format!("its IPv6 is {:?}; it must be an address, \"none\" or empty", raw.ipv6)));
    }
    if !(-1..=65_535).contains(&raw.stunport) {
        return Err(fail(format!("its STUNPort is {}; it must be a port, 0 for 3478 or -1 for none", raw.stunport)));
    }
    let derp_port = u16::try_from(raw.derpport)
        .map_err(|_| fail(format!("its DERPPort is {}; it must be a port, or 0 for 443", raw.derpport)))?;
    Ok(DerpNode {
        name: raw.name,
        region_id: region,
        host_name: raw.hostname,
        cert_name: raw.certname,
        ipv4: raw.ipv4,
        ipv6: raw.ipv6,
        stun_port: raw.stunport,
        stun_only: raw.stunonly,
        derp_port,
        insecure_for_tests: raw.insecurefortests,
        can_port_80: raw.canport80,
    })
}

fn is_address<T: FromStr>(text: &str) -> bool {
    text.is_empty() || text == "none" || text.parse::<T>().is_ok()
}

fn lower_names(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, v)| (name.to_lowercase(), lower_names(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(lower_names).collect()),
        other => other,
    }
}
