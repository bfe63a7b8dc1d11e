//! What a client hears about its own node.

use super::known::is_expired;
use crate::netmap::profile;
use crate::state::{Node, Owner, State, UserId};
use crate::tailcfg::{Login, RegisterResponse, RegisteredUser, plain};

/// Whose it is, shown as in every map, and whether its key is still good.
pub(super) fn answer_for(view: &State, node: &Node) -> RegisterResponse {
    let expired = is_expired(node);
    let owner = match node.owner {
        Owner::User(id) => id,
        Owner::Tags(_) => UserId::TAGGED_DEVICES,
    };
    let (user, login) = identity(view, owner);
    RegisterResponse {
        user,
        login,
        node_key_expired: expired,
        machine_authorized: !expired,
        ..RegisterResponse::default()
    }
}

/// Nothing of a user that is gone.
fn identity(view: &State, owner: UserId) -> (RegisteredUser, Login) {
    let Some(shown) = profile(view, owner) else { return Default::default() };
    let user = RegisteredUser {
        id: shown.id,
        display_name: shown.display_name.clone(),
        profile_pic_url: shown.profile_pic_url.clone(),
    };
    let login = Login {
        id: shown.id,
        provider: view.user(owner).map(|user| plain(&user.provider)).unwrap_or_default(),
        login_name: shown.login_name,
        display_name: shown.display_name,
        profile_pic_url: shown.profile_pic_url,
    };
    (user, login)
}
