//! Compression by HTTP; ClickHouse's own frames are tested with the clickhouse crate.

use async_compression::tokio::bufread::{
    GzipDecoder, GzipEncoder, Lz4Decoder, Lz4Encoder, ZstdDecoder, ZstdEncoder,
};
use hyper::{Method, StatusCode};
use tokio::io::AsyncReadExt;

use crate::server::server_or_skip;

async fn all(mut reader: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn bodies_go_both_ways_in_every_encoding() {
    let server = server_or_skip!();
    server
        .sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let rows: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    for encoding in ["gzip", "zstd", "lz4"] {
        server.sql("TRUNCATE TABLE t").await;
        let plain = rows.as_bytes();
        let packed = match encoding {
            "gzip" => all(GzipEncoder::new(plain)).await,
            "zstd" => all(ZstdEncoder::new(plain)).await,
            _ => all(Lz4Encoder::new(plain)).await,
        };
        let insert = [("query", "INSERT INTO t FORMAT TSV")];
        let headers = [("content-encoding", encoding)];
        let cut = packed[..packed.len() / 2].to_vec();
        let reply = server.request(Method::POST, &insert, &headers, cut).await;
        assert_ne!(reply.status, StatusCode::OK, "{encoding}");
        assert_eq!(server.sql("SELECT count() FROM t").await, "0");
        let reply = server
            .request(Method::POST, &insert, &headers, packed)
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{encoding}: {}", reply.text());

        let headers = [("accept-encoding", encoding)];
        let reply = server
            .request(Method::POST, &[], &headers, "SELECT a FROM t ORDER BY a")
            .await;
        assert_eq!(reply.header("content-encoding"), encoding);
        let unpacked = match encoding {
            "gzip" => all(GzipDecoder::new(reply.body.as_slice())).await,
            "zstd" => all(ZstdDecoder::new(reply.body.as_slice())).await,
            _ => all(Lz4Decoder::new(reply.body.as_slice())).await,
        };
        assert!(
            reply.body.len() < unpacked.len() && unpacked == plain,
            "{encoding}"
        );
        // An exception is readable by every client.
        let failed = server
            .request(Method::POST, &[], &headers, "SELECT nosuch")
            .await;
        failed.assert_code(47);
    }
}

#[tokio::test]
async fn a_client_may_refuse_compression() {
    let server = server_or_skip!();
    let headers = [("accept-encoding", "gzip")];
    let reply = server
        .request(
            Method::POST,
            &[("enable_http_compression", "0")],
            &headers,
            "SELECT 1",
        )
        .await;
    assert_eq!(
        (reply.header("content-encoding"), reply.text().as_str()),
        ("", "1\n")
    );
    let reply = server
        .request(Method::POST, &[], &[("content-encoding", "br")], "x")
        .await;
    reply.assert_code(48);
}

#[tokio::test]
async fn frames_of_clickhouse_are_read_and_written() {
    let server = server_or_skip!();
    let reply = server
        .post(&[("compress", "1")], "SELECT 'abc' FORMAT RowBinary")
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    let frame = reply.body;
    // Checksum, method LZ4, both sizes, data.
    assert_eq!(frame[16], 0x82);
    assert_eq!(
        u32::from_le_bytes(frame[17..21].try_into().unwrap()) as usize,
        frame.len() - 16
    );
    assert_eq!(u32::from_le_bytes(frame[21..25].try_into().unwrap()), 4);

    server
        .sql("CREATE TABLE t (s String) ENGINE = Memory")
        .await;
    let insert = [
        ("query", "INSERT INTO t FORMAT RowBinary"),
        ("decompress", "1"),
    ];
    let mut damaged = frame.clone();
    *damaged.last_mut().unwrap() ^= 1;
    server.post(&insert, damaged).await.assert_code(40);
    server
        .post(&insert, frame[..frame.len() - 1].to_vec())
        .await
        .assert_code(271);
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
    assert_eq!(server.post(&insert, frame).await.status, StatusCode::OK);
    assert_eq!(server.sql("SELECT s FROM t").await, "abc");
}

#[tokio::test]
async fn a_failure_in_a_compressed_result_is_readable() {
    let server = server_or_skip!();
    let statement = "SELECT toString(number), throwIf(number = 3000000) FROM numbers(4000000)";
    let headers = [("accept-encoding", "gzip")];
    let reply = server
        .request(Method::POST, &[("max_threads", "1")], &headers, statement)
        .await;
    assert!(reply.cut && reply.status == StatusCode::OK);
    let mut text = Vec::new();
    let mut decoder = GzipDecoder::new(reply.body.as_slice());
    decoder.multiple_members(true);
    decoder.read_to_end(&mut text).await.unwrap();
    let end = String::from_utf8_lossy(&text[text.len() - 400..]);
    assert!(
        end.contains("Code: 395. DB::Exception: ") && end.ends_with("__exception__\r\n"),
        "{end}"
    );
}
