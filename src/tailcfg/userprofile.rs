//! How people are shown to clients (protocol section 6.4).

use serde::Serialize;

/// `tailcfg.UserProfile`, for writing only. Its texts must need no escapes in
/// JSON: see [`plain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserProfile {
    #[serde(rename = "ID")]
    pub id: u64,
    #[serde(rename = "LoginName")]
    pub login_name: String,
    #[serde(rename = "DisplayName")]
    pub display_name: String,
    /// Empty, or a URL.
    #[serde(rename = "ProfilePicURL", skip_serializing_if = "String::is_empty")]
    pub profile_pic_url: String,
}

/// `text` with what JSON would escape replaced. Tailscale's Rust client borrows
/// its strings from the message, and stops at the first one with an escape
/// (protocol section 0.1).
pub fn plain(text: &str) -> String {
    let replaced = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_plain_text_needs_no_escape_in_json() {
        let text = plain("Anna \"Ann\"\tO'Neil \\ \u{1} Žižka & <co>");
        assert_eq!(text, "Anna 'Ann' O'Neil /   Žižka & <co>");
        assert_eq!(serde_json::to_string(&text).unwrap(), format!("\"{text}\""));
    }
}
