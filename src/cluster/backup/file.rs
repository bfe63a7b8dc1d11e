//! A backup's file: written beside its place, read back, and only then put there.

use super::archive::{self, ArchiveError, Manifest, Totals};
use super::envelope::{Lock, MAGIC, Opener, Sealer};
use super::{BackupError, Contents};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A backup that is being written. Dropped before [`Saving::finish`], it leaves nothing.
pub struct Saving {
    path: PathBuf,
    temporary: PathBuf,
    lock: Lock,
    sealer: Option<Sealer<BufWriter<File>>>,
}

impl Saving {
    /// Begins a file that will be at `path`. An older backup there is replaced, anything else is not.
    pub fn begin(path: &Path, lock: Lock) -> Result<Self, BackupError> {
        refuse_to_replace(path)?;
        let io = |source| BackupError::Io { path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| io(io::Error::other("it names no file")))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:08x}.tmp", rand::random::<u32>()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = BufWriter::new(file.map_err(|source| BackupError::Io { path: temporary.clone(), source })?);
        let mut saving = Self { path: path.to_owned(), temporary, lock, sealer: None };
        saving.sealer = Some(Sealer::new(file, &saving.lock).map_err(io)?);
        Ok(saving)
    }

    /// Takes the next bytes of the archive.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.sealer {
            Some(sealer) => sealer.write_all(bytes),
            None => Err(io::Error::other("the backup is finished")),
        }
    }

    /// Reads it back, and gives it its name, durably.
    pub fn finish(mut self) -> Result<Contents, BackupError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::Io { path, source }
        };
        if let Some(sealer) = self.sealer.take() {
            let file = sealer.finish().map_err(io(&self.temporary))?;
            let file = file.into_inner().map_err(|e| io(&self.temporary)(e.into_error()))?;
            file.sync_all().map_err(io(&self.temporary))?;
        }
        let contents = inspect(&self.temporary, &self.lock)?;
        fs::rename(&self.temporary, &self.path).map_err(io(&self.path))?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(directory))?;
        Ok(contents)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        // After a success it has another name; and nobody is left to tell.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A path that was typed wrongly must not cost a file.
fn refuse_to_replace(path: &Path) -> Result<(), BackupError> {
    let mut magic = [0; MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) if magic == *MAGIC => Ok(()),
        _ => Err(BackupError::InTheWay(path.to_owned())),
    }
}

/// Reads a backup to its end, checks it, and says what it holds.
pub fn inspect(path: &Path, lock: &Lock) -> Result<Contents, BackupError> {
    let (manifest, totals, size) = read(path, lock, |_, _| {})?;
    Ok(contents(&manifest, totals, size))
}

/// Reads a backup to its end and checks it; gives each record to `each`.
pub fn read(
    path: &Path,
    lock: &Lock,
    each: impl FnMut(Vec<u8>, Vec<u8>),
) -> Result<(Manifest, Totals, u64), BackupError> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let damaged = |reason: String| BackupError::Damaged { path: path.to_owned(), reason };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let opener = Opener::new(file, path, lock)?;
    match archive::read(opener, each) {
        Ok((manifest, totals)) => Ok((manifest, totals, size)),
        Err(ArchiveError::TooNew(found)) => {
            Err(BackupError::TooNew { path: path.to_owned(), found, known: Manifest::FORMAT })
        }
        Err(ArchiveError::Damaged(reason)) => Err(damaged(reason)),
        // The decoder passes on what the decryption found, in words.
        Err(ArchiveError::Io(error)) => Err(damaged(error.to_string())),
    }
}

pub fn contents(manifest: &Manifest, totals: Totals, size: u64) -> Contents {
    Contents {
        release: manifest.release.clone(),
        cluster_id: manifest.cluster_id.clone(),
        replica: manifest.replica,
        index: manifest.index,
        term: manifest.term,
        time: manifest.time.clone(),
        records: totals.records,
        hash: totals.hash,
        kinds: totals.kinds,
        size,
    }
}
