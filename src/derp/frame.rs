//! Frames: a byte for the type, a big-endian `u32` for the length, a payload.
//! (Protocol section 8.2.)

use crate::tailcfg::NodeKey;
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Types of frames that the relay reads or writes.
pub(super) mod kind {
    pub const SERVER_KEY: u8 = 0x01;
    pub const CLIENT_INFO: u8 = 0x02;
    pub const SERVER_INFO: u8 = 0x03;
    pub const SEND_PACKET: u8 = 0x04;
    pub const RECV_PACKET: u8 = 0x05;
    pub const KEEP_ALIVE: u8 = 0x06;
    pub const NOTE_PREFERRED: u8 = 0x07;
    pub const PEER_GONE: u8 = 0x08;
    pub const FORWARD_PACKET: u8 = 0x0a;
    pub const WATCH_CONNS: u8 = 0x10;
    pub const CLOSE_PEER: u8 = 0x11;
    pub const PING: u8 = 0x12;
    pub const PONG: u8 = 0x13;
    pub const HEALTH: u8 = 0x14;
    pub const RESTARTING: u8 = 0x15;
}

/// Type and length.
pub(super) const HEADER_LEN: usize = 5;
/// A node's public key.
pub(super) const KEY_LEN: usize = 32;
/// The largest packet that is relayed; the protocol's number.
pub(super) const MAX_PACKET: usize = 64 * 1024;
/// The largest payload of an unknown type that is skipped: clients refuse to
/// send or read more, so a longer one is a stream that lost its place.
const MAX_SKIPPED: u32 = 1 << 20;
/// A ping has 8 bytes that count; newer clients may send more, but not much more.
const PING_LEN: std::ops::RangeInclusive<u32> = 8..=1000;

/// What a client sent is not what it may send; its connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("reading a frame: {0}")]
    Io(#[from] io::Error),
    #[error("a frame of type {kind:#04x} has {len} bytes, which is not a length that this type can have")]
    Length { kind: u8, len: u32 },
    #[error("a frame of type {kind:#04x} is for relays of one mesh, and this relay has none")]
    Mesh { kind: u8 },
}

/// A frame from an admitted client.
#[derive(Debug)]
pub(super) enum FromClient {
    /// A packet for `to`, as the whole frame that `to` has to be sent.
    Packet {
        to: NodeKey,
        frame: Bytes,
    },
    /// Whether this relay is the client's home.
    NotePreferred(bool),
    Ping([u8; 8]),
    /// Read and ignored: a type that this release does not know.
    Other,
}

/// Reads a frame's type and length; `None` at the stream's end.
pub(super) async fn read_header<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<(u8, u32)>> {
    let mut header = [0; HEADER_LEN];
    if reader.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[1..]).await?;
    let [kind, len @ ..] = header;
    Ok(Some((kind, u32::from_be_bytes(len))))
}

/// Reads the next frame of the client whose key is `from`; `None` at the stream's end.
pub(super) async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    from: &NodeKey,
) -> Result<Option<FromClient>, FrameError> {
    let Some((kind, len)) = read_header(reader).await? else {
        return Ok(None);
    };
    let frame = match kind {
        kind::SEND_PACKET => read_packet(reader, len, from).await?,
        kind::NOTE_PREFERRED if len == 1 => FromClient::NotePreferred(reader.read_u8().await? != 0),
        kind::PING if PING_LEN.contains(&len) => {
            let mut message = [0; 8];
            reader.read_exact(&mut message).await?;
            skip(reader, len - 8).await?;
            FromClient::Ping(message)
        }
        kind::NOTE_PREFERRED | kind::PING => return Err(FrameError::Length { kind, len }),
        kind::FORWARD_PACKET | kind::WATCH_CONNS | kind::CLOSE_PEER => return Err(FrameError::Mesh { kind }),
        _ if len > MAX_SKIPPED => return Err(FrameError::Length { kind, len }),
        _ => {
            skip(reader, len).await?;
            FromClient::Other
        }
    };
    Ok(Some(frame))
}

/// A packet comes in after its destination's key and goes out after its
/// source's, so the payload is read once and the key in it replaced.
async fn read_packet<R: AsyncRead + Unpin>(reader: &mut R, len: u32, from: &NodeKey) -> Result<FromClient, FrameError> {
    let payload = len as usize;
    if !(KEY_LEN..=KEY_LEN + MAX_PACKET).contains(&payload) {
        return Err(FrameError::Length { kind: kind::SEND_PACKET, len });
    }
    let mut frame = BytesMut::zeroed(HEADER_LEN + payload);
    frame[0] = kind::RECV_PACKET;
    frame[1..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    reader.read_exact(&mut frame[HEADER_LEN..]).await?;
    let key = &mut frame[HEADER_LEN..HEADER_LEN + KEY_LEN];
    let mut to = NodeKey([0; KEY_LEN]);
    to.0.copy_from_slice(key);
    key.copy_from_slice(&from.0);
    Ok(FromClient::Packet { to, frame: frame.freeze() })
}

async fn skip<R: AsyncRead + Unpin>(reader: &mut R, len: u32) -> io::Result<()> {
    let copied = tokio::io::copy(&mut reader.take(len.into()), &mut tokio::io::sink()).await?;
    if copied == u64::from(len) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Whether a `RecvPacket` frame carries path discovery (`TS💬`, a key, a nonce)
/// rather than WireGuard: such packets decide whether a path is found at all.
pub(super) fn is_disco(frame: &[u8]) -> bool {
    const MAGIC: &[u8] = "TS💬".as_bytes();
    const SHORTEST: usize = MAGIC.len() + KEY_LEN + 24;
    let packet = frame.get(HEADER_LEN + KEY_LEN..).unwrap_or_default();
    packet.len() >= SHORTEST && packet.starts_with(MAGIC)
}

/// Why a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoneReason {
    /// It was connected here.
    Disconnected = 0,
    /// It is not connected here.
    NotHere = 1,
}

/// A whole frame.
pub(super) fn frame(kind: u8, parts: &[&[u8]]) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let len = u32::try_from(len).expect("the relay's own frames are short");
    let mut frame = BytesMut::with_capacity(HEADER_LEN + len as usize);
    frame.put_u8(kind);
    frame.put_u32(len);
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// Tells a client to forget the way to `peer` through this relay.
pub(super) fn peer_gone(peer: &NodeKey, reason: GoneReason) -> Bytes {
    frame(kind::PEER_GONE, &[&peer.0, &[reason as u8]])
}

/// Says what is wrong with this relay; an empty text: nothing any more.
pub(super) fn health(problem: &str) -> Bytes {
    frame(kind::HEALTH, &[problem.as_bytes()])
}

/// Says that the relay goes away: when to come back, and for how long to try.
pub(super) fn restarting(reconnect_in: Duration, try_for: Duration) -> Bytes {
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX).to_be_bytes();
    frame(kind::RESTARTING, &[&millis(reconnect_in), &millis(try_for)])
}
