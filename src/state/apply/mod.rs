//! How commands change state: one file for each kind of thing.
//!
//! A command runs in a [`Step`]: it reads the state, and writes records;
//! stored rows, derived primaries and [`Change`]s follow from what was written, so
//! no command can forget them. What a command refuses leaves nothing behind but
//! the clock and the memory of the request.

mod audit;
mod cluster;
mod dedupe;
mod import;
mod keys;
mod login;
mod nodes;
mod policy;
mod provider;
mod register;
pub(super) mod routes;
mod session;
mod ssh;
mod step;
pub(super) mod tick;
pub(super) mod users;

use super::*;
pub use login::{LOGINS_BOUND, LOGINS_PER_SOURCE_BOUND, MAX_LOGINS, MAX_LOGINS_PER_SOURCE};
use step::Step;

/// See [`State::apply`].
pub(super) fn apply(state: &mut State, index: u64, proposal: &Proposal) -> Applied {
    assert!(index > state.index(), "command {index} applied after {}", state.index());
    let mut step = Step::begin(state, index, proposal.time, proposal.format);
    let outcome = dedupe::once(&mut step, proposal, |step| {
        step.attempt(|step| {
            let done = run(step, &proposal.command)?;
            audit::record(step, proposal, &done);
            Ok(done)
        })
    });
    step.finish(outcome)
}

fn run(step: &mut Step, command: &Command) -> Outcome {
    let may_come_first = matches!(command, Command::Bootstrap { .. } | Command::ReplicaUp(_) | Command::Tick);
    if step.settings().is_none() && !may_come_first {
        return Err(Refused::NotBootstrapped);
    }
    match command {
        Command::Bootstrap { settings, keys } => cluster::bootstrap(step, settings, keys),
        Command::WrapDataKey { wrapped_data_key } => cluster::wrap_data_key(step, wrapped_data_key),
        Command::ReplicaUp(replica) => cluster::replica_up(step, replica),
        Command::ReplicaRemoved(id) => cluster::replica_removed(step, *id),

        Command::CreateUser { name, display_name, email, profile_pic_url } => {
            users::create(step, name, display_name, email, profile_pic_url)
        }
        Command::RenameUser { id, name } => users::rename(step, *id, name),
        Command::DeleteUser { id } => users::delete(step, *id),
        Command::PutProviderUser(user) => provider::put(step, user),

        Command::CreatePreAuthKey { prefix, hash, owner, reusable, ephemeral, expiration } => {
            let kind = keys::Kind { reusable: *reusable, ephemeral: *ephemeral };
            keys::create_pre_auth_key(step, prefix, *hash, owner, kind, *expiration)
        }
        Command::ExpirePreAuthKey { id } => keys::expire_pre_auth_key(step, *id),
        Command::DeletePreAuthKey { id } => keys::delete_pre_auth_key(step, *id),
        Command::CreateApiKey { prefix, hash, expiration, role, owner } => {
            keys::create_api_key(step, prefix, *hash, *expiration, (*role, owner))
        }
        Command::ExpireApiKey { id } => keys::expire_api_key(step, *id),
        Command::DeleteApiKey { id } => keys::delete_api_key(step, *id),
        Command::UseApiKeys(ids) => keys::use_api_keys(step, ids),
        Command::Note(_) => Ok(Done::Nothing),

        Command::RegisterWithKey { prefix, hash, registration } => register::with_key(step, prefix, hash, registration),
        Command::StartLogin(login) => login::start(step, login),
        Command::StartBoundedLogin { login, per_source, in_all } => {
            login::start_bounded(step, login, *per_source, *in_all)
        }
        Command::ApproveLogin { auth_id, user, owner, method, policy_version, seed, v4_pools, provider_expiry } => {
            let approval = login::Approval {
                user: *user,
                owner,
                method: *method,
                policy_version: *policy_version,
                provider_expiry: *provider_expiry,
                lot: register::Lot { seed: *seed, v4_pools },
            };
            login::approve(step, auth_id, approval)
        }
        Command::DecideLogin { auth_id, approve } => login::decide(step, auth_id, *approve),
        Command::Logout { node_key, machine_key } => nodes::logout(step, node_key, machine_key),
        Command::ShortenExpiry { node_key, machine_key, expiry } => {
            nodes::shorten_expiry(step, node_key, machine_key, *expiry)
        }

        Command::SetNodeExpiry { id, expiry } => nodes::set_expiry(step, *id, *expiry),
        Command::RenameNode { id, given_name } => nodes::rename(step, *id, given_name),
        Command::SetTags { id, tags, policy_version } => nodes::set_tags(step, *id, tags, *policy_version),
        Command::SetApprovedRoutes { id, routes } => routes::set_approved(step, *id, routes),
        Command::ApproveRoutes { id, owner, routes, policy_version } => {
            routes::approve(step, *id, owner, routes, *policy_version)
        }
        Command::DeleteNode { id } => nodes::delete(step, *id),
        Command::BackfillIps { seed } => nodes::backfill_ips(step, *seed),

        Command::SetPolicy { text, author, expected_version } => policy::set(step, text, author, *expected_version),
        Command::PutPolicy { text, author, expected_version, restores } => {
            policy::put(step, text, author, *expected_version, *restores)
        }
        Command::StartSshCheck(check) => ssh::start(step, check),
        Command::DecideSshCheck { auth_id, approve, by } => ssh::decide(step, auth_id, *approve, by),
        Command::Report(reports) => Ok(Done::Reports(session::report(step, reports))),
        Command::CloseSessionsOf { replica, incarnation } => session::close_all_of(step, *replica, *incarnation),
        Command::SetStanding { replica, incarnation, standing } => {
            cluster::set_standing(step, *replica, *incarnation, *standing)
        }
        Command::Import { content, sealed, with_policy, author } => {
            import::import(step, content, &import::Terms { sealed, with_policy: *with_policy, author })
        }
        Command::AdoptKey { key, hash } => import::adopt_key(step, *key, *hash),
        Command::Tick => tick::tick(step),
    }
}
