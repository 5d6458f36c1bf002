//! The ways to log in, and TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use ponix_nats::{
    ClientCertificate, ConnectError, ConnectionRole, NatsAuth, NatsConfig, NatsMetrics, NatsTls,
    connect,
};
use ponix_stack::Nats;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{SOON, config};

/// The pair that the NATS documentation shows.
const NKEY_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const NKEY_PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

async fn log_in(config: &NatsConfig, patience: Duration) -> Result<(), ConnectError> {
    let metrics = NatsMetrics::unregistered();
    let deadline = Instant::now() + patience;
    let client = connect(config, ConnectionRole::Publish, &metrics, deadline).await?;
    client.flush().await.unwrap();
    Ok(())
}

fn with_auth(nats: &Nats, auth: NatsAuth) -> NatsConfig {
    NatsConfig {
        auth,
        ..config(&nats.url())
    }
}

async fn assert_refused(config: &NatsConfig, secret: &str) {
    let err = log_in(config, SOON).await.unwrap_err();
    assert!(matches!(err, ConnectError::Refused { .. }), "{err:?}");
    let text = format!("{err} {err:?}");
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_user_with_the_right_password_is_let_in_and_others_are_refused_at_once() {
    let nats = Nats::builder()
        .user_password("ann", "geheim")
        .start()
        .await
        .unwrap();
    let auth = |password: &str| NatsAuth::UserPassword {
        user: "ann".into(),
        password: password.into(),
    };
    log_in(&with_auth(&nats, auth("geheim")), SOON)
        .await
        .unwrap();
    let in_url = config(&format!("nats://ann:geheim@{}", nats.addr()));
    log_in(&in_url, SOON).await.unwrap();
    assert_refused(&with_auth(&nats, auth("falsch")), "falsch").await;
    assert_refused(&config(&nats.url()), "geheim").await;
}

#[tokio::test]
async fn a_token_lets_in() {
    let nats = Nats::builder().token("t0ken").start().await.unwrap();
    log_in(&with_auth(&nats, NatsAuth::Token("t0ken".into())), SOON)
        .await
        .unwrap();
    assert_refused(
        &with_auth(&nats, NatsAuth::Token("falsch".into())),
        "falsch",
    )
    .await;
}

#[tokio::test]
async fn an_nkey_lets_in_and_a_seed_that_is_none_is_refused_at_once() {
    let nats = Nats::builder()
        .config(&format!(
            "authorization {{ users: [ {{ nkey: {NKEY_PUBLIC} }} ] }}"
        ))
        .start()
        .await
        .unwrap();
    let seed = format!("{NKEY_SEED}\n");
    log_in(&with_auth(&nats, NatsAuth::NKey(seed.into())), SOON)
        .await
        .unwrap();
    assert_refused(
        &with_auth(&nats, NatsAuth::NKey("SUNOTASEED".into())),
        "SUNOTASEED",
    )
    .await;
}

/// Signs claims as the NATS tools do.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &serde_json::Value) -> String {
    let encode = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = encode(&json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "name": "test",
        "sub": subject.public_key(),
        "nats": nats,
    }));
    let signature = issuer
        .sign(format!("{header}.{claims}").as_bytes())
        .unwrap();
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_credentials_file_lets_in_and_that_of_another_account_does_not() {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_account = json!({ "type": "account", "version": 2, "limits": limits });
    let of_operator = json!({
        "type": "operator", "version": 2, "system_account": system.public_key(),
    });
    let config_text = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, &of_operator),
        system.public_key(),
        account.public_key(),
        jwt(&operator, &account, &of_account),
        system.public_key(),
        jwt(
            &operator,
            &system,
            &json!({ "type": "account", "version": 2 })
        ),
    );
    let nats = Nats::builder().config(&config_text).start().await.unwrap();
    let of_user = json!({
        "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |issuer: &KeyPair, name: &str| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(issuer, &user, &of_user),
            user.seed().unwrap()
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        with_auth(&nats, NatsAuth::CredentialsFile(path))
    };
    log_in(&file(&account, "good.creds"), SOON).await.unwrap();
    let stranger = KeyPair::new_account();
    let seed = user.seed().unwrap();
    assert_refused(&file(&stranger, "bad.creds"), &seed).await;
}

/// Certificates in a folder of their own, made with the openssl program.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// `None` where there is no openssl.
    fn make() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        let made = this.authority() && this.signed("server") && this.signed("client");
        made.then_some(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn authority(&self) -> bool {
        openssl(
            self.folder.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=authority -addext basicConstraints=critical,CA:TRUE \
             -keyout ca.key -out ca.pem",
        )
    }

    fn signed(&self, name: &str) -> bool {
        let folder = self.folder.path();
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                 -subj /CN={name} -addext basicConstraints=critical,CA:FALSE \
                 -addext subjectAltName=IP:127.0.0.1 \
                 -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem"
            ),
        )
    }

    async fn server(&self) -> Nats {
        let tls = format!(
            r#"tls {{ cert_file: "{}", key_file: "{}", ca_file: "{}", verify: true }}"#,
            self.path("server.pem").display(),
            self.path("server.key").display(),
            self.path("ca.pem").display(),
        );
        Nats::builder().config(&tls).start().await.unwrap()
    }
}

fn openssl(folder: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("openssl: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(err) => {
            println!("openssl cannot be run: {err}");
            false
        }
    }
}

#[tokio::test]
async fn tls_takes_the_authority_and_the_clients_certificate() {
    let Some(certificates) = Certificates::make() else {
        println!("skipped: openssl could not make certificates");
        return;
    };
    let nats = certificates.server().await;
    let whole = NatsConfig {
        tls: NatsTls {
            ca_file: Some(certificates.path("ca.pem")),
            client: Some(ClientCertificate {
                cert_file: certificates.path("client.pem"),
                key_file: certificates.path("client.key"),
            }),
            required: true,
        },
        ..config(&nats.url())
    };
    log_in(&whole, SOON).await.unwrap();

    let mut without_certificate = whole.clone();
    without_certificate.tls.client = None;
    let mut without_authority = whole.clone();
    without_authority.tls.ca_file = None;
    for config in [without_certificate, without_authority] {
        let err = log_in(&config, Duration::from_millis(10))
            .await
            .unwrap_err();
        assert!(matches!(err, ConnectError::Unreachable { .. }), "{err}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_used_where_tls_is_required() {
    let nats = Nats::start().await.unwrap();
    let mut config = config(&nats.url());
    config.tls.required = true;
    let err = log_in(&config, Duration::from_millis(10))
        .await
        .unwrap_err();
    assert!(matches!(err, ConnectError::Unreachable { .. }), "{err}");
}
