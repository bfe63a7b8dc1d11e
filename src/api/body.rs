//! Reads JSON bodies, and says precisely what is wrong with them.
//!
//! An operation's body is an object with known properties ([`Shape`]). A body
//! that is no JSON is 400, one that is too large 413, and one with an unknown
//! property or a value of the wrong type 422 with every fault named, as
//! Headscale's API does it.

use super::problem::ApiError;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// The largest body that is read, in bytes: a policy is the largest thing that
/// is sent, and every replica keeps it in its log.
pub const MAX_BODY: usize = 1 << 20;

/// How much of a body that is too large is read and thrown away, so that its
/// sender sees the answer.
const MAX_DISCARD: usize = 64 << 20;
/// How long that may take.
const DISCARD_PATIENCE: Duration = Duration::from_secs(5);

/// A checked body.
pub struct Body<T>(pub T);

/// What a body may hold.
pub trait Shape: DeserializeOwned {
    /// Each property's name and type. Absent and `null` are the same.
    const PROPERTIES: &'static [(&'static str, Kind)];
    /// What must be there.
    const REQUIRED: &'static [&'static str] = &[];
    /// Whether no body at all stands for an empty object.
    const MAY_BE_ABSENT: bool = false;
}

/// A property's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A 64-bit number: a string, as Headscale writes it, or a JSON number.
    Number,
    Flag,
    /// RFC 3339.
    Time,
    Texts,
}

impl<T: Shape, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let bytes = read(request).await?;
        parse(&bytes).map(Self)
    }
}

async fn read(request: Request) -> Result<bytes::Bytes, ApiError> {
    read_up_to(MAX_BODY, request).await
}

/// A body of at most so many bytes, whatever it holds.
pub async fn read_up_to(limit: usize, request: Request) -> Result<bytes::Bytes, ApiError> {
    let mut body = request.into_body();
    match Limited::new(&mut body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            // Whoever gives up only takes longer to see that its connection is gone.
            let _ = tokio::time::timeout(DISCARD_PATIENCE, discard(body)).await;
            let text = format!("request body is too large: at most {limit} bytes are read");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(error) => Err(ApiError::bad_request("reading request body").because(error)),
    }
}

/// Reads on without keeping anything: a client that is still sending when the
/// connection is closed loses the answer with it.
async fn discard(mut body: axum::body::Body) {
    let mut left = MAX_DISCARD;
    while left > 0 {
        let Some(Ok(frame)) = body.frame().await else { return };
        left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
    }
}

fn parse<T: Shape>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() && !T::MAY_BE_ABSENT {
        return Err(ApiError::bad_request("request body is required"));
    }
    let value: Value = if bytes.is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(bytes)
            .map_err(|error| ApiError::bad_request("request body is not valid JSON").because(error))?
    };
    let object = check::<T>(value)?;
    // `check` has looked at everything that could be wrong here.
    serde_json::from_value(Value::Object(object)).map_err(|error| invalid().because(error))
}

fn invalid() -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "validation failed")
}

/// The object with its known properties in the form that `T` reads, or all its faults.
fn check<T: Shape>(value: Value) -> Result<Map<String, Value>, ApiError> {
    let Value::Object(object) = value else {
        return Err(invalid().at("body", format!("body: expected an object, got {}", shown(&value)), value));
    };
    let mut good = Map::new();
    let mut faults = Vec::new();
    for (name, value) in object {
        let Some((_, kind)) = T::PROPERTIES.iter().find(|(known, _)| *known == name) else {
            faults.push((format!("body.{name}"), format!("{name}: unexpected property"), value));
            continue;
        };
        match convert(*kind, &value) {
            Ok(Some(value)) => drop(good.insert(name, value)),
            Ok(None) => {}
            Err(expected) => {
                let message = format!("{name}: expected {expected}, got {}", shown(&value));
                faults.push((format!("body.{name}"), message, value));
            }
        }
    }
    for name in T::REQUIRED {
        if !good.contains_key(*name) && !faults.iter().any(|(at, ..)| at == &format!("body.{name}")) {
            faults.push(("body".into(), format!("expected required property {name} to be present"), Value::Null));
        }
    }
    if faults.is_empty() {
        return Ok(good);
    }
    Err(faults.into_iter().fold(invalid(), |error, (at, message, value)| error.at(at, message, value)))
}

/// The value as `kind`; `None` for null; else what was expected.
fn convert(kind: Kind, value: &Value) -> Result<Option<Value>, &'static str> {
    match (kind, value) {
        (_, Value::Null) => Ok(None),
        (Kind::Text, Value::String(_)) | (Kind::Flag, Value::Bool(_)) | (Kind::Number, Value::String(_)) => {
            Ok(Some(value.clone()))
        }
        (Kind::Number, Value::Number(number)) if number.is_u64() => Ok(Some(Value::String(number.to_string()))),
        (Kind::Time, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => Ok(Some(value.clone())),
        (Kind::Texts, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(Some(value.clone())),
        (Kind::Text, _) => Err("a string"),
        (Kind::Number, _) => Err("a number as a string"),
        (Kind::Flag, _) => Err("true or false"),
        (Kind::Time, _) => Err("a time as in RFC 3339 (2027-01-02T03:04:05Z)"),
        (Kind::Texts, _) => Err("a list of strings"),
    }
}

/// The value, short enough for a message.
fn shown(value: &Value) -> String {
    /// More of a wrong value does not make a message clearer.
    const SHOWN: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
