//! What a recipe's predicates read of an answer: its body as UTF-8, whatever coding and charset the portal chose.
//!
//! Older Korean portals compress although they were asked not to, and write EUC-KR (CP949). This undoes both for the
//! beginning of a body, into bounded memory. It is for looking only: what a caller gets is the portal's own bytes.

use std::borrow::Cow;
use std::io::Read;

use encoding_rs::{EUC_KR, Encoding, UTF_8};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use ruzstd::decoding::StreamingDecoder;

/// How much plain text is made of a compressed beginning: a login page shows itself early, a bomb does not grow further.
const PLAIN: usize = 256 * 1024;
/// Codings undone, one within the other; nobody has a good reason for more than one.
const CODINGS: usize = 3;
/// The largest window of a Zstandard answer: what RFC 9659 allows for HTTP.
const WINDOW: u64 = 8 * 1024 * 1024;
/// How far into a page its `<meta charset>` is looked for. Browsers look 1 KiB far; scripts often stand before it.
const HEAD: usize = 4 * 1024;

/// The beginning of a body as text. Of a coding that is not known the bytes stay as they are.
///
/// A Zstandard answer that is longer than what was looked at may stay unread: its blocks need the whole window.
pub(super) fn text<'a>(headers: &HeaderMap, body: &'a [u8]) -> Cow<'a, [u8]> {
    let plain = decompressed(headers, body);
    let encoding = charset(headers, &plain);
    if encoding == UTF_8 {
        return plain;
    }
    let (text, _, _) = encoding.decode(&plain);
    Cow::Owned(text.into_owned().into_bytes())
}

fn decompressed<'a>(headers: &HeaderMap, body: &'a [u8]) -> Cow<'a, [u8]> {
    let lines = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut plain = Cow::Borrowed(body);
    // The last one was applied last.
    for _ in 0..CODINGS {
        let Some(coding) = codings.pop() else { break };
        match undo(&coding.to_ascii_lowercase(), &plain) {
            Some(undone) => plain = Cow::Owned(undone),
            None if coding.is_empty() || coding.eq_ignore_ascii_case("identity") => {}
            None => break,
        }
    }
    plain
}

/// Undoes one coding as far as the bytes reach; None when it is none that changes them.
fn undo(coding: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(match coding {
        "gzip" | "x-gzip" => start_of(MultiGzDecoder::new(bytes)),
        // The standard says zlib, some servers send the bare stream.
        "deflate" => match start_of(ZlibDecoder::new(bytes)) {
            plain if plain.is_empty() => start_of(DeflateDecoder::new(bytes)),
            plain => plain,
        },
        "br" => start_of(brotli_decompressor::Decompressor::new(bytes, HEAD)),
        "zstd" => StreamingDecoder::new_with_max_window_size(bytes, WINDOW).map(start_of).unwrap_or_default(),
        _ => return None,
    })
}

/// What a decoder gives until its bytes end, in order or not, at most [`PLAIN`].
fn start_of(mut decoder: impl Read) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut piece = [0; 8 * 1024];
    while plain.len() < PLAIN {
        match decoder.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => plain.extend_from_slice(&piece[..read.min(PLAIN - plain.len())]),
        }
    }
    plain
}

/// The charset that the answer names, in its head or in the page; what names none and is not UTF-8 is taken for EUC-KR.
fn charset(headers: &HeaderMap, plain: &[u8]) -> &'static Encoding {
    if let Some((marked, _)) = Encoding::for_bom(plain) {
        return marked;
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = kind.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| labelled(value.trim().trim_matches('"'))).flatten()
    });
    let is_page = plain.trim_ascii_start().starts_with(b"<");
    named
        .or_else(|| if is_page { in_page(plain) } else { None })
        .unwrap_or_else(|| if is_utf8(plain) { UTF_8 } else { EUC_KR })
}

/// What a `<meta>` element names as the page's charset.
fn in_page(plain: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&plain[..plain.len().min(HEAD)]).to_ascii_lowercase();
    head.split("<meta").skip(1).find_map(|rest| {
        let (_, value) = rest.split('>').next()?.split_once("charset")?;
        let value = value.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
        labelled(value.split(|end: char| !end.is_ascii_alphanumeric() && !"-_:.".contains(end)).next()?)
    })
}

