//! What is on disk when replicas were found to differ: it outlives the process.

use super::disk::{Disk, Family};
use std::io;

/// Why this data must not be used.
const CONDEMNED: &[u8] = b"condemned";
/// Why nothing may be written.
const HALTED: &[u8] = b"halted";

pub fn condemn(disk: &Disk, reason: &str) {
    put(disk, CONDEMNED, Some(reason));
}

pub fn condemned(disk: &Disk) -> io::Result<Option<String>> {
    get(disk, CONDEMNED)
}

pub fn halt(disk: &Disk, reason: Option<&str>) {
    put(disk, HALTED, reason);
}

pub fn halted(disk: &Disk) -> io::Result<Option<String>> {
    get(disk, HALTED)
}

fn put(disk: &Disk, key: &[u8], reason: Option<&str>) {
    let mut batch = disk.batch();
    match reason {
        Some(reason) => batch.put(Family::StateMeta, key, reason.as_bytes()),
        None => batch.delete(Family::StateMeta, key),
    }
    batch.write();
    disk.sync();
}

fn get(disk: &Disk, key: &[u8]) -> io::Result<Option<String>> {
    Ok(disk.get(Family::StateMeta, key)?.map(|reason| String::from_utf8_lossy(&reason).into_owned()))
}
