//! A server's URL, taken apart.

use crate::cli::error::Error;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as the `Host` header has them.
    pub(super) authority: String,
    /// Before every path; empty or with a slash in front.
    prefix: String,
    /// The whole, without a slash at its end.
    pub(super) base: String,
}

/// Parses `URL`, or `HOST:PORT`, which means HTTPS.
pub(super) fn parse(address: &str) -> Result<Url, Error> {
    let bad = |why: &str| Error::said(format!("server {address:?}: {why}"));
    let text = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let base = text.trim_end_matches('/').to_owned();
    let uri: http::Uri = base.parse().map_err(|_| bad("is not a URL, such as https://headscale.example.com"))?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("must start with http:// or https://")),
    };
    let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
    if uri.query().is_some() || authority.as_str().contains('@') {
        return Err(bad("must have neither a query nor a user"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(bad("names no host"));
    }
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let prefix = uri.path().trim_end_matches('/').to_owned();
    Ok(Url { https, host, port, authority: authority.to_string(), prefix, base })
}

impl Url {
    /// Whether nobody else can read along: TLS, or this machine alone.
    pub(super) fn is_private(&self) -> bool {
        let loopback = self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.https || loopback || self.host == "localhost"
    }

    /// The path to ask for.
    pub(super) fn with_path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

/// A text as one segment of a path, or as a value of a query.
pub(in crate::cli) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            other => escaped += &format!("%{other:02X}"),
        }
    }
    // A segment of dots alone would be taken for a step up.
    if !escaped.is_empty() && escaped.bytes().all(|b| b == b'.') { escaped.replace('.', "%2E") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_https() {
        let url = parse("head.example.com:50443").unwrap();
        assert_eq!((url.https, url.host.as_str(), url.port), (true, "head.example.com", 50443));
        let url = parse("http://[::1]:8080/").unwrap();
        assert_eq!((url.https, url.host.as_str(), url.port), (false, "::1", 8080));
        assert_eq!(url.with_path("/api/v1/node"), "/api/v1/node");
        assert_eq!(parse("https://a.example/headscale/").unwrap().with_path("/api"), "/headscale/api");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for address in ["ftp://a", "http://", "https://a b", "http://a?x=1", "http://me@a"] {
            assert!(parse(address).is_err(), "{address}");
        }
    }

    #[test]
    fn segments_stay_one_segment() {
        assert_eq!(segment("a/b?c d%"), "a%2Fb%3Fc%20d%25");
        assert_eq!(segment("ü"), "%C3%BC");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("a.b"), "a.b");
    }
}
