//! Quorumscale: a control server for Tailscale clients that keeps working when a machine dies.
//!
//! The way of a request: an edge ([`control`] for clients, [`api`] for administrators)
//! parses it into a [`state::Command`]; [`cluster`] orders it with the other replicas
//! and applies it to [`state`] on each of them; the [`state::Change`]s that come out
//! go to [`netmap`], which renders what each open stream of this replica must see.
//! Nothing else writes state, and nothing else writes to a stream.
//!
//! | module | what it is | knows |
//! |---|---|---|
//! | [`tailcfg`] | the client protocol's types | nothing |
//! | [`state`] | what is replicated, and how commands change it; pure | `tailcfg` |
//! | [`policy`] | who owns tags, who sees whom; pure | `state` |
//! | [`dns`] | the DNS configuration that clients get | `state` |
//! | [`cluster`] | Raft, storage, peers; writes and views | `state` |
//! | [`netmap`] | changes in, bytes for streams out; sessions | `cluster`, `policy`, `dns` |
//! | [`control`] | `/key`, `/ts2021`, Noise, register, map | `cluster`, `netmap` |
//! | [`derp`] | relay and STUN; relay maps from elsewhere | `cluster` |
//! | [`api`] | the administrators' REST API | `cluster`, `policy` |
//! | [`import`] | another server's data and keys | `cluster` |
//! | [`oidc`] | login through an OpenID provider | `cluster`, `policy` |
//! | [`web`] | pages, health, client addresses, headers | `cluster` |
//! | [`limits`] | what strangers may make a replica do, for each address | `state` |
//! | [`config`] | file, environment, validation | nothing |
//! | `outbound` | requests to servers elsewhere | nothing |
//! | [`sensitive`] | secrets in memory: redacted, and compared in constant time | nothing |
//! | [`server`] | starts the parts in order, stops them in reverse | everyone |
//! | [`swarm`] | a load driver: many clients at once, and what they measure | `control`'s Noise, `tailcfg` |
//! | [`cli`] | the commands; talks to a server only through the public API; restores and recovers a stopped one | `api::types`, `config`, `cluster` |

pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod derp;
pub mod dns;
#[cfg(test)]
mod fuzzing;
#[doc(hidden)]
pub mod hot;
pub mod import;
pub mod limits;
pub mod metrics;
pub mod netmap;
pub mod oidc;
mod outbound;
pub mod policy;
pub mod sensitive;
pub mod server;
pub mod state;
pub mod swarm;
pub mod tailcfg;
pub mod web;
