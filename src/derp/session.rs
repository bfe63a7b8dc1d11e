//! One client's connection, from the handshake to its end.

use super::frame::{self, FromClient, GoneReason, kind};
use super::handshake;
use super::registry::{Client, Reached};
use super::relay::{Newcomer, Relay};
use bytes::Bytes;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a client may take to show who it is, and the relay to decide whether it
/// may come in. (Protocol section 8.2.)
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one write may take; a client that reads more slowly than that is better
/// off with a new connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// A client gives up a relay that says nothing for 120 s.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Added to [`KEEP_ALIVE`] at random, so that clients that came together drift apart.
const KEEP_ALIVE_JITTER: Duration = Duration::from_secs(5);
/// Most packets have less than 1.5 KiB; a few of them fit.
const BUFFER: usize = 8 * 1024;
/// How often a client may be told that a peer is not here: this often at once, and
/// once a second. (Protocol section 8.3.)
const NOT_HERE_BURST: f64 = 3.0;

/// Serves one connection, until it ends.
pub(super) async fn serve<R, W>(relay: Relay, reader: R, writer: W, addr: IpAddr, newcomer: Newcomer)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    let admitted = admit(&relay, &mut reader, &mut writer, addr);
    let admitted = async {
        tokio::select! {
            admitted = admitted => admitted,
            () = newcomer.shown_out() => {
                relay.inner.meters.refused_busy.increment(1);
                None
            }
            () = relay.inner.stopping.cancelled() => None,
        }
    };
    let client = match timeout(HANDSHAKE_TIMEOUT, admitted).await {
        Ok(Some(client)) => client,
        Ok(_) => return,
        Err(_) => {
            relay.inner.meters.refused_handshake.increment(1);
            return tracing::debug!(%addr, "relay: no handshake in {} s", HANDSHAKE_TIMEOUT.as_secs());
        }
    };
    drop(newcomer);
    relay.inner.meters.clients.set(relay.clients() as f64);
    tracing::debug!(client = ?client.key, %addr, "relay: connected");

    let mut reached = Reached::default();
    let why = tokio::select! {
        why = read(&relay, &client, &mut reader, &mut reached) => why,
        why = write(&relay, &client, &mut writer) => why,
    };
    relay.inner.registry.remove(&client, reached);
    relay.inner.meters.clients.set(relay.clients() as f64);
    tracing::debug!(client = ?client.key, %addr, "relay: disconnected: {why}");
    let _ = timeout(WRITE_TIMEOUT, writer.shutdown()).await;
}

/// Lets the client in, or says in the log why not.
async fn admit<R, W>(relay: &Relay, reader: &mut R, writer: &mut W, addr: IpAddr) -> Option<Arc<Client>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let relay = &relay.inner;
    let (key, info) = match handshake::identify(&relay.key, reader, writer).await {
        Ok(identity) => identity,
        Err(e) => {
            relay.meters.refused_handshake.increment(1);
            tracing::debug!(%addr, "relay: refused: {e}");
            return None;
        }
    };
    if !(relay.admit)(key, addr).await {
        relay.meters.refused_not_admitted.increment(1);
        tracing::debug!(%addr, "relay: refused {key}: it is not admitted");
        return None;
    }
    // Added before it is told, so that a packet that a peer sends right after that finds it.
    let client = match relay.registry.add(key, addr, info) {
        Ok(client) => client,
        Err(full) => {
            relay.meters.refused_full.increment(1);
            tracing::warn!(%addr, "relay: refused {key:?}: {full}");
            return None;
        }
    };
    // After it was added: a shutdown that did not see it did so before this.
    if relay.stopping.is_cancelled() {
        client.close.cancel();
    }
    relay.meters.accepted.increment(1);
    Some(client)
}

