use super::Initiator;
use super::record::{Keys, MAX_FRAME, MAX_PLAINTEXT};
use super::*;
use crate::tailcfg::{CapVer, MachineKey, PrivateKey};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const ONE_WAY: Keys = Keys { receive: [1; 32], send: [2; 32] };
const OTHER_WAY: Keys = Keys { receive: [2; 32], send: [1; 32] };

fn pair(buffer: usize) -> (NoiseStream<DuplexStream>, NoiseStream<DuplexStream>) {
    let (a, b) = duplex(buffer);
    (NoiseStream::new(a, &ONE_WAY, &[]), NoiseStream::new(b, &OTHER_WAY, &[]))
}

/// A record made without this module's code.
fn record(key: u8, counter: u64, plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    let cipher = ChaCha20Poly1305::new(&[key; 32].into());
    let ciphertext = cipher.encrypt(&Nonce::from(nonce), plaintext).unwrap();
    let mut frame = vec![4];
    frame.extend_from_slice(&(ciphertext.len() as u16).to_be_bytes());
    frame.extend(ciphertext);
    frame
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_client_that_knows_the_key_gets_in_and_is_known() {
    let (server, machine) = (PrivateKey::generate(), PrivateKey::generate());
    let client = Initiator::new(&machine, &server.public(), 142);
    let accepted = respond(&server, &client.initiation).unwrap();
    assert_eq!(accepted.machine_key, MachineKey(machine.public()));
    assert_eq!(accepted.version, CapVer(142));
    let keys = client.finish(&accepted.response).unwrap();
    assert_eq!((keys.receive, keys.send), (accepted.keys.send, accepted.keys.receive));
}

#[test]
fn a_client_with_another_servers_key_hears_so() {
    let (server, machine) = (PrivateKey::generate(), PrivateKey::generate());
    let client = Initiator::new(&machine, &PrivateKey::generate().public(), 142);
    let error = respond(&server, &client.initiation).unwrap_err();
    assert!(matches!(error, HandshakeError::Crypto(_)));
    let frame = error.frame();
    assert_eq!(frame[0], 3);
    assert_eq!(usize::from(u16::from_be_bytes([frame[1], frame[2]])), frame.len() - 3);
    assert!(frame[3..].starts_with(b"handshake failed: "));
}

#[test]
fn the_version_is_part_of_what_is_authenticated() {
    let server = PrivateKey::generate();
    let mut client = Initiator::new(&PrivateKey::generate(), &server.public(), 142);
    client.initiation[1] += 1;
    assert!(matches!(respond(&server, &client.initiation), Err(HandshakeError::Crypto(_))));
}

#[test]
fn an_old_client_hears_what_it_needs() {
    let server = PrivateKey::generate();
    let client = Initiator::new(&PrivateKey::generate(), &server.public(), 112);
    let error = respond(&server, &client.initiation).unwrap_err();
    assert_eq!(error.to_string(), "unsupported client version 112: Tailscale 1.80 or newer is needed");
}

#[test]
fn malformed_initiations_are_refused_without_harm() {
    let server = PrivateKey::generate();
    let good = Initiator::new(&PrivateKey::generate(), &server.public(), 142).initiation;
    for length in 0..good.len() {
        assert!(respond(&server, &good[..length]).is_err(), "{length} bytes");
    }
    let mut long = good.clone();
    long.push(0);
    assert!(matches!(respond(&server, &long), Err(HandshakeError::Length(102))));
    for position in 0..good.len() {
        let mut changed = good.clone();
        changed[position] ^= 0x20;
        assert!(respond(&server, &changed).is_err(), "byte {position}");
    }
}

#[tokio::test]
async fn records_count_in_big_endian() {
    let (mut raw, io) = duplex(1 << 20);
    let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
    for counter in 0..300_u64 {
        raw.write_all(&record(1, counter, &counter.to_be_bytes())).await.unwrap();
        assert_eq!(stream.read_u64().await.unwrap(), counter);
        stream.write_u64(counter).await.unwrap();
        stream.flush().await.unwrap();
        let expected = record(2, counter, &counter.to_be_bytes());
        let mut got = vec![0; expected.len()];
        raw.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected, "record {counter}");
    }
}

#[tokio::test]
async fn large_writes_arrive_whole_through_a_small_pipe() {
    let (mut a, mut b) = pair(777);
    let sent = bytes(1_000_000);
    let (there, back) = (sent.clone(), sent.clone());
    let writer = tokio::spawn(async move {
        a.write_all(&there).await.unwrap();
        a.flush().await.unwrap();
        let mut got = vec![0; there.len()];
        a.read_exact(&mut got).await.unwrap();
        got
    });
    let mut got = vec![0; sent.len()];
    b.read_exact(&mut got).await.unwrap();
    assert!(got == sent);
    b.write_all(&back).await.unwrap();
    b.shutdown().await.unwrap();
    assert!(writer.await.unwrap() == back);
}

