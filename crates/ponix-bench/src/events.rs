//! Events as devices send them: eight readings, about 185 bytes of JSON.

use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::value::Kind;
use ponix_wire::{Message as _, Struct, Value, timestamp_from_ns};
use ponix_wire::{encode_token, now_ns};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value as Json;
use uuid::Uuid;

const ORGANIZATIONS: u64 = 10;
const FIRMWARES: [&str; 3] = [
    "2.4.1-rc3+build.77",
    "2.4.1-rc4+build.81",
    "2.5.0-rc1+build.90",
];
/// The same readings in every run.
const SEED: u64 = 42;

/// Makes one event after the other, each from another device.
#[derive(Debug)]
pub(crate) struct Events {
    devices: Vec<Device>,
    next: usize,
    random: StdRng,
    envelope: ProcessedEnvelope,
}

#[derive(Debug)]
struct Device {
    organization_id: String,
    end_device_id: String,
    subject: String,
}

impl Events {
    /// Begins with the first of so many devices; events are published on `<stream>.<device>`.
    pub(crate) fn new(stream: &str, devices: u64) -> Self {
        let envelope = ProcessedEnvelope {
            data: Some(no_readings()),
            ..Default::default()
        };
        Self {
            devices: (0..devices)
                .map(|number| Device::new(stream, number))
                .collect(),
            next: 0,
            random: StdRng::seed_from_u64(SEED),
            envelope,
        }
    }

    /// Gives every event one more field, a text of so many bytes; with 0 there is none.
    pub(crate) fn with_waveform(mut self, bytes: usize) -> Self {
        // Its name stands behind those of the readings, which are set one by one.
        let waveform = Value {
            kind: Some(Kind::StringValue("w".repeat(bytes))),
        };
        if let (Some(data), 1..) = (&mut self.envelope.data, bytes) {
            data.fields.insert("waveform".to_owned(), waveform);
        }
        self
    }

    /// Returns the next event as a JSON object: device, time and seven of its readings. The first
    /// subject of its stream takes it, with the device in place of its wildcards.
    pub(crate) fn next_json(&mut self, subject: &str) -> OutgoingMessage {
        let device = &self.devices[self.next];
        self.next = (self.next + 1) % self.devices.len();
        let id = Uuid::now_v7();
        let [
            battery,
            door,
            firmware,
            humidity,
            pressure,
            rssi,
            temperature,
            _,
        ] = readings(&mut self.random).map(json);
        let device_id = &device.end_device_id;
        let occurred_at = timestamp_from_ns(now_ns());
        let payload = format!(
            r#"{{"device_id":"{device_id}","occurred_at":"{occurred_at}","battery_mv":{battery},"door_open":{door},"firmware":{firmware},"humidity_percent":{humidity},"pressure_hpa":{pressure},"rssi_dbm":{rssi},"temperature":{temperature}}}"#
        );
        OutgoingMessage {
            subject: subject.replace(['*', '>'], device_id),
            id: Some(id),
            headers: HeaderMap::new(),
            payload: payload.into(),
        }
    }

