//! Header blocks: names and values, compressed over the whole session with a dictionary that both sides know.

use crate::frame::Error;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::sync::LazyLock;

/// Names in lower case and values, in order; a name with several values comes several times.
pub type Headers = Vec<(String, String)>;

/// The most bytes that a header block may have uncompressed.
pub const HEADERS_MAX: usize = 64 << 10;

/// How much is decompressed at once.
const CHUNK: usize = 4 << 10;

/// The words that the dictionary of SPDY/3 begins with (section 2.6.10.1), each behind its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host \
    if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// What follows the words.
const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052\
    03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
    Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=\
    utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for word in WORDS.split_whitespace() {
        put(&mut all, &word.replace('_', " "));
    }
    all.extend_from_slice(TAIL.as_bytes());
    all
});

fn put(block: &mut Vec<u8>, text: &str) {
    block.extend_from_slice(&(text.len() as u32).to_be_bytes());
    block.extend_from_slice(text.as_bytes());
}

/// Reads the header blocks of one direction, each of them once and in order.
#[derive(Debug)]
pub(crate) struct Inflater(Decompress);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn read(&mut self, compressed: &[u8]) -> Result<Headers, Error> {
        parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut block = Vec::new();
        loop {
            let (mut chunk, read, written) = ([0; CHUNK], self.0.total_in(), self.0.total_out());
            let status = match self.0.decompress(input, &mut chunk, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| Error::Headers)?;
                    Status::Ok
                }
                Err(_) => return Err(Error::Headers),
            };
            let (read, written) = ((self.0.total_in() - read) as usize, (self.0.total_out() - written) as usize);
            input = input.get(read..).ok_or(Error::Headers)?;
            block.extend_from_slice(&chunk[..written]);
            match status {
                _ if block.len() > HEADERS_MAX => return Err(Error::HeadersTooLarge),
                Status::StreamEnd => return Err(Error::Headers),
                // All is read, and nothing waits for room.
                _ if input.is_empty() && written < CHUNK => return Ok(block),
                Status::BufError if read == 0 && written == 0 => return Err(Error::Headers),
                _ => {}
            }
        }
    }
}

fn parse(block: &[u8]) -> Result<Headers, Error> {
    let mut rest = block;
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    // Every pair has eight bytes at least, so the block bounds the loop.
    for _ in 0..count {
        let (name, values) = (text(&mut rest)?, text(&mut rest)?);
        headers.extend(values.split('\0').map(|value| (name.to_ascii_lowercase(), value.to_owned())));
    }
    Ok(headers)
}

fn number(rest: &mut &[u8]) -> Result<u32, Error> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(Error::Headers)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Error> {
    let length = number(rest)? as usize;
    let (text, tail) = rest.split_at_checked(length).ok_or(Error::Headers)?;
    *rest = tail;
    std::str::from_utf8(text).map_err(|_| Error::Headers)
}

/// Writes the header blocks of one direction.
#[derive(Debug)]
pub(crate) struct Deflater(Compress);

impl Deflater {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Refused only by a stream that has begun.
        let _ = compress.set_dictionary(&DICTIONARY);
        Self(compress)
    }

    pub(crate) fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            put(&mut block, name);
            put(&mut block, value);
        }
        let (mut input, mut out) = (&block[..], Vec::with_capacity(block.len() + 64));
        loop {
            let before = self.0.total_in();
            let done = self.0.compress_vec(input, &mut out, FlushCompress::Sync);
            input = input.get((self.0.total_in() - before) as usize..).unwrap_or_default();
            // Room that is left over says that the flush is complete.
            if done.is_err() || (input.is_empty() && out.len() < out.capacity()) {
                return out;
            }
            out.reserve(CHUNK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((DICTIONARY.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_share_their_history() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let long = "x".repeat(40_000);
        let pairs = |value: &str| vec![("port".to_owned(), value.to_owned()), ("streamtype".to_owned(), "data".into())];
        for value in ["80", "80", &long, ""] {
            let block = deflater.write(&pairs(value));
            assert_eq!(inflater.read(&block), Ok(pairs(value)));
        }
        assert!(deflater.write(&pairs("80")).len() < 24, "the same again is short");
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let mut deflater = Deflater::new();
        let bomb = deflater.write(&vec![("a".to_owned(), "b".repeat(HEADERS_MAX))]);
        assert!(bomb.len() < 1000);
        assert_eq!(Inflater::new().read(&bomb), Err(Error::HeadersTooLarge));
        for block in [&b""[..], b"plain", b"\x78\xbb\xe3\xc6\xa7\xc2", &[0; 64]] {
            assert_eq!(Inflater::new().read(block), Err(Error::Headers));
        }
        for block in [&[0, 0, 0, 1][..], &[0xff; 8], &[0, 0, 0, 1, 0, 0, 0, 9, b'a']] {
            assert_eq!(parse(block), Err(Error::Headers));
        }
        let several = [&[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 3][..], b"x\0y"].concat();
        assert_eq!(parse(&several), Ok(vec![("a".into(), "x".into()), ("a".into(), "y".into())]));
    }
}
