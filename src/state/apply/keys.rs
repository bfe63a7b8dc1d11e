//! Pre-authenticated keys and API keys.

use super::super::table::{ApiKeys, PreAuthKeys};
use super::super::view::members;
use super::super::*;
use super::step::Step;
use std::collections::BTreeSet;

/// What registrations a pre-authenticated key allows.
pub(super) struct Kind {
    pub reusable: bool,
    pub ephemeral: bool,
}

pub(super) fn create_pre_auth_key(
    step: &mut Step,
    prefix: &str,
    hash: SecretHash,
    owner: &Owner,
    kind: Kind,
    expiration: Option<Time>,
) -> Outcome {
    match owner {
        Owner::User(user) if step.user(*user).is_none() => return Err(Refused::UserNotFound),
        Owner::Tags(tags) if tags.is_empty() => return Err(Refused::NoTags),
        _ => {}
    }
    if step.pre_auth_key_by_prefix(prefix).is_some() {
        return Err(Refused::KeyPrefixTaken);
    }
    let key = PreAuthKey {
        id: AuthKeyId(step.count(|c| {
            c.pre_auth_keys += 1;
            c.pre_auth_keys
        })),
        prefix: prefix.into(),
        hash: hash.into(),
        owner: owner.clone(),
        reusable: kind.reusable,
        ephemeral: kind.ephemeral,
        used: false,
        expiration,
        created: step.now(),
    };
    step.put::<PreAuthKeys>(key.id, key.clone());
    Ok(Done::PreAuthKey(key))
}

/// A key that expired before keeps its time.
pub(super) fn expire_pre_auth_key(step: &mut Step, id: AuthKeyId) -> Outcome {
    let key = step.pre_auth_key(id).ok_or(Refused::AuthKeyNotFound)?;
    let key = PreAuthKey { expiration: Some(now_or_before(step, key.expiration)), ..PreAuthKey::clone(key) };
    step.put::<PreAuthKeys>(id, key.clone());
    Ok(Done::PreAuthKey(key))
}

/// Nodes that registered with it stay, and stay ephemeral if they were.
pub(super) fn delete_pre_auth_key(step: &mut Step, id: AuthKeyId) -> Outcome {
    if step.pre_auth_key(id).is_none() {
        return Err(Refused::AuthKeyNotFound);
    }
    let nodes: Vec<_> = members(&step.indexes.node_of_auth_key, id).collect();
    for node in nodes {
        step.edit_node(node, |node| node.auth_key = None)?;
    }
    step.delete::<PreAuthKeys>(&id);
    Ok(Done::Nothing)
}

pub(super) fn create_api_key(
    step: &mut Step,
    prefix: &str,
    hash: SecretHash,
    expiration: Option<Time>,
    (role, owner): (ApiKeyRole, &str),
) -> Outcome {
    if step.api_key_by_prefix(prefix).is_some() {
        return Err(Refused::KeyPrefixTaken);
    }
    let key = ApiKey {
        id: ApiKeyId(step.count(|c| {
            c.api_keys += 1;
            c.api_keys
        })),
        prefix: prefix.into(),
        hash: hash.into(),
        expiration,
        created: step.now(),
        role,
        owner: owner.into(),
        last_used: None,
    };
    step.put::<ApiKeys>(key.id, key.clone());
    Ok(Done::ApiKey(key))
}

pub(super) fn expire_api_key(step: &mut Step, id: ApiKeyId) -> Outcome {
    let key = step.api_key(id).ok_or(Refused::ApiKeyNotFound)?;
    let key = ApiKey { expiration: Some(now_or_before(step, key.expiration)), ..ApiKey::clone(key) };
    step.put::<ApiKeys>(id, key.clone());
    Ok(Done::ApiKey(key))
}

pub(super) fn delete_api_key(step: &mut Step, id: ApiKeyId) -> Outcome {
    if step.api_key(id).is_none() {
        return Err(Refused::ApiKeyNotFound);
    }
    step.delete::<ApiKeys>(&id);
    Ok(Done::Nothing)
}

/// Notes the minute in which keys were used last.
pub(super) fn use_api_keys(step: &mut Step, ids: &BTreeSet<ApiKeyId>) -> Outcome {
    const MINUTE: i64 = 60_000;
    let minute = Time(step.now().0.div_euclid(MINUTE) * MINUTE);
    for id in ids {
        if let Some(key) = step.api_key(*id).cloned() {
            step.put::<ApiKeys>(*id, ApiKey { last_used: Some(minute), ..ApiKey::clone(&key) });
        }
    }
    Ok(Done::Nothing)
}

fn now_or_before(step: &Step, expiration: Option<Time>) -> Time {
    expiration.map_or(step.now(), |time| time.min(step.now()))
}
