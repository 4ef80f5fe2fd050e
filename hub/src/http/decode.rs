//! Bodies that their sender compressed: `Content-Encoding`, one or several (RFC 9110, section 8.4).

use std::io::{self, Read};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{ApiError, ErrorKind};
use crate::quota::BytesPermit;

/// Codings of one body. Nobody applies two, and what is coded twice has much done for few bytes.
const MOST: usize = 1;
/// Members of gzip, or frames of zstd, in a row: each is the beginning of something new, however little is in it. Twice
/// what the largest body has in blocks of 64 KiB, as genome files do.
const MEMBERS: usize = 2048;
/// Decoded at once, then counted and compared with the limit.
const STEP: usize = 64 << 10;
/// Largest window of a zstd frame, as a power of two, unless the whole body may be larger: what RFC 9659 allows.
const WINDOW_LOG: u32 = 23;

/// A coding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The codings of a body in the order in which they have to be undone; empty for one that is as it was.
pub(super) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, ApiError> {
    let unknown = || {
        let text = "the request's Content-Encoding is not understood: send gzip, deflate, zstd or none";
        ApiError::new(ErrorKind::UnsupportedMedia, text)
    };
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().map_err(|_| unknown())?.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => (),
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                "zstd" => codings.push(Coding::Zstd),
                _ => return Err(unknown()),
            }
        }
    }
    if codings.len() > MOST {
        return Err(unknown());
    }
    codings.reverse();
    Ok(codings)
}

/// Undoes `codings` on `body`. Every step gives at most `limit` bytes, which grow `held` before they are kept.
pub(super) fn decode(
    body: &[u8],
    codings: &[Coding],
    limit: usize,
    held: &mut BytesPermit,
) -> Result<Vec<u8>, ApiError> {
    let mut decoded: Option<Vec<u8>> = None;
    for coding in codings {
        let from = decoded.as_deref().unwrap_or(body);
        if from.is_empty() {
            break;
        }
        let mut out = Output { bytes: Vec::new(), limit, held };
        match coding {
            Coding::Gzip => members(from, |from| {
                let mut reader = GzDecoder::new(from);
                out.read(&mut reader)?;
                Ok(reader.into_inner())
            })?,
            Coding::Deflate => out.inflate(from)?,
            Coding::Zstd => members(from, |from| {
                let reader = zstd::stream::read::Decoder::with_buffer(from).map_err(|_| broken())?;
                let mut reader = reader.single_frame();
                reader.window_log_max(WINDOW_LOG.max(limit.ilog2())).map_err(|_| broken())?;
                out.read(&mut reader)?;
                Ok(reader.finish())
            })?,
        }
        decoded = Some(out.bytes);
    }
    Ok(decoded.unwrap_or_else(|| body.to_vec()))
}

/// Undoes what is one after the other in `from`: `one` gives what is behind the first of it.
fn members<'a>(
    mut from: &'a [u8],
    mut one: impl FnMut(&'a [u8]) -> Result<&'a [u8], ApiError>,
) -> Result<(), ApiError> {
    for _ in 0..MEMBERS {
        from = one(from)?;
        if from.is_empty() {
            return Ok(());
        }
    }
    Err(ApiError::bad_request(format!("the request's body is compressed in more than {MEMBERS} parts")))
}

fn broken() -> ApiError {
    ApiError::bad_request("the request's body is not what its Content-Encoding says, or not all of it")
}

/// What was decoded so far.
struct Output<'a> {
    bytes: Vec<u8>,
    limit: usize,
    held: &'a mut BytesPermit,
}

