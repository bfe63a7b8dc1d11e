//! The peers of complete maps, in blocks of neighbours that many streams share.

use super::Json;
use crate::netmap::frame;
use crate::netmap::meters::METERS;
use crate::netmap::splice::Part;
use crate::state::State;
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

/// Nodes whose ids lie next to each other are one block: large enough that a block
/// compresses as well as a whole map, small enough that a change of one node makes
/// few bytes anew.
pub const IDS: u64 = 64;

/// How many forms of one block are kept: viewers whose rules differ see different
/// neighbours. More forms than this at a time are compressed for each map, as if
/// there were no blocks.
const FORMS: usize = 8;

/// Blocks beyond twice the nodes that there are, before those of nobody are swept out.
const SPARE: usize = 16;

/// Neighbours in a list of peers.
#[derive(Debug)]
pub struct Block {
    peers: Vec<Json>,
    /// As the first of the list, and as others: with a comma before each.
    first: Forms,
    other: Forms,
}

/// What was made of a block, each when it is first asked for.
#[derive(Debug, Default)]
struct Forms {
    plain: OnceLock<Bytes>,
    packed: OnceLock<Part>,
}

impl Block {
    /// Of at least one peer.
    pub fn new(peers: Vec<Json>) -> Self {
        Self { peers, first: Forms::default(), other: Forms::default() }
    }

    /// The block's JSON.
    pub fn plain(&self, is_first: bool) -> Bytes {
        self.forms(is_first).plain.get_or_init(|| self.json(is_first).into()).clone()
    }

    /// The block's JSON, compressed.
    pub fn packed(&self, is_first: bool) -> Part {
        let pack = |json: Vec<u8>| Part::new(frame::compress_shared(&json), json.len());
        self.forms(is_first).packed.get_or_init(|| pack(self.json(is_first))).clone()
    }

    fn forms(&self, is_first: bool) -> &Forms {
        if is_first { &self.first } else { &self.other }
    }

    fn json(&self, is_first: bool) -> Vec<u8> {
        let mut json = Vec::with_capacity(self.peers.iter().map(|peer| peer.get().len() + 1).sum());
        for peer in &self.peers {
            if !(is_first && json.is_empty()) {
                json.push(b',');
            }
            json.extend_from_slice(peer.get().as_bytes());
        }
        METERS.rendered_bytes.increment(json.len() as u64);
        json
    }

    /// Whether these very renderings are in it.
    fn is_of(&self, peers: &[Json]) -> bool {
        self.peers.len() == peers.len() && self.peers.iter().zip(peers).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// The blocks that were made lately.
#[derive(Debug, Default)]
pub struct Blocks {
    /// By the ids that are in them; the one that was used last is the first.
    kept: HashMap<u64, VecDeque<Arc<Block>>>,
}

impl Blocks {
    /// The block of these peers, whose ids divided by [`IDS`] are `number`.
    pub fn get(&mut self, number: u64, peers: Vec<Json>) -> Arc<Block> {
        let forms = self.kept.entry(number).or_default();
        let block = match forms.iter().position(|block| block.is_of(&peers)) {
            Some(0) => return forms[0].clone(),
            Some(at) => forms.remove(at).expect("it was just found"),
            None => Arc::new(Block::new(peers)),
        };
        forms.truncate(FORMS - 1);
        forms.push_front(block.clone());
        block
    }

    /// Now and then forgets what is kept of ids that nobody has any more.
    pub fn sweep(&mut self, state: &State) {
        if self.kept.len() > 2 * state.node_count() + SPARE {
            let used: HashSet<u64> = state.nodes().map(|node| node.id.0 / IDS).collect();
            self.kept.retain(|number, _| used.contains(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Vec<Json> {
        names.iter().map(super::super::to_json).collect()
    }

    #[test]
    fn a_block_is_made_once_for_the_same_renderings_and_anew_for_others() {
        let (mut blocks, shown) = (Blocks::default(), peers(&["a", "b"]));
        let first = blocks.get(3, shown.clone());
        assert!(Arc::ptr_eq(&first, &blocks.get(3, shown.clone())));
        let other = blocks.get(3, vec![shown[0].clone(), peers(&["b2"])[0].clone()]);
        assert_eq!(other.plain(false), &br#","a","b2""#[..]);
        assert_eq!(other.plain(true), &br#""a","b2""#[..]);
        assert!(Arc::ptr_eq(&first, &blocks.get(3, shown)));
        assert_eq!(first.packed(true).blocks.as_ptr(), first.packed(true).blocks.as_ptr());
    }

    #[test]
    fn few_forms_of_a_block_are_kept_and_those_in_use_longest() {
        let (mut blocks, used) = (Blocks::default(), peers(&["used"]));
        let first = blocks.get(0, used.clone());
        for n in 0..100 {
            blocks.get(0, peers(&[&n.to_string()]));
            assert!(Arc::ptr_eq(&first, &blocks.get(0, used.clone())));
        }
        assert_eq!(blocks.kept[&0].len(), FORMS);
    }
}
