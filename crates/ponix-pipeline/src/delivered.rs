//! Deliveries as messages.

use ponix_nats::Delivery;
use ponix_nats::async_nats::HeaderMap;

use crate::decode::{Headers, Message};

impl Headers for Delivery {
    fn get(&self, name: &str) -> Option<&str> {
        Some(
            self.headers()
                .and_then(|headers: &HeaderMap| headers.get(name))?
                .as_str(),
        )
    }
}

pub(crate) fn message(delivery: &Delivery) -> Message<'_> {
    Message {
        subject: delivery.subject(),
        payload: delivery.payload(),
        headers: delivery,
        identity: delivery.identity(),
        published_at_ns: delivery.published_at_ns(),
        stream_sequence: delivery.stream_sequence(),
        deliveries: delivery.deliveries(),
    }
}
