//! How people are shown: the owners of nodes (protocol section 6.4).

use crate::state::{Node, Owner, State, User, UserId, tagged_devices};
use crate::tailcfg::{UserProfile, plain};

/// Who a node is shown under.
pub fn owner(node: &Node) -> UserId {
    match node.owner {
        Owner::User(user) => user,
        Owner::Tags(_) => UserId::TAGGED_DEVICES,
    }
}

/// The profile of an owner. `None`: there is no such user (any more).
pub fn profile(state: &State, id: UserId) -> Option<UserProfile> {
    if id == UserId::TAGGED_DEVICES {
        return Some(of(&tagged_devices()));
    }
    state.user(id).map(|user| of(user))
}

fn of(user: &User) -> UserProfile {
    let first_of = |texts: [&str; 3]| plain(texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default());
    UserProfile {
        id: user.id.0,
        login_name: first_of([&user.email, &user.name, &user.provider_id]),
        display_name: first_of([&user.display_name, &user.name, &user.email]),
        profile_pic_url: if is_url(&user.profile_pic_url) { user.profile_pic_url.clone() } else { String::new() },
    }
}

/// The Rust client stops at a picture's URL that is none.
fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    web && uri.host().is_some_and(|host| !host.is_empty()) && plain(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_by_mail_else_name_and_a_broken_picture_is_left_out() {
        let mut user = tagged_devices();
        (user.id, user.name, user.display_name) = (UserId(3), "bob".into(), String::new());
        user.profile_pic_url = "not a url".into();
        let shown = of(&user);
        assert_eq!((&*shown.login_name, &*shown.display_name, &*shown.profile_pic_url), ("bob", "bob", ""));
        user.email = "bob@example.com".into();
        user.display_name = "Bob \"B\"".into();
        user.profile_pic_url = "https://example.com/bob.png?s=96".into();
        let shown = of(&user);
        assert_eq!(
            (&*shown.login_name, &*shown.display_name, &*shown.profile_pic_url),
            ("bob@example.com", "Bob 'B'", "https://example.com/bob.png?s=96")
        );
    }
}
