//! Random ids and secrets.

/// `N` bytes from the system's generator.
///
/// # Panics
/// Where the system has none.
#[expect(
    clippy::expect_used,
    reason = "without randomness no id and no token is safe: there is nothing to go on with"
)]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random generator");
    bytes
}

/// `prefix-` and 128 random bits: nobody guesses one.
pub fn id(prefix: &str) -> String {
    format!("{prefix}-{}", hex(&bytes::<16>()))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