/// Takes the client's frames until it ends or breaks the rules; returns why.
async fn read<R: AsyncRead + Unpin>(
    relay: &Relay,
    client: &Arc<Client>,
    reader: &mut R,
    reached: &mut Reached,
) -> String {
    let mut not_here = Allowance::new();
    loop {
        match frame::read(reader, &client.key).await {
            Ok(None) => return "the client closed the connection".into(),
            Err(e) => return e.to_string(),
            Ok(Some(frame)) => {
                relay.inner.registry.spoke(client);
                match frame {
                    FromClient::Packet { to, frame } => {
                        deliver(relay, client, to, frame, reached, &mut not_here);
                    }
                    FromClient::NotePreferred(home) => client.home.store(home, Ordering::Relaxed),
                    FromClient::Ping(message) => client.outbox.push_pong(message),
                    FromClient::Other => {}
                }
            }
        }
    }
}

/// Puts a packet into its destination's outbox. Never waits.
fn deliver(
    relay: &Relay,
    client: &Client,
    to: crate::tailcfg::NodeKey,
    frame: Bytes,
    reached: &mut Reached,
    not_here: &mut Allowance,
) {
    let meters = &relay.inner.meters;
    meters.packets_in.increment(1);
    meters.bytes_in.increment(packet_len(&frame));
    match relay.inner.registry.active(&to) {
        Some(destination) => {
            reached.note(to);
            let dropped = destination.outbox.push_packet(frame);
            if dropped > 0 {
                meters.dropped_full.increment(dropped as u64);
            }
        }
        None => {
            meters.dropped_unknown.increment(1);
            // Only path discovery asks where a peer is; data is sent again anyway.
            if frame::is_disco(&frame) && not_here.take() {
                client.outbox.push_notice(frame::peer_gone(&to, GoneReason::NotHere));
            }
        }
    }
}

/// Writes the welcome, then what is in the client's outbox, or a sign of life, until the client does not
/// read or is to be closed; returns why.
async fn write<W: AsyncWrite + Unpin>(relay: &Relay, client: &Client, writer: &mut W) -> String {
    let problem = relay.problem();
    let problem = (!problem.is_empty()).then(|| frame::health(&problem));
    let mut frames: Vec<_> =
        [handshake::server_info(&relay.inner.key, &client.key)].into_iter().chain(problem).collect();
    let mut last = false;
    loop {
        match write_frames(relay, writer, &frames).await {
            Ok(()) if last => return "closed by the relay".into(),
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                relay.inner.meters.write_timeouts.increment(1);
                return format!("the client read nothing for {} s", WRITE_TIMEOUT.as_secs());
            }
            Err(e) => return format!("writing: {e}"),
        }
        let keep_alive = Instant::now() + KEEP_ALIVE + KEEP_ALIVE_JITTER.mul_f64(rand::random());
        (frames, last) = tokio::select! {
            biased;
            () = client.close.cancelled() => (client.outbox.take_now(), true),
            frames = client.outbox.take() => (frames, false),
            () = sleep_until(keep_alive) => (vec![frame::frame(kind::KEEP_ALIVE, &[])], false),
        };
    }
}

async fn write_frames<W: AsyncWrite + Unpin>(relay: &Relay, writer: &mut W, frames: &[Bytes]) -> io::Result<()> {
    let (mut packets, mut bytes) = (0, 0);
    for frame in frames {
        timeout(WRITE_TIMEOUT, writer.write_all(frame)).await??;
        if frame[0] == kind::RECV_PACKET {
            packets += 1;
            bytes += packet_len(frame);
        }
    }
    timeout(WRITE_TIMEOUT, writer.flush()).await??;
    relay.inner.meters.packets_out.increment(packets);
    relay.inner.meters.bytes_out.increment(bytes);
    Ok(())
}

fn packet_len(frame: &[u8]) -> u64 {
    frame.len().saturating_sub(frame::HEADER_LEN + frame::KEY_LEN) as u64
}

/// A token bucket: [`NOT_HERE_BURST`] tokens, one more each second.
struct Allowance {
    tokens: f64,
    at: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { tokens: NOT_HERE_BURST, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64()).min(NOT_HERE_BURST);
        self.at = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}
