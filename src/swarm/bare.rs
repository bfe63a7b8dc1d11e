//! What a fan-out costs without a control server: the same bytes to as many readers, over
//! TCP on this machine and nothing else.

use super::quantiles::Quantiles;
use super::report::Bare;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Readers that connect before the connections are taken: below every system's backlog.
const AT_ONCE: usize = 64;
/// It is quiet between two rounds for so long.
const QUIET: Duration = Duration::from_millis(20);

/// Sends `bytes` to each of `readers`, `rounds` times, and measures when each has them.
pub(super) async fn fan_out(bytes: usize, readers: usize, rounds: usize) -> io::Result<Bare> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (note, mut noted) = mpsc::unbounded_channel();
    // They end with this, whatever happens.
    let mut tasks = JoinSet::new();
    let mut writers = Vec::with_capacity(readers);
    while writers.len() < readers {
        let count = AT_ONCE.min(readers - writers.len());
        for _ in 0..count {
            let note = note.clone();
            let reader = TcpStream::connect(address).await?;
            tasks.spawn(read(reader, bytes, note));
        }
        for _ in 0..count {
            let (writer, _) = listener.accept().await?;
            writer.set_nodelay(true)?;
            writers.push(writer);
        }
    }
    drop(note);
    let message = vec![0x5a; bytes];
    let (mut all, mut last) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        tokio::time::sleep(QUIET).await;
        let begun = Instant::now();
        for writer in &mut writers {
            writer.write_all(&message).await?;
        }
        let mut latest = Duration::ZERO;
        for _ in 0..readers {
            let Some(at) = noted.recv().await else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let took = at.saturating_duration_since(begun);
            latest = latest.max(took);
            all.push(took);
        }
        last.push(latest);
    }
    let last = Quantiles::of(last);
    Ok(Bare { bytes, readers, last_p50_ms: last.p50_ms, last_p99_ms: last.p99_ms, latency: Quantiles::of(all) })
}

async fn read(mut reader: TcpStream, bytes: usize, note: mpsc::UnboundedSender<Instant>) {
    let mut buffer = vec![0; bytes];
    while reader.read_exact(&mut buffer).await.is_ok() && note.send(Instant::now()).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reader_gets_every_message() {
        let bare = fan_out(100, 130, 3).await.unwrap();
        assert_eq!((bare.bytes, bare.readers), (100, 130));
        assert!(bare.latency.p50_ms.unwrap() > 0.0);
        assert!(bare.latency.max_ms >= bare.latency.p50_ms);
    }
}
