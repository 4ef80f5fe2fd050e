//! The echo of a hub: a WebSocket by which `check` measures the way to it (SPEC.md section 4.2).

/// WebSocket subprotocol of the echo.
pub const SUBPROTOCOL: &str = "virtual-llm.echo.1";

/// Path of the echo, behind `/api/v1/llms/`: beside that of the control channel, so that a proxy's rules for paths hold for
/// both.
pub const PATH: &str = "_provider-echo";

/// The hub's first message.
pub const HELLO: &[u8] = b"hello";

/// Longest message in bytes, in either direction: that of a link's piece.
pub const MAX_MESSAGE: usize = 64 << 10;

/// Bytes that the hub reads, and writes, on one echo: 1 MiB and a quarter for frames and small messages.
pub const MAX_TOTAL: usize = (1 << 20) + (256 << 10);

/// Length of the number at the beginning of a message.
const NUMBER: usize = size_of::<u32>();

/// A message of `length` bytes that asks for an answer of `answer` bytes. Each is at least 4.
pub fn message(length: usize, answer: usize) -> Vec<u8> {
    let mut message = u32::try_from(answer).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    message.resize(length.max(NUMBER), b'.');
    message
}

/// The answer to `message`: its bytes, cut or continued with zeros to the length that its first four bytes say (big-endian).
/// `None` if it has no length, or one of more than [`MAX_MESSAGE`].
pub fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(u32::from_be_bytes(*message.first_chunk()?)).ok()?;
    if length > MAX_MESSAGE {
        return None;
    }
    let mut answer = message[..message.len().min(length)].to_vec();
    answer.resize(length, 0);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_length_that_its_message_asks_for() {
        assert_eq!(message(6, 3), b"\0\0\0\x03..");
        for (length, wanted) in [(4, 4), (4, MAX_MESSAGE), (MAX_MESSAGE, 4), (9, 0), (9, 6)] {
            let message = message(length, wanted);
            let answer = answer(&message).unwrap();
            let same = length.min(wanted);
            assert_eq!((message.len(), answer.len()), (length, wanted));
            assert_eq!(answer[..same], message[..same]);
            assert!(answer[same..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_message_without_a_valid_length_has_no_answer() {
        for message in [b"".as_slice(), b"\0\0\0", b"\0\x01\0\x01", b"\xff\xff\xff\xff...."] {
            assert_eq!(answer(message), None, "{message:?}");
        }
    }
}
