//! Building envelopes, for producers.

use prost_types::{Struct, Timestamp};
use uuid::Uuid;

use crate::envelope::v1::ProcessedEnvelope;
use crate::{ConversionError, ID_BYTES_MAX, timestamp_to_ns};

/// Builds an envelope that [`decode_envelope`](crate::decode_envelope) accepts.
///
/// ```
/// use ponix_wire::{EnvelopeBuilder, json_to_struct, timestamp_from_rfc3339};
///
/// let readings = serde_json::json!({"temperature": 21.5, "battery": 98});
/// let data = json_to_struct(readings.as_object().expect("an object"))?;
/// let occurred_at = timestamp_from_rfc3339("occurred_at", "2026-03-01T12:00:00Z")?;
/// let envelope = EnvelopeBuilder::new("example-org", "sensor-1", occurred_at, data)
///     .build(occurred_at)?;
/// assert_eq!(envelope.event_id.len(), 36);
/// # Ok::<(), ponix_wire::ConversionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EnvelopeBuilder {
    organization_id: String,
    end_device_id: String,
    occurred_at: Timestamp,
    data: Struct,
    event_id: Option<Uuid>,
}

impl EnvelopeBuilder {
    /// Begins an envelope with what only the producer can know.
    pub fn new(
        organization_id: impl Into<String>,
        end_device_id: impl Into<String>,
        occurred_at: Timestamp,
        data: Struct,
    ) -> Self {
        let (organization_id, end_device_id) = (organization_id.into(), end_device_id.into());
        Self {
            organization_id,
            end_device_id,
            occurred_at,
            data,
            event_id: None,
        }
    }

    /// Sets the identity of the event; without it [`build`](Self::build) mints a UUIDv7.
    #[must_use]
    pub fn event_id(mut self, event_id: Uuid) -> Self {
        self.event_id = Some(event_id);
        self
    }

    /// Returns the envelope, made at `processed_at`.
    ///
    /// The upper bound of `occurred_at` depends on the publish time and is not checked here, nor is
    /// the data: [`json_to_struct`](crate::json_to_struct) has.
    ///
    /// # Errors
    ///
    /// [`ConversionError::Missing`], [`ConversionError::TooLong`] and
    /// [`ConversionError::TimeOutOfRange`], with the name of the field.
    pub fn build(self, processed_at: Timestamp) -> Result<ProcessedEnvelope, ConversionError> {
        check_identifier("organization_id", &self.organization_id)?;
        check_identifier("end_device_id", &self.end_device_id)?;
        timestamp_to_ns("occurred_at", &self.occurred_at)?;
        timestamp_to_ns("processed_at", &processed_at)?;
        Ok(ProcessedEnvelope {
            organization_id: self.organization_id,
            end_device_id: self.end_device_id,
            occurred_at: Some(self.occurred_at),
            data: Some(self.data),
            processed_at: Some(processed_at),
            event_id: self.event_id.unwrap_or_else(Uuid::now_v7).to_string(),
        })
    }
}

fn check_identifier(field: &'static str, text: &str) -> Result<(), ConversionError> {
    match text.len() {
        0 => Err(ConversionError::Missing { field }),
        bytes if bytes > ID_BYTES_MAX => Err(ConversionError::TooLong {
            field,
            bytes,
            bytes_max: ID_BYTES_MAX,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::EnvelopeBuilder;
    use crate::{
        ConversionError, ID_BYTES_MAX, Message, Struct, decode_envelope, timestamp_from_ns,
    };

    const NOW_NS: i64 = 1_772_366_400_000_000_000;

    fn builder(organization_id: &str, end_device_id: &str, occurred_at_ns: i64) -> EnvelopeBuilder {
        EnvelopeBuilder::new(
            organization_id,
            end_device_id,
            timestamp_from_ns(occurred_at_ns),
            Struct::default(),
        )
    }

    #[test]
    fn what_is_built_can_be_decoded() {
        let built = builder("org", "dev", NOW_NS)
            .build(timestamp_from_ns(NOW_NS + 1))
            .unwrap();
        let decoded = decode_envelope(&built.encode_to_vec(), NOW_NS).unwrap();
        assert_eq!(decoded.event_id.unwrap().to_string(), built.event_id);
        assert_eq!(decoded.event_id.unwrap().get_version_num(), 7);
        assert_eq!(
            (decoded.occurred_at_ns, decoded.processed_at_ns),
            (NOW_NS, NOW_NS + 1)
        );
    }

    #[test]
    fn what_could_not_be_stored_is_refused_by_name() {
        let refused =
            |builder: EnvelopeBuilder| builder.build(timestamp_from_ns(NOW_NS)).unwrap_err();
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert_eq!(
            refused(builder("", "dev", 0)),
            ConversionError::Missing {
                field: "organization_id"
            }
        );
        assert_eq!(
            refused(builder("org", "", 0)),
            ConversionError::Missing {
                field: "end_device_id"
            }
        );
        assert_eq!(
            refused(builder("org", &long, 0)),
            ConversionError::TooLong {
                field: "end_device_id",
                bytes: 257,
                bytes_max: ID_BYTES_MAX
            }
        );
        assert_eq!(
            refused(builder("org", "dev", -1)),
            ConversionError::TimeOutOfRange {
                field: "occurred_at"
            }
        );
        let processed = builder("org", "dev", 0)
            .build(timestamp_from_ns(-1))
            .unwrap_err();
        assert_eq!(
            processed,
            ConversionError::TimeOutOfRange {
                field: "processed_at"
            }
        );
    }
}
