//! A map stream's messages (protocol section 4.2).

use super::connection::Trouble;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::cell::RefCell;
use zstd::bulk::Decompressor;

/// The longest message that is read: 100,000 nodes that all see each other have less.
const LONGEST: usize = 256 << 20;
/// A buffer that is larger than this is not kept for the next message.
const KEPT: usize = 1 << 20;

/// Reads messages.
pub(super) struct Frames {
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// Waits for the next message and calls `read` with its JSON, and its size as it
    /// travelled; `false`: the stream has ended.
    pub async fn next(&mut self, read: impl FnOnce(&[u8], usize)) -> Result<bool, Trouble> {
        let Some(length) = self.wait_for(4).await?.then(|| self.buffer.get_u32_le() as usize) else {
            return Ok(false);
        };
        let broken = |what: String| Trouble::Answer { path: "/machine/map", what };
        if length > LONGEST {
            return Err(broken(format!("a message of {length} bytes")));
        }
        if !self.wait_for(length).await? {
            return Err(broken("the stream ended inside of a message".into()));
        }
        let message = self.buffer.split_to(length);
        if message.first() == Some(&b'{') {
            read(&message, length + 4);
        } else {
            decoded(&message, |json| read(json, length + 4)).map_err(|error| broken(format!("zstd: {error}")))?;
        }
        drop(message);
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = BytesMut::new();
        }
        Ok(true)
    }

    /// Waits until so many bytes are there; `false`: the stream ended before.
    async fn wait_for(&mut self, bytes: usize) -> Result<bool, Trouble> {
        while self.buffer.len() < bytes {
            match self.body.frame().await {
                None => return Ok(false),
                Some(frame) => self.buffer.extend_from_slice(&frame?.into_data().unwrap_or_default()),
            }
        }
        Ok(true)
    }
}

struct Decoder {
    zstd: Decompressor<'static>,
    plain: Vec<u8>,
}

thread_local! {
    /// Each thread has one: a decoder, and room for the largest message that it has seen.
    static DECODER: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

/// All zstd frames of a message. How long they are together is found by trying.
fn decoded(message: &[u8], read: impl FnOnce(&[u8])) -> std::io::Result<()> {
    const FIRST: usize = 64 << 10;
    DECODER.with_borrow_mut(|decoder| {
        let decoder = match decoder {
            Some(decoder) => decoder,
            None => decoder.insert(Decoder { zstd: Decompressor::new()?, plain: Vec::with_capacity(FIRST) }),
        };
        // JSON of maps is compressed to a tenth or so.
        let likely = (message.len() * 12).clamp(FIRST, LONGEST);
        decoder.plain.clear();
        decoder.plain.reserve(likely);
        loop {
            match decoder.zstd.decompress_to_buffer(message, &mut decoder.plain) {
                Ok(_) => break,
                Err(error) if decoder.plain.capacity() >= LONGEST => return Err(error),
                Err(error) if !error.to_string().contains("too small") => return Err(error),
                Err(_) => {
                    decoder.plain.clear();
                    decoder.plain.reserve(decoder.plain.capacity() * 2);
                }
            }
        }
        read(&decoder.plain);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_frames_is_read_whole_however_much_it_grows() {
        let parts: Vec<String> = (0..20).map(|n| n.to_string().repeat(100_000)).collect();
        let message: Vec<u8> = parts.iter().flat_map(|part| zstd::encode_all(part.as_bytes(), 3).unwrap()).collect();
        let mut read = Vec::new();
        decoded(&message, |json| read = json.to_vec()).unwrap();
        assert_eq!(read, parts.concat().into_bytes());
        assert!(decoded(b"no zstd", |_| {}).is_err());
    }
}
