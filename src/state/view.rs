//! The state itself, and how it is read.

use super::index::Indexes;
use super::table::{self, Tables};
use super::*;
use crate::tailcfg::{MachineKey, NodeKey};
use imbl::OrdSet;
use imbl::ordmap::DiffItem;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that is replicated, at one index of the log. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) tables: Tables,
    pub(super) indexes: Indexes,
    pub(super) tally: Tally,
}

/// What applying one command gave.
#[derive(Debug)]
pub struct Applied {
    /// For the one who asked.
    pub outcome: Outcome,
    /// For everyone else. Empty when nothing changed.
    pub changes: Vec<Change>,
    /// The records to store, in the same batch as the applied index.
    pub rows: Vec<Row>,
}

/// One stored record: a key that starts with its table's number, and a value;
/// no value: the record is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Row {
    /// The name of the kind of record that has this stored key.
    pub fn kind(key: &[u8]) -> &'static str {
        table::kind(key)
    }
}

/// Stored records that this release cannot read.
#[derive(Debug, thiserror::Error)]
#[error("record {table} {key}: {reason}")]
pub struct LoadError {
    pub table: String,
    pub key: String,
    pub reason: String,
}

impl State {
    /// Applies the command at `index` of the log, which is higher than the last one's.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        apply::apply(self, index, proposal)
    }

    /// All records, in the order of their keys: what a snapshot holds.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.tables.rows()
    }

    /// The state that [`State::rows`] came from.
    pub fn load(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, LoadError> {
        let mut state = Self::default();
        for (key, value) in rows {
            table::load_row(&mut state, &key, &value)?;
        }
        Ok(state)
    }

    /// What [`State::hash`] says, kind by kind, without reading everything: it is kept
    /// up to date by each command.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// BLAKE2s-256 over all records in order: equal on replicas at one index.
    pub fn hash(&self) -> [u8; 32] {
        use blake2::Digest;
        let mut hash = blake2::Blake2s256::new();
        for row in self.rows() {
            let value = row.value.unwrap_or_default();
            for part in [row.key, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().into()
    }

    /// Changes one byte of the first user's name, as bad memory might.
    #[cfg(test)]
    pub fn spoil_a_user(&mut self) {
        let (id, user) = self.tables.users.iter().next().map(|(id, user)| (*id, user.clone())).expect("a user");
        let mut name = user.name.clone().into_bytes();
        *name.last_mut().expect("a name") ^= 1;
        let user = User { name: String::from_utf8(name).expect("ASCII"), ..User::clone(&user) };
        self.tables.users.insert(id, Arc::new(user));
    }

    /// The log index of the last applied command; 0 for none.
    pub fn index(&self) -> u64 {
        self.tables.clock.get(&()).map_or(0, |clock| clock.index)
    }

    /// The latest time that a command brought: the cluster's clock.
    pub fn clock(&self) -> Time {
        self.tables.clock.get(&()).map_or(Time::default(), |clock| clock.time)
    }

    /// When a [`Command::Tick`] next has something to do.
    pub fn next_due(&self) -> Option<Time> {
        apply::tick::next_due(self)
    }

    /// `None` before bootstrap.
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.tables.settings.get(&())
    }

    /// `None` before bootstrap.
    pub fn server_keys(&self) -> Option<&Arc<ServerKeys>> {
        self.tables.server_keys.get(&())
    }

    /// The import that filled this cluster; `None`: there was none.
    pub fn imported(&self) -> Option<&Arc<Imported>> {
        self.tables.imports.get(&())
    }

    /// The policy in force; `None`: none was ever set.
    pub fn policy(&self) -> Option<&Arc<PolicyText>> {
        self.tables.policy.get(&())
    }

    /// The version of the policy in force, 0 for none: what a decision names.
    pub fn policy_version(&self) -> u64 {
        self.policy().map_or(0, |p| p.version)
    }

    /// The policies that are known, from the newest, which is in force, to the oldest.
    pub fn policy_versions(&self) -> impl Iterator<Item = &Arc<PolicyText>> + '_ {
        self.policy().into_iter().chain(self.tables.policy_history.values().rev())
    }

    /// The policy of this version, if it is kept.
    pub fn policy_of_version(&self, version: u64) -> Option<&Arc<PolicyText>> {
        self.policy().filter(|policy| policy.version == version).or_else(|| self.tables.policy_history.get(&version))
    }

    /// By id, ascending.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> + '_ {
        self.tables.users.values()
    }

    pub fn user(&self, id: UserId) -> Option<&Arc<User>> {
        self.tables.users.get(&id)
    }

    pub fn user_by_name(&self, name: &str) -> Option<&Arc<User>> {
        self.user(*self.indexes.user_by_name.get(name)?)
    }

    /// The user that an identity provider knows by this identity.
    pub fn user_by_provider_id(&self, provider_id: &str) -> Option<&Arc<User>> {
        let first = (provider_id.to_owned(), UserId(0));
        let (found, id) = self.indexes.user_by_provider_id.range(first..).next()?;
        self.user(*id).filter(|_| found == provider_id)
    }

    /// By id, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> + '_ {
        self.tables.nodes.values()
    }

    /// The nodes that are not the same record in both states, as they are in this and in
    /// the other one. The work follows the differences.
    pub fn differing_nodes<'s>(
        &'s self,
        other: &'s Self,
    ) -> impl Iterator<Item = (Option<&'s Node>, Option<&'s Node>)> + 's {
        self.tables.nodes.diff(&other.tables.nodes).map(|item| sides(&item))
    }

    /// As [`State::differing_nodes`].
    pub fn differing_users<'s>(
        &'s self,
        other: &'s Self,
    ) -> impl Iterator<Item = (Option<&'s User>, Option<&'s User>)> + 's {
        self.tables.users.diff(&other.tables.users).map(|item| sides(&item))
    }

    pub fn node_count(&self) -> usize {
        self.tables.nodes.len()
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.tables.nodes.get(&id)
    }

    pub fn node_by_key(&self, key: &NodeKey) -> Option<&Arc<Node>> {
        self.node(*self.indexes.node_by_key.get(key)?)
    }

    pub fn node_by_name(&self, given_name: &str) -> Option<&Arc<Node>> {
        self.node(*self.indexes.node_by_name.get(given_name)?)
    }

    pub fn node_by_ip(&self, ip: IpAddr) -> Option<&Arc<Node>> {
        let id = match ip {
            IpAddr::V4(v4) => self.indexes.node_by_v4.get(&v4),
            IpAddr::V6(v6) => self.indexes.node_by_v6.get(&v6),
        };
        self.node(*id?)
    }

    /// The nodes of one machine: one for each user that logged in on it.
    pub fn nodes_of_machine(&self, key: &MachineKey) -> impl Iterator<Item = &Arc<Node>> + '_ {
        members(&self.indexes.node_of_machine, *key).filter_map(|id| self.node(id))
    }

    /// The personal nodes of one user.
    pub fn nodes_of_user(&self, user: UserId) -> impl Iterator<Item = &Arc<Node>> + '_ {
        members(&self.indexes.node_of_user, user).filter_map(|id| self.node(id))
    }

    /// Whether the node has a session.
    pub fn is_online(&self, node: NodeId) -> bool {
        self.sessions_of(node).next().is_some()
    }

    /// All open sessions, by node.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.tables.sessions.keys().copied()
    }

    /// The runs of replicas (replica and incarnation) that have open sessions.
    pub fn runs_with_sessions(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.indexes.sessions_of_run.keys().copied()
    }

    /// Whether a node has a session on a replica that can be counted on.
    pub fn is_reached(&self, node: NodeId) -> bool {
        let is_away = |session: &SessionId| {
            let replica = self.replica(session.replica).filter(|known| known.incarnation == session.incarnation);
            replica.is_some_and(|replica| replica.standing == Standing::Away)
        };
        self.sessions_of(node).any(|session| !is_away(&session))
    }

    /// The highest format of the commands so far: what a replica must know to apply the log.
    pub fn command_format(&self) -> u32 {
        self.tables.clock.get(&()).map_or(1, |clock| clock.format.max(1))
    }

    /// The open sessions of one node.
    pub fn sessions_of(&self, node: NodeId) -> impl Iterator<Item = SessionId> + '_ {
        let bound = |n: u64| SessionId { node, replica: ReplicaId(n), incarnation: n, number: n };
        self.tables.sessions.range(bound(0)..=bound(u64::MAX)).map(|(id, _)| *id)
    }

    /// Routes that the node announces and that are approved, exit routes included.
    pub fn effective_routes(&self, node: &Node) -> Vec<IpNet> {
        apply::routes::effective_routes(node)
    }

    /// The nodes that announce this approved subnet route, by id.
    pub fn routers(&self, route: IpNet) -> impl Iterator<Item = NodeId> + '_ {
        members(&self.indexes.router, route)
    }

    /// The subnet routes (no exit routes) that go through this node: of several
    /// online routers of one approved prefix exactly one has it.
    pub fn primary_routes(&self, node: NodeId) -> Vec<IpNet> {
        let first = IpNet::V4(Default::default());
        let from_first = self.indexes.primary_of_node.range((node, first)..);
        from_first.take_while(|(n, _)| *n == node).map(|(_, route)| *route).collect()
    }

    /// By id, ascending.
    pub fn pre_auth_keys(&self) -> impl Iterator<Item = &Arc<PreAuthKey>> + '_ {
        self.tables.pre_auth_keys.values()
    }

    pub fn pre_auth_key(&self, id: AuthKeyId) -> Option<&Arc<PreAuthKey>> {
        self.tables.pre_auth_keys.get(&id)
    }

    pub fn pre_auth_key_by_prefix(&self, prefix: &str) -> Option<&Arc<PreAuthKey>> {
        self.pre_auth_key(*self.indexes.auth_key_by_prefix.get(prefix)?)
    }

    /// By id, ascending.
    pub fn api_keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> + '_ {
        self.tables.api_keys.values()
    }

    pub fn api_key(&self, id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.tables.api_keys.get(&id)
    }

    pub fn api_key_by_prefix(&self, prefix: &str) -> Option<&Arc<ApiKey>> {
        self.api_key(*self.indexes.api_key_by_prefix.get(prefix)?)
    }

    /// The record of what people changed, from the newest on.
    pub fn audit(&self) -> impl Iterator<Item = &Arc<AuditRecord>> + '_ {
        let [mut one, mut other] = audit::AuditList::ALL.map(|list| {
            let list = list as u64;
            self.tables.audit.range((list, 0)..=(list, u64::MAX)).rev().map(|(_, record)| record).peekable()
        });
        std::iter::from_fn(move || match (one.peek(), other.peek()) {
            (Some(a), Some(b)) if a.id < b.id => other.next(),
            (None, _) => other.next(),
            (Some(_), _) => one.next(),
        })
    }

    /// Those that wait, and those that were decided and are not forgotten yet.
    pub fn logins(&self) -> impl Iterator<Item = &Arc<PendingLogin>> + '_ {
        self.tables.logins.values()
    }

    pub fn login(&self, id: &AuthId) -> Option<&Arc<PendingLogin>> {
        self.tables.logins.get(id)
    }

    /// In how many seconds from `now` on another login of this source ([`login_source`])
    /// could be taken, if so many of it may wait and so many be kept in all; `None`: now.
    pub fn wait_for_login(&self, now: Time, source: IpAddr, per_source: usize, in_all: usize) -> Option<u64> {
        let first = (source, Time(i64::MIN), AuthId::lowest());
        let of_source = self.indexes.waiting_login.range(first..).take_while(|(other, _, _)| *other == source);
        let mut oldest = None;
        let waiting =
            of_source.inspect(|(_, deadline, _)| oldest = oldest.or(Some(*deadline))).take(per_source).count();
        let free_at = match self.tables.logins.len() {
            _ if waiting >= per_source => oldest,
            kept if kept >= in_all => self.indexes.login_deadline.get_min().map(|(deadline, _)| *deadline),
            _ => return None,
        };
        // With a bound of nothing there is nobody to wait for.
        let free_at = free_at.unwrap_or(now);
        Some(free_at.since(now).as_secs() + 1)
    }

    pub fn ssh_check(&self, id: &AuthId) -> Option<&Arc<SshCheck>> {
        self.tables.ssh_checks.get(id)
    }

    /// Whether, and until when, sessions from one node to another were let through.
    /// One that is past its end may still be here.
    pub fn ssh_approval(&self, source: NodeId, destination: NodeId) -> Option<&Arc<SshApproval>> {
        let approval = self.tables.ssh_approvals.get(&(source, destination))?;
        let is_owned = |node: NodeId, owner: &Owner| self.node(node).is_some_and(|node| node.owner == *owner);
        let (from, to) = (&approval.source_owner, &approval.destination_owner);
        (is_owned(source, from) && is_owned(destination, to)).then_some(approval)
    }

    /// By id, ascending.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> + '_ {
        self.tables.replicas.values()
    }

    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Replica>> {
        self.tables.replicas.get(&id)
    }
}

/// A record before and after.
fn sides<'s, K, V>(item: &DiffItem<'s, 's, K, Arc<V>>) -> (Option<&'s V>, Option<&'s V>) {
    match *item {
        DiffItem::Add(_, new) => (None, Some(new)),
        DiffItem::Update { old, new } => (Some(old.1), Some(new.1)),
        DiffItem::Remove(_, old) => (Some(old), None),
    }
}

/// The nodes that a set of pairs has for `key`.
pub(super) fn members<K: Ord + Copy>(set: &OrdSet<(K, NodeId)>, key: K) -> impl Iterator<Item = NodeId> + '_ {
    set.range((key, NodeId(0))..=(key, NodeId(u64::MAX))).map(|(_, id)| *id)
}
