//! From a file to the streams that it declares, with everything that is wrong told at once. No
//! server is asked.

mod config;
mod notes;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ponix_entities::loader::{Complaints, LoadError, LoadErrors, Source, Sources};
use ponix_nats::topology::{StreamLayout, is_reserved};
use ponix_wire::{covers, overlap, quantity, subject_problem};
use serde_saphyr::Spanned;

use super::document::{
    Ack, Consumer, Deliver, Discard, Document, Origin, Retention, Spec, Storage, Stream,
};

/// The server's own least for times.
const TIME_MIN: Duration = Duration::from_millis(100);
const TIME_MAX: Duration = Duration::from_hours(24 * 365 * 100);
/// A pipeline reads a message alone from this delivery on.
const DELIVERIES_MIN: u64 = 3;

/// The streams of some files, and what should be known of them.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) streams: Vec<StreamLayout>,
    /// What may be lost as declared, and the like: none of it is wrong.
    pub(super) notes: Vec<LoadError>,
}

/// Reads a file, or every `*.yaml` and `*.yml` of a folder.
///
/// # Errors
/// Everything that is wrong, each with file, line and column.
pub(super) fn load(path: &Path) -> Result<Checked, LoadErrors> {
    if path.is_dir() {
        return checked(Sources::of_folder(path));
    }
    let text = std::fs::read_to_string(path).map_err(|err| LoadErrors::of_file(path, &err))?;
    from_files([(path.to_owned(), text)])
}

