//! `server_url`: the URL that clients know the server by.

use std::fmt;
use std::net::IpAddr;

/// A URL with a host, over HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    https: bool,
    host: String,
    port: u16,
}

/// A text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    #[error("must start with http:// or https://")]
    Scheme,
    #[error("must name a host, as in https://headscale.example.com")]
    Host,
    #[error("has a port that is no number from 1 to 65535")]
    Port,
    #[error("must be only a scheme, a host and a port: clients add paths of their own")]
    Path,
}

impl ServerUrl {
    /// The whole URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether clients speak TLS, to the server or to a proxy before it.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// A name or an IP address, without brackets, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, if it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// 80 or 443 unless the URL says otherwise.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether every stock client can come back to this URL: with plain HTTP,
    /// a Go client that reconnects within two minutes dials nothing but TLS on
    /// port 443, unless the host is `localhost` or a loopback or private address.
    pub fn reconnects(&self) -> bool {
        self.https || self.host == "localhost" || self.ip().is_some_and(is_local)
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = ServerUrlError;
    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let text = text.trim_end_matches('/');
        let (https, rest) = if let Some(rest) = strip_prefix(text, "https://") {
            (true, rest)
        } else if let Some(rest) = strip_prefix(text, "http://") {
            (false, rest)
        } else {
            return Err(ServerUrlError::Scheme);
        };
        if rest.contains(['/', '?', '#', '@']) {
            return Err(ServerUrlError::Path);
        }
        let (host, port) = split_port(rest)?;
        if host.is_empty() || host.contains([' ', '[', ']']) {
            return Err(ServerUrlError::Host);
        }
        let port = match port {
            None => [80, 443][usize::from(https)],
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(ServerUrlError::Port)?,
        };
        Ok(Self { text: text.into(), https, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), ServerUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(ServerUrlError::Host)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(ServerUrlError::Host);
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(ServerUrlError::Port),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) if port.contains(':') => Err(ServerUrlError::Host),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url: ServerUrl = "https://Head.Example.com/".parse().unwrap();
        assert_eq!((url.as_str(), url.host(), url.port()), ("https://Head.Example.com", "head.example.com", 443));
        let url: ServerUrl = "http://[::1]:8080".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.ip()), ("::1", 8080, Some("::1".parse().unwrap())));
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        let refused = |text: &str| text.parse::<ServerUrl>().unwrap_err();
        assert_eq!(refused("head.example.com"), ServerUrlError::Scheme);
        assert_eq!(refused(""), ServerUrlError::Scheme);
        assert_eq!(refused("https://"), ServerUrlError::Scheme);
        assert_eq!(refused("https://:443"), ServerUrlError::Host);
        assert_eq!(refused("https://::1:443"), ServerUrlError::Host);
        assert_eq!(refused("https://a:99999"), ServerUrlError::Port);
        assert_eq!(refused("https://a:0"), ServerUrlError::Port);
        assert_eq!(refused("https://a/headscale"), ServerUrlError::Path);
    }

    #[test]
    fn plain_http_reconnects_only_to_local_addresses() {
        let reconnects = |text: &str| text.parse::<ServerUrl>().unwrap().reconnects();
        for text in
            ["http://localhost:8080", "http://127.0.0.2:8080", "http://10.1.2.3", "http://[fd00::1]", "https://a.b"]
        {
            assert!(reconnects(text), "{text}");
        }
        for text in ["http://head.example.com", "http://203.0.113.7:8080", "http://[2001:db8::1]"] {
            assert!(!reconnects(text), "{text}");
        }
    }
}
