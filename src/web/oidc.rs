//! What a browser meets on the way to the OpenID provider and back.
//!
//! `/oidc/callback` is where the provider sends it; `/register/confirm/{auth_id}` takes the
//! form in which a person says that a machine is theirs. Any replica answers both.

use super::error::error_page;
use super::login::{facts, left, now, registered_text, show_decided};
use super::page::Page;
use super::{ClientIp, Options};
use crate::oidc::{Confirmed, Cookie, Cookies, Finished, LoginError, Purpose, Returned};
use crate::state::{AuthId, Refused};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;

/// The form has one field, of some hundred bytes.
const LARGEST_FORM: usize = 8 << 10;
/// The field that carries what the form is about.
const TOKEN: &str = "token";

/// Only for a server that has a provider.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/oidc/callback", get(callback)).route("/register/confirm/{auth_id}", post(confirm))
}

/// To the provider; `None`: there is none, or it was not found yet.
pub fn redirect(options: &Options, purpose: Purpose, id: &AuthId) -> Option<Response> {
    let begun = options.oidc.as_ref()?.begin(purpose, id)?;
    let location = HeaderValue::from_str(&begun.location).ok()?;
    let mut response = StatusCode::FOUND.into_response();
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_cookie(&mut response, &begun.cookie);
    Some(response)
}

async fn callback(
    State(options): State<Arc<Options>>,
    ClientIp(ip): ClientIp,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(oidc) = &options.oidc else { return error_page(StatusCode::NOT_FOUND, "") };
    let query = query.unwrap_or_default();
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let parameter = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| &**value);
    let returned = Returned {
        code: parameter("code"),
        state: parameter("state"),
        issuer: parameter("iss"),
        error: parameter("error"),
        cookies: &cookies(&headers),
        ip,
    };
    match oidc.finish(&returned).await {
        Ok(Finished::Confirm(confirmation)) => {
            let id = &confirmation.login.id;
            let page = Page::new("Node registration", "Is this your machine?")
                .html(&facts(&confirmation.login))
                .text(&format!(
                    "You are logged in as {}. If you have just run \"tailscale up\" on this machine, add it to the \
                     network: it will be yours.",
                    shown_as(&confirmation.user)
                ))
                .form(&format!("/register/confirm/{id}"), (TOKEN, &confirmation.token), "Add this machine")
                .note(&format!(
                    "If somebody sent you the link, do not: they would be in the network in your name. Close this \
                     page instead. {}",
                    left(&confirmation.login, now(&options.cluster.view()))
                ));
            let mut response = page.into_response();
            set_cookie(&mut response, &confirmation.cookie);
            response
        }
        Ok(Finished::SessionApproved) => Page::new("Approved", "SSH session authorized")
            .text("The session goes on by itself: you can close this page.")
            .into_response(),
        Ok(Finished::Decided(id)) => show_decided(&options.cluster, &id).await,
        Err(error) => refusal(&error),
    }
}

async fn confirm(
    State(options): State<Arc<Options>>,
    ClientIp(ip): ClientIp,
    Path(auth_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(oidc) = &options.oidc else { return error_page(StatusCode::NOT_FOUND, "") };
    let Ok(id) = auth_id.parse::<AuthId>() else {
        return error_page(StatusCode::BAD_REQUEST, "This is not a complete login link.");
    };
    let Ok(form) = axum::body::to_bytes(body, LARGEST_FORM).await else {
        return error_page(StatusCode::PAYLOAD_TOO_LARGE, "");
    };
    let token = form_urlencoded::parse(&form).find(|(name, _)| name == TOKEN).map(|(_, value)| value);
    match oidc.confirm(&id, &token.unwrap_or_default(), &cookies(&headers), ip).await {
        Ok(Confirmed { node, renewed, cookie }) => {
            let heading = if renewed { "Node reauthenticated" } else { "Node registered" };
            let page = Page::new(heading, heading).text(&registered_text(&options.cluster.view(), node));
            let mut response = page.into_response();
            set_cookie(&mut response, &cookie);
            response
        }
        Err(error) => refusal(&error),
    }
}

/// Says what was wrong, and what to do about it.
fn refusal(error: &LoginError) -> Response {
    const AGAIN: &str = "Open the link that \"tailscale up\" printed again, in this browser.";
    const ANEW: &str = "Run \"tailscale up\" on the machine again; it prints a new link.";
    let (status, remedy) = match error {
        LoginError::MissingParameters | LoginError::ForeignState | LoginError::NoCookie | LoginError::Used => {
            (StatusCode::BAD_REQUEST, AGAIN.to_owned())
        }
        LoginError::OtherBrowser => (StatusCode::FORBIDDEN, AGAIN.to_owned()),
        LoginError::Denied(_) => (StatusCode::FORBIDDEN, AGAIN.to_owned()),
        LoginError::NotVerified => (
            StatusCode::FORBIDDEN,
            format!("{AGAIN} If it fails again, ask an administrator of this network: the server's log says why."),
        ),
        LoginError::Gone | LoginError::Refused(Refused::LoginNotFound) => (StatusCode::GONE, ANEW.to_owned()),
        LoginError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, String::new()),
        LoginError::ProviderUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("The machine goes on waiting. {AGAIN}"))
        }
        LoginError::Unavailable(_) => {
            let text = "Too few of the cluster's servers can reach each other, so nobody can be let in now. Your login \
                        is not lost: open the link again in a moment.";
            return error_page(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        LoginError::NotAllowed(_) => (
            StatusCode::UNAUTHORIZED,
            "If you should be let in, ask an administrator of this network; or log in at the provider with another \
             account, and open the link that \"tailscale up\" printed again."
                .to_owned(),
        ),
        LoginError::NotYourSession => {
            (StatusCode::FORBIDDEN, "Log in as the owner of the machine that the session comes from.".to_owned())
        }
        LoginError::Refused(Refused::UserNotFound) => (StatusCode::GONE, AGAIN.to_owned()),
        LoginError::Refused(Refused::TagsNotPermitted(_)) => {
            (StatusCode::FORBIDDEN, "Leave them out of \"--advertise-tags\", or ask an administrator.".to_owned())
        }
        LoginError::Refused(_) => (StatusCode::CONFLICT, ANEW.to_owned()),
    };
    let text = error.to_string();
    let mut characters = text.chars();
    let text: String = characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect();
    error_page(status, format!("{text}. {remedy}").trim_end())
}

fn shown_as(user: &crate::state::User) -> String {
    let texts = [&user.email, &user.name];
    let account = texts.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
    match user.display_name.as_str() {
        "" => account,
        name => format!("{name} ({account})"),
    }
}

fn cookies(headers: &HeaderMap) -> Cookies {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn set_cookie(response: &mut Response, cookie: &Cookie) {
    let Cookie { name, value, path, strict, secure, lives } = cookie;
    let site = if *strict { "Strict" } else { "Lax" };
    let secure = if *secure { "; Secure" } else { "" };
    let age = lives.as_secs();
    let text = format!("{name}={}; Path={path}; Max-Age={age}; HttpOnly; SameSite={site}{secure}", **value);
    if let Ok(mut text) = HeaderValue::from_str(&text) {
        text.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, text);
    }
}
