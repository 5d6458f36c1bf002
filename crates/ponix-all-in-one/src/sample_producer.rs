//! The sample producer: readings of the machine it runs on.

use std::time::Duration;

use anyhow::Context as _;
use ponix_nats::{Publisher, envelope_message};
use ponix_wire::{EnvelopeBuilder, json_to_struct, now_ns, timestamp_from_ns};
use serde_json::{Map, Value, json};
use sysinfo::{Disks, Networks, System};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const ORGANIZATION_ID: &str = "example-org";

/// Publishes one reading per interval.
#[derive(Debug)]
pub(crate) struct SampleProducer {
    pub(crate) publisher: Publisher,
    pub(crate) subject_prefix: String,
    pub(crate) interval: Duration,
    pub(crate) message: String,
}

impl SampleProducer {
    /// Runs until `shutdown`; an event whose PubAck is missing is sent again until then.
    ///
    /// # Errors
    /// A reading that cannot be made an event.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let device = System::host_name().unwrap_or_else(|_| "localhost".to_owned());
        let mut machine = Machine::new().context(
            "this machine cannot be read: turn the sample producer off with PONIX_INTERVAL_SECS=0",
        )?;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            let readings = machine.readings();
            self.publish(&device, &readings, &shutdown).await?;
        }
    }

    async fn publish(
        &self,
        device: &str,
        readings: &Map<String, Value>,
        give_up: &CancellationToken,
    ) -> anyhow::Result<()> {
        let now = timestamp_from_ns(now_ns());
        let data = json_to_struct(readings).context("a reading cannot be stored")?;
        let envelope = EnvelopeBuilder::new(ORGANIZATION_ID, device, now, data)
            .build(now)
            .context("a reading is not an event")?;
        let event_id = envelope.event_id.clone();
        let message = envelope_message(&self.subject_prefix, envelope)
            .context("the host name cannot be a device id")?;
        match self.publisher.publish_until_acked(&message, give_up).await {
            Ok(ack) => {
                tracing::debug!(
                    stream = ack.stream,
                    sequence = ack.sequence,
                    event_id,
                    "{}",
                    self.message
                );
            }
            Err(err) => tracing::warn!(event_id, error = %err, "a reading was not published"),
        }
        Ok(())
    }
}

/// What is read; kept between readings, since CPU and network are differences.
#[derive(Debug)]
struct Machine {
    system: System,
    disks: Disks,
    networks: Networks,
}

impl Machine {
    fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            system: System::new()?,
            disks: Disks::new_with_refreshed_list()?,
            networks: Networks::new_with_refreshed_list()?,
        })
    }

    fn readings(&mut self) -> Map<String, Value> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let (received, transmitted) = self.networks.values().fold((0, 0), |(r, t), network| {
            (
                r + network.total_received(),
                t + network.total_transmitted(),
            )
        });
        let (total, available) = self.disks.iter().fold((0, 0), |(total, available), disk| {
            (
                total + disk.total_space(),
                available + disk.available_space(),
            )
        });
        let readings = json!({
            "cpu_percent": f64::from(self.system.global_cpu_usage()),
            "load_1m": System::load_average().ok().map(|load| load.one),
            "memory_used_bytes": self.system.used_memory(),
            "memory_total_bytes": self.system.total_memory(),
            "disk_available_bytes": available,
            "disk_total_bytes": total,
            "network_received_bytes": received,
            "network_transmitted_bytes": transmitted,
            "uptime_secs": System::uptime().ok(),
        });
        let Value::Object(readings) = readings else {
            unreachable!("the literal above is an object")
        };
        readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_those_of_a_machine() {
        let readings = Machine::new().unwrap().readings();
        assert_eq!(readings.len(), 9);
        let number = |name: &str| readings[name].as_f64().unwrap();
        assert!(number("memory_total_bytes") > number("memory_used_bytes"));
        assert!(number("uptime_secs") > 0.0);
        assert!(json_to_struct(&readings).is_ok());
    }
}