impl Output<'_> {
    fn push(&mut self, more: &[u8]) -> Result<(), ApiError> {
        if self.bytes.len() + more.len() > self.limit {
            let text = format!("the request's body is larger than {} MiB when decoded", self.limit >> 20);
            return Err(ApiError::new(ErrorKind::TooLarge, text));
        }
        let had = self.bytes.capacity();
        if had - self.bytes.len() < more.len() {
            // Twice as much, as a vector does it, and at most as much as may come.
            let wanted = (had * 2).max(self.bytes.len() + more.len()).min(self.limit);
            self.held.grow(wanted - had)?;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// All that `reader` gives: its end is an error where the coding's own end mark is missing.
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

    /// `deflate` is zlib's format; what some clients send under its name is what zlib wraps.
    fn inflate(&mut self, from: &[u8]) -> Result<(), ApiError> {
        /// Deflate, in zlib's first byte.
        const METHOD: u8 = 8;
        let is_zlib = from.first_chunk().is_some_and(|[method, flags]| {
            method & 0x0f == METHOD && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        });
        // flate2's readers take the end of the input for the end of the stream.
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

    fn decoded(bytes: &[u8], codings: &[Coding]) -> Result<Vec<u8>, ErrorKind> {
        decode(bytes, codings, LIMIT, &mut BytesPermit::default()).map_err(|error| error.kind)
    }

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|at| b"abcdefghij \n"[at * at / 7 % 12]).collect()
    }

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

    #[test]
    fn each_coding_gives_back_what_was_coded_and_nothing_of_it_when_a_part_is_missing() {
        for coding in ALL {
            for size in [1, 100, STEP, 3 * STEP + 1, LIMIT] {
                let whole = encode(coding, &text(size));
                assert_eq!(decoded(&whole, &[coding]).unwrap(), text(size), "{coding:?} {size}");
                for cut in [1, 2, 5, whole.len() / 2, whole.len() - 1] {
                    let part = &whole[..whole.len() - cut.min(whole.len() - 1)];
                    assert_eq!(
                        decoded(part, &[coding]),
                        Err(ErrorKind::BadRequest),
                        "{coding:?} {size} {cut}"
                    );
                }
            }
            assert_eq!(decoded(b"{\"a\":1}", &[coding]), Err(ErrorKind::BadRequest));
            assert_eq!(decoded(b"", &[coding]), Ok(Vec::new()));
        }
    }

    #[test]
    fn deflate_without_zlibs_wrapping_is_understood_and_what_follows_it_is_not() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&text(5000)).unwrap();
        let mut raw = encoder.finish().unwrap();
        assert_eq!(decoded(&raw, &[Coding::Deflate]).unwrap(), text(5000));
        raw.push(0);
        assert_eq!(decoded(&raw, &[Coding::Deflate]), Err(ErrorKind::BadRequest));
    }

    #[test]
    fn members_and_frames_in_a_row_are_one_body() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [encode(coding, b"one "), encode(coding, b"two")].concat();
            assert_eq!(decoded(&both, &[coding]).unwrap(), b"one two");
        }
    }

    /// A25: much work for few bytes is none that is done: members and frames with nothing in them are counted.
    #[test]
    fn members_without_end_are_refused_soon() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let empty = encode(coding, b"");
            assert_eq!(decoded(&empty.repeat(MEMBERS), &[coding]), Ok(Vec::new()), "{coding:?}");
            let begin = Instant::now();
            assert_eq!(decoded(&empty.repeat(100 * MEMBERS), &[coding]), Err(ErrorKind::BadRequest));
            assert!(begin.elapsed() < Duration::from_secs(1), "{coding:?}: {:?}", begin.elapsed());
        }
    }

    /// A bomb costs no more than the limit, at whatever step it goes off.
    #[test]
    fn a_body_that_grows_over_the_limit_is_refused() {
        for coding in ALL {
            let bomb = encode(coding, &vec![b' '; 64 * LIMIT]);
            assert!(bomb.len() < LIMIT);
            assert_eq!(decoded(&bomb, &[coding]), Err(ErrorKind::TooLarge));
            assert_eq!(decoded(&encode(coding, &vec![b' '; LIMIT]), &[coding]), Ok(vec![b' '; LIMIT]));
        }
    }

    fn of(values: &[&'static str]) -> Result<Vec<Coding>, ErrorKind> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        codings(&headers).map_err(|error| error.kind)
    }

    #[test]
    fn a_body_has_one_coding_at_most() {
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["identity", ""]), Ok(vec![]));
        assert_eq!(of(&["X-GZip , identity", ""]), Ok(vec![Coding::Gzip]));
        assert_eq!(of(&["Deflate"]), Ok(vec![Coding::Deflate]));
        let twice = &["gzip", "deflate, identity"];
        for unknown in
            [&["br"][..], &["gzip, compress"], &["gzip", "x"], &["gzip,gzip"], twice, &["gzip;q=1"]]
        {
            assert_eq!(of(unknown), Err(ErrorKind::UnsupportedMedia));
        }
    }
}