#[tokio::test]
async fn small_writes_share_a_record_and_large_ones_fill_theirs() {
    let (mut raw, io) = duplex(1 << 20);
    let mut stream = NoiseStream::new(io, &ONE_WAY, b"first");
    for _ in 0..10 {
        stream.write_all(b"0123456789").await.unwrap();
    }
    stream.flush().await.unwrap();
    stream.write_all(&bytes(2 * MAX_PLAINTEXT + 1)).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut sent = Vec::new();
    raw.read_to_end(&mut sent).await.unwrap();
    assert_eq!(&sent[..5], b"first");
    let mut lengths = Vec::new();
    let mut rest = &sent[5..];
    while let [4, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length + 3);
        rest = &tail[length..];
    }
    assert!(rest.is_empty());
    assert_eq!(lengths, [100 + 19, MAX_FRAME, MAX_FRAME, 1 + 19]);
}

#[tokio::test]
async fn nothing_is_buffered_without_bound_for_a_reader_that_does_not_read() {
    let (mut a, _b) = pair(64);
    let mut written = 0;
    let data = bytes(10_000);
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(50), async {
        loop {
            written += a.write(&data).await.unwrap();
        }
    });
    assert!(stuck.await.is_err());
    assert!(written < 80_000, "{written} bytes taken");
}

#[tokio::test]
async fn empty_records_are_legal() {
    let (mut raw, io) = duplex(1 << 16);
    let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
    for (counter, text) in [&b""[..], b"", b"x", b"", b"y"].into_iter().enumerate() {
        raw.write_all(&record(1, counter as u64, text)).await.unwrap();
    }
    drop(raw);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"xy");
}

#[tokio::test]
async fn a_record_that_was_changed_kills_both_directions() {
    for position in 3..3 + 5 + 16 {
        let (mut raw, io) = duplex(1 << 16);
        let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
        let mut frame = record(1, 0, b"hello");
        frame[position] ^= 1;
        raw.write_all(&frame).await.unwrap();
        raw.write_all(&record(1, 1, b"more")).await.unwrap();
        let mut got = [0; 1];
        assert_eq!(stream.read(&mut got).await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(stream.read(&mut got).await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn a_record_that_is_repeated_or_left_out_is_noticed() {
    for frames in [[0, 0], [0, 2]] {
        let (mut raw, io) = duplex(1 << 16);
        let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
        for counter in frames {
            raw.write_all(&record(1, counter, b"hello")).await.unwrap();
        }
        let mut got = [0; 10];
        assert_eq!(stream.read_exact(&mut got).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn frames_too_long_too_short_or_of_another_type_are_fatal() {
    for header in [[4, 0x0f, 0xfe], [4, 0xff, 0xff], [4, 0, 15], [4, 0, 0], [1, 0, 96], [3, 0, 20]] {
        let (mut raw, io) = duplex(1 << 16);
        let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
        raw.write_all(&header).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::InvalidData, "{header:?}");
    }
    let (mut raw, io) = duplex(1 << 16);
    let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
    raw.write_all(&record(1, 0, &bytes(MAX_PLAINTEXT))).await.unwrap();
    let mut got = vec![0; MAX_PLAINTEXT];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes(MAX_PLAINTEXT));
}

#[tokio::test]
async fn an_end_inside_a_frame_is_an_error_and_between_frames_is_none() {
    let frame = record(1, 0, b"hello");
    for cut in 0..frame.len() {
        let (mut raw, io) = duplex(1 << 16);
        let mut stream = NoiseStream::new(io, &ONE_WAY, &[]);
        raw.write_all(&frame[..cut]).await.unwrap();
        drop(raw);
        let end = stream.read(&mut [0; 8]).await;
        if cut == 0 {
            assert_eq!(end.unwrap(), 0);
        } else {
            assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof, "{cut} bytes");
        }
    }
}

#[tokio::test]
async fn what_is_read_ahead_of_http2_is_read_again() {
    let (mut a, mut b) = pair(1 << 16);
    a.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    a.flush().await.unwrap();
    a.write_all(b"\r\nSM\r\n\r\nand more").await.unwrap();
    a.shutdown().await.unwrap();
    b.expect_http2().await.unwrap();
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more");

    let (mut a, mut b) = pair(1 << 16);
    a.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    a.flush().await.unwrap();
    assert_eq!(b.expect_http2().await.unwrap_err().kind(), ErrorKind::InvalidData);
}
