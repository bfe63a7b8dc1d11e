//! Moving in from another server: its data is read here, becomes one command
//! ([`Import`](crate::state::Import)), and its keys go on opening doors.
//!
//! - [`headscale`] reads Headscale's database and configuration; the command line does that,
//!   on the machine that has them.
//! - [`first_use`] checks a key against the slow hash that came with it, once; the edges do
//!   that when they meet such a key.

pub mod first_use;
pub mod headscale;
