//! What a command changed: for everyone who shows state to somebody.

use super::{AuthId, NodeId, ReplicaId, SessionId, UserId};

/// One thing that is different now. The new value is in the view that comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node was registered.
    NodeAdded(NodeId),
    /// A node is gone.
    NodeRemoved(NodeId),
    /// A node differs in what `what` says.
    NodeChanged {
        node: NodeId,
        what: NodeChange,
    },
    /// Something of the user that others see.
    UserChanged(UserId),
    PolicyChanged,
    /// The settings, or the server's keys.
    SettingsChanged,
    /// A replica came, went, or has other addresses or another relay.
    ReplicasChanged(ReplicaId),
    /// A pending login or an SSH check has a verdict, or is gone.
    LoginDecided(AuthId),
    /// A session was closed, by whomever.
    SessionClosed(SessionId),
}

/// How a node changed, from cheap to show to dear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// Online or offline, and when it was last seen.
    pub online: bool,
    pub endpoints: bool,
    /// The home relay.
    pub home_derp: bool,
    pub disco_key: bool,
    /// The node key or its expiry.
    pub key: bool,
    /// Anything that needs the whole record: name, owner, tags, addresses,
    /// routes, host info. Not `NetInfo`, which peers need nothing of but the
    /// home relay.
    pub record: bool,
}

impl NodeChange {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one step of the log changed.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The log index of the step's last command: what `view` has applied.
    pub index: u64,
    pub view: std::sync::Arc<super::State>,
    pub changes: Vec<Change>,
}
