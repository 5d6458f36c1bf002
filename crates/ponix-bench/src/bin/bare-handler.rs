//! A handler that does nothing but publish and wait for the PubAck: what HTTP and NATS cost alone.
//!
//! A program of its own, with the system's allocator, as anybody would begin: `bare-handler ADDRESS NATS_URL`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use ponix_nats::async_nats::HeaderMap;
use ponix_nats::{
    ConnectionRole, NatsConfig, NatsMetrics, OutgoingMessage, Publisher, StreamSettings, connect,
    jetstream_context,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

const STREAM: &str = "bare";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| {
        arguments
            .next()
            .with_context(|| format!("{name} is missing"))
    };
    let addr: SocketAddr = argument("ADDRESS")?.parse()?;
    let nats_url = argument("NATS_URL")?;
    let config = NatsConfig {
        servers: vec![nats_url],
        ..NatsConfig::default()
    };
    let metrics = NatsMetrics::register(&mut Registry::default());
    let deadline = Instant::now() + Duration::from_secs(10);
    let client = connect(&config, ConnectionRole::Publish, &metrics, deadline).await?;
    let context = jetstream_context(client.clone(), &config);
    StreamSettings::new(STREAM, vec![format!("{STREAM}.>")])
        .reconcile(&context)
        .await?;
    let publisher = Publisher::new(client, &config, 4096, metrics);
    let router = Router::new().route("/", post(handle)).with_state(publisher);
    let listener = TcpListener::bind(addr).await.context("listen")?;
    axum::serve(listener, router).await.context("serve")
}

async fn handle(State(publisher): State<Publisher>, body: Bytes) -> StatusCode {
    let message = OutgoingMessage {
        subject: format!("{STREAM}.a"),
        id: Some(Uuid::now_v7()),
        headers: HeaderMap::new(),
        payload: body,
    };
    match publisher.publish(message).await {
        Ok(_) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
