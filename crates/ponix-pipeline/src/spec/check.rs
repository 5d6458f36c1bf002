//! From a document to a [`Pipeline`]: what its shape alone does not tell.

mod decode;
mod sink;
mod subject;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ponix_entities::loader::{Complaints, LoadError, Source as Document, place};
use ponix_wire::{covers, overlap, subject_problem};
use serde_json::Value as Json;
use serde_saphyr::Spanned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::{self, Document as Spec};
use super::{
    DeadLetters, Expect, Http, Limits, Origin, Pipeline, Places, Sink, Source, TestCase, TestInput,
    Transform, UnknownFields,
};

const GIB: u64 = 1 << 30;
/// Longest name of a pipeline.
const NAME_CHARS_MAX: usize = 63;
/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 128;
/// Paths begin with it.
const PATH_PREFIX: &str = "/v1/";
/// The path of the envelopes, which every service has.
const ENVELOPES_PATH: &str = "/v1/envelopes";
/// When a test's message was published, without a word of it: 2026-01-01T00:00:00Z.
const TEST_PUBLISHED_AT_NS: i64 = 1_767_225_600_000_000_000;

/// Checks one document; what cannot be made sense of has some value or other.
pub(super) fn pipeline(source: &Document<Spec>, errors: &mut Vec<LoadError>) -> Pipeline {
    let Document {
        path,
        text,
        document,
    } = source;
    let (name, spec) = (&document.metadata.name, &document.spec);
    let mut check = Check {
        dir: path.parent().unwrap_or(Path::new("")),
        is_built_in: is_built_in(path),
        text,
        complaints: Complaints::new(path, errors),
    };
    check.name(name);
    let source = check.source(&spec.source, &name.value);
    let dead_letters = check.dead_letters(&spec.dead_letters, &source, &spec.source);
    let sink = check.sink(spec);
    Pipeline {
        name: name.value.clone(),
        doc: document.metadata.doc.clone(),
        path: path.clone(),
        http: spec
            .http
            .as_ref()
            .map(|http| check.http(http, &source, &spec.decode)),
        decode: check.decode(&spec.decode, &sink),
        transform: spec
            .transform
            .as_ref()
            .map(|transform| check.transform(transform)),
        delivery: spec.delivery,
        limits: check.limits(&spec.limits, name),
        tests: check.tests(&spec.tests, &source, &sink),
        places: places(document),
        source,
        sink,
        dead_letters,
    }
}

fn places(document: &Spec) -> Places {
    let spec = &document.spec;
    let of = |text: &Spanned<String>| place(text.referenced);
    let name = of(&document.metadata.name);
    let table = spec.sink.clickhouse.as_ref();
    let table = table.and_then(|sink| of(&sink.value.table));
    Places {
        name,
        stream: of(&spec.source.stream),
        consumer: spec.source.consumer.as_ref().map_or(name, of),
        dead_letters: spec.dead_letters.stream.as_ref().map_or(name, of),
        path: spec.http.as_ref().and_then(|http| of(&http.path)),
        decode: place(spec.decode.format.referenced),
        sink: table.or_else(|| {
            spec.sink
                .postgres
                .as_ref()
                .and_then(|sink| place(sink.referenced))
        }),
    }
}

/// Whether a document is part of the program, which fills in what it leaves open.
pub(super) fn is_built_in(path: &Path) -> bool {
    path.to_string_lossy().starts_with("(built in) ")
}

struct Check<'a> {
    /// The document as it was read.
    text: &'a str,
    dir: &'a Path,
    is_built_in: bool,
    complaints: Complaints<'a>,
}

