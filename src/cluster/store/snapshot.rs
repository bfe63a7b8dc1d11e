//! Snapshots: all records of one state in a file, streamed, so that any size takes
//! constant memory on its way to disk and to a peer.
//!
//! A file is a magic number and one zstd stream of frames, each a length (4 bytes,
//! little-endian) and that many bytes: a header, then the records in the order of
//! their keys. A frame of length 0 ends them; the number of records (8 bytes,
//! little-endian) and the BLAKE2s-256 hash of everything before it follow.

use super::machine::Applied;
use crate::cluster::wire;
use crate::state::State;
use blake2::{Blake2s256, Digest};
use prost::Message;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"QScale\x00\x01";
/// The version of the layout and of the header.
const FORMAT: u32 = 1;
/// The longest frame: as long as the longest log entry.
const FRAME_LIMIT: u32 = 64 << 20;
/// The longest file that is taken from a peer: a bound on what a wrong one could fill.
const FILE_LIMIT: u64 = 16 << 30;
/// Files that are kept: the last, and the one before, which may be on its way to a peer.
const KEPT: usize = 2;
/// Speed before size: a replica is waiting.
const COMPRESSION: i32 = 1;
const SUFFIX: &str = ".snapshot";

/// The directory of snapshots.
#[derive(Clone)]
pub struct Snapshots {
    dir: Arc<Path>,
    current: Arc<Mutex<Option<SnapshotFile>>>,
}

/// One complete snapshot. It stays readable after its file is deleted.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<File>,
    path: Arc<Path>,
    size: u64,
    applied: Arc<Applied>,
}

impl Snapshots {
    /// Finds the last complete snapshot, and deletes what was not finished.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let snapshots = Self { dir: dir.into(), current: Arc::default() };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(path)?;
            }
        }
        for path in snapshots.files()?.into_iter().rev() {
            match SnapshotFile::open(&path).and_then(|file| file.check().map(|()| file)) {
                Ok(file) => {
                    snapshots.set_current(file);
                    break;
                }
                Err(error) => tracing::warn!("ignoring snapshot {}: {error}", path.display()),
            }
        }
        Ok(snapshots)
    }

    /// The last complete one.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_current(&self, file: SnapshotFile) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// The one with that file name.
    pub fn named(&self, name: &str) -> io::Result<SnapshotFile> {
        SnapshotFile::open(&self.dir.join(name))
    }

    /// Writes a new one, durably, and makes it the current one.
    pub fn write(&self, state: &State, applied: &Applied) -> io::Result<SnapshotFile> {
        let temporary = self.temporary();
        let mut file = BufWriter::new(File::create_new(&temporary)?);
        file.write_all(MAGIC)?;
        let mut writer = Writer::new(zstd::Encoder::new(file, COMPRESSION)?);
        let header = wire::SnapshotHeader { format: FORMAT, applied: Some(applied.into()) };
        writer.frame(&header.encode_to_vec())?;
        let mut rows = 0u64;
        for row in state.rows() {
            let value = row.value.unwrap_or_default();
            writer.frame(&wire::SnapshotRow { key: row.key, value }.encode_to_vec())?;
            rows += 1;
        }
        let file = writer.end(rows)?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let file = self.keep(&temporary, applied)?;
        self.set_current(file.clone());
        Ok(file)
    }

    /// A file of this directory for a snapshot that comes from elsewhere.
    pub fn adopt(&self, file: SnapshotFile) -> io::Result<SnapshotFile> {
        if file.path().parent() == Some(&*self.dir) {
            return self.keep(file.path(), file.applied());
        }
        let temporary = self.temporary();
        fs::copy(file.path(), &temporary)?;
        File::open(&temporary)?.sync_all()?;
        self.keep(&temporary, file.applied())
    }

    /// Begins to receive a file of `size` bytes.
    pub fn receive(&self, size: u64) -> io::Result<Incoming> {
        if size > FILE_LIMIT {
            return Err(io::Error::other(format!("a snapshot of {size} bytes is beyond the limit of {FILE_LIMIT}")));
        }
        let path = self.temporary();
        let file = File::create_new(&path)?;
        Ok(Incoming { file, path, left: size, complete: false })
    }

    /// Gives a complete file its name, durably, and deletes old ones.
    fn keep(&self, from: &Path, applied: &Applied) -> io::Result<SnapshotFile> {
        let id = applied.last.map(|id| (id.index, id.leader_id.term, id.leader_id.node_id)).unwrap_or_default();
        let path = self.dir.join(format!("{:020}-{}-{}{SUFFIX}", id.0, id.1, id.2));
        fs::rename(from, &path)?;
        File::open(&*self.dir)?.sync_all()?;
        let files = self.files()?;
        for old in files.iter().rev().skip(KEPT).filter(|old| **old != path) {
            fs::remove_file(old)?;
        }
        SnapshotFile::open(&path)
    }

    /// Complete files, by log index.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&*self.dir)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|p| p.ends_with(SUFFIX)) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join(format!("{:016x}.tmp", rand::random::<u64>()))
    }
}

