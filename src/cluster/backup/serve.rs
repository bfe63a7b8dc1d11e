//! A replica's side of a backup: an archive of a view, as a stream of bytes.

use super::archive::{self, DataKey, Manifest};
use crate::cluster::keys::Keyring;
use crate::cluster::replica::Replica;
use crate::sensitive::Sensitive;
use crate::state::{ReplicaId, State, Time};
use bytes::Bytes;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of one part of the stream.
const PART: usize = 64 << 10;
/// Parts that wait for a slow reader; the writer waits then, and holds nothing but the view.
const PARTS_AHEAD: usize = 16;

/// The parts of an archive of `view`. `None`: the cluster is not set up yet.
pub fn stream(
    view: Arc<State>,
    keyring: &Keyring,
    replica: ReplicaId,
    term: u64,
) -> Option<mpsc::Receiver<io::Result<Bytes>>> {
    let manifest = Manifest {
        format: Manifest::FORMAT,
        release: env!("CARGO_PKG_VERSION").into(),
        cluster_id: view.server_keys()?.cluster_id.clone(),
        replica: replica.0,
        index: view.index(),
        term,
        time: Time::now().to_string(),
        data_key: DataKey(Sensitive::new(*keyring.data_key())),
    };
    let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let out = BufWriter::with_capacity(PART, Parts(parts.clone()));
        if let Err(error) = archive::write(out, &manifest, &view) {
            // The reader is gone, or hears why there is no more.
            let _ = parts.blocking_send(Err(error));
        }
    });
    Some(receiver)
}

impl Replica {
    /// See [`crate::cluster::Cluster::backup`].
    pub fn backup(&self, view: Arc<State>) -> Option<mpsc::Receiver<io::Result<Bytes>>> {
        stream(view, &*self.keyring()?, self.id, self.metrics().current_term)
    }
}

struct Parts(mpsc::Sender<io::Result<Bytes>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