    /// Returns the next event as the HTTP API takes it, without an id.
    pub(crate) fn next_line(&mut self) -> String {
        let device = &self.devices[self.next].end_device_id;
        let occurred_at = timestamp_from_ns(now_ns());
        let names = no_readings().fields.into_keys();
        let readings = readings(&mut self.random).map(json);
        let data: serde_json::Map<String, Json> = names.zip(readings).collect();
        let data = Json::Object(data);
        self.next = (self.next + 1) % self.devices.len();
        format!(r#"{{"end_device_id":"{device}","occurred_at":"{occurred_at}","data":{data}}}"#)
    }

    /// Returns the next event, which occurs now.
    pub(crate) fn next(&mut self) -> OutgoingMessage {
        let device = &self.devices[self.next];
        self.next = (self.next + 1) % self.devices.len();

        let id = Uuid::now_v7();
        let now = timestamp_from_ns(now_ns());
        let envelope = &mut self.envelope;
        envelope.organization_id.clone_from(&device.organization_id);
        envelope.end_device_id.clone_from(&device.end_device_id);
        envelope.occurred_at = Some(now);
        envelope.processed_at = Some(now);
        envelope.event_id = id.to_string();
        let fields = envelope
            .data
            .iter_mut()
            .flat_map(|data| data.fields.values_mut());
        for (value, kind) in fields.zip(readings(&mut self.random)) {
            value.kind = Some(kind);
        }
        OutgoingMessage {
            subject: device.subject.clone(),
            id: Some(id),
            headers: HeaderMap::new(),
            payload: envelope.encode_to_vec().into(),
        }
    }
}

impl Device {
    fn new(stream: &str, number: u64) -> Self {
        let end_device_id = format!("sensor-{number:06}");
        let token = encode_token(&end_device_id).expect("letters and digits are a token");
        Self {
            organization_id: format!("org-{}", number % ORGANIZATIONS),
            subject: format!("{stream}.{token}"),
            end_device_id,
        }
    }
}

/// The names of the readings, in the order of [`readings`].
fn no_readings() -> Struct {
    let names = [
        "battery_mv",
        "door_open",
        "firmware",
        "humidity_percent",
        "pressure_hpa",
        "rssi_dbm",
        "temperature",
        "uptime_seconds",
    ];
    Struct {
        fields: names.map(|name| (name.to_owned(), Value::default())).into(),
    }
}

fn readings(random: &mut StdRng) -> [Kind; 8] {
    let mut number = |from: i32, to: i32, scale: f64| {
        Kind::NumberValue(f64::from(random.random_range(from..to)) / scale)
    };
    let measured = [
        number(98_000, 104_000, 100.0),
        number(2_900, 4_200, 1.0),
        number(2_000, 9_500, 100.0),
        number(-120, -40, 1.0),
        number(-20_000, 45_000, 1000.0),
        number(0, 31_000_000, 1.0),
    ];
    let [pressure, battery, humidity, rssi, temperature, uptime] = measured;
    let firmware = FIRMWARES[random.random_range(0..FIRMWARES.len())];
    [
        battery,
        Kind::BoolValue(random.random_bool(0.1)),
        Kind::StringValue(firmware.to_owned()),
        humidity,
        pressure,
        rssi,
        temperature,
        uptime,
    ]
}

fn json(reading: Kind) -> Json {
    match reading {
        Kind::NumberValue(number) => number.into(),
        Kind::BoolValue(yes) => yes.into(),
        Kind::StringValue(text) => text.into(),
        Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_) => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ponix_wire::decode_envelope;

    use super::Events;
    use ponix_wire::now_ns;

    #[test]
    fn events_are_real_shaped() {
        let mut events = Events::new("processed_envelopes", 1000);
        let mut ids = BTreeSet::new();
        let mut devices = BTreeSet::new();
        let mut bytes = 0;
        for _ in 0..2000 {
            let message = events.next();
            let decoded = decode_envelope(&message.payload, now_ns()).unwrap();
            assert_eq!(decoded.event_id, message.id);
            assert_eq!(
                message.subject,
                format!("processed_envelopes.{}", decoded.end_device_id)
            );
            let data: serde_json::Value = serde_json::from_str(&decoded.data_json).unwrap();
            assert_eq!(data.as_object().unwrap().len(), 8);
            bytes += decoded.data_json.len();
            ids.insert(message.id);
            devices.insert(decoded.end_device_id);
        }
        assert_eq!((ids.len(), devices.len()), (2000, 1000));
        assert!(
            (175..195).contains(&(bytes / 2000)),
            "{} bytes of JSON",
            bytes / 2000
        );
    }

    #[test]
    fn a_waveform_is_one_field_more() {
        let mut events = Events::new("processed_envelopes", 1).with_waveform(1000);
        let payload = events.next().payload;
        assert!(payload.len() > 1000, "{}", payload.len());
        let decoded = decode_envelope(&payload, now_ns()).unwrap();
        let data: serde_json::Value = serde_json::from_str(&decoded.data_json).unwrap();
        assert_eq!(data.as_object().unwrap().len(), 9);
        assert_eq!(data["waveform"], "w".repeat(1000));
    }
}
