//! Decodes content codings (RFC 9110, section 8.4.1). Requests ask for none, but some servers apply one anyway.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A coding other than gzip, deflate and identity.
    #[error("its content coding is not known")]
    Unknown,
    /// The body is not valid in its coding.
    #[error("it is not what its content coding says")]
    Broken,
    /// The decoded body exceeds the limit.
    #[error("it is too large once it is decoded")]
    TooLarge,
}

/// Removes the codings that `header` lists from `body`, in reverse order. Fails above `limit` decoded bytes.
pub fn decode(header: &str, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoded = body.to_vec();
    for coding in header.rsplit(',').map(str::trim).filter(|coding| !coding.is_empty()) {
        decoded = match coding.to_ascii_lowercase().as_str() {
            "identity" => decoded,
            "gzip" | "x-gzip" => read(MultiGzDecoder::new(&*decoded), limit)?,
            // By the standard, deflate has zlib's framing, but some servers send the bare stream.
            "deflate" => match read(ZlibDecoder::new(&*decoded), limit) {
                Err(DecodeError::Broken) => read(DeflateDecoder::new(&*decoded), limit)?,
                read => read?,
            },
            _ => return Err(DecodeError::Unknown),
        };
    }
    Ok(decoded)
}

fn read(decoder: impl Read, limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(most).read_to_end(&mut out).map_err(|_| DecodeError::Broken)?;
    if out.len() > limit { Err(DecodeError::TooLarge) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn written<W: Write>(mut encoder: W, text: &[u8], finish: impl FnOnce(W) -> Vec<u8>) -> Vec<u8> {
        encoder.write_all(text).unwrap();
        finish(encoder)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        written(GzEncoder::new(Vec::new(), Compression::default()), text, |it| it.finish().unwrap())
    }

    #[test]
    fn codings_are_removed_in_reverse_order() {
        let text = b"too long a context";
        let zlib =
            written(ZlibEncoder::new(Vec::new(), Compression::best()), text, |it| it.finish().unwrap());
        let bare =
            written(DeflateEncoder::new(Vec::new(), Compression::fast()), text, |it| it.finish().unwrap());
        for (header, body) in [
            ("gzip", gzip(text)),
            ("X-GZip", gzip(text)),
            ("deflate", zlib.clone()),
            ("deflate", bare),
            ("deflate, gzip", gzip(&zlib)),
            ("identity", text.to_vec()),
        ] {
            assert_eq!(decode(header, &body, 100).unwrap(), text, "{header}");
        }
        assert_eq!(decode("br", text, 100), Err(DecodeError::Unknown));
        assert_eq!(decode("gzip", text, 100), Err(DecodeError::Broken));
    }

    #[test]
    fn a_body_whose_decoded_size_exceeds_the_limit_is_an_error() {
        let bomb = gzip(&vec![b'a'; 10 << 20]);
        assert_eq!(decode("gzip", &bomb, 1 << 20), Err(DecodeError::TooLarge));
        assert_eq!(decode("gzip", &gzip(&[b'a'; 50]), 50).unwrap().len(), 50);
    }
}
