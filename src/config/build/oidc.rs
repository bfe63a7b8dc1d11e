//! `oidc`: login through an OpenID provider.

use crate::config::keys;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::{ClientSecret, Oidc, Pkce, WhenUnavailable};
use crate::sensitive::Sensitive;

/// What a login itself sends to the provider: nobody may set it to something else.
const OWN_PARAMETERS: [&str; 10] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "response_type",
    "scope",
    "state",
];

pub(super) fn oidc(reader: &mut Reader) -> Option<Oidc> {
    // Everything is read, so that everything that is wrong is told.
    let issuer = issuer(reader);
    let client_id = reader.non_empty("oidc.client_id");
    let client_secret = client_secret(reader);
    let when_unavailable = match reader.boolean("oidc.only_start_if_oidc_is_available") {
        Some(true) => WhenUnavailable::Refuse,
        // Not Headscale's default: a replica that restarts while the provider is down has to serve.
        Some(false) | None => WhenUnavailable::Serve,
    };
    let scope = scope(reader);
    let extra_params = extra_params(reader);
    let allowed_domains = allowed_domains(reader);
    let allowed_users = reader.list("oidc.allowed_users");
    let allowed_groups = reader.list("oidc.allowed_groups");
    let email_verified_required = reader.boolean("oidc.email_verified_required").unwrap_or(true);
    let use_expiry_from_token = reader.boolean("oidc.use_expiry_from_token").unwrap_or(false);
    let pkce = pkce(reader);
    let Some(issuer) = issuer else {
        let idle: Vec<_> = keys::KEYS.iter().map(|key| key.path).filter(|path| path.starts_with("oidc.")).collect();
        let idle: Vec<_> = idle.into_iter().filter(|path| reader.is_set(path)).collect();
        if !idle.is_empty() {
            reader.warn(format!("no effect: {}: oidc.issuer is not set", idle.join(", ")));
        }
        return None;
    };
    if client_id.is_none() {
        reader.problem("oidc.client_id", "", "is missing: oidc.issuer needs it; the provider says what it is");
    }
    if client_secret.is_none() {
        let why = "is missing: oidc.issuer needs this or oidc.client_secret_path; the provider says what it is";
        reader.problem("oidc.client_secret", "", why);
    }
    Some(Oidc {
        issuer,
        when_unavailable,
        client_id: client_id.unwrap_or_default(),
        client_secret: client_secret.unwrap_or(ClientSecret::Text(Sensitive::default())),
        scope,
        extra_params,
        allowed_domains,
        allowed_users,
        allowed_groups,
        email_verified_required,
        use_expiry_from_token,
        pkce,
    })
}

fn issuer(reader: &mut Reader) -> Option<String> {
    const KEY: &str = "oidc.issuer";
    let text = reader.non_empty(KEY)?;
    let uri: Option<http::Uri> = text.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().to_owned();
    match uri.as_ref().and_then(|uri| uri.scheme_str()) {
        Some("http" | "https") if host.is_empty() || text.contains('@') => {
            reader.problem(KEY, &text, "must name a host, as in https://id.example.com");
        }
        Some("https") => {}
        Some("http") => {
            if host != "localhost"
                && !host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            {
                reader.warn(format!(
                    "{KEY} {text:?}: with plain HTTP anybody on the way can log in as anybody: use https://"
                ));
            }
        }
        _ => reader.problem(KEY, &text, "must be a URL that starts with https://, as in https://id.example.com"),
    }
    if text.contains(['?', '#']) {
        reader.problem(KEY, &text, "must have no \"?\" and no \"#\"");
    }
    Some(text)
}

fn client_secret(reader: &mut Reader) -> Option<ClientSecret> {
    let text = reader.non_empty("oidc.client_secret").map(Sensitive::new);
    let file = reader.expanded_path("oidc.client_secret_path");
    match (text, file) {
        (Some(_), Some(file)) => {
            let why = "is set, and oidc.client_secret too: remove one of them";
            reader.problem("oidc.client_secret_path", &file.display().to_string(), why);
            None
        }
        (Some(text), None) => Some(ClientSecret::Text(text)),
        (None, Some(file)) => Some(ClientSecret::File(file)),
        (None, None) => None,
    }
}

fn scope(reader: &mut Reader) -> Vec<String> {
    const KEY: &str = "oidc.scope";
    let scope = reader.list(KEY);
    if scope.is_empty() {
        return ["openid", "profile", "email"].map(String::from).into();
    }
    if !scope.iter().any(|name| name == "openid") {
        reader.problem(KEY, &scope.join(" "), "must have \"openid\" in it: without, there is no login");
    }
    scope
}

fn extra_params(reader: &mut Reader) -> Vec<(String, String)> {
    const KEY: &str = "oidc.extra_params";
    let entries = match reader.any(KEY) {
        None => return Vec::new(),
        Some(Value::Map(entries)) => entries,
        Some(Value::Text(text)) if text.is_empty() => return Vec::new(),
        Some(other) => {
            reader.problem(KEY, &other.display(), "must be a map of names to values");
            return Vec::new();
        }
    };
    let mut params = Vec::new();
    for (name, value) in entries {
        match value {
            _ if OWN_PARAMETERS.contains(&name.as_str()) => {
                reader.problem(KEY, &name, "is what each login sends itself: remove it");
            }
            Value::Text(value) => params.push((name, value)),
            other => reader.problem(KEY, &format!("{name}: {}", other.display()), "must be one value"),
        }
    }
    params
}

fn allowed_domains(reader: &mut Reader) -> Vec<String> {
    const KEY: &str = "oidc.allowed_domains";
    let domains = reader.list(KEY);
    for domain in domains.iter().filter(|domain| domain.contains('@')) {
        reader.problem(KEY, domain, "must be what is behind the \"@\" of an e-mail address, as in example.com");
    }
    domains
}

fn pkce(reader: &mut Reader) -> Option<Pkce> {
    const KEY: &str = "oidc.pkce.method";
    let enabled = reader.boolean("oidc.pkce.enabled").unwrap_or(false);
    let method = match reader.non_empty(KEY).as_deref() {
        None | Some("S256") => Pkce::S256,
        Some("plain") => Pkce::Plain,
        Some(other) => {
            reader.problem(KEY, other, "must be S256 or plain");
            Pkce::S256
        }
    };
    enabled.then_some(method)
}