impl Check<'_> {
    fn name(&mut self, name: &Spanned<String>) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let text = &name.value;
        let is_right = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(plain)
            && text.len() <= NAME_CHARS_MAX;
        if !is_right {
            self.complaints.at(
                name,
                format!("name {text:?} must be 1 to {NAME_CHARS_MAX} lower-case letters, digits or '-', a letter first"),
            );
        }
    }

    fn source(&mut self, source: &document::Source, name: &str) -> Source {
        self.complaints.token(&source.stream, "stream");
        for subject in &source.subjects.value {
            if let Some(problem) = subject_problem(&subject.value) {
                self.complaints
                    .at(subject, format!("subject {:?} {problem}", subject.value));
            }
        }
        if source.subjects.value.is_empty() {
            self.complaints.at(&source.subjects, "subjects are missing");
        }
        let subjects: Vec<String> = source
            .subjects
            .value
            .iter()
            .map(|subject| subject.value.clone())
            .collect();
        if let Some(filter) = &source.filter {
            if let Some(problem) = subject_problem(&filter.value) {
                self.complaints
                    .at(filter, format!("filter {:?} {problem}", filter.value));
            } else if !subjects
                .iter()
                .any(|subject| covers(subject, &filter.value))
            {
                self.complaints.at(
                    filter,
                    format!(
                        "filter {:?} is outside the stream's subjects, {}: nothing would ever come",
                        filter.value,
                        subjects.join(", ")
                    ),
                );
            }
        }
        if let Some(consumer) = &source.consumer {
            self.complaints.token(consumer, "consumer");
        }
        let only = || match &subjects[..] {
            [only] => Some(only.clone()),
            _ => None,
        };
        Source {
            stream: source.stream.value.clone(),
            filter: source
                .filter
                .as_ref()
                .map(|filter| filter.value.clone())
                .or_else(only),
            consumer: source
                .consumer
                .as_ref()
                .map_or_else(|| format!("ponix-{name}"), |c| c.value.clone()),
            bytes_max: self
                .complaints
                .bytes(source.max_bytes.as_ref(), "max_bytes", 1 << 20, 1 << 50)
                .unwrap_or(10 * GIB),
            replay_window: self.complaints.time(
                source.replay_window.as_ref(),
                "replay_window",
                Duration::ZERO,
                Duration::from_hours(24 * 3_650),
            ),
            subjects,
        }
    }

    fn dead_letters(
        &mut self,
        document: &document::DeadLetters,
        source: &Source,
        at: &document::Source,
    ) -> DeadLetters {
        if let Some(stream) = &document.stream {
            self.complaints.token(stream, "stream");
            if stream.value == source.stream {
                self.complaints
                    .at(stream, "dead letters need a stream of their own");
            }
        }
        let stream = document.stream.as_ref().map(|stream| stream.value.clone());
        let stream = stream.unwrap_or_else(|| format!("{}_dlq", source.stream));
        let first = source.subjects.first().map_or("", String::as_str);
        let first = first.split('.').next().unwrap_or(first);
        let root = if first.contains(['*', '>']) {
            &source.stream
        } else {
            first
        };
        let default = format!("{root}_dlq");
        let prefix = document.subject_prefix.as_ref();
        let subject_prefix = prefix.map_or(default, |prefix| prefix.value.clone());
        let subjects = format!("{subject_prefix}.>");
        let place = prefix.or(document.stream.as_ref()).unwrap_or(&at.stream);
        if let Some(problem) = subject_problem(&subjects) {
            self.complaints.at(
                place,
                format!("subject_prefix {subject_prefix:?} {problem}"),
            );
        } else if let Some(subject) = source.subjects.iter().find(|s| overlap(s, &subjects)) {
            self.complaints.at(
                place,
                format!("dead letters on {subjects} would come back into the source, whose subject {subject} takes them: set dead_letters.subject_prefix"),
            );
        }
        DeadLetters {
            bytes_max: self
                .complaints
                .bytes(document.max_bytes.as_ref(), "max_bytes", 1 << 20, 1 << 50)
                .unwrap_or(GIB),
            stream,
            subject_prefix,
        }
    }

    fn http(&mut self, http: &document::Http, source: &Source, decode: &document::Decode) -> Http {
        self.path(&http.path);
        if !matches!(
            decode.format.value,
            document::Format::Json | document::Format::Bytes
        ) {
            self.complaints.at(
                &http.path,
                "http takes JSON: it needs decode.format json or bytes",
            );
        }
        let subject_prefix = match &http.subject_prefix {
            Some(prefix) => {
                self.subject_prefix(prefix, source);
                prefix.value.clone()
            }
            None if source.subjects.is_empty() => String::new(),
            None => default_prefix(source).unwrap_or_else(|| {
                self.complaints.at(
                    &http.path,
                    "http needs subject_prefix: no subject of the source ends with a wildcard",
                );
                String::new()
            }),
        };
        Http {
            path: http.path.value.clone(),
            subject_prefix,
        }
    }

    fn path(&mut self, path: &Spanned<String>) {
        let text = &path.value;
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
        let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(plain);
        let rest = text.strip_prefix(PATH_PREFIX);
        if text.len() > PATH_BYTES_MAX || !rest.is_some_and(|rest| rest.split('/').all(is_segment))
        {
            self.complaints.at(
                path,
                format!("path {text:?} must be /v1/ and then lower-case letters, digits, '-', '_' and '/', {PATH_BYTES_MAX} bytes at most"),
            );
        } else if text == ENVELOPES_PATH {
            self.complaints
                .at(path, format!("path {text} is that of the envelopes"));
        }
    }

    fn subject_prefix(&mut self, prefix: &Spanned<String>, source: &Source) {
        let text = &prefix.value;
        let subject = format!("{text}.*");
        let takes = |wide: &String| covers(wide, &subject);
        if let Some(problem) = subject_problem(&subject) {
            self.complaints
                .at(prefix, format!("subject_prefix {text:?} {problem}"));
        } else if text.contains('*') {
            self.complaints.at(
                prefix,
                format!("subject_prefix {text:?} must have no wildcards: it is published on"),
            );
        } else if !source.subjects.iter().any(takes) || !source.filter.as_ref().is_none_or(takes) {
            self.complaints.at(prefix, format!("subject_prefix {text:?} is outside what the pipeline reads: {subject} must lie inside"));
        }
    }

    fn transform(&mut self, document: &Spanned<document::Transform>) -> Transform {
        let transform = &document.value;
        let (program, origin) = match (&transform.vrl, &transform.vrl_file) {
            (Some(program), None) => (program.value.clone(), self.origin(program)),
            (None, Some(file)) => {
                let path = self.file(file);
                let program = std::fs::read_to_string(&path).unwrap_or_else(|err| {
                    let message = format!("vrl_file {:?} cannot be read: {err}", file.value);
                    self.complaints.at(file, message);
                    String::new()
                });
                (program, Origin::File(path))
            }
            _ => {
                let message = "transform needs just one of vrl, vrl_file";
                self.complaints.at(document, message);
                (String::new(), Origin::File(PathBuf::new()))
            }
        };
        let max = self
            .complaints
            .bytes(transform.max_output.as_ref(), "max_output", 1 << 10, GIB);
        Transform {
            program,
            output_bytes_max: max.map(|bytes| bytes as usize),
            origin,
        }
    }

    /// Where the lines of a program stand: those of a block (`|`) begin below its indicator.
    fn origin(&self, program: &Spanned<String>) -> Origin {
        let (line, column) = place(program.referenced).unwrap_or((1, 1));
        let first = program.value.lines().next().unwrap_or_default();
        let lines = self.text.lines().enumerate().skip(line as usize - 1);
        let mut block = lines.skip_while(|(index, text)| {
            *index + 1 == line as usize && text.trim_end().ends_with(['|', '-', '+', '>'])
        });
        let found = block.find(|(_, text)| text.trim_start() == first.trim_start());
        match found {
            Some((index, text)) if !first.trim().is_empty() => Origin::Document {
                line: index as u64 + 1,
                indent: (text.len() - text.trim_start().len()) as u64
                    - (first.len() - first.trim_start().len())
                        .min(text.len() - text.trim_start().len()) as u64,
            },
            _ => Origin::Document {
                line,
                indent: column.saturating_sub(1),
            },
        }
    }

    fn limits(&mut self, document: &document::Limits, name: &Spanned<String>) -> Limits {
        let default = Limits::default();
        let secs = Duration::from_secs;
        let limits = Limits {
            batch_messages: self
                .complaints
                .number(
                    document.batch_messages.as_ref(),
                    "batch_messages",
                    1,
                    100_000,
                )
                .map_or(default.batch_messages, |n| n as usize),
            batch_bytes: self
                .complaints
                .bytes(document.batch_bytes.as_ref(), "batch_bytes", 64 << 10, GIB)
                .map_or(default.batch_bytes, |n| n as usize),
            linger: self
                .complaints
                .time(
                    document.linger.as_ref(),
                    "linger",
                    Duration::from_millis(10),
                    secs(3_600),
                )
                .unwrap_or(default.linger),
            in_flight: self
                .complaints
                .number(document.in_flight.as_ref(), "in_flight", 1, 64)
                .map_or(default.in_flight, |n| n as usize),
            ack_wait: self
                .complaints
                .time(document.ack_wait.as_ref(), "ack_wait", secs(1), secs(3_600))
                .unwrap_or(default.ack_wait),
            ack_pending_max: self
                .complaints
                .number(
                    document.max_ack_pending.as_ref(),
                    "max_ack_pending",
                    1,
                    10_000_000,
                )
                .unwrap_or(default.ack_pending_max),
            deliveries_max: self
                .complaints
                .number(
                    document.max_deliveries.as_ref(),
                    "max_deliveries",
                    3,
                    1_000_000,
                )
                .map_or(default.deliveries_max, |n| n as u32),
            nak_delay: self.complaints.time(
                document.nak_delay.as_ref(),
                "nak_delay",
                Duration::ZERO,
                secs(3_600),
            ),
        };
        // Messages that wait for their batch are not in work yet, and no progress is reported on them.
        if limits.linger > limits.ack_wait / 2 {
            let message = format!(
                "linger is {:?}, expected at most half of ack_wait, which is {:?}: what waits longer for its batch is delivered again, for ever",
                limits.linger, limits.ack_wait
            );
            let at = document.linger.as_ref().or(document.ack_wait.as_ref());
            self.complaints.at(at.unwrap_or(name), message);
        }
        let least = 2 * limits.in_flight as u64 * limits.batch_messages as u64;
        if limits.ack_pending_max < least {
            let message = format!(
                "max_ack_pending is {}, expected at least {least}: twice in_flight times batch_messages",
                limits.ack_pending_max
            );
            match &document.max_ack_pending {
                Some(at) => self.complaints.at(at, message),
                None => self.complaints.at(name, message),
            }
        }
        limits
    }

    fn tests(&mut self, tests: &[document::Test], source: &Source, sink: &Sink) -> Vec<TestCase> {
        let mut cases: Vec<TestCase> = Vec::with_capacity(tests.len());
        for test in tests {
            let name = &test.name;
            if name.value.trim().is_empty() {
                self.complaints.at(name, "a test needs a name");
            }
            if cases.iter().any(|case| case.name == name.value) {
                self.complaints
                    .at(name, format!("test {:?} is there twice", name.value));
            }
            if let document::Expect::DeadLetter(text) = &test.expect.value
                && text.trim().is_empty()
            {
                self.complaints.at(
                    &test.expect,
                    "dead_letter needs a reason, or a part of the error text",
                );
            }
            if let (document::Expect::Row(fields), Some(columns)) =
                (&test.expect.value, columns(sink))
            {
                for field in fields
                    .keys()
                    .filter(|field| !columns.contains(&field.as_str()))
                {
                    self.complaints.at(
                        &test.expect,
                        format!(
                            "test {:?} expects {field:?}, which is no column",
                            name.value
                        ),
                    );
                }
            }
            let published_at = test
                .published_at
                .as_ref()
                .map(|text| self.published_at_ns(text));
            let subject = test.subject.clone().unwrap_or_else(|| {
                source
                    .subjects
                    .first()
                    .map(|subject| subject::concrete(subject, "test"))
                    .unwrap_or_default()
            });
            cases.push(TestCase {
                name: name.value.clone(),
                input: input(&test.input.value),
                subject,
                headers: test.headers.clone(),
                published_at_ns: published_at.unwrap_or(TEST_PUBLISHED_AT_NS),
                expect: expect(&test.expect.value),
                place: place(name.referenced),
            });
        }
        cases
    }

    fn published_at_ns(&mut self, text: &Spanned<String>) -> i64 {
        let time = OffsetDateTime::parse(&text.value, &Rfc3339).ok();
        let ns = time.and_then(|time| i64::try_from(time.unix_timestamp_nanos()).ok());
        ns.unwrap_or_else(|| {
            self.complaints.at(
                text,
                format!(
                    "published_at {:?} is no time such as 2026-01-01T00:00:00Z",
                    text.value
                ),
            );
            0
        })
    }

    /// A path relative to the document.
    fn file(&self, path: &Spanned<String>) -> PathBuf {
        self.dir.join(&path.value)
    }
}

