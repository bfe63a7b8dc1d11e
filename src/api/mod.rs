//! The administrators' REST API.

pub mod types;
