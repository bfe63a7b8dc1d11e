//! What is promised to a user, shown on processes of the server and on real
//! clients. One file for each promise; `tests/support` has what they are made of.

// Shared with `tests/chaos`: each uses a part of it.
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod bad_input;
mod command_line;
mod cut_off;
mod failover;
mod frames;
mod import;
mod membership;
mod metrics;
mod oidc;
mod oidc_browser;
mod online;
mod operations;
mod policy;
mod quorum;
mod registrations;
mod relays;
mod returning;
mod rust_client;
mod security_abuse;
mod security_keys;
mod storage;
mod stories;
mod streams;
mod tailscale_up;
