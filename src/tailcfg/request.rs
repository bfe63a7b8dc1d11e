//! What clients send: `RegisterRequest` and `MapRequest` (protocol sections 3.1
//! and 4.1), read as Go's decoder would read them.

use super::fold::{Kind, Schema, fold, peek_int};
use super::hostinfo_parse::HOSTINFO;
use super::{CapVer, DiscoKey, Hostinfo, KeyParseError, NodeKey};
use crate::sensitive::Sensitive;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::str::FromStr;

/// How many endpoints of one node are kept, the first ones: a peer probes each of
/// them. Real nodes have fewer than 20.
pub const MAX_ENDPOINTS: usize = 128;

/// A request's body says something that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is not JSON, or no object.
    #[error("the body is not a JSON object: {0}")]
    Json(String),
    /// The client is older than [`CapVer::MIN`].
    #[error("unsupported client version {0}: Tailscale 1.80 or newer is needed")]
    Version(i64),
    /// A field has another type than in Go.
    #[error("field {field}: expected {expected}")]
    Type { field: String, expected: &'static str },
    /// A field's value is wrong.
    #[error("field {field}: {reason}")]
    Value { field: String, reason: String },
}

/// A text that does not print: the client's key for `--authkey`.
pub type AuthKeyText = Sensitive<String>;

/// `tailcfg.RegisterRequest`, as far as this server reads it.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    pub version: CapVer,
    /// The key to register. Not zero.
    pub node_key: NodeKey,
    /// `Auth.AuthKey`.
    pub auth_key: Option<AuthKeyText>,
    /// What the client asks for; in the past: it logs out. `None`: Go's zero time, too.
    pub expiry: Option<Timestamp>,
    /// The `AuthURL` that the client was given before.
    pub followup: Option<String>,
    pub hostinfo: Hostinfo,
}

/// `tailcfg.MapRequest`, as far as this server reads it.
#[derive(Clone, Debug)]
pub struct MapRequest {
    pub version: CapVer,
    /// Not zero.
    pub node_key: NodeKey,
    pub disco_key: Option<DiscoKey>,
    /// `Compress: "zstd"`.
    pub zstd: bool,
    pub keep_alive: bool,
    pub stream: bool,
    pub omit_peers: bool,
    pub read_only: bool,
    pub hostinfo: Option<Hostinfo>,
    /// With their `tailcfg.EndpointType`, 0 if the client did not say.
    pub endpoints: Vec<(SocketAddr, i32)>,
}

const REGISTER: &Schema = &[
    ("Version", Kind::Int),
    ("NodeKey", Kind::Text),
    ("OldNodeKey", Kind::Ignored),
    ("Auth", Kind::Struct(AUTH)),
    ("Expiry", Kind::Text),
    ("Followup", Kind::Text),
    ("Hostinfo", Kind::Struct(HOSTINFO)),
];

const AUTH: &Schema = &[("AuthKey", Kind::Text)];

const MAP: &Schema = &[
    ("Version", Kind::Int),
    ("Compress", Kind::Text),
    ("KeepAlive", Kind::Bool),
    ("NodeKey", Kind::Text),
    ("DiscoKey", Kind::Text),
    ("Stream", Kind::Bool),
    ("OmitPeers", Kind::Bool),
    ("ReadOnly", Kind::Bool),
    ("Hostinfo", Kind::Struct(HOSTINFO)),
    ("Endpoints", Kind::Texts),
    ("EndpointTypes", Kind::Ints),
];

impl RegisterRequest {
    /// Reads a request's body. The version is looked at before everything else.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let mut fields = Fields::parse(body, REGISTER)?;
        let mut auth = Fields { version: fields.version, object: fields.object("Auth") };
        Ok(Self {
            version: fields.version,
            node_key: fields.node_key()?,
            auth_key: auth.text("AuthKey").map(AuthKeyText::new),
            expiry: fields.text("Expiry").map(|text| time("Expiry", &text)).transpose()?.flatten(),
            followup: fields.text("Followup"),
            hostinfo: Hostinfo::from_folded(fields.object("Hostinfo"))?,
        })
    }
}

