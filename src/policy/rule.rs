//! Rules as a document has them, read but not yet applied to a tailnet.

use super::alias::Alias;
use super::posture::{Facts, Posture};
use super::users::UserToken;
use crate::state::Tag;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A range of ports, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub first: u16,
    pub last: u16,
}

impl Ports {
    pub const ALL: Self = Self { first: 0, last: u16::MAX };
}

/// One entry of `acls` or `grants`.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    /// The section and the place in it, from 0.
    pub number: (&'static str, usize),
    pub sources: Vec<Alias>,
    pub access: Vec<Access>,
    /// Capabilities of applications, with their values as JSON.
    pub app: BTreeMap<String, serde_json::Value>,
    /// Whom the capabilities are for.
    pub app_destinations: Vec<Alias>,
    /// Only through routers with one of these tags, where it is not empty.
    pub via: Vec<Tag>,
    /// Only from machines of one of these postures, where it is not empty.
    pub postures: Vec<Arc<Posture>>,
}

/// What may be reached with one protocol.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// The IP protocol; `None`: TCP, UDP and ICMP.
    pub protocol: Option<u8>,
    pub destinations: Vec<(Alias, Vec<Ports>)>,
}

/// One entry of `ssh`.
#[derive(Clone, Debug)]
pub(super) struct SshRule {
    pub check: Option<CheckPeriod>,
    pub sources: Vec<Alias>,
    pub destinations: Vec<Alias>,
    pub users: Vec<SshUser>,
    pub accept_env: Vec<String>,
    /// As in [`Rule`].
    pub postures: Vec<Arc<Posture>>,
}

/// How long an approval holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckPeriod {
    Always,
    For(Duration),
}

/// Whom a session may log in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SshUser {
    Literal(String),
    /// `autogroup:nonroot`
    NonRoot,
    /// `localpart:*@domain`: what is before the `@` of the user's own e-mail address.
    LocalPart(String),
}

/// One entry of `nodeAttrs`.
#[derive(Clone, Debug)]
pub(super) struct NodeAttr {
    pub targets: Vec<Alias>,
    pub attributes: Vec<String>,
    /// Capabilities of applications, with their values.
    pub app: BTreeMap<String, Vec<serde_json::Value>>,
    /// Where new nodes get their IPv4 addresses from.
    pub pools: Vec<Ipv4Net>,
}

/// One entry of `tests`, as its text has it: a name that means nothing fails the test, not the document.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub source: String,
    pub protocol: String,
    pub accept: Vec<String>,
    pub deny: Vec<String>,
    /// What the source's machine is taken to be.
    pub facts: Facts,
}

/// One entry of `sshTests`.
#[derive(Clone, Debug)]
pub(super) struct SshTest {
    pub source: String,
    pub destinations: Vec<Alias>,
    pub accept: Vec<String>,
    pub deny: Vec<String>,
    pub check: Vec<String>,
    /// As in [`Test`].
    pub facts: Facts,
}

/// `autoApprovers`: whose routes need no administrator.
#[derive(Clone, Debug, Default)]
pub(super) struct Approvers {
    pub routes: Vec<(IpNet, Vec<Approver>)>,
    pub exit: Vec<Approver>,
}

/// A user, a group or a tag, or any of its kind.
#[derive(Clone, Debug)]
pub(super) enum Approver {
    User(UserToken),
    Group(String),
    Tag(Tag),
    /// `autogroup:member`
    Member,
    /// `autogroup:tagged`
    Tagged,
    /// `autogroup:admin` and its like.
    Role(String),
}
