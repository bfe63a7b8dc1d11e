//! A map stream, frame by frame (protocol section 4.2).

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

/// No right server sends a larger frame to these few nodes.
const LARGEST: usize = 16 << 20;

pub struct MapStream {
    body: Incoming,
    /// What has arrived of frames that are not whole.
    buffer: Vec<u8>,
}

impl MapStream {
    pub fn new(body: Incoming) -> MapStream {
        MapStream { body, buffer: Vec::new() }
    }

    /// The next message; at the stream's end, how it ended.
    pub async fn next(&mut self) -> Result<Value, String> {
        loop {
            if let Some(frame) = self.take()? {
                let json =
                    zstd::stream::decode_all(&frame[..]).map_err(|e| format!("a frame that is not zstd: {e}"))?;
                return serde_json::from_slice(&json).map_err(|e| format!("a frame that is not JSON: {e}"));
            }
            match self.body.frame().await {
                None => return Err("ended by the server".into()),
                Some(Err(error)) => return Err(format!("broken: {error}")),
                Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }

    /// A whole frame, if one has arrived.
    fn take(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > LARGEST {
            return Err(format!("a frame of {length} bytes"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(4 + length);
        let frame = std::mem::replace(&mut self.buffer, rest).split_off(4);
        Ok(Some(frame))
    }
}
