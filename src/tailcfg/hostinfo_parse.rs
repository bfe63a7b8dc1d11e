//! Reading a client's `Hostinfo` (protocol section 6.3).

use super::fold::{Kind, Schema, fold};
use super::{Hostinfo, RequestError};
use ipnet::IpNet;
use serde_json::{Map, Value};

/// The largest `Hostinfo` that is stored, in bytes: it is replicated, and sent to
/// every peer. Real ones have about 1 KiB.
pub const MAX_HOSTINFO: usize = 64 * 1024;

/// How many routes or tags one node may announce: each is looked at when routes
/// are elected or tags are checked.
pub const MAX_ANNOUNCED: usize = 4096;

pub(super) const HOSTINFO: &Schema = &[
    ("IPNVersion", Kind::Text),
    ("FrontendLogID", Kind::Text),
    ("BackendLogID", Kind::Text),
    ("OS", Kind::Text),
    ("OSVersion", Kind::Text),
    ("Container", Kind::Bool),
    ("Env", Kind::Text),
    ("Distro", Kind::Text),
    ("DistroVersion", Kind::Text),
    ("DistroCodeName", Kind::Text),
    ("App", Kind::Text),
    ("Desktop", Kind::Bool),
    ("Package", Kind::Text),
    ("DeviceModel", Kind::Text),
    ("PushDeviceToken", Kind::Text),
    ("Hostname", Kind::Text),
    ("ShieldsUp", Kind::Bool),
    ("ShareeNode", Kind::Bool),
    ("NoLogsNoSupport", Kind::Bool),
    ("RemoteConfig", Kind::Bool),
    ("WireIngress", Kind::Bool),
    ("IngressEnabled", Kind::Bool),
    ("AllowsUpdate", Kind::Bool),
    ("Machine", Kind::Text),
    ("GoArch", Kind::Text),
    ("GoArchVar", Kind::Text),
    ("GoVersion", Kind::Text),
    ("RoutableIPs", Kind::Texts),
    ("RequestTags", Kind::Texts),
    ("WoLMACs", Kind::Texts),
    ("Services", Kind::Structs(SERVICE)),
    ("NetInfo", Kind::Struct(NET_INFO)),
    ("sshHostKeys", Kind::Texts),
    ("Cloud", Kind::Text),
    ("Userspace", Kind::Bool),
    ("UserspaceRouter", Kind::Bool),
    ("AppConnector", Kind::Bool),
    ("ServicesHash", Kind::Text),
    ("PeerRelay", Kind::Bool),
    ("ExitNodeID", Kind::Text),
    ("Location", Kind::Struct(LOCATION)),
    ("TPM", Kind::Struct(TPM)),
    ("StateEncrypted", Kind::Bool),
];

const SERVICE: &Schema = &[("Proto", Kind::Text), ("Port", Kind::Port), ("Description", Kind::Text)];

const NET_INFO: &Schema = &[
    ("MappingVariesByDestIP", Kind::Bool),
    ("WorkingIPv6", Kind::Bool),
    ("OSHasIPv6", Kind::Bool),
    ("WorkingUDP", Kind::Bool),
    ("WorkingICMPv4", Kind::Bool),
    ("HavePortMap", Kind::Bool),
    ("UPnP", Kind::Bool),
    ("PMP", Kind::Bool),
    ("PCP", Kind::Bool),
    ("PreferredDERP", Kind::Int),
    ("LinkType", Kind::Text),
    ("DERPLatency", Kind::Numbers),
    ("FirewallMode", Kind::Text),
];

const LOCATION: &Schema = &[
    ("Country", Kind::Text),
    ("CountryCode", Kind::Text),
    ("City", Kind::Text),
    ("CityCode", Kind::Text),
    ("Latitude", Kind::Number),
    ("Longitude", Kind::Number),
    ("Priority", Kind::Int),
];

