//! Whether this replica's data is of the cluster that its configuration names.

use super::StartError;
use super::peer::Purpose;
use super::replica::Replica;
use futures::future::join_all;
use std::time::Duration;
use tonic::Code;

/// How long a peer may take. One that is down says nothing.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

impl Replica {
    /// Asks the configured peers: data of another cluster would serve its own clients at this
    /// one's address, or wait for a leader that never comes.
    pub async fn check_same_cluster(&self) -> Result<(), StartError> {
        let Some(own) = self.feed.cluster_id() else { return Ok(()) };
        let others = self.options.peers.iter().filter(|(id, _)| *id != self.id);
        let asked = others.map(async |(id, address)| {
            let mut client = self.links.client(*id, address, Purpose::Calls);
            let answer = tokio::time::timeout(ASK_PATIENCE, client.status(self.status_request())).await.ok()?;
            let status = answer.err().filter(|status| status.code() == Code::FailedPrecondition)?;
            status.message().contains("belongs to cluster").then(|| status.message().to_owned())
        });
        match join_all(asked).await.into_iter().flatten().next() {
            None => Ok(()),
            Some(refusal) => Err(StartError::Config(format!(
                "the data in {} is of cluster {own}, and a replica in cluster.peers is of another one ({refusal})",
                self.options.data_dir.display()
            ))),
        }
    }
}
