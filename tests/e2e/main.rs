//! What is promised to a user, shown on processes of the server and on real
//! clients. One file for each promise; `tests/support` has what they are made of.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod command_line;
mod membership;
mod online;
mod operations;
mod quorum;
mod registrations;
mod relays;
mod rust_client;
mod stories;
mod tailscale_up;
