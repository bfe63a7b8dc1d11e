//! Who changed what.

use super::Options;
use super::problem::ApiError;
use super::request::{Params, Reading, id};
use super::types;
use crate::state::{AuditRecord, Deed, Time};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// How many records an answer has unless told otherwise.
const DEFAULT_LIMIT: u64 = 100;
/// How many records an answer has at most: some hundred kilobytes.
const MAX_LIMIT: u64 = 1000;

/// `GET /audit`: a [`types::AuditList`], from the newest record on. The parameters all narrow
/// it down: `by`, `from`, `action` and `subject` (texts that the field has in it, upper and
/// lower case the same), `since` and `until` (times as in RFC 3339, the second excluded),
/// `before` (records with a smaller id), `limit` (1 to 1000, 100 unless given).
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/audit", get(list))
}

async fn list(Reading(view): Reading, params: Params) -> Result<Json<types::AuditList>, ApiError> {
    let filter = Filter::of(&params)?;
    let records = view.audit().filter(|record| filter.takes(record)).take(filter.limit).map(|record| shown(record));
    Ok(Json(types::AuditList { records: records.collect() }))
}

/// Which records are asked for.
struct Filter {
    by: String,
    from: String,
    action: String,
    subject: String,
    since: Option<Time>,
    until: Option<Time>,
    before: Option<u64>,
    limit: usize,
}

impl Filter {
    fn of(params: &Params) -> Result<Self, ApiError> {
        let text = |name| params.text(name).to_lowercase();
        let before = params.text("before");
        Ok(Self {
            by: text("by"),
            from: text("from"),
            action: text("action"),
            subject: text("subject"),
            since: time(params, "since")?,
            until: time(params, "until")?,
            before: if before.is_empty() { None } else { Some(id("invalid record id", before)?) },
            limit: limit(params)?,
        })
    }

    fn takes(&self, record: &AuditRecord) -> bool {
        let has = |field: &str, text: &str| text.is_empty() || field.to_lowercase().contains(text);
        has(&record.by, &self.by)
            && has(&record.from, &self.from)
            && has(&record.action, &self.action)
            && has(&record.subject, &self.subject)
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && self.before.is_none_or(|before| record.id < before)
    }
}

fn time(params: &Params, name: &str) -> Result<Option<Time>, ApiError> {
    match params.text(name) {
        "" => Ok(None),
        text => match text.parse() {
            Ok(time) => Ok(Some(Time::from_jiff(time))),
            Err(_) => Err(wrong(name, "a time as in RFC 3339 (2027-01-02T03:04:05Z)", text)),
        },
    }
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let limit = match params.text("limit") {
        "" => DEFAULT_LIMIT,
        text => text.parse().map_err(|_| wrong("limit", "a number from 1 to 1000", text))?,
    };
    match limit {
        1..=MAX_LIMIT => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        other => Err(wrong("limit", "a number from 1 to 1000", &other.to_string())),
    }
}

fn wrong(name: &str, expected: &str, got: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "validation failed").at(
        format!("query.{name}"),
        format!("{name}: expected {expected}, got {got:?}"),
        got.into(),
    )
}

fn shown(record: &AuditRecord) -> types::AuditRecord {
    let AuditRecord { id, time, by, from, action, subject, detail } = record;
    types::AuditRecord {
        action: action.clone(),
        by: by.clone(),
        detail: detail.clone(),
        from: from.clone(),
        id: id.to_string(),
        subject: subject.clone(),
        time: time.to_string(),
    }
}

/// What was done to the cluster itself, for the record.
pub fn deed(action: &str, subject: impl Into<String>, detail: impl Into<String>) -> Deed {
    Deed { action: action.into(), subject: subject.into(), detail: detail.into() }
}
