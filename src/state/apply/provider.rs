//! Users that an identity provider brings.

use super::super::table::Users;
use super::super::*;
use super::step::Step;
use super::users;

/// As the records of users that came from a provider have it.
const PROVIDER: &str = "oidc";

/// Makes the user that the provider knows by this identity, or brings it up to date.
///
/// Nobody is taken for somebody else because of a name or an e-mail address: those can be
/// chosen, or given to another person. A name that means somebody already is not taken.
pub(super) fn put(step: &mut Step, new: &ProviderUser) -> Outcome {
    if new.provider_id.is_empty() {
        let reason = "the provider gave no identity".into();
        return Err(Refused::InvalidUserName { name: String::new(), reason });
    }
    let known = step.user_by_provider_id(&new.provider_id).cloned();
    let id = match &known {
        Some(user) => user.id,
        None => UserId(step.count(|c| {
            c.users += 1;
            c.users
        })),
    };
    let name = choose_name(step, id, new, known.as_deref());
    let user = User {
        id,
        name,
        display_name: new.display_name.clone(),
        email: new.email.clone().or(known.as_ref().map(|user| user.email.clone())).unwrap_or_default(),
        profile_pic_url: new.profile_pic_url.clone(),
        provider: PROVIDER.into(),
        provider_id: new.provider_id.clone(),
        created: known.as_ref().map_or(step.now(), |user| user.created),
    };
    if known.is_none_or(|known| *known != user) {
        step.put::<Users>(id, user.clone());
    }
    Ok(Done::User(user))
}

/// The name that the provider gave, else the one from before, else the first that is free.
fn choose_name(step: &Step, id: UserId, new: &ProviderUser, known: Option<&User>) -> String {
    let is_free = |name: &String| users::validate(name).is_ok() && !means_another(step, id, name);
    if let Some(name) = new.name.clone().filter(is_free) {
        return name;
    }
    // A name that somebody had stays theirs.
    if let Some(known) = known {
        return known.name.clone();
    }
    let numbered = (0u64..).map(|more| match more {
        0 => format!("user-{id}"),
        more => format!("user-{id}-{more}"),
    });
    let mut candidates = new.email.clone().into_iter().chain(numbered);
    candidates.find(is_free).expect("one of endlessly many names is free")
}

/// Whether a policy, or an administrator, would find another user under this name.
fn means_another(step: &Step, id: UserId, name: &str) -> bool {
    let named = |user: &User| user.name == name || user.email == name || user.provider_id == name;
    step.users().any(|user| user.id != id && named(user))
}
