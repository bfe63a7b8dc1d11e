//! The cluster itself: its identity, and its replicas.

use super::super::table::{Replicas, ServerKeysTable, SettingsTable};
use super::super::*;
use super::session;
use super::step::Step;

pub(super) fn bootstrap(step: &mut Step, settings: &Settings, keys: &ServerKeys) -> Outcome {
    if step.server_keys().is_some() {
        return Err(Refused::Bootstrapped);
    }
    step.put::<SettingsTable>((), settings.clone());
    step.put::<ServerKeysTable>((), keys.clone());
    Ok(Done::Nothing)
}

pub(super) fn wrap_data_key(step: &mut Step, wrapped_data_key: &str) -> Outcome {
    let keys = step.server_keys().ok_or(Refused::NotBootstrapped)?;
    let keys = ServerKeys { wrapped_data_key: wrapped_data_key.into(), ..ServerKeys::clone(keys) };
    step.put::<ServerKeysTable>((), keys);
    Ok(Done::Nothing)
}

/// Sessions of earlier runs stay: their clients may come back within the grace,
/// and the leader closes them after it.
pub(super) fn replica_up(step: &mut Step, replica: &Replica) -> Outcome {
    let since = step.now();
    step.put::<Replicas>(replica.id, Replica { since, standing: Standing::Serving, ..replica.clone() });
    Ok(Done::Nothing)
}

pub(super) fn set_standing(step: &mut Step, id: ReplicaId, incarnation: u64, standing: Standing) -> Outcome {
    let Some(replica) = step.replica(id).filter(|replica| replica.incarnation == incarnation).cloned() else {
        return Ok(Done::Nothing);
    };
    step.put::<Replicas>(id, Replica { standing, ..Replica::clone(&replica) });
    // Routes of the nodes there may go to others, or need not any more.
    let nodes: Vec<_> = step.sessions().filter(|session| session.replica == id).map(|session| session.node).collect();
    nodes.into_iter().for_each(|node| step.touch_node(node));
    Ok(Done::Nothing)
}

pub(super) fn replica_removed(step: &mut Step, id: ReplicaId) -> Outcome {
    step.delete::<Replicas>(&id);
    session::close_where(step, |session| session.replica == id);
    Ok(Done::Nothing)
}
