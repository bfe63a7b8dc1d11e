//! A message between being rendered and being framed.

use super::blocks::Block;
use super::message::Message;
use crate::netmap::frame;
use crate::netmap::meters::METERS;
use crate::netmap::splice::{self, Part};
use crate::state::Time;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// What ends a message that has blocks.
const TAIL: &[u8] = b"]}";
static LAST: LazyLock<Bytes> = LazyLock::new(|| splice::last(TAIL).into());

/// How many messages are remembered, and how long they may be: one change is one
/// message for all who see it, and few changes are under way at a time.
const REMEMBERED: usize = 64;
const REMEMBERED_BYTES: usize = 64 << 10;
/// How old the time in a remembered message may be; clients use it for expiries.
const REMEMBERED_FOR: Duration = Duration::from_secs(1);

/// What a stream has to say, as far as it is its own, and what it shares.
#[derive(Debug)]
pub struct Draft {
    /// All of it; or all up to the list of peers, which is in `blocks`.
    own: Vec<u8>,
    blocks: Vec<Arc<Block>>,
    /// Other streams may say the very same at the same time.
    is_common: bool,
}

impl Draft {
    /// A message about a change.
    pub fn of_change(message: &Message) -> Self {
        METERS.generated_change.increment(1);
        Self { own: message.encode(None), blocks: Vec::new(), is_common: true }
    }

    /// A complete map, with the peers in `blocks`.
    pub fn complete(message: &Message, blocks: Vec<Arc<Block>>) -> Self {
        METERS.generated_full.increment(1);
        let mut own = message.encode(Some(Time::now()));
        if !blocks.is_empty() {
            assert_eq!(own.pop(), Some(b'}'), "a message is an object");
            own.extend_from_slice(b",\"Peers\":[");
        }
        Self { own, blocks, is_common: false }
    }
}

/// Frames drafts, and remembers what was common to many streams.
#[derive(Debug, Default)]
pub struct Press {
    recent: Mutex<VecDeque<Recent>>,
}

#[derive(Debug)]
struct Recent {
    own: Vec<u8>,
    zstd: bool,
    at: Instant,
    frame: Bytes,
}

impl Press {
    /// The framed message, in parts that follow each other.
    pub fn frame(&self, draft: Draft, zstd: bool) -> Vec<Bytes> {
        let Draft { own, blocks, is_common } = draft;
        METERS.rendered_bytes.increment(own.len() as u64);
        if is_common {
            return vec![self.common(own, zstd)];
        }
        if blocks.is_empty() {
            return vec![frame::frame(&own, zstd)];
        }
        let (first, rest): (Vec<u8>, Vec<Bytes>) = match zstd {
            true => {
                let packed: Vec<Part> = blocks.iter().enumerate().map(|(n, block)| block.packed(n == 0)).collect();
                let own = Part::new(frame::compress(&own), own.len());
                let length = own.length + packed.iter().map(|part| part.length).sum::<usize>() + TAIL.len();
                let first = [&splice::head(length), &own.blocks[..]].concat();
                (first, packed.into_iter().map(|part| part.blocks).chain([LAST.clone()]).collect())
            }
            false => {
                let plain = blocks.iter().enumerate().map(|(n, block)| block.plain(n == 0));
                (own, plain.chain([Bytes::from_static(TAIL)]).collect())
            }
        };
        let mut parts = vec![frame::begin(&first, rest.iter().map(Bytes::len).sum())];
        parts.extend(rest);
        parts
    }

    fn common(&self, own: Vec<u8>, zstd: bool) -> Bytes {
        let now = Instant::now();
        let is_it = |it: &&Recent| it.zstd == zstd && it.own == own && now - it.at < REMEMBERED_FOR;
        if let Some(recent) = crate::netmap::lock(&self.recent).iter().find(is_it) {
            return recent.frame.clone();
        }
        let frame = frame::frame(&with_time(&own), zstd);
        if own.len() <= REMEMBERED_BYTES {
            let mut recent = crate::netmap::lock(&self.recent);
            recent.truncate(REMEMBERED - 1);
            recent.push_front(Recent { own, zstd, at: now, frame: frame.clone() });
        }
        frame
    }
}

/// Puts the time of now in front of a message.
fn with_time(message: &[u8]) -> Vec<u8> {
    let time = serde_json::to_vec(&Time::now().to_jiff()).expect("a time is a string");
    [b"{\"ControlTime\":", &time[..], b",", &message[1..]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::Json;
    use super::*;
    use serde_json::{Value, json};

    fn body(parts: Vec<Bytes>, zstd: bool) -> Value {
        let all = parts.concat();
        let (length, body) = all.split_at(4);
        assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        let json = if zstd { zstd::decode_all(body).unwrap() } else { body.to_vec() };
        serde_json::from_slice(&json).unwrap()
    }

    fn peers(ids: std::ops::Range<u64>) -> Vec<Json> {
        ids.map(|id| super::super::to_json(&json!({ "ID": id }))).collect()
    }

    #[test]
    fn a_map_in_blocks_reads_as_one_message() {
        for zstd in [false, true] {
            let blocks = [0..4, 4..9, 9..10].map(|ids| Arc::new(Block::new(peers(ids))));
            for (count, last) in [(3, 10), (2, 9), (1, 4)] {
                let draft = Draft::complete(&Message::default(), blocks[..count].to_vec());
                let map = body(Press::default().frame(draft, zstd), zstd);
                assert_eq!(map["Peers"], (0..last).map(|id| json!({ "ID": id })).collect::<Value>());
            }
            let map = body(Press::default().frame(Draft::complete(&Message::default(), Vec::new()), zstd), zstd);
            assert_eq!(map.get("Peers"), None);
        }
    }

    #[test]
    fn what_many_streams_are_told_is_made_once() {
        let press = Press::default();
        let change = |id| Draft::of_change(&Message { removed: vec![id], ..Message::default() });
        let first = press.frame(change(1), true);
        let again = press.frame(change(1), true);
        assert_eq!(first[0].as_ptr(), again[0].as_ptr());
        assert_eq!(body(press.frame(change(2), true), true)["PeersRemoved"], json!([2]));
        assert_eq!(body(press.frame(change(1), false), false)["PeersRemoved"], json!([1]));
        assert!(body(first, true)["ControlTime"].is_string());
    }
}
