//! What a client hears about its own node.

use super::known::is_expired;
use crate::state::{Node, Owner, State, User, tagged_devices};
use crate::tailcfg::{Login, RegisterResponse, RegisteredUser};

/// Whose it is, and whether its key is still good.
pub(super) fn answer_for(view: &State, node: &Node) -> RegisterResponse {
    let expired = is_expired(node);
    let user = match &node.owner {
        Owner::User(id) => view.user(*id).map(|user| user.as_ref().clone()),
        Owner::Tags(_) => Some(tagged_devices()),
    };
    let (user, login) = user.map(|user| identity(&user)).unwrap_or_default();
    RegisterResponse {
        user,
        login,
        node_key_expired: expired,
        machine_authorized: !expired,
        ..RegisterResponse::default()
    }
}

fn identity(user: &User) -> (RegisteredUser, Login) {
    let display_name = plain(if user.display_name.is_empty() { &user.name } else { &user.display_name });
    let login_name = [&user.email, &user.name, &user.provider_id].into_iter().find(|name| !name.is_empty());
    let profile_pic_url = plain(&user.profile_pic_url);
    let registered =
        RegisteredUser { id: user.id.0, display_name: display_name.clone(), profile_pic_url: profile_pic_url.clone() };
    let login = Login {
        id: user.id.0,
        provider: plain(&user.provider),
        login_name: plain(login_name.map_or("", String::as_str)),
        display_name,
        profile_pic_url,
    };
    (registered, login)
}

/// Without what JSON would have to escape: Tailscale's Rust client reads these
/// texts in place (protocol section 0.1).
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}
