//! Decompresses request bodies: `Content-Encoding` (RFC 9110, section 8.4).

use std::io::{self, Read};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::body_blocks::{BodyBlocks, join};
use crate::error::{ApiError, ErrorKind};
use crate::quota::BytesPermit;
use crate::telemetry::Limit;

/// Most gzip members or zstd frames in a row: each costs a set-up, even if it is empty. Twice as many as the largest body
/// has in blocks of 64 KiB, the block size of genome files.
const MAX_MEMBERS: usize = 2048;
/// Number of bytes that are decoded before they are counted and compared with the limit.
const STEP: usize = 64 << 10;
/// Largest window of a zstd frame, as a power of two: that of RFC 9659, or the limit of the body if it is larger.
const WINDOW_LOG: u32 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The coding of a body. No client applies two, and a body coded twice costs much work for few bytes.
pub(super) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let unknown = || {
        let text = "the request's Content-Encoding is not understood: send gzip, deflate, zstd or none";
        ApiError::new(ErrorKind::UnsupportedMedia, text)
    };
    let mut coding = None;
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().map_err(|_| unknown())?.split(',') {
            let next = match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "zstd" => Coding::Zstd,
                _ => return Err(unknown()),
            };
            if coding.replace(next).is_some() {
                return Err(unknown().refused_by(Limit::RequestShape));
            }
        }
    }
    Ok(coding)
}

/// Decodes `body`, which gives at most `limit` bytes. `permit` grows before memory is allocated.
pub(super) fn decode(
    body: &[u8],
    coding: Coding,
    limit: usize,
    permit: BytesPermit,
) -> Result<(Vec<u8>, BytesPermit), ApiError> {
    let mut out = Output { body: BodyBlocks::new(None, permit), size: 0, limit };
    if !body.is_empty() {
        match coding {
            Coding::Gzip => members(body, |from| {
                let mut reader = GzDecoder::new(from);
                out.read(&mut reader)?;
                Ok(reader.into_inner())
            })?,
            Coding::Deflate => out.inflate(body)?,
            Coding::Zstd => members(body, |from| {
                let reader = zstd::stream::read::Decoder::with_buffer(from).map_err(|_| broken())?;
                let mut reader = reader.single_frame();
                reader.window_log_max(WINDOW_LOG.max(limit.ilog2())).map_err(|_| broken())?;
                out.read(&mut reader)?;
                Ok(reader.finish())
            })?,
        }
    }
    let (blocks, permit) = out.body.into_parts();
    Ok((join(blocks, out.size), permit))
}

/// Decodes the members in `from`, which follow each other: `one` decodes the first and returns the rest.
fn members<'a>(
    mut from: &'a [u8],
    mut one: impl FnMut(&'a [u8]) -> Result<&'a [u8], ApiError>,
) -> Result<(), ApiError> {
    for _ in 0..MAX_MEMBERS {
        from = one(from)?;
        if from.is_empty() {
            return Ok(());
        }
    }
    let text = format!("the request's body is compressed in more than {MAX_MEMBERS} parts");
    Err(ApiError::bad_request(text).refused_by(Limit::RequestShape))
}

fn broken() -> ApiError {
    ApiError::bad_request("the request's body is not what its Content-Encoding says, or not all of it")
}

/// The decoded bytes so far.
struct Output {
    body: BodyBlocks,
    size: usize,
    limit: usize,
}

impl Output {
    fn push(&mut self, more: &[u8]) -> Result<(), ApiError> {
        self.size += more.len();
        if self.size > self.limit {
            let text = format!("the request's body is larger than {} MiB when decoded", self.limit >> 20);
            return Err(ApiError::new(ErrorKind::TooLarge, text));
        }
        self.body.push(more)
    }

    /// Reads `reader` to its end, which is an error if the end mark of the coding is missing.
    fn read(&mut self, mut reader: impl Read) -> Result<(), ApiError> {
        let mut step = vec![0; STEP];
        loop {
            match reader.read(&mut step) {
                Ok(0) => return Ok(()),
                Ok(size) => self.push(&step[..size])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return Err(broken()),
            }
        }
    }

