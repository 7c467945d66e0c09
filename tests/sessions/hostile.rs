//! Input at and beyond the borders: what is taken comes back as it was, and what is not is refused by name.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::desk::Desk;
use crate::told::Told;

const NEW: (&str, &str) = ("if-none-match", "*");

fn sized(length: usize) -> String {
    format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(length))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_goes_out_byte_for_byte() {
    let desk = Desk::new("").await;
    for data in [
        r#"{"n":123456789012345678901234567890.12300,"z":-0,"e":1E+2,"t":1e-999}"#,
        r#"{"가":"😀 \ud83d\ude00 \u0000","\u0000":"\/"}"#,
        "{ \"a\" :\n\t[ 1 , null ] }",
        "{}",
    ] {
        let made = desk.send(Method::POST, "a", &format!(r#"{{"data":{data}}}"#)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let read = desk.get(&format!("a/{}", made.id())).await;
        assert!(read.text.contains(&format!(r#""data":{data},"#)), "{data} became {}", read.text);
        let merged = desk.send(Method::PATCH, &format!("a/{}", made.id()), r#"{"data":{"more":1}}"#).await;
        for kept in ["123456789012345678901234567890.12300", "\\ud83d\\ude00 \\u0000", "[ 1 , null ]"] {
            assert_eq!(data.contains(kept), merged.text.contains(kept), "{}", merged.text);
        }
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_reader_could_hold_is_refused_by_name() {
    let desk = Desk::new("").await;
    let deep = |levels: usize| format!(r#"{{"data":{}{{}}{}}}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels));
    for (body, problem) in [
        (r#"{"data":{"a":[1,{"b":1e400}]}}"#.to_owned(), (422, "invalid_field", "data.a[1].b")),
        (r#"{"data":{"a":"\ud800"}}"#.to_owned(), (422, "invalid_field", "data.a")),
        (r#"{"data":{"a":"\udc00x"}}"#.to_owned(), (422, "invalid_field", "data.a")),
        (r#"{"data":{"a":{"\ud800":1}}}"#.to_owned(), (422, "invalid_field", "data.a")),
        (r#"{"data":{"a":1,"\u0061":2}}"#.to_owned(), (400, "duplicate_field", "data.a")),
        (deep(63), (400, "invalid_json", "")),
        (deep(20_000), (400, "invalid_json", "")),
        (r#"{"data":{},"ttl":"-1s"}"#.to_owned(), (422, "invalid_field", "ttl")),
        (r#"{"data":{},"ttl":"18446744073709551616ms"}"#.to_owned(), (422, "invalid_field", "ttl")),
        (r#"{"data":{},"ttl":"18446744073709551615ms"}"#.to_owned(), (422, "invalid_field", "ttl")),
        (format!(r#"{{"data":{{}}{}}}"#, " ".repeat(1 << 20)), (413, "body_too_large", "")),
    ] {
        let told = desk.send(Method::POST, "a", &body).await;
        assert_eq!(told.problem(), problem, "{body:.80}: {}", told.text);
    }
    assert_eq!(desk.send(Method::POST, "a", &deep(62)).await.status, 201);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_full_at_its_last_byte() {
    let desk = Desk::new("").await;
    let over = desk.send_if(Method::PUT, "a/x", &sized(65_000), &[NEW]).await;
    assert_eq!(over.problem(), (413, "record_too_large", "data"));
    let numbers = |text: &str| -> Vec<usize> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let told = numbers(over.body["detail"].as_str().unwrap());
    let largest = 65_000 - (told[0] - told[1]);
    assert!(largest > 63_000, "{largest} bytes are promised");
    assert_eq!(desk.send_if(Method::PUT, "a/x", &sized(largest + 1), &[NEW]).await.status, 413);
    assert_eq!(desk.send_if(Method::PUT, "a/x", &sized(largest), &[NEW]).await.status, 201);
    let merged = desk.send(Method::PATCH, "a/x", r#"{"data":{"y":1}}"#).await;
    assert_eq!(merged.problem(), (413, "record_too_large", "data"));
    assert_eq!(desk.get("a/x").await.body["version"], 1);
    // A page ends at about a megabyte, and the next one goes on.
    for n in 0..40 {
        desk.send_if(Method::PUT, &format!("a/{n}"), &sized(largest), &[NEW]).await;
    }
    let (mut seen, mut path) = (0, "a?limit=500".to_owned());
    loop {
        let page = desk.get(&path).await;
        assert!(page.text.len() < 3 << 20, "{}", page.text.len());
        seen += page.body["sessions"].as_array().unwrap().len();
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("a?limit=500&cursor={next}");
    }
    assert_eq!(seen, 41);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_are_refused_before_anything_is_made() {
    let desk = Desk::new("").await;
    let long = "x".repeat(257);
    for id in ["a%2Fb", "a%0Ab", "%C2%85", "%ff", "%2E", "%2e%2E", &long] {
        let told = desk.raw("PUT", &format!("a/{id}"), "If-None-Match: *\r\n", r#"{"data":{}}"#).await;
        assert!(told.starts_with("HTTP/1.1 400 ") && told.contains(r#""field":"id""#), "{id}: {told}");
    }
    let told = desk.send_if(Method::PUT, "a/changes", r#"{"data":{}}"#, &[NEW]).await;
    assert_eq!(told.problem().0, 405, "that is the stream's name");
    assert_eq!(desk.send_if(Method::PUT, &format!("a/{}", &long[1..]), r#"{"data":{}}"#, &[NEW]).await.status, 201);
    let korean = "%EA%B0%80".repeat(85);
    assert_eq!(desk.send_if(Method::PUT, &format!("a/{korean}"), r#"{"data":{}}"#, &[NEW]).await.status, 201);
    for space in ["a%2Fb", "A", "-a", "a.b", "%EA%B0%80", &long[..65]] {
        let told = desk.send_if(Method::PUT, &format!("{space}/x"), r#"{"data":{}}"#, &[NEW]).await;
        assert_eq!(told.problem(), (400, "invalid_path", "space"), "{space}");
    }
    assert_eq!(desk.get("a").await.body["sessions"].as_array().unwrap().len(), 2);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_means_exactly_what_it_says() {
    let desk = Desk::new("").await;
    desk.send_if(Method::PUT, "a/x", r#"{"data":{}}"#, &[NEW]).await;
    let put = |path: &'static str, headers: &'static [(&'static str, &'static str)]| {
        desk.send_if(Method::PUT, path, r#"{"data":{}}"#, headers)
    };
    for (path, headers, status) in [
        ("a/x", &[("if-match", "W/\"1\"")][..], 412),
        ("a/x", &[("if-match", "1")], 400),
        ("a/x", &[("if-match", "")], 400),
        ("a/x", &[("if-match", "\"99999999999999999999999\"")], 412),
        ("a/x", &[("if-none-match", "*"), ("if-match", "\"1\"")], 412),
        // Only "*" says that nothing is overwritten.
        ("a/x", &[("if-none-match", "\"7\"")], 428),
        ("a/y", &[("if-none-match", "\"7\"")], 428),
        ("a/y", &[("if-match", "*")], 412),
        ("a/x", &[("if-match", "\"0\", \"1\"")], 200),
        ("a/x", &[("if-match", "*")], 200),
    ] {
        assert_eq!(put(path, headers).await.status, status, "{path} {headers:?}");
    }
    assert_eq!(desk.get("a/x").await.body["version"], 3);
    for (tag, status) in
        [("\"3\"", 304), ("\"1\", \"3\"", 304), ("*", 304), ("W/\"3\"", 304), ("\"1\"", 200), ("3", 400)]
    {
        let told = Told::of(desk.ask(Method::GET, "a/x").header("if-none-match", tag).send().await.unwrap()).await;
        assert_eq!(told.status, status, "{tag}");
    }
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_never_comes_again_whatever_became_of_the_record() {
    let mut desk = Desk::new("").await;
    let mut last = 0;
    for (round, end) in ["delete", "expire", "sweep", "restart"].into_iter().cycle().take(12).enumerate() {
        let made = desk.send_if(Method::PUT, "a/x", r#"{"data":{},"ttl":"1s"}"#, &[NEW]).await;
        let version = made.body["version"].as_u64().unwrap_or_else(|| panic!("{round} {end}: {}", made.text));
        assert!(version > last, "{round} {end}: {version} after {last}");
        let changed = desk.send(Method::PATCH, "a/x", r#"{"data":{"n":1}}"#).await;
        last = changed.body["version"].as_u64().unwrap();
        assert_eq!(last, version + 1);
        match end {
            "delete" => assert_eq!(desk.send(Method::DELETE, "a/x", "").await.status, 204),
            "expire" => desk.clock.advance(Duration::from_millis(1000)),
            "sweep" => {
                desk.clock.advance(Duration::from_millis(1000));
                desk.sweep().await;
            }
            _ => {
                desk.clock.advance(Duration::from_millis(1000));
                desk.restart().await;
            }
        }
        let stale = desk.send_if(Method::PATCH, "a/x", r#"{"data":{}}"#, &[("if-match", "\"2\"")]).await;
        assert_eq!((stale.status, &stale.body["field"]), (404, &Value::from("id")));
    }
    desk.stop().await;
}