/// Where documents from HTTP are published, without a word of it: below the first subject that ends
/// with a wildcard.
fn default_prefix(source: &Source) -> Option<String> {
    let mut subjects = source.filter.iter().chain(&source.subjects);
    subjects.find_map(|subject| {
        let (prefix, last) = subject.rsplit_once('.')?;
        match last {
            _ if prefix.contains('*') => None,
            ">" => Some(format!("{prefix}.http")),
            "*" => Some(prefix.to_owned()),
            _ => None,
        }
    })
}

/// The columns that the fields of a row must be of.
fn columns(sink: &Sink) -> Option<Vec<&str>> {
    match sink {
        Sink::Clickhouse(table) if table.unknown_fields == UnknownFields::Reject => {
            let columns = table.columns.as_ref()?;
            Some(columns.iter().map(|(name, _)| name.as_str()).collect())
        }
        _ => None,
    }
}

fn input(json: &Json) -> TestInput {
    match json {
        Json::String(text) => TestInput::Payload(text.clone().into_bytes()),
        fields => TestInput::Fields(fields.clone()),
    }
}

fn expect(expect: &document::Expect) -> Expect {
    match expect {
        document::Expect::Row(fields) => Expect::Row(fields.clone().into_iter().collect()),
        document::Expect::DeadLetter(text) => Expect::DeadLetter(text.clone()),
        document::Expect::Dropped => Expect::Dropped,
    }
}
