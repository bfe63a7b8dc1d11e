//! The addresses of one set of sources, as filters and SSH rules name them.
//!
//! A list is kept in blocks of neighbouring node ids, so that a node that comes or
//! goes costs its block and not the list.

use super::bits::Bits;
use super::ranges::Range;
use crate::state::NodeId;
use imbl::OrdMap;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Node ids whose addresses share a block.
const BLOCK: u64 = 128;

/// What hangs on one set of sources. Classes are by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// Classes whose devices are among the sources.
    pub from: Bits,
    /// Classes whose addresses the list has.
    pub fed_by: Bits,
    /// Classes that packets from here may reach.
    pub to: Bits,
    /// Classes whose filter or SSH rules name the list.
    pub used_by: Bits,
    /// Made when first asked for.
    pub list: OnceLock<Arc<SourceList>>,
    /// The list as SSH rules have it.
    pub principals: OnceLock<Arc<str>>,
}

/// A set of ranges.
#[derive(Clone, Debug)]
pub(super) struct SourceList {
    everywhere: bool,
    /// What rules name themselves.
    fixed: Arc<BTreeSet<Range>>,
    fixed_part: Arc<Part>,
    /// By node id, divided.
    blocks: OrdMap<u64, Arc<Part>>,
    /// Equal for equal sets, whatever rules they come from.
    pub hash: u128,
}

/// Some of the ranges: their JSON texts with commas between, and the sum of their hashes.
#[derive(Debug, Default)]
struct Part {
    text: String,
    hash: u128,
}

/// The block of a node.
pub(super) fn block(node: NodeId) -> u64 {
    node.0 / BLOCK
}

/// The node ids of a block.
pub(super) fn ids(block: u64) -> std::ops::RangeInclusive<NodeId> {
    NodeId(block * BLOCK)..=NodeId(block * BLOCK + (BLOCK - 1))
}

impl SourceList {
    /// With what rules name themselves, and no block.
    pub fn new(everywhere: bool, fixed: BTreeSet<Range>) -> Self {
        let fixed_part = Arc::new(Part::of(fixed.iter()));
        let hash = fixed_part.hash.wrapping_add(u128::from(everywhere));
        Self { everywhere, fixed: Arc::new(fixed), fixed_part, blocks: OrdMap::new(), hash }
    }

    /// Puts a block's addresses in the place of those that it had.
    pub fn set_block(&mut self, block: u64, ranges: impl Iterator<Item = Range>) {
        let ranges: BTreeSet<Range> = ranges.filter(|range| !self.fixed.contains(range)).collect();
        if let Some(old) = self.blocks.remove(&block) {
            self.hash = self.hash.wrapping_sub(old.hash);
        }
        if !ranges.is_empty() {
            let part = Part::of(ranges.iter());
            self.hash = self.hash.wrapping_add(part.hash);
            self.blocks.insert(block, Arc::new(part));
        }
    }

    /// Whether nothing comes from here.
    pub fn is_empty(&self) -> bool {
        !self.everywhere && self.fixed.is_empty() && self.blocks.is_empty()
    }

    /// Writes the inside of `SrcIPs`.
    pub fn write_to(&self, text: &mut String) {
        if self.everywhere {
            return text.push_str("\"*\"");
        }
        let parts = std::iter::once(&self.fixed_part).chain(self.blocks.values());
        let mut comma = "";
        for part in parts.filter(|part| !part.text.is_empty()) {
            text.push_str(comma);
            text.push_str(&part.text);
            comma = ",";
        }
    }
}

impl Part {
    fn of<'r>(ranges: impl Iterator<Item = &'r Range>) -> Self {
        use std::fmt::Write;
        let mut part = Self::default();
        for range in ranges {
            let comma = if part.text.is_empty() { "" } else { "," };
            // Writing to a text cannot fail.
            let _ = write!(part.text, "{comma}\"{range}\"");
            part.hash = part.hash.wrapping_add(hash(range));
        }
        part
    }
}

/// 128 bits, so that two lists which are taken for one are one.
fn hash(range: &Range) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, range).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
