//! A byte stream over records.

use super::record::{Cipher, HEADER, Keys, MAX_FRAME, MAX_PLAINTEXT, RecordError, TAG, ciphertext_len};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much is encrypted ahead of what the transport takes: enough that one write
/// carries many records, and a client that reads slowly holds no more.
const WRITE_BUFFER: usize = 16 * MAX_FRAME;
/// What an idle connection keeps of it.
const IDLE_WRITE_BUFFER: usize = MAX_FRAME;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Encrypts what is written and decrypts what is read. What is written goes out
/// when it is flushed, or when [`WRITE_BUFFER`] is full, in records as large as
/// they may be. A record that was tampered with ends both directions.
pub struct NoiseStream<S> {
    io: S,
    reader: Reader,
    writer: Writer,
    /// What was read ahead, and is read again first.
    replay: &'static [u8],
    /// Why nothing goes any more.
    broken: Option<RecordError>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> NoiseStream<S> {
    /// A stream over `io`, on which `first` (the end of the handshake) goes out
    /// with the first record, as it is.
    pub fn new(io: S, keys: &Keys, first: &[u8]) -> Self {
        Self {
            io,
            reader: Reader::new(Cipher::new(&keys.receive)),
            writer: Writer::new(Cipher::new(&keys.send), first),
            replay: &[],
            broken: None,
        }
    }

    /// Waits for the first bytes of an HTTP/2 client, which stay to be read.
    pub async fn expect_http2(&mut self) -> io::Result<()> {
        let mut preface = [0; HTTP2_PREFACE.len()];
        self.read_exact(&mut preface).await?;
        if &preface != HTTP2_PREFACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not an HTTP/2 client"));
        }
        self.replay = HTTP2_PREFACE;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Remembers that the stream is over, if it is.
    fn noting<T>(&mut self, result: Result<T, RecordError>) -> io::Result<T> {
        result.map_err(|error| {
            self.broken = Some(error);
            error.into()
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.replay.is_empty() {
            let (now, later) = this.replay.split_at(this.replay.len().min(out.remaining()));
            out.put_slice(now);
            this.replay = later;
            return Poll::Ready(Ok(()));
        }
        loop {
            this.check()?;
            if out.remaining() == 0 || this.reader.take(out) {
                return Poll::Ready(Ok(()));
            }
            let opened = this.reader.open_next();
            if this.noting(opened)? {
                continue;
            }
            let space = this.reader.space();
            let mut space = ReadBuf::new(space);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                return Poll::Ready(this.reader.at_end());
            }
            this.reader.raw.end += read;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            this.check()?;
            let pushed = this.writer.push_all(parts);
            let taken = this.noting(pushed)?;
            if taken > 0 || wanted == 0 {
                return Poll::Ready(Ok(taken));
            }
            ready!(this.writer.poll_drain(&mut this.io, cx))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check()?;
        let closed = this.writer.close_record();
        this.noting(closed)?;
        ready!(this.writer.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// One frame's worth of bytes: ciphertext, decrypted where it lies.
struct Reader {
    cipher: Cipher,
    buffer: Box<[u8; MAX_FRAME]>,
    /// Decrypted, not yet taken.
    plain: Range<usize>,
    /// Received, not yet decrypted.
    raw: Range<usize>,
}

impl Reader {
    fn new(cipher: Cipher) -> Self {
        Self { cipher, buffer: Box::new([0; MAX_FRAME]), plain: 0..0, raw: 0..0 }
    }

    /// Hands out plaintext; `false`: there is none.
    fn take(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let amount = self.plain.len().min(out.remaining());
        out.put_slice(&self.buffer[self.plain.start..][..amount]);
        self.plain.start += amount;
        amount > 0
    }

    /// Decrypts the next frame; `false`: it is not there yet as a whole.
    fn open_next(&mut self) -> Result<bool, RecordError> {
        let raw = &mut self.buffer[self.raw.clone()];
        let Some((header, rest)) = raw.split_first_chunk_mut::<HEADER>() else { return Ok(false) };
        let length = ciphertext_len(*header)?;
        let Some(ciphertext) = rest.get_mut(..length) else { return Ok(false) };
        self.cipher.open(ciphertext)?;
        let start = self.raw.start + HEADER;
        self.plain = start..start + length - TAG;
        self.raw.start = start + length;
        Ok(true)
    }

    /// Where to receive more: all plaintext was taken, so what is raw moves to the front.
    fn space(&mut self) -> &mut [u8] {
        if self.raw.start > 0 {
            self.buffer.copy_within(self.raw.clone(), 0);
            self.raw = 0..self.raw.len();
        }
        self.plain = 0..0;
        &mut self.buffer[self.raw.end..]
    }

    /// The transport ended: well only between two frames.
    fn at_end(&self) -> io::Result<()> {
        if self.raw.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Encrypted frames on their way out, and the record that is being filled.
struct Writer {
    cipher: Cipher,
    buffer: Vec<u8>,
    /// How much of `buffer` the transport has taken.
    sent: usize,
    /// Where the unfinished record's frame starts; it is the last thing in `buffer`.
    open: Option<usize>,
}

impl Writer {
    fn new(cipher: Cipher, first: &[u8]) -> Self {
        Self { cipher, buffer: first.to_vec(), sent: 0, open: None }
    }

    /// Takes of each part in turn what there is room for; 0: the buffer is full.
    fn push_all(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, RecordError> {
        let mut taken = 0;
        for part in parts {
            let pushed = self.push(part)?;
            taken += pushed;
            if pushed < part.len() {
                break;
            }
        }
        Ok(taken)
    }

    fn push(&mut self, data: &[u8]) -> Result<usize, RecordError> {
        let mut rest = data;
        while !rest.is_empty() {
            let start = match self.open {
                Some(start) => start,
                None if self.buffer.len() + MAX_FRAME > WRITE_BUFFER => break,
                None => {
                    let start = self.buffer.len();
                    self.buffer.extend_from_slice(&[0; HEADER]);
                    *self.open.insert(start)
                }
            };
            let room = MAX_PLAINTEXT - (self.buffer.len() - start - HEADER);
            let (now, later) = rest.split_at(rest.len().min(room));
            self.buffer.extend_from_slice(now);
            rest = later;
            if now.len() == room {
                self.close_record()?;
            }
        }
        Ok(data.len() - rest.len())
    }

    /// Encrypts the unfinished record, if there is one.
    fn close_record(&mut self) -> Result<(), RecordError> {
        let Some(start) = self.open.take() else { return Ok(()) };
        self.buffer.extend_from_slice(&[0; TAG]);
        self.cipher.seal(&mut self.buffer[start..])
    }

    /// Gives the transport every finished frame. No record is unfinished then: a
    /// full buffer has room for none, and a flush finishes it first.
    fn poll_drain<S: AsyncWrite + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert!(self.open.is_none(), "only finished records are sent");
        while self.sent < self.buffer.len() {
            let taken = ready!(Pin::new(&mut *io).poll_write(cx, &self.buffer[self.sent..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        self.buffer.clear();
        self.buffer.shrink_to(IDLE_WRITE_BUFFER);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
