//! Random ids and secrets.

use std::cell::RefCell;

/// `N` bytes from the system's generator.
///
/// # Panics
/// If the system has no generator.
#[expect(clippy::expect_used, reason = "no id and no token is safe without randomness")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random generator");
    bytes
}

/// Bytes taken from the system at once: one system call for 32 ids.
const POOL: usize = 512;

thread_local! {
    /// Unused random bytes, and the index of the first one.
    static IDS: RefCell<([u8; POOL], usize)> = const { RefCell::new(([0; POOL], POOL)) };
}

/// A new id: `prefix-` and 128 random bits in hexadecimal.
pub fn id(prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + 33);
    id.push_str(prefix);
    push_random(&mut id);
    id
}

/// A new id that names a place: `prefix-place-` and 128 random bits in hexadecimal.
pub fn id_at(prefix: &str, place: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + place.len() + 34);
    id.push_str(prefix);
    id.push('-');
    id.push_str(place);
    push_random(&mut id);
    id
}

/// A hyphen and 128 random bits in hexadecimal.
fn push_random(text: &mut String) {
    let random = IDS.with_borrow_mut(|(pool, start)| {
        if *start + 16 > POOL {
            (*pool, *start) = (bytes(), 0);
        }
        let mut random = [0; 16];
        random.copy_from_slice(&pool[*start..*start + 16]);
        *start += 16;
        random
    });
    text.push('-');
    push_hex(text, &random);
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_across_threads() {
        let draw = || (0..200).map(|_| id("x")).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(
            ids.iter()
                .all(|id| id.len() == 34 && id.starts_with("x-") && id != &format!("x-{}", "0".repeat(32)))
        );
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 800);
    }
}
