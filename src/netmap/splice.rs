//! One zstd frame out of parts that were compressed apart (RFC 8878).
//!
//! A complete map is mostly made of what other maps have too. Each part is compressed once, and
//! goes into all of them as it is: a frame is a header and a sequence of blocks, and a block
//! means the same in any frame if it begins with nothing remembered. What a decoder remembers
//! from block to block are tables, which the first block of what was a frame of its own never
//! takes over, and the last three distances between repetitions. Those are put back to what they are
//! at the beginning of a frame by [`RESET`], which ends each part.
//!
//! Several frames, one after the other, would be as good to read. But a decoder only knows
//! how much there is if one frame says so: the Go client's gets its buffer once, instead of
//! a longer one a dozen times, which at 1,000 peers was half of the time that it took.

use bytes::Bytes;

/// Clients bound a decoder's memory; 512 KiB is small for all of them.
pub const WINDOW_LOG: u32 = 19;

/// Two blocks that decode to [`RESET_LENGTH`] spaces and leave the distances 1, 4 and 8.
///
/// In the first one 8 literal spaces, then a repetition of 3 bytes from a distance of 8. In
/// the second one twice a literal space and a repetition, from distances of 4 and of 1. All
/// codes are given as such (RLE mode), so only the distances' own bits are in the bit streams.
const RESET: [u8; 22] = [
    0x44, 0, 0, 0x41, b' ', 1, 0x54, 8, 3, 0, 0b1011, //
    0x44, 0, 0, 0x11, b' ', 2, 0x54, 1, 2, 0, 0b1_11_00,
];
const RESET_LENGTH: usize = 8 + 3 + 2 * (1 + 3);

/// A block's header: whether it is the last one, its kind, its size (RFC 8878, 3.1.1.2).
const HEADER: usize = 3;
const LAST: u8 = 1;
const KIND: u8 = 0b110;
/// One byte, as often as the size says.
const REPEATED: u8 = 0b010;

/// JSON as compressed blocks, after which others may follow, and before which others may be.
/// It reads as the JSON and white space after it.
#[derive(Clone, Debug)]
pub struct Part {
    pub blocks: Bytes,
    /// Bytes that it reads as.
    pub length: usize,
}

impl Part {
    /// From one frame without checksum and dictionary that reads as `length` bytes.
    pub fn new(mut frame: Vec<u8>, length: usize) -> Self {
        let begin = header_length(&frame);
        let mut at = begin;
        loop {
            let [first, second, third] = frame[at..at + HEADER] else { unreachable!("three bytes") };
            let size = u32::from_le_bytes([first, second, third, 0]) >> 3;
            let size = if first & KIND == REPEATED { 1 } else { size as usize };
            frame[at] = first & !LAST;
            at += HEADER + size;
            if first & LAST != 0 {
                break;
            }
        }
        assert_eq!(at, frame.len(), "a frame ends with its last block");
        frame.drain(..begin);
        frame.extend_from_slice(&RESET);
        Self { blocks: frame.into(), length: length + RESET_LENGTH }
    }
}

/// What a frame begins with that reads as `length` bytes.
pub fn head(length: usize) -> [u8; 10] {
    let length = u32::try_from(length).expect("a map message is far smaller than 4 GiB");
    let mut head = [0x28, 0xb5, 0x2f, 0xfd, 0x80, ((WINDOW_LOG - 10) << 3) as u8, 0, 0, 0, 0];
    head[6..].copy_from_slice(&length.to_le_bytes());
    head
}

/// The last block of a frame: `text` as it is.
pub fn last(text: &[u8]) -> Vec<u8> {
    let header = (text.len() as u32) << 3 | u32::from(LAST);
    [&header.to_le_bytes()[..HEADER], text].concat()
}

/// How long the header of a frame is (RFC 8878, 3.1.1.1).
fn header_length(frame: &[u8]) -> usize {
    const MAGIC_AND_FLAGS: usize = 5;
    let flags = frame[MAGIC_AND_FLAGS - 1];
    assert_eq!(flags & 0b0000_0111, 0, "neither checksum nor dictionary");
    let is_one_segment = flags & 0b0010_0000 != 0;
    let content_size = match flags >> 6 {
        0 => usize::from(is_one_segment),
        other => 1 << other,
    };
    MAGIC_AND_FLAGS + usize::from(!is_one_segment) + content_size
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;
    use proptest::collection::vec;

    /// One frame of these texts and a last one, and what it has to read as.
    fn spliced(texts: &[Vec<u8>], compress: fn(&[u8]) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let tail = b"]}";
        let parts: Vec<Part> = texts.iter().map(|text| Part::new(compress(text), text.len())).collect();
        let length = parts.iter().map(|part| part.length).sum::<usize>() + tail.len();
        let mut out = head(length).to_vec();
        parts.iter().for_each(|part| out.extend_from_slice(&part.blocks));
        out.extend(last(tail));
        let spaces = [b' '; RESET_LENGTH];
        let plain = texts.iter().flat_map(|text| [&text[..], &spaces].concat()).chain(*tail).collect();
        (out, plain)
    }

    fn check(texts: &[Vec<u8>]) {
        for compress in [frame::compress, frame::compress_shared] {
            let (out, plain) = spliced(texts, compress);
            assert_eq!(zstd::zstd_safe::get_frame_content_size(&out).unwrap(), Some(plain.len() as u64));
            assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&out), Ok(out.len()), "it is one frame");
            assert!(zstd::decode_all(&out[..]).unwrap() == plain);
        }
    }

    #[test]
    fn a_part_that_repeats_distances_reads_the_same_wherever_it_is() {
        // Begins with repetitions from the distances that a decoder has at the beginning of a frame.
        let repeats = |step: usize| (0..400).map(|n| if n % 7 == 0 { (n / step) as u8 } else { b'a' }).collect();
        check(&[repeats(1), repeats(4), repeats(8), b"aaaaaaaaaaaaaaaa".to_vec(), b"abcdabcdabcdabcdabcd".to_vec()]);
    }

    #[test]
    fn parts_of_any_kind_of_block_are_spliced() {
        let random = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        check(&[vec![b'x'], vec![b' '; 1_000_000], random, br#"{"ID":1,"Name":"a"}"#.repeat(50_000)]);
        check(&[vec![b'y'; 128 << 10], vec![b'z'; 256 << 10]]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_spliced_reads_as_what_it_was(texts in vec(vec(proptest::num::u8::ANY.prop_map(|n| b"abc,{}:1"[usize::from(n % 8)]), 1..3000), 1..6)) {
            check(&texts);
        }
    }
    use proptest::strategy::Strategy;
}