/// The charset of a label, by the rules of the web and with the names that Korean servers have for EUC-KR besides.
fn labelled(label: &str) -> Option<&'static Encoding> {
    let korean = ["cp949", "ms949", "uhc", "x-windows-949"];
    if korean.iter().any(|name| label.eq_ignore_ascii_case(name)) {
        return Some(EUC_KR);
    }
    Encoding::for_label(label.as_bytes())
}

/// Whether it is UTF-8 as far as it goes: a character may be cut at the end.
fn is_utf8(plain: &[u8]) -> bool {
    std::str::from_utf8(plain).map_or_else(|error| error.error_len().is_none(), |_| true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use hyper::header::HeaderValue;

    use super::*;

    const TEXT: &str = "<p>로그인이 필요한 서비스입니다. 똠방각하</p>";

    const BROTLI: &[u8] = b"1bb900f81d076e2cdac8922f5a87c009471ad08112a46fbd6d636fc120f226486814787a8e204b9f17b848319a60dbb1f55f6aa9dd8cd1d1c71a51f9687367812ae4176411e703c6d206";

    fn headers(coding: &'static str, kind: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(coding: &'static str, bytes: &[u8]) -> String {
        String::from_utf8(text(&headers(coding, "text/html; charset=utf-8"), bytes).into_owned()).unwrap()
    }

    #[test]
    fn every_coding_of_the_web_is_undone() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT.as_bytes()).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        bare.write_all(TEXT.as_bytes()).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(TEXT.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        for (coding, bytes) in [
            ("gzip", gzip(TEXT.as_bytes())),
            ("X-GZIP", gzip(TEXT.as_bytes())),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", bare.finish().unwrap()),
            ("zstd", zstd),
            ("identity", TEXT.as_bytes().to_vec()),
            ("gzip, gzip", gzip(&gzip(TEXT.as_bytes()))),
            ("identity, gzip", gzip(TEXT.as_bytes())),
            ("", TEXT.as_bytes().to_vec()),
        ] {
            assert_eq!(read(coding, &bytes), TEXT, "{coding}");
        }
        // Three times the text, compressed by Node's zlib.
        let brotli = data_encoding::HEXLOWER.decode(BROTLI).unwrap();
        assert_eq!(read("br", &brotli), TEXT.repeat(3));
        assert_eq!(read("compress", b"\x1f \x1e"), "\x1f \x1e", "what is not known stays as it is");
    }

    #[test]
    fn a_cut_answer_is_read_as_far_as_it_goes_and_a_bomb_no_further() {
        let page: String = (0..9000).map(|number| format!("{number} ")).collect();
        let whole = gzip(page.as_bytes());
        let start = read("gzip", &whole[..whole.len() / 2]);
        assert!(start.len() > 1000 && page.starts_with(&start), "{} bytes", start.len());
        assert_eq!(read("gzip", &gzip(&vec![b'x'; 64 << 20])).len(), PLAIN);
        for junk in ["gzip", "deflate", "br", "zstd"] {
            assert!(text(&headers(junk, "text/html"), b"\xff\xfe no such thing").len() <= PLAIN, "{junk}");
        }
    }

    #[test]
    fn korean_of_any_charset_is_read() {
        let (korean, _, lost) = EUC_KR.encode(TEXT);
        assert!(!lost);
        let with = |head: &str| [head.as_bytes(), &korean].concat();
        for (kind, head) in [
            ("text/html; charset=EUC-KR", ""),
            ("text/html;charset=\"cp949\"", ""),
            ("text/html; boundary=x; Charset=ks_c_5601-1987", ""),
            ("text/html", "<META http-equiv='Content-Type' content='text/html; charset=euc-kr'>"),
            ("text/html", "<meta name=viewport><meta charset = \"MS949\" >"),
            ("text/html", ""),
            ("text/html; charset=no-such-thing", ""),
        ] {
            let bytes = with(head);
            let told = String::from_utf8(text(&headers("", kind), &bytes).into_owned()).unwrap();
            assert_eq!(told, format!("{head}{TEXT}"), "{kind} {head}");
        }
        let utf16: Vec<u8> = [0xfeff].into_iter().chain(TEXT.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert!(String::from_utf8_lossy(&text(&headers("", "text/html"), &utf16)).contains("로그인이"));
        let cut = &TEXT.as_bytes()[..4];
        assert_eq!(text(&headers("", "text/html"), cut), cut, "a character cut in two is still UTF-8");
    }
}
