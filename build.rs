//! Compiles the peer protocol; the compiler is a crate, so no protoc is needed. And gives
//! the form of stored records a name: see [`state_form`].

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["peer.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;

    println!("cargo:rerun-if-changed=src/state");
    println!("cargo:rustc-env=QUORUMSCALE_STATE_FORM={:016x}", state_form(Path::new("src/state"))?);
    Ok(())
}

/// A hash of the sources of `state`, its tests left out: two builds with the same write the
/// same bytes for the same record. FNV-1a: it only has to differ when a file does.
fn state_form(dir: &Path) -> std::io::Result<u64> {
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in std::fs::read(file)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(hash)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("tests") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
