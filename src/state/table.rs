//! How records are kept: one ordered map for each kind, all declared in one place.
//!
//! A stored key is the table's number and the record's key in a form whose bytes
//! sort as the keys do; a stored value is the record as JSON.

use super::bookkeeping::{Clock, Counters, Incarnation, RememberedRequest};
use super::index::{self, Indexes};
use super::touched::{self, Touched};
use super::view::{LoadError, Row, State};
use super::*;
use imbl::OrdMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// A kind of record.
pub(super) trait Table {
    /// The first byte of its stored keys. Never changes, never used again.
    const NUMBER: u8;
    type Key: RowKey;
    type Record: Serialize + DeserializeOwned + PartialEq + Send + Sync + 'static;

    fn map(tables: &Tables) -> &OrdMap<Self::Key, Arc<Self::Record>>;
    fn map_mut(tables: &mut Tables) -> &mut OrdMap<Self::Key, Arc<Self::Record>>;
    /// Keeps what is derived from the records of this table.
    fn reindex(indexes: &mut Indexes, key: &Self::Key, old: Option<&Self::Record>, new: Option<&Self::Record>);
    /// Notes that a command wrote this record.
    fn touch(touched: &mut Touched, key: &Self::Key);
}

macro_rules! tables {
    ($($number:literal $Table:ident $field:ident: $Key:ty => $Record:ty, $reindex:path, $touch:path;)*) => {
        /// All records.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Tables {
            $(pub $field: OrdMap<$Key, Arc<$Record>>,)*
        }

        $(
            pub(super) struct $Table;

            impl Table for $Table {
                const NUMBER: u8 = $number;
                type Key = $Key;
                type Record = $Record;

                fn map(tables: &Tables) -> &OrdMap<$Key, Arc<$Record>> {
                    &tables.$field
                }
                fn map_mut(tables: &mut Tables) -> &mut OrdMap<$Key, Arc<$Record>> {
                    &mut tables.$field
                }
                fn reindex(indexes: &mut Indexes, key: &$Key, old: Option<&$Record>, new: Option<&$Record>) {
                    $reindex(indexes, key, old, new)
                }
                fn touch(touched: &mut Touched, key: &$Key) {
                    $touch(touched, key)
                }
            }
        )*

        impl Tables {
            /// All records in the order of their stored keys.
            pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
                std::iter::empty()$(.chain(rows_of::<$Table>(self)))*
            }
        }

        /// The kind of record that has this stored key.
        pub(super) fn kind(key: &[u8]) -> &'static str {
            match key.first() {
                $(Some($number) => stringify!($field),)*
                _ => "unknown",
            }
        }

        /// Reads one stored record into `state`.
        pub(super) fn load_row(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
            match key.first() {
                $(Some($number) => load_into::<$Table>(state, stringify!($field), key, value),)*
                number => Err(LoadError {
                    table: number.map_or("(none)".into(), u8::to_string),
                    key: hex::encode(key),
                    reason: "there is no table of this number: a newer release wrote it".into(),
                }),
            }
        }
    };
}

// Rows are sorted by number, so the tables are listed in that order.
tables! {
    1 ClockTable clock: () => Clock, index::none, touched::none;
    2 CountersTable counters: () => Counters, index::none, touched::none;
    3 SettingsTable settings: () => Settings, index::none, touched::settings;
    4 ServerKeysTable server_keys: () => ServerKeys, index::none, touched::settings;
    5 PolicyTable policy: () => PolicyText, index::none, touched::policy;
    6 Replicas replicas: ReplicaId => Replica, index::none, touched::replica;
    7 Users users: UserId => User, index::users, touched::user;
    8 PreAuthKeys pre_auth_keys: AuthKeyId => PreAuthKey, index::pre_auth_keys, touched::none;
    9 ApiKeys api_keys: ApiKeyId => ApiKey, index::api_keys, touched::none;
    10 Nodes nodes: NodeId => Node, index::nodes, touched::node;
    11 Sessions sessions: SessionId => Time, index::sessions, touched::session;
    12 Logins logins: AuthId => PendingLogin, index::logins, touched::login;
    13 Primaries primaries: IpNet => NodeId, index::primaries, touched::none;
    14 Incarnations incarnations: u64 => Incarnation, index::incarnations, touched::none;
    15 Requests requests: (u64, u64) => Outcome, index::none, touched::none;
    16 RememberedRequests remembered_requests: String => RememberedRequest, index::remembered_requests, touched::none;
    17 PolicyHistory policy_history: u64 => PolicyText, index::none, touched::none;
    18 SshChecks ssh_checks: AuthId => SshCheck, index::ssh_checks, touched::ssh_check;
    19 SshApprovals ssh_approvals: (NodeId, NodeId) => SshApproval, index::ssh_approvals, touched::none;
    20 AuditTable audit: (u64, u64) => AuditRecord, index::none, touched::none;
    21 Imports imports: () => Imported, index::none, touched::none;
}

fn rows_of<T: Table>(tables: &Tables) -> impl Iterator<Item = Row> + '_ {
    T::map(tables)
        .iter()
        .map(|(key, record)| Row { key: stored_key::<T>(key), value: Some(stored_value(record.as_ref())) })
}

