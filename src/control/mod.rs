//! (wip)
pub mod noise;