/// Reads files that are in memory.
fn from_files(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Checked, LoadErrors> {
    checked(Sources::of_files(files))
}

fn checked(mut sources: Sources<Document>) -> Result<Checked, LoadErrors> {
    let mut errors = std::mem::take(&mut sources.errors);
    let mut notes = Vec::new();
    let mut streams = Vec::new();
    for Source { path, document, .. } in &sources.documents {
        let mut complaints = Complaints::new(path, &mut errors);
        sizes(&document.spec, &mut complaints);
        for declared in &document.spec.streams {
            stream(declared, &document.spec, &mut complaints);
            streams.push(config::stream(declared));
        }
        let mut complaints = Complaints::new(path, &mut notes);
        for declared in &document.spec.streams {
            notes::of_stream(declared, &document.spec, &mut complaints);
        }
    }
    together(&sources.documents, &mut errors);
    if errors.is_empty() {
        return Ok(Checked { streams, notes });
    }
    errors.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
    Err(LoadErrors(errors))
}

/// What concerns one stream.
fn stream(stream: &Stream, spec: &Spec, complaints: &mut Complaints<'_>) {
    complaints.token(&stream.name, "name");
    let origins = stream.mirror.iter().map(|mirror| &mirror.value);
    for origin in origins.chain(&stream.sources) {
        check_origin(origin, complaints);
    }
    check_subjects(stream, complaints);
    check_limits(stream, complaints);
    check_discard(stream, complaints);
    check_metadata(&stream.metadata, complaints);
    let servers = spec
        .server
        .servers
        .as_ref()
        .map_or(1, |servers| servers.value);
    if let Some(replicas) = &stream.replicas
        && let Some(count) = complaints.number(Some(replicas), "replicas", 1, 5)
        && count > servers
        && (spec.server.servers.is_some() || spec.server.max_file_store.is_some())
    {
        complaints.at(
            replicas,
            format!("replicas is {count}, but the cluster has {servers}: say server.servers"),
        );
    }
    let mut seen = HashSet::new();
    for declared in &stream.consumers {
        if !seen.insert(&declared.durable.value) {
            let name = &declared.durable.value;
            complaints.at(
                &declared.durable,
                format!("consumer {name:?} is there twice"),
            );
        }
        consumer(declared, stream, complaints);
    }
    if retention(stream) == Retention::Work {
        check_jobs(stream, complaints);
    }
}

fn check_origin(origin: &Origin, complaints: &mut Complaints<'_>) {
    complaints.token(&origin.stream, "stream");
    if let Some(filter) = &origin.filter {
        check_subject(filter, "filter", complaints);
        if let Some(transform) = origin.subject_transforms.first() {
            complaints.at(
                &transform.from,
                "subject_transforms beside a filter: they say themselves what is taken",
            );
        }
    }
    if let Some(time) = &origin.start_time {
        check_time_of_day(time, complaints);
        if origin.start_seq.is_some() {
            complaints.at(
                time,
                "start_time beside start_seq: it begins at one of them",
            );
        }
    }
}

fn check_time_of_day(time: &Spanned<String>, complaints: &mut Complaints<'_>) {
    if time.value.parse::<jiff::Timestamp>().is_err() {
        complaints.at(
            time,
            format!(
                "start_time {:?} is no time such as 2026-01-01T00:00:00Z",
                time.value
            ),
        );
    }
}

fn check_subject(subject: &Spanned<String>, what: &str, complaints: &mut Complaints<'_>) {
    if let Some(problem) = subject_problem(&subject.value) {
        complaints.at(subject, format!("{what} {:?} {problem}", subject.value));
    }
}

fn check_subjects(stream: &Stream, complaints: &mut Complaints<'_>) {
    for (index, subject) in stream.subjects.iter().enumerate() {
        check_subject(subject, "subject", complaints);
        let others = &stream.subjects[..index];
        if let Some(other) = others
            .iter()
            .find(|one| overlap(&one.value, &subject.value))
        {
            complaints.at(
                subject,
                format!(
                    "subject {} overlaps with {} of the same stream",
                    subject.value, other.value
                ),
            );
        }
    }
    match &stream.mirror {
        Some(mirror) if !stream.subjects.is_empty() || !stream.sources.is_empty() => {
            complaints.at(
                mirror,
                "mirror beside subjects or sources: a mirror takes in nothing else",
            );
        }
        None if stream.subjects.is_empty() && stream.sources.is_empty() => {
            complaints.at(
                &stream.name,
                format!("stream {} has no subjects", stream.name.value),
            );
        }
        _ => {}
    }
    if let Some(transform) = &stream.subject_transform {
        check_subject(&transform.from, "from", complaints);
    }
    let Some(prefix) = &stream.dead_letters else {
        return;
    };
    let dead = format!("{}.>", prefix.value);
    if let Some(problem) = subject_problem(&dead) {
        complaints.at(prefix, format!("dead_letters {:?} {problem}", prefix.value));
    } else if let Some(subject) = stream.subjects.iter().find(|s| overlap(&s.value, &dead)) {
        complaints.at(
            prefix,
            format!("dead letters on {dead} would come back into the stream, whose subject {} takes them", subject.value),
        );
    }
}

fn check_limits(stream: &Stream, complaints: &mut Complaints<'_>) {
    let most = i64::MAX as u64;
    complaints.bytes(stream.max_bytes.as_ref(), "max_bytes", 1, most);
    complaints.bytes(stream.max_msg_size.as_ref(), "max_msg_size", 1, 1 << 26);
    complaints.number(stream.max_msgs.as_ref(), "max_msgs", 1, most);
    complaints.number(
        stream.max_msgs_per_subject.as_ref(),
        "max_msgs_per_subject",
        1,
        most,
    );
    let age = complaints.time(stream.max_age.as_ref(), "max_age", TIME_MIN, TIME_MAX);
    let window = stream.duplicate_window.as_ref();
    let window_time = complaints.time(window, "duplicate_window", TIME_MIN, TIME_MAX);
    if let (Some(window), Some(time), Some(age)) = (window, window_time, age)
        && time > age
    {
        complaints.at(
            window,
            "duplicate_window is longer than max_age: an id is forgotten with its message",
        );
    }
}

fn check_discard(stream: &Stream, complaints: &mut Complaints<'_>) {
    let discards = discard(stream);
    if let Some(per_subject) = &stream.discard_per_subject
        && per_subject.value
        && (discards == Discard::Old || stream.max_msgs_per_subject.is_none())
    {
        complaints.at(
            per_subject,
            "discard_per_subject needs discard: new and max_msgs_per_subject",
        );
    }
    let is_work = retention(stream) == Retention::Work;
    match &stream.drops_unread {
        Some(said) if said.value && !(is_work && discards == Discard::Old) => complaints.at(
            said,
            "drops_unread is for retention: work with discard: old",
        ),
        Some(said) if said.value => {}
        _ if is_work && discards == Discard::Old => {
            let message = "a work queue with discard: old drops jobs that nobody has read when it is full: say discard: new, or drops_unread: true if that is meant";
            match (&stream.discard, &stream.retention) {
                (Some(discard), _) => complaints.at(discard, message),
                (None, Some(retention)) => complaints.at(retention, message),
                (None, None) => {}
            }
        }
        _ => {}
    }
}

fn check_metadata(
    metadata: &std::collections::BTreeMap<String, Spanned<String>>,
    complaints: &mut Complaints<'_>,
) {
    for (key, value) in metadata.iter().filter(|(key, _)| is_reserved(key)) {
        complaints.at(value, format!("metadata {key:?} is not for files: the server and the workers keep what begins with _nats. and ponix-"));
    }
}

/// What concerns one consumer.
fn consumer(consumer: &Consumer, stream: &Stream, complaints: &mut Complaints<'_>) {
    complaints.token(&consumer.durable, "durable");
    for (index, filter) in consumer.filters.iter().enumerate() {
        check_subject(filter, "filter", complaints);
        // What a copy of another stream holds is not said here.
        let is_own = stream.mirror.is_none() && stream.sources.is_empty();
        let is_covered = stream
            .subjects
            .iter()
            .any(|s| covers(&s.value, &filter.value));
        if is_own && stream.subject_transform.is_none() && !is_covered {
            let subjects: Vec<_> = stream.subjects.iter().map(|s| &s.value[..]).collect();
            complaints.at(
                filter,
                format!(
                    "filter {:?} is outside the stream's subjects, {}: nothing would ever come",
                    filter.value,
                    subjects.join(", ")
                ),
            );
        }
        let others = &consumer.filters[..index];
        if let Some(other) = others.iter().find(|one| overlap(&one.value, &filter.value)) {
            complaints.at(
                filter,
                format!("filter {} overlaps with {}", filter.value, other.value),
            );
        }
    }
    let most = i64::MAX as u64;
    complaints.time(consumer.ack_wait.as_ref(), "ack_wait", TIME_MIN, TIME_MAX);
    complaints.number(consumer.max_deliver.as_ref(), "max_deliver", 1, most);
    complaints.number(
        consumer.max_ack_pending.as_ref(),
        "max_ack_pending",
        1,
        most,
    );
    let threshold = consumer.inactive_threshold.as_ref();
    complaints.time(threshold, "inactive_threshold", TIME_MIN, TIME_MAX);
    let copies = stream
        .replicas
        .as_ref()
        .map_or(1, |replicas| replicas.value);
    if let Some(replicas) = &consumer.replicas
        && replicas.value > copies
    {
        complaints.at(
            replicas,
            format!(
                "replicas is {}, more than the {copies} of the stream",
                replicas.value
            ),
        );
    }
    if ack(consumer) == Ack::None {
        for said in [&consumer.ack_wait].into_iter().flatten() {
            complaints.at(said, "ack_wait has no meaning with ack: none");
        }
        for said in [&consumer.max_ack_pending, &consumer.max_deliver]
            .into_iter()
            .flatten()
        {
            complaints.at(
                said,
                "max_ack_pending and max_deliver have no meaning with ack: none",
            );
        }
    }
    if let Some(Deliver::StartTime(time)) = consumer.deliver.as_ref().map(|one| &one.value)
        && time.parse::<jiff::Timestamp>().is_err()
        && let Some(at) = &consumer.deliver
    {
        complaints.at(
            at,
            format!("start_time {time:?} is no time such as 2026-01-01T00:00:00Z"),
        );
    }
    check_metadata(&consumer.metadata, complaints);
}

/// What a work queue asks of its consumers: each job is one consumer's.
fn check_jobs(stream: &Stream, complaints: &mut Complaints<'_>) {
    for (index, consumer) in stream.consumers.iter().enumerate() {
        if let Some(said) = consumer
            .ack
            .as_ref()
            .filter(|said| said.value != Ack::Explicit)
        {
            complaints.at(said, "a work queue needs ack: explicit");
        }
        if let Some(said) = consumer
            .deliver
            .as_ref()
            .filter(|said| said.value != Deliver::All)
        {
            complaints.at(said, "a work queue needs deliver: all");
        }
        let others = &stream.consumers[..index];
        if let Some(other) = others.iter().find(|other| read_same(other, consumer)) {
            let (name, other) = (&consumer.durable.value, &other.durable.value);
            complaints.at(
                &consumer.durable,
                format!("consumer {name} reads what {other} reads: a job of a work queue is for one consumer, so their filters must not overlap"),
            );
        }
    }
}

fn read_same(one: &Consumer, other: &Consumer) -> bool {
    let all = |consumer: &Consumer| consumer.filters.is_empty();
    let mut pairs = one
        .filters
        .iter()
        .flat_map(|a| other.filters.iter().map(move |b| (a, b)));
    all(one) || all(other) || pairs.any(|(a, b)| overlap(&a.value, &b.value))
}

/// What concerns several streams: names and subjects are one stream's.
fn together(documents: &[Source<Document>], errors: &mut Vec<LoadError>) {
    let streams = || {
        documents.iter().flat_map(|Source { path, document, .. }| {
            document
                .spec
                .streams
                .iter()
                .map(move |stream| (path, stream))
        })
    };
    for (index, (path, stream)) in streams().enumerate() {
        let mut complaints = Complaints::new(path, errors);
        let name = &stream.name;
        for (_, other) in streams().take(index) {
            if other.name.value == name.value {
                complaints.at(name, format!("stream {:?} is there twice", name.value));
                continue;
            }
            for subject in &stream.subjects {
                let theirs = other.subjects.iter();
                let mut theirs = theirs.filter(|one| overlap(&one.value, &subject.value));
                if let Some(taken) = theirs.next() {
                    complaints.at(
                        subject,
                        format!(
                            "subject {} overlaps with {} of stream {}: a subject belongs to one stream",
                            subject.value, taken.value, other.name.value
                        ),
                    );
                }
            }
        }
    }
}

/// Whether the server has the room that the streams of a file may take.
fn sizes(spec: &Spec, complaints: &mut Complaints<'_>) {
    let servers = complaints.number(spec.server.servers.as_ref(), "servers", 1, 1_000);
    let servers = servers.unwrap_or(1);
    for (storage, room, what) in [
        (Storage::File, &spec.server.max_file_store, "max_file_store"),
        (
            Storage::Memory,
            &spec.server.max_memory_store,
            "max_memory_store",
        ),
    ] {
        let Some(bytes) = complaints.bytes(room.as_ref(), what, 1, i64::MAX as u64) else {
            continue;
        };
        let taken = spec
            .streams
            .iter()
            .filter(|stream| stream.storage == storage);
        let taken = taken.map(|stream| {
            let bytes = stream
                .max_bytes
                .as_ref()
                .and_then(|text| quantity::bytes(&text.value));
            let copies = stream
                .replicas
                .as_ref()
                .map_or(1, |replicas| replicas.value);
            bytes.unwrap_or_default().saturating_mul(copies)
        });
        let taken = taken.fold(0_u64, u64::saturating_add);
        let there = bytes.saturating_mul(servers);
        if let Some(room) = room
            && taken > there
        {
            complaints.at(
                room,
                format!(
                    "the streams' max_bytes are {} together, copies counted, more than the {} of {what}: the server refuses the last of them",
                    quantity::shown_bytes(taken),
                    quantity::shown_bytes(there)
                ),
            );
        }
    }
}

fn retention(stream: &Stream) -> Retention {
    stream
        .retention
        .as_ref()
        .map_or_else(Retention::default, |said| said.value)
}

fn discard(stream: &Stream) -> Discard {
    stream
        .discard
        .as_ref()
        .map_or_else(Discard::default, |said| said.value)
}

fn ack(consumer: &Consumer) -> Ack {
    consumer
        .ack
        .as_ref()
        .map_or_else(Ack::default, |said| said.value)
}
