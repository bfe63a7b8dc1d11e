//! Messages as they travel: a length, then JSON or one zstd frame of it
//! (protocol section 4.2).

use super::meters::METERS;
use super::splice::WINDOW_LOG;
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::LazyLock;
use std::thread::LocalKey;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Most of the gain for little time: messages are made on the threads that serve.
const LEVEL: i32 = 1;
/// For what many streams share: it is made once, and each byte is encrypted for each.
const SHARED_LEVEL: i32 = 3;

/// The exact bytes that clients recognise without reading them.
const KEEP_ALIVE: &[u8] = b"{\"KeepAlive\":true}";

static KEEP_ALIVE_PLAIN: LazyLock<Bytes> = LazyLock::new(|| frame(KEEP_ALIVE, false));
static KEEP_ALIVE_ZSTD: LazyLock<Bytes> = LazyLock::new(|| frame(KEEP_ALIVE, true));

/// One framed message.
pub(super) fn frame(json: &[u8], zstd: bool) -> Bytes {
    if zstd {
        return framed(&compress(json));
    }
    framed(json)
}

/// The framed keep-alive message: always the same bytes.
pub(super) fn keep_alive(zstd: bool) -> Bytes {
    if zstd { KEEP_ALIVE_ZSTD.clone() } else { KEEP_ALIVE_PLAIN.clone() }
}

/// The beginning of a message whose body has `rest` bytes more than `body`.
pub(super) fn begin(body: &[u8], rest: usize) -> Bytes {
    let length = u32::try_from(body.len() + rest).expect("a map message is far smaller than 4 GiB");
    let mut out = Vec::with_capacity(4 + body.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out.into()
}

fn framed(body: &[u8]) -> Bytes {
    begin(body, 0)
}

thread_local! {
    /// A compressor keeps some hundred KiB of tables, so each thread has one.
    static COMPRESSOR: RefCell<Compressor<'static>> = RefCell::new(compressor(LEVEL));
    static SHARED: RefCell<Compressor<'static>> = RefCell::new(compressor(SHARED_LEVEL));
}

fn compressor(level: i32) -> Compressor<'static> {
    let mut compressor = Compressor::new(level).expect("zstd has this level");
    for parameter in [CParameter::WindowLog(WINDOW_LOG), CParameter::ChecksumFlag(false)] {
        compressor.set_parameter(parameter).expect("zstd has this parameter");
    }
    compressor
}

/// One zstd frame.
pub(super) fn compress(json: &[u8]) -> Vec<u8> {
    pack(&COMPRESSOR, json)
}

/// As [`compress`], for what goes to many streams.
pub(super) fn compress_shared(json: &[u8]) -> Vec<u8> {
    pack(&SHARED, json)
}

fn pack(compressor: &'static LocalKey<RefCell<Compressor<'static>>>, json: &[u8]) -> Vec<u8> {
    let frame = compressor.with_borrow_mut(|c| c.compress(json)).expect("the buffer has room for the worst case");
    METERS.compressed_bytes.increment(frame.len() as u64);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(frame: &Bytes) -> &[u8] {
        let (length, body) = frame.split_at(4);
        assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        body
    }

    #[test]
    fn a_plain_frame_is_a_little_endian_length_and_the_json() {
        assert_eq!(&frame(b"{}", false)[..], b"\x02\0\0\0{}");
    }

    #[test]
    fn a_compressed_frame_is_one_zstd_frame() {
        let json = format!("{{\"Domain\":\"{}\"}}", "x".repeat(3_000_000));
        let frame = frame(json.as_bytes(), true);
        assert!(frame.len() < 10_000);
        assert_eq!(zstd::decode_all(body(&frame)).unwrap(), json.as_bytes());
    }

    #[test]
    fn the_keep_alive_is_always_the_same_bytes() {
        assert_eq!(body(&keep_alive(false)), KEEP_ALIVE);
        assert_eq!(zstd::decode_all(body(&keep_alive(true))).unwrap(), KEEP_ALIVE);
        let elsewhere = std::thread::spawn(|| frame(KEEP_ALIVE, true)).join().unwrap();
        assert_eq!(keep_alive(true), elsewhere);
    }
}
