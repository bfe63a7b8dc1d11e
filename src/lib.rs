//! Quorumscale: a control server for Tailscale clients that keeps working when a machine dies.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod derp;
pub mod dns;
pub mod metrics;
pub mod netmap;
pub mod policy;
pub mod state;
pub mod tailcfg;
pub mod web;
