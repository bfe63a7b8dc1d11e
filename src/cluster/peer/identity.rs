//! Who a call is from and for, in its metadata.

use super::listen::PeerInfo;
use super::tls;
use crate::cluster::feed::Feed;
use crate::state::ReplicaId;
use std::sync::Arc;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Status};

const SOURCE: &str = "quorumscale-source";
const TARGET: &str = "quorumscale-target";
const CLUSTER: &str = "quorumscale-cluster";
/// Set if the caller's state has a record of the replica that it calls.
const KNOWN: &str = "quorumscale-known";
/// In a refusal: the caller's cluster was given up, and went on under this name.
const GIVEN_UP: &str = "quorumscale-given-up";

/// Puts the identity into every call to one replica.
#[derive(Clone)]
pub struct Sender {
    pub own: ReplicaId,
    pub target: ReplicaId,
    pub feed: Arc<Feed>,
}

impl tonic::service::Interceptor for Sender {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(SOURCE, MetadataValue::from(self.own.0));
        metadata.insert(TARGET, MetadataValue::from(self.target.0));
        if self.feed.view().replica(self.target).is_some() {
            metadata.insert(KNOWN, MetadataValue::from_static("true"));
        }
        if let Some(cluster) = self.feed.cluster_id() {
            let value: MetadataValue<Ascii> =
                cluster.parse().map_err(|_| Status::internal("the cluster's id is malformed"))?;
            metadata.insert(CLUSTER, value);
        }
        Ok(request)
    }
}

/// Checks the identity in every call that comes in.
#[derive(Clone)]
pub struct Checker {
    pub own: ReplicaId,
    pub feed: Arc<Feed>,
}

impl tonic::service::Interceptor for Checker {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let source = self.check(request.metadata(), request.extensions().get::<PeerInfo>())?;
        let knows_us = request.metadata().contains_key(KNOWN);
        request.extensions_mut().insert(Caller { id: source, knows_us });
        Ok(request)
    }
}

/// The replica that makes a call, as its certificate proves.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub id: ReplicaId,
    /// Its state has a record of this replica, which was up in its cluster before.
    pub knows_us: bool,
}

impl Checker {
    fn check(&self, metadata: &MetadataMap, peer: Option<&PeerInfo>) -> Result<ReplicaId, Status> {
        let source = number(metadata, SOURCE)?;
        let target = number(metadata, TARGET)?;
        let peer = peer.ok_or_else(|| Status::internal("a connection without a certificate"))?;
        if !tls::is_of(&peer.certificate, source) {
            return Err(Status::permission_denied(format!("the certificate is not replica {source}'s")));
        }
        if target != self.own {
            let own = self.own;
            return Err(Status::failed_precondition(format!(
                "this is replica {own}, not {target}: correct the address"
            )));
        }
        let theirs = metadata.get(CLUSTER).and_then(|v| v.to_str().ok());
        match (self.feed.cluster_id(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(self.other_cluster(source, &ours, theirs)),
            _ => Ok(source),
        }
    }

    fn other_cluster(&self, source: ReplicaId, ours: &str, theirs: &str) -> Status {
        let view = self.feed.view();
        let given_up = view.server_keys().is_some_and(|keys| keys.previous_cluster_ids.iter().any(|id| id == theirs));
        if !given_up {
            return Status::failed_precondition(format!(
                "replica {} belongs to cluster {ours}, replica {source} to cluster {theirs}: correct the address, or \
                 remove one's data directory",
                self.own
            ));
        }
        let mut status = Status::failed_precondition(format!(
            "replica {} recovered cluster {theirs} without replica {source}, as cluster {ours}: what replica {source} \
             has is out of date",
            self.own
        ));
        if let Ok(ours) = ours.parse() {
            status.metadata_mut().insert(GIVEN_UP, ours);
        }
        status
    }
}

/// Whether a refusal says that the caller's cluster was given up.
pub fn is_given_up(status: &Status) -> bool {
    status.metadata().contains_key(GIVEN_UP)
}

fn number(metadata: &MetadataMap, key: &str) -> Result<ReplicaId, Status> {
    let value = metadata.get(key).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    value.ok_or_else(|| Status::invalid_argument(format!("the metadata {key} is missing or no number")))
}
