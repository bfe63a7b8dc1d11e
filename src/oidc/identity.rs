//! The one text that says who somebody is: the issuer and the subject there, written as
//! Headscale writes it, so that imported users are who they were.

use std::fmt::Write;

/// `https://id.example.com/SUBJECT`: without empty segments, and without resolving dots.
pub(super) fn provider_id(issuer: &str, subject: &str) -> String {
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("", issuer));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut id = match scheme {
        "" => host.to_owned(),
        scheme => format!("{}://{host}", scheme.to_lowercase()),
    };
    let segments = path.split('/').chain(subject.split('/')).map(str::trim).filter(|segment| !segment.is_empty());
    for segment in segments {
        id.push('/');
        escape(&mut id, segment);
    }
    id
}

/// As Go's `net/url` writes a path: what may be in one stays, unless something in it may not.
fn escape(id: &mut String, segment: &str) {
    let always = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,:;=@".contains(&byte);
    let is_whole = segment.bytes().all(|byte| always(byte) || b"!'()*[]".contains(&byte));
    for byte in segment.bytes() {
        if is_whole || always(byte) {
            id.push(char::from(byte));
        } else {
            let _ = write!(id, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::provider_id;

    #[test]
    fn an_identity_is_written_as_headscale_writes_it() {
        for (issuer, subject, expected) in [
            ("https://id.example.com", "7", "https://id.example.com/7"),
            ("https://id.example.com/realms/x/", "7", "https://id.example.com/realms/x/7"),
            ("HTTPS://id.example.com//a", "/b//c ", "https://id.example.com/a/b/c"),
            ("https://x.auth0.com/", "auth0|123", "https://x.auth0.com/auth0%7C123"),
            ("https://id.example.com", "a b?c#d", "https://id.example.com/a%20b%3Fc%23d"),
            ("https://id.example.com", "a(b)!", "https://id.example.com/a(b)!"),
            ("https://id.example.com/a", "../admin", "https://id.example.com/a/../admin"),
            ("id.example.com", "7", "id.example.com/7"),
        ] {
            assert_eq!(provider_id(issuer, subject), expected);
        }
    }
}