impl SnapshotFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let (header, _) = Frames::open(&file)?;
        Ok(Self { file: Arc::new(file), path: path.into(), size, applied: Arc::new(header) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Reads it to its end: an error says what is wrong with it.
    pub fn check(&self) -> io::Result<()> {
        let mut rows = Rows::open(self)?;
        rows.by_ref().for_each(drop);
        rows.finish().map(drop)
    }

    /// Up to `length` bytes of the file from `offset`; empty at its end.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// A snapshot on its way in. Dropped before its end, it leaves nothing.
pub struct Incoming {
    file: File,
    path: PathBuf,
    left: u64,
    complete: bool,
}

impl Incoming {
    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or_else(|| io::Error::other("more bytes than announced"))?;
        self.file.write_all(bytes)
    }

    /// Checks it to its last byte, and makes it durable.
    pub fn finish(mut self) -> io::Result<SnapshotFile> {
        if self.left > 0 {
            return Err(io::Error::other(format!("{} bytes are missing", self.left)));
        }
        self.file.sync_all()?;
        let file = SnapshotFile::open(&self.path)?;
        file.check()?;
        self.complete = true;
        Ok(file)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.complete
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot delete {}: {error}", self.path.display());
        }
    }
}

/// Writes frames and hashes them.
struct Writer<W> {
    out: W,
    hash: Blake2s256,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Blake2s256::new() }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|l| *l <= FRAME_LIMIT);
        let length =
            length.ok_or_else(|| io::Error::other(format!("a record of {} bytes is too long", bytes.len())))?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn end(mut self, rows: u64) -> io::Result<W> {
        self.put(&0u32.to_le_bytes())?;
        self.put(&rows.to_le_bytes())?;
        let hash = self.hash.finalize();
        self.out.write_all(&hash)?;
        Ok(self.out)
    }
}

/// Reads frames and hashes them.
struct Frames<'a> {
    input: zstd::Decoder<'a, BufReader<Positioned<'a>>>,
    hash: Blake2s256,
}

/// Reads a shared file from its start, whoever else reads it.
struct Positioned<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl<'a> Frames<'a> {
    /// Reads the magic number and the header.
    fn open(file: &'a File) -> io::Result<(Applied, Self)> {
        let mut positioned = Positioned { file, offset: 0 };
        let mut magic = [0; MAGIC.len()];
        positioned.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(io::Error::other("it is not a snapshot of a release that this one knows"));
        }
        let mut frames = Self { input: zstd::Decoder::new(positioned)?, hash: Blake2s256::new() };
        let header = frames.next()?.ok_or_else(|| io::Error::other("its header is missing"))?;
        let header = wire::SnapshotHeader::decode(header.as_slice()).map_err(wire::WireError::from)?;
        if header.format > FORMAT {
            return Err(io::Error::other(format!("its format is {}, this release knows {FORMAT}", header.format)));
        }
        let applied = header.applied.ok_or(wire::WireError::Missing("snapshot header's log id"))?;
        Ok((applied.try_into()?, frames))
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// `None`: that was the last.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return Ok(None);
        }
        if length > FRAME_LIMIT {
            return Err(io::Error::other(format!("a record of {length} bytes is too long")));
        }
        let mut bytes = vec![0; length as usize];
        self.take(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The number of records, when the hash is right.
    fn end(mut self) -> io::Result<u64> {
        let mut rows = [0; 8];
        self.take(&mut rows)?;
        let expected = self.hash.finalize();
        let mut hash = [0; 32];
        self.input.read_exact(&mut hash)?;
        if hash[..] != expected[..] {
            return Err(io::Error::other("its hash is wrong: it is damaged"));
        }
        // Reading on checks what ends the compression, too.
        match self.input.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) | Err(_) => return Err(io::Error::other("something follows its end: it is damaged")),
        }
        Ok(u64::from_le_bytes(rows))
    }
}

/// A snapshot's records. An iteration that ends is complete only if
/// [`Rows::finish`] says so.
pub struct Rows<'a> {
    frames: Option<Frames<'a>>,
    applied: Applied,
    count: u64,
    end: Option<io::Result<u64>>,
}

impl<'a> Rows<'a> {
    pub fn open(file: &'a SnapshotFile) -> io::Result<Self> {
        let (applied, frames) = Frames::open(&file.file)?;
        Ok(Self { frames: Some(frames), applied, count: 0, end: None })
    }

    fn next_row(frames: &mut Frames<'_>) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(bytes) = frames.next()? else { return Ok(None) };
        let row = wire::SnapshotRow::decode(bytes.as_slice()).map_err(wire::WireError::from)?;
        Ok(Some((row.key, row.value)))
    }

    /// What was applied, if all records were read and are right.
    pub fn finish(self) -> io::Result<Applied> {
        let rows = self.end.unwrap_or_else(|| Err(io::Error::other("it was not read to its end")))?;
        if rows != self.count {
            return Err(io::Error::other(format!("it has {} records instead of {rows}", self.count)));
        }
        Ok(self.applied)
    }
}

impl Iterator for Rows<'_> {
    type Item = (Vec<u8>, Vec<u8>);
    fn next(&mut self) -> Option<Self::Item> {
        let mut frames = self.frames.take()?;
        match Self::next_row(&mut frames) {
            Ok(Some(row)) => {
                self.count += 1;
                self.frames = Some(frames);
                Some(row)
            }
            Ok(None) => {
                self.end = Some(frames.end());
                None
            }
            Err(error) => {
                self.end = Some(Err(error));
                None
            }
        }
    }
}