impl MapRequest {
    /// Reads a request's body. The version is looked at before everything else.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let mut fields = Fields::parse(body, MAP)?;
        let hostinfo = fields.object.contains_key("Hostinfo").then(|| fields.object("Hostinfo"));
        Ok(Self {
            version: fields.version,
            node_key: fields.node_key()?,
            disco_key: fields.key::<DiscoKey>("DiscoKey")?.filter(|key| !key.is_zero()),
            zstd: fields.text("Compress").is_some_and(|text| text == "zstd"),
            keep_alive: fields.bool("KeepAlive"),
            stream: fields.bool("Stream"),
            omit_peers: fields.bool("OmitPeers"),
            read_only: fields.bool("ReadOnly"),
            hostinfo: hostinfo.map(Hostinfo::from_folded).transpose()?,
            endpoints: endpoints(&fields.object)?,
        })
    }
}

/// A folded request, taken apart field by field.
struct Fields {
    version: CapVer,
    object: Map<String, Value>,
}

impl Fields {
    fn parse(body: &[u8], schema: &Schema) -> Result<Self, RequestError> {
        let object = serde_json::from_slice(body).map_err(|error| RequestError::Json(error.to_string()))?;
        let version = peek_int(&object, "Version").unwrap_or(0);
        let version = match u32::try_from(version) {
            Ok(known) if CapVer(known) >= CapVer::MIN => CapVer(known),
            _ => return Err(RequestError::Version(version)),
        };
        Ok(Self { version, object: fold(object, schema, "")? })
    }

    /// Go's zero text is an absent one.
    fn text(&mut self, name: &str) -> Option<String> {
        match self.object.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn bool(&self, name: &str) -> bool {
        self.object.get(name) == Some(&Value::Bool(true))
    }

    fn object(&mut self, name: &str) -> Map<String, Value> {
        match self.object.remove(name) {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        }
    }

    fn key<K: FromStr<Err = KeyParseError>>(&mut self, name: &str) -> Result<Option<K>, RequestError> {
        let parsed = self.text(name).map(|text| text.parse::<K>()).transpose();
        parsed.map_err(|error| RequestError::Value { field: name.into(), reason: error.to_string() })
    }

    fn node_key(&mut self) -> Result<NodeKey, RequestError> {
        let key = self.key::<NodeKey>("NodeKey")?.filter(|key| !key.is_zero());
        key.ok_or_else(|| RequestError::Value { field: "NodeKey".into(), reason: "missing or zero".into() })
    }
}

/// `None` for Go's zero time, in whatever zone.
fn time(field: &str, text: &str) -> Result<Option<Timestamp>, RequestError> {
    let time: Timestamp = text.parse().map_err(|_| RequestError::Value {
        field: field.into(),
        reason: format!("{:?} is not a time by RFC 3339", text.chars().take(80).collect::<String>()),
    })?;
    // Seconds from the start of year 2 to 1970: no earlier time means anything.
    const YEAR_2: i64 = -62_104_060_800;
    Ok((time.as_second() >= YEAR_2).then_some(time))
}

fn endpoints(object: &Map<String, Value>) -> Result<Vec<(SocketAddr, i32)>, RequestError> {
    let list = |name: &str| object.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let kinds = list("EndpointTypes");
    let mut endpoints = Vec::new();
    for (i, text) in list("Endpoints").iter().filter_map(Value::as_str).enumerate() {
        // An address with a zone means nothing on another machine; Go's zero address is an empty text.
        if text.is_empty() || text.contains('%') {
            continue;
        }
        let addr = text.parse().map_err(|_| RequestError::Value {
            field: "Endpoints".into(),
            reason: format!("{:?} is not an address and port", text.chars().take(80).collect::<String>()),
        })?;
        let kind = kinds.get(i).and_then(Value::as_i64).and_then(|kind| i32::try_from(kind).ok()).unwrap_or(0);
        endpoints.push((addr, kind));
        if endpoints.len() == MAX_ENDPOINTS {
            break;
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
