//! Deliveries as messages.

use ponix_nats::Delivery;
use ponix_nats::async_nats::HeaderMap;

use crate::decode::{Headers, Message};

impl Headers for HeaderMap {
    fn get(&self, name: &str) -> Option<&str> {
        Some(HeaderMap::get(self, name)?.as_str())
    }
}

impl Headers for Delivery {
    fn get(&self, name: &str) -> Option<&str> {
        Headers::get(self.headers()?, name)
    }
}

impl<'a> From<&'a Delivery> for Message<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            subject: delivery.subject(),
            payload: delivery.payload(),
            headers: delivery,
            identity: delivery.identity(),
            published_at_ns: delivery.published_at_ns(),
            stream_sequence: delivery.stream_sequence(),
            deliveries: delivery.deliveries(),
        }
    }
}