const TPM: &Schema = &[
    ("Manufacturer", Kind::Text),
    ("Vendor", Kind::Text),
    ("Model", Kind::Int),
    ("FirmwareVersion", Kind::Int),
    ("SpecRevision", Kind::Int),
    ("FamilyIndicator", Kind::Text),
];

impl Hostinfo {
    /// Reads the object as Go writes it; an empty text is an empty object.
    pub fn parse(json: &str) -> Result<Self, RequestError> {
        if matches!(json.trim(), "" | "null") {
            return Ok(Self::default());
        }
        let object = serde_json::from_str(json).map_err(|error| RequestError::Json(error.to_string()))?;
        Self::from_folded(fold(object, HOSTINFO, "")?)
    }

    /// From an object that was folded by [`HOSTINFO`].
    pub(super) fn from_folded(mut object: Map<String, Value>) -> Result<Self, RequestError> {
        let net_info = match object.remove("NetInfo") {
            Some(Value::Object(net_info)) => Some(net_info),
            _ => None,
        };
        let preferred_derp = net_info.as_ref().map(preferred_derp).transpose()?;
        let routable_ips = routes(&texts(&object, "RoutableIPs"))?;
        if !routable_ips.is_empty() {
            // Written anew, since peers read them by stricter rules than ours.
            let canonical = routable_ips.iter().map(|route| Value::String(route.to_string())).collect();
            object.insert("RoutableIPs".into(), Value::Array(canonical));
        } else {
            object.remove("RoutableIPs");
        }
        let mut request_tags = texts(&object, "RequestTags");
        request_tags.sort();
        request_tags.dedup();
        bounded("Hostinfo.RequestTags", request_tags.len())?;

        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (hostname, os, ipn_version) = (text("Hostname"), text("OS"), text("IPNVersion"));
        let json = Value::Object(object).to_string();
        let net_info = net_info.map(|net_info| Value::Object(net_info).to_string());
        let size = json.len() + net_info.as_ref().map_or(0, String::len);
        if size > MAX_HOSTINFO {
            let reason = format!("{size} bytes are too many: at most {MAX_HOSTINFO} are stored");
            return Err(RequestError::Value { field: "Hostinfo".into(), reason });
        }
        Ok(Self { hostname, os, ipn_version, routable_ips, request_tags, json, net_info, preferred_derp })
    }
}

fn texts(object: &Map<String, Value>, name: &str) -> Vec<String> {
    let items = object.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn preferred_derp(net_info: &Map<String, Value>) -> Result<i32, RequestError> {
    let Some(region) = net_info.get("PreferredDERP") else { return Ok(0) };
    let region = region.as_i64().and_then(|region| i32::try_from(region).ok());
    region.filter(|region| *region >= 0).ok_or_else(|| RequestError::Value {
        field: "Hostinfo.NetInfo.PreferredDERP".into(),
        reason: "not the number of a relay's region".into(),
    })
}

fn routes(texts: &[String]) -> Result<Vec<IpNet>, RequestError> {
    bounded("Hostinfo.RoutableIPs", texts.len())?;
    // Go writes a zero prefix as an empty text.
    let parsed = texts.iter().filter(|text| !text.is_empty()).map(|text| {
        text.parse::<IpNet>().map(|route| route.trunc()).map_err(|_| RequestError::Value {
            field: "Hostinfo.RoutableIPs".into(),
            reason: format!("{:?} is not a prefix such as 10.0.0.0/8", text.chars().take(80).collect::<String>()),
        })
    });
    let mut routes = parsed.collect::<Result<Vec<_>, _>>()?;
    routes.sort();
    routes.dedup();
    Ok(routes)
}

fn bounded(field: &str, len: usize) -> Result<(), RequestError> {
    if len <= MAX_ANNOUNCED {
        return Ok(());
    }
    let reason = format!("{len} entries are too many: at most {MAX_ANNOUNCED} are accepted");
    Err(RequestError::Value { field: field.into(), reason })
}
