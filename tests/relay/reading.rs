//! Login pages that a portal compresses although it was asked not to, or writes in EUC-KR: recognised for what they are by
//! the relay and by the keeper's check, and passed on byte for byte where they are not.

use std::io::Write;

use encoding_rs::EUC_KR;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use nightporter::clock;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::house::{House, PATIENCE, Running, Seed, held};
use super::mirror::{Mirror, call};

const PAGE: &str = "<meta charset=euc-kr><h1>한빛택배</h1><p>로그인이 필요한 서비스입니다. 똠방각하</p>";
/// "로그인이 필요한 서비스입니다." in Brotli, by Node's zlib.
const BROTLI: &str = "0b1880eba19ceab7b8ec9db8ec9db420ed9584ec9a94ed959c20ec849cebb984ec8aa4ec9e85eb8b88eb8ba42e03";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn answer(coding: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let coding = if coding.is_empty() { String::new() } else { format!("Content-Encoding: {coding}\r\n") };
    let head = format!("HTTP/1.1 200 OK\r\n{coding}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn start(mirror: &Mirror) -> (House, Running) {
    let recipe = mirror.recipe(", { body = \"로그인이 필요\" }, { json = { \"/error\" = \"로그인 필요\" } }");
    let house = House::new(&recipe, &[Seed::new("a", "sid-a"), Seed::new("b", "sid-b")], &held()).await;
    let running = house.start().await;
    (house, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_is_one_in_every_coding_and_charset() {
    let korean = EUC_KR.encode(PAGE).0;
    let json = "{\"ok\": false, \"error\": \"로그인 필요\"}";
    let brotli = data_encoding::HEXLOWER.decode(BROTLI.as_bytes()).unwrap();
    for (coding, kind, body) in [
        ("", "text/html; charset=EUC-KR", korean.to_vec()),
        ("", "text/html", korean.to_vec()),
        ("gzip", "text/html;charset=cp949", gzip(&korean)),
        ("deflate", "text/html", deflate(&korean)),
        ("br", "text/html; charset=utf-8", brotli),
        ("zstd", "text/html", compress_to_vec(&*korean, CompressionLevel::Fastest)),
        ("gzip", "application/json; charset=utf-8", gzip(json.as_bytes())),
        ("", "application/json; charset=euc-kr", EUC_KR.encode(json).0.to_vec()),
    ] {
        let mirror = Mirror::start().await;
        let (_house, running) = start(&mirror).await;
        mirror.answer("/page", answer(coding, kind, &body));
        // Twice the sign of an expiry, and the check says that the session lives: so the page is the caller's to see.
        let seen = call(&running, "GET", "/page", "Accept-Encoding: gzip\r\n", b"").await;
        assert_eq!((seen.status, seen.head.all("x-session-id")), (200, vec!["b"]), "{coding} {kind}");
        assert_eq!((running.events("expired").await, running.events("failover").await), (1, 1), "{coding} {kind}");
        assert_eq!(seen.head.all("content-encoding"), Vec::from_iter((!coding.is_empty()).then_some(coding)));
        assert_eq!((seen.body, seen.head.all("content-type")), (body, vec![kind]), "byte for byte");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_reads_it_and_an_ordinary_page_passes_as_it_is() {
    let mirror = Mirror::start().await;
    let (_house, running) = start(&mirror).await;
    let ordinary = gzip("<p>로그인이 되어 있습니다</p>".repeat(9000).as_bytes());
    mirror.answer("/page", answer("gzip", "text/html", &ordinary));
    let seen = call(&running, "GET", "/page", "", b"").await;
    assert_eq!((seen.body == ordinary, running.events("expired").await), (true, 0));
    mirror.answer("/check", answer("gzip", "text/html", &gzip(&EUC_KR.encode(PAGE).0)));
    assert_eq!(running.order("resume").await, 200);
    let expired = async {
        while running.events("expired").await < 2 {
            tokio::task::yield_now().await;
        }
    };
    clock::within(PATIENCE, expired).await.unwrap();
    running.stop().await;
}
