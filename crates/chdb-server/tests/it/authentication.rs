//! Who may send statements over the wire.

use hyper::{Method, StatusCode};

use crate::server::server_or_skip;

#[tokio::test]
async fn only_the_configured_user_gets_in() {
    let server = server_or_skip!("--user", "ponix", "--password", "secret");
    let ask = async |parameters: &[(&str, &str)], headers: &[(&str, &str)]| {
        server
            .request(Method::POST, parameters, headers, "SELECT 1")
            .await
    };
    assert_eq!(
        ask(&[("user", "ponix"), ("password", "secret")], &[])
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        ask(
            &[],
            &[
                ("x-clickhouse-user", "ponix"),
                ("x-clickhouse-key", "secret")
            ]
        )
        .await
        .status,
        StatusCode::OK
    );
    assert_eq!(
        ask(&[], &[("authorization", "Basic cG9uaXg6c2VjcmV0")])
            .await
            .status,
        StatusCode::OK
    );
    for (parameters, headers) in [
        (vec![], vec![]),
        (vec![("user", "ponix"), ("password", "wrong")], vec![]),
        (vec![], vec![("authorization", "Basic cG9uaXg6d3Jvbmc=")]),
    ] {
        let reply = ask(&parameters, &headers).await;
        reply.assert_code(516);
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(!reply.text().contains("secret"));
    }
    assert!(!server.process.log().unwrap().contains("secret"));
}
