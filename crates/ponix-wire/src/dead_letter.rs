//! The classes of reasons for which messages become dead letters.

/// Why a message is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// The body is not what the stream carries.
    Decode,
    /// A field that must be there is not.
    MissingField,
    /// A field holds what cannot be stored.
    Value,
    /// The transform aborts, or fails.
    Transform,
    /// The store refused the row for what it holds.
    RejectedByStore,
    /// Decoding the message ends the process.
    EndsProcess,
    /// The message was delivered too often without being settled.
    MaxDeliveries,
}

impl DeadLetterReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Decode,
        Self::MissingField,
        Self::Value,
        Self::Transform,
        Self::RejectedByStore,
        Self::EndsProcess,
        Self::MaxDeliveries,
    ];

    /// Returns the reason as it stands in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::MissingField => "missing_field",
            Self::Value => "value",
            Self::Transform => "transform",
            Self::RejectedByStore => "rejected_by_store",
            Self::EndsProcess => "ends_process",
            Self::MaxDeliveries => "max_deliveries",
        }
    }
}
