//! Whatever is in a configuration file.

use super::*;
use crate::fuzzing::{Bent, bent};

#[test]
fn fuzz_configurations() {
    let example = std::fs::read(project().join("config-example.yaml")).unwrap();
    let cluster = std::fs::read(project().join("cluster/node2.yaml")).unwrap();
    let good = [example, cluster, b"dns: {nameservers: {split: {a.example: [1.1.1.1]}}}".to_vec()];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    bolero::check!().with_type::<Bent>().for_each(|input| {
        std::fs::write(&path, bent(&good, input)).unwrap();
        let _ = load(Some(&path), &nowhere());
    });
}