    /// Decodes `deflate`, which is zlib's format; some clients send the raw format, without zlib's header.
    fn inflate(&mut self, from: &[u8]) -> Result<(), ApiError> {
        /// The value of zlib's first byte for deflate.
        const METHOD: u8 = 8;
        let is_zlib = from.first_chunk().is_some_and(|[method, flags]| {
            method & 0x0f == METHOD && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        });
        // Not one of flate2's readers: they take the end of the input for the end of the stream.
        let mut inflate = Decompress::new(is_zlib);
        let mut step = vec![0; STEP];
        let mut from = from;
        loop {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(from, &mut step, FlushDecompress::None).map_err(|_| broken())?;
            let progress = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let (read, written) =
                (progress(inflate.total_in(), read), progress(inflate.total_out(), written));
            from = from.get(read..).ok_or_else(broken)?;
            self.push(step.get(..written).ok_or_else(broken)?)?;
            match status {
                Status::StreamEnd if from.is_empty() => return Ok(()),
                Status::StreamEnd => return Err(broken()),
                _ if read == 0 && written == 0 => return Err(broken()),
                _ => (),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use actix_web::http::header::HeaderValue;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use tokio::time::Instant;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn encode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        }
    }

    fn decoded(bytes: &[u8], coding: Coding) -> Result<Vec<u8>, ErrorKind> {
        decode(bytes, coding, LIMIT, BytesPermit::default()).map(|(body, _)| body).map_err(|error| error.kind)
    }

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|at| b"abcdefghij \n"[at * at / 7 % 12]).collect()
    }

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

    /// A body of each coding is decoded, and a truncated body is an error.
    #[test]
    fn a_body_of_each_coding_is_decoded_whole_or_refused() {
        for coding in ALL {
            for size in [1, 100, STEP, 3 * STEP + 1, LIMIT] {
                let whole = encode(coding, &text(size));
                assert_eq!(decoded(&whole, coding).unwrap(), text(size), "{coding:?} {size}");
                for cut in [1, 2, 5, whole.len() / 2, whole.len() - 1] {
                    let part = &whole[..whole.len() - cut.min(whole.len() - 1)];
                    assert_eq!(decoded(part, coding), Err(ErrorKind::BadRequest), "{coding:?} {size} {cut}");
                }
            }
            assert_eq!(decoded(b"{\"a\":1}", coding), Err(ErrorKind::BadRequest));
            assert_eq!(decoded(b"", coding), Ok(Vec::new()));
        }
    }

    #[test]
    fn raw_deflate_is_decoded_and_bytes_after_it_are_an_error() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&text(5000)).unwrap();
        let mut raw = encoder.finish().unwrap();
        assert_eq!(decoded(&raw, Coding::Deflate).unwrap(), text(5000));
        raw.push(0);
        assert_eq!(decoded(&raw, Coding::Deflate), Err(ErrorKind::BadRequest));
    }

    #[test]
    fn several_members_or_frames_are_decoded_as_one_body() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [encode(coding, b"one "), encode(coding, b"two")].concat();
            assert_eq!(decoded(&both, coding).unwrap(), b"one two");
        }
    }

    /// A25: the number of empty members and frames is limited, because a few bytes of them cost much work.
    #[test]
    fn a_body_of_too_many_members_is_refused() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let empty = encode(coding, b"");
            assert_eq!(decoded(&empty.repeat(MAX_MEMBERS), coding), Ok(Vec::new()), "{coding:?}");
            let begin = Instant::now();
            assert_eq!(decoded(&empty.repeat(100 * MAX_MEMBERS), coding), Err(ErrorKind::BadRequest));
            assert!(begin.elapsed() < Duration::from_secs(1), "{coding:?}: {:?}", begin.elapsed());
        }
    }

    /// A decompression bomb is refused when its decoded size reaches the limit.
    #[test]
    fn a_body_that_grows_over_the_limit_is_refused() {
        for coding in ALL {
            let bomb = encode(coding, &vec![b' '; 64 * LIMIT]);
            assert!(bomb.len() < LIMIT);
            assert_eq!(decoded(&bomb, coding), Err(ErrorKind::TooLarge));
            assert_eq!(decoded(&encode(coding, &vec![b' '; LIMIT]), coding), Ok(vec![b' '; LIMIT]));
        }
    }

    fn of(values: &[&'static str]) -> Result<Option<Coding>, ErrorKind> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        coding(&headers).map_err(|error| error.kind)
    }

    #[test]
    fn a_body_has_at_most_one_coding() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity", ""]), Ok(None));
        assert_eq!(of(&["X-GZip , identity", ""]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["Deflate"]), Ok(Some(Coding::Deflate)));
        let twice = &["gzip", "deflate, identity"];
        for unknown in
            [&["br"][..], &["gzip, compress"], &["gzip", "x"], &["gzip,gzip"], twice, &["gzip;q=1"]]
        {
            assert_eq!(of(unknown), Err(ErrorKind::UnsupportedMedia));
        }
    }
}
