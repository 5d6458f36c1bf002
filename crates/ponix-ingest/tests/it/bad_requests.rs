//! What cannot be taken: the exact answer, and nothing in the stream.

use ponix_ingest::IngestConfig;
use ponix_wire::Message as _;

use crate::client::{parse, raw, send};
use crate::support::{Api, JSON, NDJSON, PROTOBUF, envelope, json, two_keys};

/// Status, code, field and a part of the message.
type Expected = (u16, &'static str, Option<&'static str>, &'static str);

async fn refused(api: &Api, headers: &[(&str, &str)], body: &[u8], expected: Expected) {
    let answer = api.post(headers, body).await;
    let shown = String::from_utf8_lossy(&body[..body.len().min(120)]);
    let (status, code, message) = answer.error();
    let body = answer.json();
    assert_eq!(
        (status, code.as_str(), body["field"].as_str()),
        (expected.0, expected.1, expected.2),
        "{headers:?} {shown}: {answer:?}"
    );
    assert!(message.contains(expected.3), "{shown}: {message}");
}

#[tokio::test]
async fn bodies_that_are_no_envelope() {
    let api = Api::start().await;
    let data = |data: &str| json("sensor-1", data, "");
    let deep = |levels: usize| {
        data(&format!(
            "{}1{}",
            "{\"a\":".repeat(levels),
            "}".repeat(levels)
        ))
    };
    let many = (0..10_000)
        .map(|n| format!("\"k{n}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    let mut not_utf8 = data(r#"{"a":"?"}"#);
    let at = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
    not_utf8[at] = 0xff;
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (b"".to_vec(), (400, "empty_body", None, "the body is empty")),
        (
            vec![b' '; (1 << 20) + 1],
            (413, "body_too_large", None, "more than 1048576 bytes"),
        ),
        (
            not_utf8,
            (400, "invalid_utf8", None, "is not UTF-8 from byte"),
        ),
        (
            b"{\"end_device_id\":\n  \"a\"".to_vec(),
            (400, "invalid_json", None, "line 2 column 5"),
        ),
        (
            b"[]".to_vec(),
            (
                400,
                "invalid_json",
                None,
                "expected an object that is an envelope",
            ),
        ),
        (
            b"{}".to_vec(),
            (
                400,
                "missing_field",
                Some("end_device_id"),
                "end_device_id is missing",
            ),
        ),
        (
            b"{} {}".to_vec(),
            (400, "invalid_json", None, "trailing characters at line 1"),
        ),
        (
            json("a", "{}", r#","occured_at":"x""#),
            (
                400,
                "unknown_field",
                Some("occured_at"),
                "occured_at is not known, did you mean occurred_at?",
            ),
        ),
        (
            json("a", "{}", r#","data":{}"#),
            (400, "invalid_value", Some("data"), "data is there twice"),
        ),
        (
            data(r#"{"a":{"b":1,"b":2}}"#),
            (
                400,
                "invalid_value",
                Some("data.a.b"),
                "data.a.b is there twice",
            ),
        ),
        (
            data("[]"),
            (400, "invalid_value", Some("data"), "data is not an object"),
        ),
        (
            deep(33),
            (
                400,
                "invalid_json",
                None,
                "data is nested deeper than 32 levels",
            ),
        ),
        (
            deep(100_000),
            (400, "invalid_json", None, "nested deeper than 32 levels"),
        ),
        (
            data(r#"{"a":1e400}"#),
            (400, "invalid_json", None, "number out of range"),
        ),
        (
            data(r#"{"a":NaN}"#),
            (400, "invalid_json", None, "expected value"),
        ),
        (
            data(r#"{"a":[0,9007199254740993]}"#),
            (400, "invalid_value", Some("data.a.1"), "beyond ±2^53"),
        ),
        (
            data(r#"{"a":"\ud800"}"#),
            (400, "invalid_json", None, "hex escape"),
        ),
        (
            data("{\"a\":\"\0\"}"),
            (400, "invalid_json", None, "control character"),
        ),
        (
            data(&format!("{{{many}}}")),
            (400, "invalid_json", None, "data has more than 1000 members"),
        ),
        (
            json("a", "{}", r#","event_id":"17""#),
            (
                400,
                "invalid_value",
                Some("event_id"),
                "event_id is not a UUID",
            ),
        ),
        (
            json("a", "{}", r#","event_id":"""#),
            (
                400,
                "invalid_value",
                Some("event_id"),
                "event_id is not a UUID",
            ),
        ),
        (
            br#"{"end_device_id":7}"#.to_vec(),
            (
                400,
                "invalid_value",
                Some("end_device_id"),
                "end_device_id is not a text: write it in quotes",
            ),
        ),
    ];
    for (body, expected) in cases {
        refused(&api, &[JSON], &body, expected).await;
    }
    assert_eq!(api.stored().await, 0);
    // What is just inside the limits is taken.
    for body in [deep(32), data(r#"{"a":9007199254740992}"#)] {
        let answer = api.post(&[JSON], &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// The fields that an answer names, and what it says of them.
fn problems(body: &serde_json::Value) -> Vec<(String, String)> {
    let errors = body["errors"].as_array().into_iter().flatten();
    let text = |problem: &serde_json::Value, key: &str| problem[key].as_str().unwrap().to_owned();
    errors
        .map(|problem| (text(problem, "field"), text(problem, "message")))
        .collect()
}

#[tokio::test]
async fn everything_that_is_wrong_with_an_envelope_is_told_at_once() {
    let api = Api::start().await;
    let wrong = br#"{"device_id":"a","occurred_at":"2026-03-01T12:00:00","processed_at":7,"event_id":"",
        "organization_id":"example-org","data":{"n":[1,9007199254740993],"a.b":1,"a%2Eb":1,"x":1,"x":2}}"#;
    let expected = [
        ("device_id", "is not known, did you mean end_device_id?"),
        ("processed_at", "is not a text"),
        ("data.n.1", "beyond ±2^53"),
        ("data.x", "is there twice"),
        ("end_device_id", "is missing"),
        ("occurred_at", "send one with its zone"),
        ("event_id", "is not a UUID"),
        ("data[\"a.b\"]", "same path as another member"),
    ];
    let answer = api.post(&[JSON], wrong).await;
    let (status, code, message) = answer.error();
    assert_eq!((status, code.as_str()), (400, "unknown_field"), "{message}");
    let check = |body: &serde_json::Value| {
        let found = problems(body);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((field, message), (expected, part)) in found.iter().zip(expected) {
            assert_eq!(field, expected, "{found:?}");
            assert!(message.contains(part), "{message}");
        }
    };
    check(&answer.json());
    // A line of many tells as much, and so does protobuf.
    let line = String::from_utf8(wrong.to_vec())
        .unwrap()
        .replace('\n', " ");
    let lines = format!(
        "{line}\n{}",
        String::from_utf8(json("a", "{}", "")).unwrap()
    );
    let answer = api.post(&[NDJSON], lines.as_bytes()).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    check(&answer.json()["results"][0]["error"]);
    let mut both = envelope("a b");
    both.occurred_at = None;
    let answer = api.post(&[PROTOBUF], &both.encode_to_vec()).await;
    let fields: Vec<_> = problems(&answer.json())
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(fields, ["end_device_id", "occurred_at"], "{answer:?}");
    // A text that ends too early is the first thing to be mended.
    let cut = br#"{"end_device_id":7,"occurred_at":7"#;
    let answer = api.post(&[JSON], cut).await;
    assert_eq!(answer.error().1, "invalid_json", "{answer:?}");
    assert_eq!(problems(&answer.json()).len(), 2, "{answer:?}");
    // One thing alone is told once.
    let answer = api
        .post(&[JSON], br#"{"occurred_at":"2026-03-01T12:00:00Z"}"#)
        .await;
    assert!(problems(&answer.json()).is_empty(), "{answer:?}");
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn devices_that_have_no_usable_id() {
    let api = Api::start().await;
    let long = "x".repeat(65);
    for device in [
        &long, "a.b", "*", "a>", "a b", "a\tb", "a\r\nb", "..", "$SYS", "ü", "a/b",
    ] {
        let expected = (
            400,
            "invalid_value",
            Some("end_device_id"),
            "must have 1 to 64 ASCII",
        );
        refused(&api, &[JSON], &json(device, "{}", ""), expected).await;
        refused(
            &api,
            &[PROTOBUF],
            &envelope(device).encode_to_vec(),
            expected,
        )
        .await;
    }
    let missing = (
        400,
        "missing_field",
        Some("end_device_id"),
        "end_device_id is missing",
    );
    refused(&api, &[JSON], &json("", "{}", ""), missing).await;
    refused(&api, &[PROTOBUF], &envelope("").encode_to_vec(), missing).await;
    assert_eq!(api.stored().await, 0);
    assert_eq!(
        api.post(&[JSON], &json(&long[1..], "{}", "")).await.status,
        202
    );
}

#[tokio::test]
async fn times_that_cannot_be_stored() {
    let api = Api::start().await;
    let at = |time: &str| format!(r#"{{"end_device_id":"a","occurred_at":"{time}","data":{{}}}}"#);
    for time in ["0001-01-01T00:00:00Z", "2300-01-01T00:00:00Z"] {
        let expected = (
            400,
            "invalid_value",
            Some("occurred_at"),
            "occurred_at is out of range",
        );
        refused(&api, &[JSON], at(time).as_bytes(), expected).await;
    }
    let expected = (
        400,
        "invalid_value",
        Some("occurred_at"),
        "not an RFC 3339 date and time: send one with its zone, such as 2026-03-01T12:00:00Z",
    );
    for time in ["yesterday", "2026-03-01T12:00:00"] {
        refused(&api, &[JSON], at(time).as_bytes(), expected).await;
    }
    // Year 2262 is storable, and more than a day ahead for a while.
    let ahead = (
        400,
        "invalid_value",
        Some("occurred_at"),
        "years ahead of now, at most one day is accepted",
    );
    refused(&api, &[JSON], at("2262-01-01T00:00:00Z").as_bytes(), ahead).await;
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn protobuf_that_is_none() {
    let api = Api::start().await;
    refused(&api, &[PROTOBUF], b"", (400, "empty_body", None, "empty")).await;
    refused(
        &api,
        &[PROTOBUF],
        b"\xff\xff\xff",
        (400, "invalid_protobuf", None, ""),
    )
    .await;
    let mut not_a_number = envelope("a");
    let nan = ponix_wire::value::Kind::NumberValue(f64::NAN);
    let fields = &mut not_a_number.data.as_mut().unwrap().fields;
    fields.insert("n".to_owned(), ponix_wire::Value { kind: Some(nan) });
    let expected = (400, "invalid_value", Some("data.n"), "data.n");
    refused(&api, &[PROTOBUF], &not_a_number.encode_to_vec(), expected).await;
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn types_and_encodings_that_are_not_known() {
    let api = Api::start().await;
    let body = json("a", "{}", "");
    let media = (415, "unsupported_media_type", None, "application/x-ndjson");
    refused(&api, &[], &body, media).await;
    refused(&api, &[("content-type", "text/html")], &body, media).await;
    let encoding = (415, "unsupported_encoding", None, "gzip or zstd");
    for name in ["br", "gzip, gzip", "deflate"] {
        refused(&api, &[JSON, ("content-encoding", name)], &body, encoding).await;
    }
    let twice = [
        JSON,
        ("content-encoding", "gzip"),
        ("content-encoding", "gzip"),
    ];
    refused(&api, &twice, &body, encoding).await;
    let broken = (
        400,
        "invalid_encoding",
        None,
        "not what its Content-Encoding says",
    );
    refused(&api, &[JSON, ("content-encoding", "gzip")], &body, broken).await;
    let packed = gzip(&body).await;
    let cut = &packed[..packed.len() - 9];
    refused(&api, &[JSON, ("content-encoding", "gzip")], cut, broken).await;
    // A gzip inside a gzip is no JSON.
    let twice = gzip(&packed).await;
    let json_error = (400, "invalid_utf8", None, "not UTF-8");
    refused(
        &api,
        &[JSON, ("content-encoding", "gzip")],
        &twice,
        json_error,
    )
    .await;
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn bombs_are_not_unpacked() {
    let api = Api::start().await;
    let gzipped = ("content-encoding", "gzip");
    let bomb = gzip(&vec![b' '; 900_000]).await;
    let ratio = (
        413,
        "compression_ratio",
        None,
        "more than 100 times its size",
    );
    refused(&api, &[JSON, gzipped], &bomb, ratio).await;
    let larger = gzip(&vec![b' '; 200 << 20]).await;
    let large = (413, "body_too_large", None, "after decompression");
    refused(&api, &[JSON, gzipped], &larger, large).await;
}

#[tokio::test]
async fn idempotency_keys_that_cannot_be_used() {
    let api = Api::start().await;
    let body = json("a", "{}", "");
    let expected = (
        400,
        "invalid_idempotency_key",
        Some("Idempotency-Key"),
        "1 to 128",
    );
    let long = "x".repeat(129);
    for key in ["", &long, "a\tb"] {
        refused(&api, &[JSON, ("idempotency-key", key)], &body, expected).await;
    }
    let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    refused(&api, &twice, &body, expected).await;
    // A lone CR in a header is not HTTP.
    let request = b"POST /v1/envelopes HTTP/1.1\r\nhost: p\r\nidempotency-key: a\rb\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(parse(&raw(api.addr, request).await).status, 400);
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn keys_that_are_not_known() {
    let api = Api::with(IngestConfig::default(), Some(two_keys())).await;
    let body = json("a", "{}", "");
    for (headers, message) in [
        (vec![JSON], "send an API key"),
        (
            vec![JSON, ("authorization", "Basic eDp5")],
            "not of the form Bearer",
        ),
        (
            vec![JSON, ("authorization", "Bearer")],
            "not of the form Bearer",
        ),
        (
            vec![JSON, ("authorization", "Bearer key-of-organization-c")],
            "is not known",
        ),
    ] {
        refused(&api, &headers, &body, (401, "unauthorized", None, message)).await;
        let answer = api.post(&headers, &body).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    // The probes need none.
    assert_eq!(send(api.addr, "GET /health", &[], b"").await.status, 200);
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    let api = Api::start().await;
    let answer = send(api.addr, "GET /v1/envelopes", &[], b"").await;
    assert_eq!(answer.error().1, "method_not_allowed");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    for path in ["/v2/envelopes", "/v1/envelopes/", "/%00", "/api"] {
        let answer = send(api.addr, &format!("GET {path}"), &[], b"").await;
        assert_eq!(
            (answer.status, answer.error().1.as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn batches_of_no_line_and_of_too_many() {
    let config = IngestConfig {
        batch_lines_max: 3,
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    refused(
        &api,
        &[NDJSON],
        b"\n \n",
        (400, "empty_body", None, "no line"),
    )
    .await;
    let lines = [&json("a", "{}", "")[..], b"\n"].concat().repeat(4);
    let many = (413, "too_many_lines", None, "4 lines, at most 3");
    refused(&api, &[NDJSON], &lines, many).await;
    assert_eq!(api.stored().await, 0);
}

/// Both lengths in one request are how requests are smuggled past a proxy.
#[tokio::test]
async fn a_body_with_two_lengths_is_not_taken() {
    let api = Api::start().await;
    let body = json("a", "{}", "");
    let head = format!(
        "POST /v1/envelopes HTTP/1.1\r\nhost: p\r\ncontent-type: application/json\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        body.len()
    );
    let answer = raw(api.addr, &[head.as_bytes(), &body].concat()).await;
    assert_eq!(parse(&answer).status, 400, "{answer}");
    assert_eq!(api.stored().await, 0);
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut packed = Vec::new();
    async_compression::tokio::bufread::GzipEncoder::new(bytes)
        .read_to_end(&mut packed)
        .await
        .unwrap();
    packed
}
