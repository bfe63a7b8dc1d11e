//! Users.

use super::body::{Body, Kind, Shape};
use super::problem::ApiError;
use super::request::{Once, Params, Reading, id};
use super::{Options, render, types};
use crate::state::{Command, Done, UserId};
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The operations on users.
pub fn routes() -> Router<Arc<Options>> {
    Router::new()
        .route("/user", get(list).post(create))
        .route("/user/{id}/rename/{name}", post(rename))
        .route("/user/{id}", delete(destroy))
}

#[derive(Serialize)]
struct UserAnswer {
    user: types::User,
}

#[derive(Serialize)]
struct UsersAnswer {
    users: Vec<types::User>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CreateUser {
    name: String,
    display_name: String,
    email: String,
    picture_url: String,
}

impl Shape for CreateUser {
    const PROPERTIES: &'static [(&'static str, Kind)] =
        &[("name", Kind::Text), ("displayName", Kind::Text), ("email", Kind::Text), ("pictureUrl", Kind::Text)];
}

async fn create(
    State(options): State<Arc<Options>>,
    once: Once,
    Body(body): Body<CreateUser>,
) -> Result<Json<UserAnswer>, ApiError> {
    let command = Command::CreateUser {
        name: body.name,
        display_name: body.display_name,
        email: body.email,
        profile_pic_url: body.picture_url,
    };
    write(&options, once, "creating user", command).await
}

async fn rename(
    State(options): State<Arc<Options>>,
    once: Once,
    Path((user, name)): Path<(String, String)>,
) -> Result<Json<UserAnswer>, ApiError> {
    let user: UserId = id("invalid user id", &user)?;
    write(&options, once, "renaming user", Command::RenameUser { id: user, name }).await
}

async fn write(options: &Options, once: Once, action: &str, command: Command) -> Result<Json<UserAnswer>, ApiError> {
    match options.cluster.write_once(once.0, command).await {
        Ok(Done::User(user)) => Ok(Json(UserAnswer { user: render::user(&user) })),
        Ok(other) => Err(super::problem::unexpected(action, &other)),
        Err(error) => Err(ApiError::write(action, error)),
    }
}

async fn destroy(
    State(options): State<Arc<Options>>,
    once: Once,
    Path(user): Path<String>,
) -> Result<Json<types::Empty>, ApiError> {
    let user: UserId = id("invalid user id", &user)?;
    let written = options.cluster.write_once(once.0, Command::DeleteUser { id: user }).await;
    written.map_err(|error| ApiError::write("deleting user", error))?;
    Ok(Json(types::Empty {}))
}

/// Of several filters one is used: name, else e-mail, else id (Headscale's order).
async fn list(params: Params, Reading(view): Reading) -> Result<Json<UsersAnswer>, ApiError> {
    let (name, email) = (params.text("name"), params.text("email"));
    let by_id = match params.text("id") {
        "" => None,
        text => Some(id::<UserId>("invalid id", text)?).filter(|id| id.0 != 0),
    };
    let wanted = |user: &crate::state::User| match (name, email, by_id) {
        ("", "", None) => true,
        ("", "", Some(id)) => user.id == id,
        ("", email, _) => user.email == email,
        (name, ..) => user.name == name,
    };
    let users = view.users().filter(|user| wanted(user)).map(|user| render::user(user)).collect();
    Ok(Json(UsersAnswer { users }))
}
