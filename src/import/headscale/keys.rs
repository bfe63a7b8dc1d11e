//! Pre-authenticated keys and API keys. Their texts stay valid.

use super::Report;
use super::database::{Database, DatabaseError};
use super::row::{Row, ValueError};
use crate::state::{
    ApiKey, ApiKeyId, ApiKeyRole, AuthKeyId, KeyHash, Owner, PreAuthKey, SecretHash, Tag, Time, User, UserId,
};
use std::collections::BTreeSet;

/// Hex digits of a key that was made before 0.28, which Headscale keeps as it is, and how
/// many of them are shown here.
const OLD: (usize, usize) = (48, 12);

/// The keys that nodes join with, spent and expired ones too: a node that comes back as it
/// was may use such a key.
pub fn pre_auth_keys(
    database: &Database,
    users: &[User],
    report: &mut Report,
) -> Result<Vec<PreAuthKey>, DatabaseError> {
    let known: BTreeSet<UserId> = users.iter().map(|user| user.id).collect();
    let mut described = 0;
    let mut fates = Vec::new();
    let rows = database.rows("pre_auth_keys", |row| {
        described += usize::from(!row.text("description")?.is_empty());
        pre_auth_key(row, &known)
    })?;
    let mut keys = Vec::new();
    for fate in rows {
        match fate {
            Ok(key) => keys.push(key),
            Err((id, why)) => fates.push(format!("pre-authenticated key {id} stays behind: {why}")),
        }
    }
    report.notes.append(&mut fates);
    if described > 0 {
        report.note(format!(
            "{described} pre-authenticated keys have descriptions, which stay behind: keys have none here"
        ));
    }
    Ok(keys)
}

/// The keys for the API.
pub fn api_keys(database: &Database, report: &mut Report) -> Result<Vec<ApiKey>, DatabaseError> {
    let mut owned = 0;
    let rows = database.rows("api_keys", |row| {
        owned += usize::from(row.reference("user_id")?.is_some());
        let (id, prefix) = (row.number()?, row.text("prefix")?);
        let Some(hash) = bcrypt(row)? else { return Ok(Err(format!("API key {id} stays behind: it has no hash"))) };
        if prefix.is_empty() {
            return Ok(Err(format!("API key {id} stays behind: it has no prefix")));
        }
        let created = row.time("created_at")?.unwrap_or_default();
        let expiration = row.time("expiration")?;
        let (role, owner, last_used) = (ApiKeyRole::Admin, String::new(), row.time("last_seen")?);
        Ok(Ok(ApiKey { id: ApiKeyId(id), prefix, hash, expiration, created, role, owner, last_used }))
    })?;
    let mut keys = Vec::new();
    for row in rows {
        match row {
            Ok(key) => keys.push(key),
            Err(why) => report.note(why),
        }
    }
    if owned > 0 {
        report.note(format!(
            "{owned} API keys belong to users, which stays behind: they may do everything here, as there"
        ));
    }
    Ok(keys)
}

/// What development versions have, and this server does not.
pub fn oauth(database: &Database, report: &mut Report) -> Result<(), DatabaseError> {
    for (table, what) in [("oauth_clients", "OAuth clients"), ("oauth_access_tokens", "OAuth access tokens")] {
        let count = if database.has_table(table)? { database.count(table)? } else { 0 };
        if count > 0 {
            report.note(format!("{count} {what} stay behind: there are none here. Use API keys (\"apikeys create\")"));
        }
    }
    Ok(())
}

type Fate = Result<PreAuthKey, (u64, String)>;

fn pre_auth_key(row: &Row, users: &BTreeSet<UserId>) -> Result<Fate, ValueError> {
    let id = row.number()?;
    let stays = |why: &str| Ok(Err((id, why.to_owned())));
    let tags = row.list::<Tag>("tags")?;
    let owner = match row.reference("user_id")?.map(UserId) {
        _ if !tags.is_empty() => Owner::Tags(tags.into_iter().collect()),
        Some(user) if users.contains(&user) => Owner::User(user),
        Some(_) => return stays("its user is deleted"),
        None => return stays("it belongs neither to a user nor to tags"),
    };
    let (mut prefix, old) = (row.text("prefix")?, row.text("key")?);
    let hash = match bcrypt(row)? {
        Some(hash) if !prefix.is_empty() => hash,
        _ if old.len() == OLD.0 && old.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let (shown, secret) = old.split_at(OLD.1);
            prefix = shown.to_owned();
            KeyHash::from(SecretHash::of(secret))
        }
        _ => return stays("it has neither a hash nor a text"),
    };
    Ok(Ok(PreAuthKey {
        id: AuthKeyId(id),
        prefix,
        hash,
        owner,
        reusable: row.flag("reusable")?,
        ephemeral: row.flag("ephemeral")?,
        used: row.flag("used")? && !row.flag("reusable")?,
        expiration: earlier(row.time("expiration")?, row.time("revoked")?),
        created: row.time("created_at")?.unwrap_or_default(),
    }))
}

/// A key that was revoked is an expired one here.
fn earlier(expiration: Option<Time>, revoked: Option<Time>) -> Option<Time> {
    match (expiration, revoked) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn bcrypt(row: &Row) -> Result<Option<KeyHash>, ValueError> {
    Ok(row.parsed("hash")?.map(KeyHash::Bcrypt))
}
