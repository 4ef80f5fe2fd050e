//! The search for the end of a JSON string.

use memchr::memchr2;

/// Finds the first quote, backslash or control character, which JSON strings must escape.
pub(super) fn string_stop(bytes: &[u8]) -> Option<usize> {
    // Most strings are shorter: a search by words costs less than the start of a vectorized one.
    const SHORT: usize = 64;

    let (short, long) = bytes.split_at(bytes.len().min(SHORT));
    let (words, rest) = short.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return Some(at * size_of::<u64>() + stops.trailing_zeros() as usize / 8);
        }
    }
    let is_stop = |byte: &u8| matches!(*byte, b'"' | b'\\') || *byte < 0x20;
    if let Some(at) = rest.iter().position(is_stop) {
        return Some(short.len() - rest.len() + at);
    }
    let stop = memchr2(b'"', b'\\', long);
    control(&long[..stop.unwrap_or(long.len())]).or(stop).map(|at| SHORT + at)
}

/// The high bit of each byte of `word` that is a quote, a backslash or a control character. Bits above the lowest one may be
/// wrong, because a subtraction borrows from the next byte.
fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;

    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (ONES << 7)
}

/// Finds the first control character.
fn control(bytes: &[u8]) -> Option<usize> {
    // Blocks without an early exit are vectorized by the compiler: an image is one string of up to 30 MB.
    const BLOCK: usize = 64;

    let is_control = |byte: &u8| *byte < 0x20;
    let mut at = 0;
    for block in bytes.chunks(BLOCK) {
        if block.iter().fold(false, |found, byte| found | is_control(byte)) {
            return block.iter().position(is_control).map(|within| at + within);
        }
        at += block.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A12: at any offset, and behind any other bytes.
    #[test]
    fn a_string_stops_at_its_first_quote_backslash_or_control() {
        let is_stop = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            for other in [b' ', b'!', b'#', b'a', b'[', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                let mut bytes = vec![other; length];
                assert_eq!(string_stop(&bytes), None);
                for stop in (0..=u8::MAX).filter(|byte| is_stop(*byte)) {
                    bytes.push(stop);
                    assert_eq!(string_stop(&bytes), Some(length), "{stop} behind {length} of {other}");
                    bytes.extend([b'"', 0, b'\\', other]);
                    assert_eq!(string_stop(&bytes), Some(length), "{stop} behind {length} of {other}");
                    bytes.truncate(length);
                }
            }
        }
    }
}
