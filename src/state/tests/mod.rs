//! Promises of the state machine.
