//! Who is at the other end: the relay shows its key, the client shows its own by
//! opening a box that only its holder can make. (Protocol section 8.2.)

use super::frame::{self, HEADER_LEN, KEY_LEN, kind};
use crate::tailcfg::{NodeKey, PrivateKey};
use bytes::Bytes;
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead};
use serde::Deserialize;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The first bytes that a relay sends.
const MAGIC: &[u8] = "DERP🔑".as_bytes();
/// In front of each box.
const NONCE_LEN: usize = 24;
/// The only version of the protocol that is in use.
const VERSION: u32 = 2;
/// What a client says about itself takes some 200 bytes. Anyone can connect, so
/// the bound is far below the 256 KiB that the protocol allows.
const MAX_CLIENT_INFO: u32 = 16 * 1024;

/// Why a client was not let in before it was asked whether it may.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("the first frame has type {kind:#04x} and {len} bytes instead of being the client's description")]
    NotClientInfo { kind: u8, len: u32 },
    #[error("the box does not open: the client does not hold the private key of {0}")]
    Box(NodeKey),
    #[error("what the client says about itself is not the JSON that it should be: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a client says about itself. The Go client writes most names with capitals,
/// the Rust client writes them in snake case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClientInfo {
    pub(super) version: u32,
    /// A program that measures relays.
    #[serde(rename = "IsProber", alias = "is_prober")]
    pub(super) is_prober: bool,
}

/// Sends the relay's key and reads the client's.
pub(super) async fn identify<R, W>(
    key: &PrivateKey,
    reader: &mut R,
    writer: &mut W,
) -> Result<(NodeKey, ClientInfo), HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    writer.write_all(&frame::frame(kind::SERVER_KEY, &[MAGIC, &key.public()])).await?;
    writer.flush().await?;

    let (kind, len) = frame::read_header(reader).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let shortest = (KEY_LEN + NONCE_LEN) as u32;
    if kind != kind::CLIENT_INFO || !(shortest..=MAX_CLIENT_INFO).contains(&len) {
        return Err(HandshakeError::NotClientInfo { kind, len });
    }
    let mut payload = vec![0; len as usize];
    reader.read_exact(&mut payload).await?;
    let (client, sealed) = payload.split_at(KEY_LEN);
    let mut client_key = NodeKey([0; KEY_LEN]);
    client_key.0.copy_from_slice(client);
    // With a key of zeros, everyone can compute the box's key.
    let json = open(key, &client_key, sealed).filter(|_| !client_key.is_zero());
    let json = json.ok_or(HandshakeError::Box(client_key))?;
    Ok((client_key, serde_json::from_slice(&json)?))
}

/// The frame that lets a client in.
pub(super) fn server_info(key: &PrivateKey, client: &NodeKey) -> Bytes {
    let json = format!(r#"{{"version":{VERSION}}}"#);
    frame::frame(kind::SERVER_INFO, &[&seal(key, client, json.as_bytes())])
}

/// A nonce and a box for `to`.
pub(super) fn seal(key: &PrivateKey, to: &NodeKey, text: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let sealed = salsa_box(key, to).encrypt(&nonce.into(), text).expect("a short text can be encrypted");
    [nonce.as_slice(), &sealed].concat()
}

/// Opens a nonce and a box from `from`.
pub(super) fn open(key: &PrivateKey, from: &NodeKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    salsa_box(key, from).decrypt(&(*nonce).into(), sealed).ok()
}

fn salsa_box(key: &PrivateKey, other: &NodeKey) -> SalsaBox {
    SalsaBox::new(&PublicKey::from(other.0), &SecretKey::from(key.0))
}

const _: () = assert!(HEADER_LEN == 5 && MAGIC.len() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clients_descriptions_are_read() {
        let go: ClientInfo =
            serde_json::from_str(r#"{"version":2,"CanAckPings":true,"IsProber":true,"AppName":"x"}"#).unwrap();
        let rust: ClientInfo =
            serde_json::from_str(r#"{"can_ack_pings":false,"is_prober":true,"mesh_key":null,"version":2}"#).unwrap();
        assert!(go.version == 2 && go.is_prober);
        assert!(rust.version == 2 && rust.is_prober);
    }

    #[test]
    fn a_box_opens_for_its_two_keys_only() {
        let (a, b, c) = (PrivateKey::generate(), PrivateKey::generate(), PrivateKey::generate());
        let public = |key: &PrivateKey| NodeKey(key.public());
        let sealed = seal(&a, &public(&b), b"text");
        assert_eq!(open(&b, &public(&a), &sealed).as_deref(), Some(b"text".as_slice()));
        assert_eq!(open(&c, &public(&a), &sealed), None);
        assert_eq!(open(&b, &public(&c), &sealed), None);
        assert_eq!(open(&b, &public(&a), &sealed[..20]), None);
    }
}
