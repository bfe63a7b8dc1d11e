//! The page of an SSH session that somebody has to let through (protocol section 5.9).
//!
//! Like the pages of logins it sends the browser to the OpenID provider, whose word about
//! the source's owner is enough; without one an administrator decides with the command line,
//! so that whoever has the link cannot let himself in.

use super::error::error_page;
use super::login::NO_PROVIDER;
use super::page::{Page, escape};
use super::{Options, oidc};
use crate::oidc::Purpose;
use crate::state::{AuthId, NodeId, Owner, SshCheck, SshVerdict, State as View, Time};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const WAITING: &str = "waiting";

/// The page, or with the query `state` what its script compares; `None`: no session has
/// this id as far as anybody knows.
pub async fn show(options: &Options, id: &AuthId, query: Option<&str>) -> Option<Response> {
    let cluster = &options.cluster;
    let here = cluster.view();
    let seen = find(&here, id).cloned();
    if query == Some("state") {
        let state = seen.map(|check| name(&check))?;
        return Some(([(header::CACHE_CONTROL, "no-store")], state).into_response());
    }
    // A decision that this replica has seen is final; anything else may be old news here.
    let (view, check) = match seen {
        Some(check) if check.verdict != SshVerdict::Waiting => (here, check),
        _ => match cluster.linearizable().await {
            Ok(view) => {
                let check = find(&view, id)?.clone();
                (view, check)
            }
            Err(_) => {
                let text = "Too few of the cluster's servers can reach each other, so nothing can be approved now. \
                            The session is not lost: load this page again in a moment.";
                return Some(error_page(StatusCode::SERVICE_UNAVAILABLE, text));
            }
        },
    };
    Some(match check.verdict {
        SshVerdict::Waiting => match oidc::redirect(options, Purpose::SshSession, id) {
            Some(to_provider) => to_provider,
            None if options.oidc.is_some() => waiting(&view, &check).note(NO_PROVIDER).into_response(),
            None => waiting(&view, &check).into_response(),
        },
        SshVerdict::Approved => Page::new("Approved", "Approved")
            .text("The session goes on by itself: you can close this page.")
            .into_response(),
        SshVerdict::Rejected => Page::new("Rejected", "Rejected")
            .text("An administrator turned this session away. If that was a mistake, connect again.")
            .into_response(),
    })
}

fn find<'v>(view: &'v View, id: &AuthId) -> Option<&'v Arc<SshCheck>> {
    view.ssh_check(id).filter(|check| check.deadline > now(view))
}

fn now(view: &View) -> Time {
    Time::now().max(view.clock())
}

fn name(check: &SshCheck) -> &'static str {
    match check.verdict {
        SshVerdict::Waiting => WAITING,
        SshVerdict::Approved => "approved",
        SshVerdict::Rejected => "rejected",
    }
}

fn waiting(view: &View, check: &SshCheck) -> Page {
    let id = &check.id;
    let rows = [
        ("From", node(view, check.source)),
        ("To", node(view, check.destination)),
        ("As", check.local_user.clone()),
        ("Remembered for", remembered(check)),
    ];
    let rows = rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd><bdi>{}</bdi></dd>", escape(value)));
    let left = check.deadline.since(now(view)).as_millis() as u64;
    let left = match left.div_ceil(60_000) {
        0 | 1 => "The session waits for less than a minute more.".to_owned(),
        minutes => format!("The session waits for another {minutes} minutes."),
    };
    Page::new("Authentication check", "Authentication check")
        .watch(WAITING)
        .html(&format!("<dl>{}</dl>", rows.collect::<String>()))
        .text("This SSH session waits for somebody to let it through. An administrator does it with this command:")
        .command(&format!("quorumscale auth approve --auth-id {id}"))
        .text("Or turns it away with this one:")
        .command(&format!("quorumscale auth reject --auth-id {id}"))
        .note(&format!("The commands work on every server of the cluster. {left}"))
}

/// Its name, and whose it is.
fn node(view: &View, id: NodeId) -> String {
    let Some(node) = view.node(id) else { return format!("a node that was deleted (id {id})") };
    let owner = match &node.owner {
        Owner::User(user) => view.user(*user).map_or_else(String::new, |user| user.name.clone()),
        Owner::Tags(tags) => tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    format!("{} ({owner})", node.given_name)
}

fn remembered(check: &SshCheck) -> String {
    let minutes = check.period.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, 0) => "this session alone".into(),
        (0, minutes) => format!("{minutes} minutes"),
        (hours, 0) => format!("{hours} hours"),
        (hours, minutes) => format!("{hours} hours {minutes} minutes"),
    }
}
