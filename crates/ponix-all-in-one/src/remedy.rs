//! What to do about a store that cannot be reached, by what its error says.

/// A store, and where it is configured.
struct Store {
    name: &'static str,
    url: &'static str,
    login: &'static str,
    without_tls: &'static str,
}

const CLICKHOUSE: Store = Store {
    name: "ClickHouse",
    url: "PONIX_CLICKHOUSE_URL",
    login: "PONIX_CLICKHOUSE_USERNAME and PONIX_CLICKHOUSE_PASSWORD",
    without_tls: "http://",
};
const POSTGRES: Store = Store {
    name: "PostgreSQL",
    url: "PONIX_POSTGRES_URL",
    login: "user and password in PONIX_POSTGRES_URL, or PONIX_POSTGRES_PASSWORD",
    without_tls: "?sslmode=disable",
};

/// Returns what to do, where an error of a store is one of its connection, its login or its database.
pub(crate) fn of(error: &str) -> Option<String> {
    let store = if error.contains("clickhouse") {
        CLICKHOUSE
    } else if error.contains("postgresql") {
        POSTGRES
    } else {
        return None;
    };
    let Store {
        name,
        url,
        login,
        without_tls,
    } = store;
    let has = |words: &[&str]| words.iter().any(|words| error.contains(words));
    Some(if has(&["Connection refused"]) {
        format!("nothing listens there: start {name}, or set its host and port in {url}")
    } else if has(&["failed to lookup address", "dns error"]) {
        format!("there is no such host: set it in {url}")
    } else if has(&["InvalidContentType", "does not support TLS"]) {
        format!("the server speaks no TLS at this port: write {without_tls} in {url}")
    } else if has(&["invalid peer certificate"]) {
        format!("the server's certificate is not trusted here: look at the host in {url}")
    } else if has(&[
        "invalid HTTP version",
        "unexpected message",
        "bytes remaining on stream",
    ]) {
        format!("something else than {name} listens there, or it wants TLS: look at {url}")
    } else if has(&["with code 516", "with code 194", "with 28P01", "with 28000"]) {
        format!("check {login}")
    } else if has(&["with 3D000"]) {
        format!("create the database, or name another one in {url}")
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn both_stores_are_spoken_of_alike() {
        for (error, told) in [
            (
                "no connection to clickhouse: tcp connect error: Connection refused (os error 111)",
                "nothing listens there: start ClickHouse, or set its host and port in PONIX_CLICKHOUSE_URL",
            ),
            (
                "no connection to postgresql: error connecting to server: Connection refused (os error 111)",
                "nothing listens there: start PostgreSQL, or set its host and port in PONIX_POSTGRES_URL",
            ),
            (
                "postgresql answered with 28P01: password authentication failed",
                "check user and password in PONIX_POSTGRES_URL, or PONIX_POSTGRES_PASSWORD",
            ),
        ] {
            assert_eq!(of(error).as_deref(), Some(told));
        }
        assert_eq!(of("the stream has other settings"), None);
        assert_eq!(of("clickhouse answered with code 60: no table"), None);
    }
}
