//! Each operation on the embedded ClickHouse server.

use ponix_stack::{ClickHouse, Mode, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Runs a statement over plain HTTP and returns the body of a 200.
async fn sql(
    clickhouse: &ClickHouse,
    addr: std::net::SocketAddr,
    statement: &str,
) -> Result<String, String> {
    let (user, password) = (clickhouse.user(), clickhouse.password());
    let request = format!(
        "POST / HTTP/1.0\r\nX-ClickHouse-User: {user}\r\nX-ClickHouse-Key: {password}\r\n\
         Content-Length: {}\r\n\r\n{statement}",
        statement.len()
    );
    let mut answer = String::new();
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    exchange.await.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no header")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim().to_owned()),
        _ => Err(body.trim().to_owned()),
    }
}

#[tokio::test]
async fn keeps_its_data_and_port_over_kill_and_stop() {
    let clickhouse = ClickHouse::builder()
        .user_password("u", "p")
        .start()
        .await
        .unwrap();
    let addr = clickhouse.addr();
    let ask = |statement| sql(&clickhouse, addr, statement);
    ask("CREATE TABLE default.t (n Int64) ENGINE = MergeTree ORDER BY n")
        .await
        .unwrap();
    ask("INSERT INTO default.t VALUES (40)").await.unwrap();
    clickhouse.kill().await.unwrap();
    clickhouse.start_again().await.unwrap();
    ask("INSERT INTO default.t VALUES (2)").await.unwrap();
    let status = clickhouse.stop().await.unwrap();
    assert!(status.success(), "{status}: {}", clickhouse.log_tail());
    clickhouse.restart().await.unwrap();
    assert_eq!(ask("SELECT sum(n) FROM default.t").await.unwrap(), "42");
    assert_eq!(clickhouse.addr(), addr);
}

#[tokio::test]
async fn knows_only_its_own_password() {
    let clickhouse = ClickHouse::start().await.unwrap();
    assert_eq!(
        (clickhouse.user(), clickhouse.password()),
        ("ponix", "ponix")
    );
    let other = ClickHouse::builder().user_password("ponix", "other");
    let other = other.start().await.unwrap();
    assert_eq!(
        sql(&clickhouse, clickhouse.addr(), "SELECT 1")
            .await
            .unwrap(),
        "1"
    );
    sql(&clickhouse, other.addr(), "SELECT 1")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn an_insert_whose_answer_is_swallowed_is_stored() {
    let clickhouse = ClickHouse::start().await.unwrap();
    let proxy = Proxy::start(clickhouse.addr()).await.unwrap();
    let ask = |addr, statement| sql(&clickhouse, addr, statement);
    let create = "CREATE TABLE default.t (n Int64) ENGINE = MergeTree ORDER BY n";
    ask(proxy.addr(), create).await.unwrap();
    proxy.set(Mode::SwallowResponse).await;
    ask(proxy.addr(), "INSERT INTO default.t VALUES (1)")
        .await
        .unwrap_err();
    assert_eq!(proxy.counters().responses_swallowed, 1);
    proxy.set(Mode::Pass).await;
    assert_eq!(
        ask(proxy.addr(), "SELECT count() FROM default.t")
            .await
            .unwrap(),
        "1"
    );
}
