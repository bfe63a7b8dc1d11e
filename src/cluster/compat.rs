//! Which commands may be written while the replicas run different releases.

use super::Unavailable;
use super::membership::members;
use super::replica::Replica;
use crate::state::{Command, Proposal, ReplicaId};
use std::sync::Arc;

/// What every release knows.
const FIRST_FORMAT: u32 = 1;

impl Replica {
    /// Whether every member, those that are down now included, can apply a command. One
    /// that cannot would have to stop when it comes to it in the log.
    ///
    /// Each replica says what it knows in its record when it starts, so this is as old as
    /// the last start of each; a replica that is started with an older release afterwards
    /// stops, with the reason, at the first entry that it does not know. One that has not
    /// said anything yet has never run in this cluster, and holds nobody up.
    pub fn check_known(&self, command: &Command) -> Result<(), Unavailable> {
        match self.too_old_for(command.format()) {
            Some(replica) => {
                let (replica, release) = (replica.id, replica.version.clone());
                Err(Unavailable::Mixed { replica, release, command: command.name().into() })
            }
            None => Ok(()),
        }
    }

    /// Leaves out on whose behalf a proposal is while some member could not record it: a
    /// rolling upgrade goes without the record rather than without writes.
    pub fn settle_origin(&self, proposal: &mut Proposal) {
        if proposal.origin.is_some() && self.too_old_for(Proposal::ORIGIN_FORMAT).is_some() {
            tracing::debug!("{} is not recorded: a replica runs an older release", proposal.command.name());
            proposal.origin = None;
        }
        proposal.format = Proposal::format_of(&proposal.command, proposal.origin.as_ref());
    }

    /// A member that does not know this format.
    fn too_old_for(&self, needed: u32) -> Option<Arc<crate::state::Replica>> {
        if needed <= FIRST_FORMAT {
            return None;
        }
        let view = self.feed.view();
        let others = members(self.metrics().membership_config.membership()).into_keys().filter(|id| *id != self.id);
        others.filter_map(|id| view.replica(id)).find(|replica| replica.command_format < needed).cloned()
    }

    /// Whether a replica that is to be added can apply all of the log.
    pub fn check_release(&self, id: ReplicaId, version: &str, command_format: u32) -> Result<(), String> {
        let needed = self.feed.view().command_format();
        if command_format.max(FIRST_FORMAT) >= needed {
            return Ok(());
        }
        Err(format!(
            "replica {id} runs {version}, which does not know all that this cluster has written: upgrade it first"
        ))
    }
}
