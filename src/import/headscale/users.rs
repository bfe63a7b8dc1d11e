//! Users.

use super::Report;
use super::database::{Database, DatabaseError};
use super::row::{Row, ValueError};
use crate::state::{User, UserId, user_name_fault};
use std::collections::BTreeSet;

/// The longest name that is cut out of another one, in bytes.
const LONGEST: usize = 200;

/// All that are not deleted.
pub fn read(database: &Database, report: &mut Report) -> Result<Vec<User>, DatabaseError> {
    let rows = database.rows("users", |row| Ok((user(row)?, row.time("deleted_at")?.is_some())))?;
    let (deleted, users): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, deleted)| *deleted);
    if !deleted.is_empty() {
        report.note(format!("{} deleted users stay behind", deleted.len()));
    }
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for (user, _) in users {
        let name = free_name(&user, &taken, report);
        taken.insert(name.clone());
        named.push(User { name, ..user });
    }
    let of_provider = named.iter().filter(|user| !user.provider_id.is_empty()).count();
    if of_provider > 0 {
        report.note(format!(
            "{of_provider} users come from OpenID Connect: they keep their machines, and are who they were when they log in \
             through the same provider (the section oidc)"
        ));
    }
    Ok(named)
}

fn user(row: &Row) -> Result<User, ValueError> {
    Ok(User {
        id: UserId(row.number()?),
        name: row.text("name")?,
        display_name: row.text("display_name")?,
        email: row.text("email")?,
        profile_pic_url: row.text("profile_pic_url")?,
        provider: row.text("provider")?,
        provider_id: row.text("provider_identifier")?,
        created: row.time("created_at")?.unwrap_or_default(),
    })
}

/// The user's name, or the nearest one that a user can have here and that is free.
fn free_name(user: &User, taken: &BTreeSet<String>, report: &mut Report) -> String {
    let is_good = |name: &str| user_name_fault(name).is_none() && !taken.contains(name);
    if is_good(&user.name) {
        return user.name.clone();
    }
    let candidates = [plain(&user.name), plain(&user.email), format!("{}-{}", plain(&user.name), user.id)];
    let numbered = format!("user-{}", user.id);
    let name = candidates.into_iter().find(|name| is_good(name)).unwrap_or(numbered);
    let why = match user_name_fault(&user.name) {
        Some(fault) => fault,
        None => format!("another user is called {:?}", user.name),
    };
    report.note(format!("user {} is called {name:?} here: {why}", user.id));
    name
}

fn plain(name: &str) -> String {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || ['"', '\\', '/'].contains(&c);
    let name: String = name.trim().chars().map(|c| if is_bad(c) { '-' } else { c }).collect();
    let end = (0..=LONGEST.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name[..end].trim_end_matches('@').to_owned()
}
