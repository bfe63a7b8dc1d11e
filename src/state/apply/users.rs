//! Users.

use super::super::table::Users;
use super::super::*;
use super::keys;
use super::step::Step;

/// The longest user name, in bytes: an e-mail address fits (RFC 5321).
const MAX_NAME: usize = 254;

pub(super) fn create(step: &mut Step, name: &str, display_name: &str, email: &str, profile_pic_url: &str) -> Outcome {
    validate(name)?;
    if step.user_by_name(name).is_some() {
        return Err(Refused::UserExists);
    }
    let user = User {
        id: UserId(step.count(|c| {
            c.users += 1;
            c.users
        })),
        name: name.into(),
        display_name: display_name.into(),
        email: email.into(),
        profile_pic_url: profile_pic_url.into(),
        provider: String::new(),
        provider_id: String::new(),
        created: step.now(),
    };
    step.put::<Users>(user.id, user.clone());
    Ok(Done::User(user))
}

pub(super) fn rename(step: &mut Step, id: UserId, name: &str) -> Outcome {
    let user = step.user(id).ok_or(Refused::UserNotFound)?;
    let user = User { name: name.into(), ..User::clone(user) };
    validate(name)?;
    if step.user_by_name(name).is_some_and(|other| other.id != id) {
        return Err(Refused::UserExists);
    }
    step.put::<Users>(id, user.clone());
    Ok(Done::User(user))
}

pub(super) fn delete(step: &mut Step, id: UserId) -> Outcome {
    if step.user(id).is_none() {
        return Err(Refused::UserNotFound);
    }
    if step.nodes_of_user(id).next().is_some() {
        return Err(Refused::UserNotEmpty);
    }
    let owned: Vec<_> = step.pre_auth_keys().filter(|key| key.owner == Owner::User(id)).map(|key| key.id).collect();
    for key in owned {
        keys::delete_pre_auth_key(step, key)?;
    }
    step.delete::<Users>(&id);
    Ok(Done::Nothing)
}

/// Refuses names that a policy could not name, that would not survive a client's
/// strict JSON (protocol section 0.1), or that mean somebody else.
pub(in crate::state) fn validate(name: &str) -> Result<(), Refused> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 254 bytes"
    } else if name.ends_with('@') {
        "it ends in \"@\", which is how a policy marks a user: leave the \"@\" out"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has spaces or control characters"
    } else if name.contains(['"', '\\', '/']) {
        "it has a quote, a backslash or a slash"
    } else if name == tagged_devices().name {
        "this name stands for all tagged nodes"
    } else {
        return Ok(());
    };
    Err(Refused::InvalidUserName { name: name.into(), reason: reason.into() })
}