fn load_into<T: Table>(state: &mut State, name: &str, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    let error = |reason: String| LoadError { table: name.into(), key: hex::encode(key), reason };
    let row_key = T::Key::read(&key[1..]).ok_or_else(|| error("its key is malformed".into()))?;
    let record: T::Record = serde_json::from_slice(value).map_err(|e| error(e.to_string()))?;
    T::reindex(&mut state.indexes, &row_key, None, Some(&record));
    // As this release writes it: an older one may have written it in another form.
    state.tally.add(key, &stored_value(&record));
    T::map_mut(&mut state.tables).insert(row_key, Arc::new(record));
    Ok(())
}

/// The key under which a record is stored.
pub(super) fn stored_key<T: Table>(key: &T::Key) -> Vec<u8> {
    let mut bytes = vec![T::NUMBER];
    key.write(&mut bytes);
    bytes
}

/// A record as it is stored.
pub(super) fn stored_value<R: Serialize + ?Sized>(record: &R) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no failing serialisers")
}

/// A key whose stored bytes sort as the key does.
pub(super) trait RowKey: Ord + Clone + 'static {
    fn write(&self, bytes: &mut Vec<u8>);
    /// `None`: these bytes were not written by [`RowKey::write`].
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl RowKey for () {
    fn write(&self, _: &mut Vec<u8>) {}
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl RowKey for u64 {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_be_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes)
    }
}

impl RowKey for (u64, u64) {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
        self.1.write(bytes);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (a, b) = bytes.split_at_checked(8)?;
        Some((u64::read(a)?, u64::read(b)?))
    }
}

impl RowKey for (NodeId, NodeId) {
    fn write(&self, bytes: &mut Vec<u8>) {
        (self.0.0, self.1.0).write(bytes);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (a, b) = RowKey::read(bytes)?;
        Some((NodeId(a), NodeId(b)))
    }
}

macro_rules! id_row_key {
    ($($Id:ident)*) => {$(
        impl RowKey for $Id {
            fn write(&self, bytes: &mut Vec<u8>) {
                self.0.write(bytes);
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                u64::read(bytes).map(Self)
            }
        }
    )*};
}
id_row_key!(UserId NodeId AuthKeyId ApiKeyId ReplicaId);

impl RowKey for SessionId {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.node.write(bytes);
        self.replica.write(bytes);
        (self.incarnation, self.number).write(bytes);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = bytes.split_at_checked(8)?;
        let (replica, rest) = rest.split_at_checked(8)?;
        let (incarnation, number) = RowKey::read(rest)?;
        Some(Self { node: NodeId::read(node)?, replica: ReplicaId::read(replica)?, incarnation, number })
    }
}

impl RowKey for String {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl RowKey for AuthId {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_str().as_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl RowKey for IpNet {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            IpNet::V4(net) => {
                bytes.push(4);
                bytes.extend(net.addr().octets());
            }
            IpNet::V6(net) => {
                bytes.push(6);
                bytes.extend(net.addr().octets());
            }
        }
        bytes.push(self.prefix_len());
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&family, rest) = bytes.split_first()?;
        let (&length, address) = rest.split_last()?;
        match family {
            4 => Some(IpNet::V4(Ipv4Net::new(<[u8; 4]>::try_from(address).ok()?.into(), length).ok()?)),
            6 => Some(IpNet::V6(Ipv6Net::new(<[u8; 16]>::try_from(address).ok()?.into(), length).ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<K: RowKey + std::fmt::Debug>(keys: &[K]) {
        let stored: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| {
                let mut bytes = Vec::new();
                key.write(&mut bytes);
                assert_eq!(K::read(&bytes).as_ref(), Some(key));
                bytes
            })
            .collect();
        assert!(keys.is_sorted(), "the test's own keys are sorted: {keys:?}");
        assert!(stored.is_sorted(), "stored keys sort as the keys do: {keys:?}");
    }

    /// What a release knows of a record, and what a later one knows of it.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Before {
        id: u64,
        name: Option<String>,
    }
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct After {
        id: u64,
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        novelty: Option<u64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more: Vec<String>,
    }

    #[test]
    fn a_field_that_an_older_release_does_not_know_is_in_no_hash_until_it_is_set() {
        let (before, after) =
            (Before { id: 7, name: None }, After { id: 7, name: None, novelty: None, more: Vec::new() });
        assert_eq!(stored_value(&before), stored_value(&after));
        // Each reads what the other wrote, and writes the same bytes again.
        let read: After = serde_json::from_slice(&stored_value(&before)).expect("read");
        assert_eq!((&read, stored_value(&read)), (&after, stored_value(&before)));
        let read: Before = serde_json::from_slice(&stored_value(&after)).expect("read");
        assert_eq!((&read, stored_value(&read)), (&before, stored_value(&after)));
        let set = After { novelty: Some(0), ..after };
        assert_ne!(stored_value(&before), stored_value(&set), "which no command does that the older one does not know");
    }

    #[test]
    fn stored_keys_can_be_read_and_sort_as_the_keys_do() {
        round_trip(&[NodeId(0), NodeId(1), NodeId(255), NodeId(256), NodeId(u64::MAX)]);
        round_trip(&[(1, 9), (2, 3), (256, 0)]);
        round_trip(&["".to_owned(), "a".into(), "ab".into(), "b".into()]);
        let session = |node, replica, number| SessionId {
            node: NodeId(node),
            replica: ReplicaId(replica),
            incarnation: 7,
            number,
        };
        round_trip(&[session(1, 2, 300), session(1, 3, 2), session(2, 1, 1)]);
        let nets = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "192.168.0.0/16", "::/0", "fd00::/8"];
        round_trip::<IpNet>(&nets.map(|net| net.parse().expect("a prefix")));
    }
}
