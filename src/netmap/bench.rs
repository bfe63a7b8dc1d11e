//! Rendering without streams, for `benches/hot.rs`.

use super::mailbox::Marks;
use super::render::{Delta, Renderer, Sent};
use super::{StreamOptions, frame};
use crate::policy::Policies;
use crate::state::{NodeChange, NodeId, State};
use std::sync::Arc;
use tokio::sync::watch;

/// One node's stream, as far as rendering goes.
pub(crate) struct Bench {
    renderer: Renderer,
    viewer: NodeId,
    options: StreamOptions,
    sent: Sent,
}

impl Bench {
    /// After its complete map.
    pub fn new(policies: Arc<Policies>, state: &State, viewer: NodeId, options: StreamOptions) -> Self {
        let (derp_map, dns) = (watch::Sender::new(Arc::default()), watch::Sender::new(Arc::default()));
        let renderer = Renderer::of(policies, derp_map.subscribe(), dns.subscribe(), "example.net".into());
        let (_, sent) = renderer.whole(state, viewer, options).expect("the viewer is a node");
        Self { renderer, viewer, options, sent }
    }

    /// The bytes of a complete map.
    pub fn whole(&self, state: &State) -> usize {
        let map = self.renderer.whole(state, self.viewer, self.options);
        let parts = map.map(|(draft, _)| self.renderer.frame(draft, self.options.zstd));
        parts.iter().flatten().map(bytes::Bytes::len).sum()
    }

    /// The bytes that say that a node has other endpoints.
    pub fn change(&mut self, state: &State, node: NodeId) -> usize {
        let mut marks = Marks::default();
        marks.add_node(node, NodeChange { endpoints: true, ..NodeChange::default() });
        match self.renderer.delta(state, self.options, &marks, &mut self.sent) {
            Delta::Message(draft) => self.renderer.frame(draft, self.options.zstd).iter().map(bytes::Bytes::len).sum(),
            Delta::Nothing | Delta::Gone => 0,
        }
    }
}

/// How long a message's zstd frame is.
pub(crate) fn compressed_len(json: &[u8]) -> usize {
    frame::compress(json).len()
}
