//! TLS, with a certificate that is trusted, one that is not, and none at all.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use ponix_postgres::{Postgres, PostgresConfig};
use ponix_stack::eventually;
use secrecy::{ExposeSecret, SecretString};

use crate::support::{client, config, connect, server};

/// The same server by name, with options.
fn with(config: &PostgresConfig, host: &str, options: &str) -> PostgresConfig {
    let url = config.url.expose_secret().replace("127.0.0.1", host);
    PostgresConfig {
        url: SecretString::from(format!("{url}?{options}")),
        ..config.clone()
    }
}

/// Writes a file that belongs to the server, and only to it.
fn write_as_server(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    fs::write(&path, text).expect("written");
    let owner = fs::metadata(data).expect("it is there");
    chown(&path, Some(owner.uid()), Some(owner.gid())).expect("given");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
}

async fn is_encrypted(postgres: &Postgres) -> Result<(), String> {
    postgres.ping().await.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_trusted_certificate_is_taken_for_its_name_alone() {
    let server = ponix_stack::Postgres::start().await.expect("it starts");
    let plain = config(&server, server.database());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
    let data = server.folder().join("data");
    write_as_server(&data, "server.crt", &made.cert.pem());
    write_as_server(&data, "server.key", &made.signing_key.serialize_pem());
    let sql = client(&plain).await;
    sql.batch_execute("ALTER SYSTEM SET ssl = on")
        .await
        .expect("set");
    sql.batch_execute("SELECT pg_reload_conf()")
        .await
        .expect("read again");

    let folder = tempfile::tempdir().expect("made");
    let authority = folder.path().join("ca.pem");
    fs::write(&authority, made.cert.pem()).expect("written");
    let root = format!("sslrootcert={}", authority.display());
    for mode in ["require", "verify-full"] {
        let trusting = connect(&with(
            &plain,
            "localhost",
            &format!("sslmode={mode}&{root}"),
        ));
        eventually("an encrypted answer", Duration::from_secs(30), || {
            is_encrypted(&trusting)
        })
        .await
        .expect("it is trusted");
    }
    let other_name = connect(&with(
        &plain,
        "127.0.0.1",
        &format!("sslmode=require&{root}"),
    ));
    let error = format!("{:?}", other_name.ping().await.expect_err("another name"));
    assert!(error.contains("NotValidForName"), "{error}");

    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
    fs::write(&authority, stranger.cert.pem()).expect("written");
    let distrusting = connect(&with(
        &plain,
        "localhost",
        &format!("sslmode=require&{root}"),
    ));
    let error = format!("{:?}", distrusting.ping().await.expect_err("not trusted"));
    assert!(error.contains("InvalidCertificate"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_in_the_clear() {
    let server = server().await;
    let plain = config(server, server.database());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
    let folder = tempfile::tempdir().expect("made");
    let authority = folder.path().join("ca.pem");
    fs::write(&authority, made.cert.pem()).expect("written");
    let options = format!("sslmode=require&sslrootcert={}", authority.display());
    let postgres = connect(&with(&plain, "localhost", &options));
    let error = format!("{:?}", postgres.ping().await.expect_err("no TLS there"));
    assert!(error.contains("does not support TLS"), "{error}");
}
