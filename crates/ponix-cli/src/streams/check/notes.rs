//! What is right as it is declared, and loses something that somebody may count on.

use ponix_entities::loader::Complaints;

use super::super::document::{Consumer, Discard, Retention, Spec, Storage, Stream};
use super::{DELIVERIES_MIN, discard, retention};

/// Notes what a reader of this stream cannot count on.
pub(super) fn of_stream(stream: &Stream, spec: &Spec, notes: &mut Complaints<'_>) {
    let name = &stream.name.value;
    let mut of_name = |text: String| notes.at(&stream.name, text);
    if let Some(age) = &stream.max_age {
        let age = &age.value;
        of_name(format!(
            "an event of {name} is dropped after {age}, read or not: a reader that is away for longer loses it"
        ));
    }
    let is_bounded = stream.max_bytes.is_some() || stream.max_msgs.is_some();
    if discard(stream) == Discard::Old && is_bounded {
        of_name(format!(
            "a full {name} drops its oldest events, read or not; discard: new refuses publishes instead"
        ));
    }
    let per_subject = stream.discard_per_subject.as_ref();
    if let Some(count) = &stream.max_msgs_per_subject
        && !per_subject.is_some_and(|said| said.value)
    {
        let count = count.value;
        of_name(format!(
            "{name} keeps {count} events of a subject and drops the older ones, read or not"
        ));
    }
    if retention(stream) == Retention::Interest {
        of_name(format!(
            "{name} keeps an event only while there is a consumer that has not acked it: what comes before the first consumer is gone"
        ));
    }
    if stream.storage == Storage::Memory {
        of_name(format!(
            "{name} is in memory: a restart of the server loses what is in it"
        ));
    }
    let has_limit = is_bounded || stream.max_age.is_some();
    if retention(stream) == Retention::Limits && !has_limit && stream.mirror.is_none() {
        of_name(format!(
            "{name} has no limit: it grows until the store of the server is full"
        ));
    } else if stream.max_bytes.is_none()
        && stream.storage == Storage::File
        && spec.server.max_file_store.is_some()
    {
        of_name(format!(
            "{name} has no max_bytes: it may take the room that the others count on"
        ));
    }
    for consumer in &stream.consumers {
        of_consumer(consumer, notes);
    }
}

fn of_consumer(consumer: &Consumer, notes: &mut Complaints<'_>) {
    let name = &consumer.durable.value;
    if let Some(deliveries) = &consumer.max_deliver {
        let count = deliveries.value;
        let advice = if count < DELIVERIES_MIN {
            format!("a pipeline of Ponix needs {DELIVERIES_MIN}")
        } else {
            format!(
                "a pipeline with limits.max_deliveries of {count} or less dead-letters it before"
            )
        };
        notes.at(deliveries, format!("after {count} deliveries the server gives an event of {name} up and says nothing; {advice}"));
    }
    if let Some(threshold) = &consumer.inactive_threshold {
        let time = &threshold.value;
        notes.at(
            threshold,
            format!("{name} and its place are removed when nobody asks for {time}"),
        );
    }
}
