//! `oidc`.

use super::*;
use crate::config::{ClientSecret, Pkce, WhenUnavailable, missing_files};

fn oidc(more: &str) -> String {
    format!("oidc:\n  issuer: https://id.example.com\n  client_id: qs\n  client_secret: hunter2\n{more}")
}

#[test]
fn what_a_provider_needs_is_enough_and_the_rest_has_headscales_defaults() {
    let oidc = loaded(&oidc("")).oidc.expect("there is a provider");
    assert_eq!((&*oidc.issuer, &*oidc.client_id), ("https://id.example.com", "qs"));
    assert_eq!(oidc.client_secret, ClientSecret::Text("hunter2".parse().unwrap()));
    assert_eq!(oidc.scope, ["openid", "profile", "email"]);
    assert!(oidc.extra_params.is_empty() && oidc.allowed_domains.is_empty() && oidc.allowed_groups.is_empty());
    assert_eq!((oidc.email_verified_required, oidc.use_expiry_from_token, oidc.pkce), (true, false, None));
    assert_eq!(oidc.when_unavailable, WhenUnavailable::Serve);
    assert!(!format!("{oidc:?}").contains("hunter2"));
    assert_eq!(loaded("{}").oidc, None);
}

#[test]
fn each_key_of_headscales_is_read() {
    let all = "  only_start_if_oidc_is_available: true\n  scope: [openid, custom]\n  \
               extra_params: {domain_hint: example.com, Prompt: login}\n  allowed_domains: [example.com]\n  \
               allowed_users: [alice@example.com]\n  allowed_groups: [/admins]\n  email_verified_required: false\n  \
               use_expiry_from_token: true\n  pkce: {enabled: true, method: plain}\n";
    let oidc = loaded(&oidc(all)).oidc.unwrap();
    assert_eq!(oidc.when_unavailable, WhenUnavailable::Refuse);
    assert_eq!(oidc.scope, ["openid", "custom"]);
    let params = [("domain_hint", "example.com"), ("Prompt", "login")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(oidc.extra_params, params);
    assert_eq!((&*oidc.allowed_domains[0], &*oidc.allowed_users[0]), ("example.com", "alice@example.com"));
    assert_eq!(oidc.allowed_groups, ["/admins"]);
    assert_eq!((oidc.email_verified_required, oidc.use_expiry_from_token), (false, true));
    assert_eq!(oidc.pkce, Some(Pkce::Plain));
    let s256 = super::loaded(&self::oidc("  pkce: {enabled: true}\n")).oidc.unwrap();
    assert_eq!(s256.pkce, Some(Pkce::S256));
}

#[test]
fn the_secret_may_be_in_a_file_whose_path_names_a_variable() {
    let text = "oidc: {issuer: 'https://id.example.com', client_id: qs, client_secret_path: '${CREDS}/secret'}";
    let config = loaded_with(text, &with_env([("CREDS", "/run/creds")]));
    assert_eq!(config.oidc.as_ref().unwrap().client_secret, ClientSecret::File("/run/creds/secret".into()));
    assert!(missing_files(&config)[0].contains("oidc.client_secret_path \"/run/creds/secret\""));
    let error = refused(text);
    assert!(error.contains("oidc.client_secret_path") && error.contains("no value"), "{error}");
}

#[test]
fn what_is_wrong_is_told_by_name() {
    for (text, expected) in [
        ("issuer: id.example.com", "oidc.issuer \"id.example.com\": must be a URL"),
        ("issuer: ftp://id.example.com", "must be a URL that starts with https://"),
        ("issuer: https://id.example.com?a=b", "must have no"),
        ("issuer: https://id.example.com", "oidc.client_id: is missing"),
        ("issuer: https://id.example.com", "oidc.client_secret: is missing"),
        ("client_secret: hunter2, client_secret_path: /x", "oidc.client_secret too: remove one"),
        ("client_secret: [hunter2]", "oidc.client_secret \"(redacted)\": must be one value"),
        ("scope: [profile]", "oidc.scope \"profile\": must have \"openid\""),
        ("extra_params: {state: x}", "oidc.extra_params \"state\": is what each login sends itself"),
        ("extra_params: [a]", "oidc.extra_params \"a\": must be a map"),
        ("extra_params: {a: [b]}", "must be one value"),
        ("allowed_domains: ['@example.com']", "oidc.allowed_domains \"@example.com\": must be what is behind"),
        ("pkce: {method: s256}", "oidc.pkce.method \"s256\": must be S256 or plain"),
        ("email_verified_required: maybe", "oidc.email_verified_required \"maybe\": must be true or false"),
        ("strip_email_domain: true", "oidc.strip_email_domain"),
        ("expiry: 180d", "oidc.expiry"),
    ] {
        let error = refused(&format!("oidc: {{{text}}}"));
        assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
    }
    assert!(warnings("oidc: {client_id: x}")[0].contains("no effect: oidc.client_id: oidc.issuer is not set"));
    assert!(warnings("oidc: {isuer: x}")[0].contains("did you mean oidc.issuer?"));
    let plain = warnings(&oidc("").replace("https", "http"));
    assert!(plain[0].contains("plain HTTP"), "{plain:?}");
    assert!(warnings(&oidc("").replace("https://id.example.com", "http://127.0.0.1:9000")).is_empty());
}
