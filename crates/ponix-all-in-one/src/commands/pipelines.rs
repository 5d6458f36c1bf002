//! `ponix-all-in-one pipelines`.

mod table;

use std::io::BufRead as _;
use std::path::Path;

use ponix_pipeline::{
    LoadErrors, Message, Outcome as EventOutcome, Pipeline, PostgresSink, RecordDecoder, Sink,
    TestInput, from_files, load, outcome, run_tests, sample, schema,
};
use ponix_runner::Outcome;
use serde_json::json;
use uuid::Uuid;

use self::table::Table;
use crate::cli::{self, PipelinesCommand};
use crate::pipelines::postgres_table_config;

/// Does it, without any server; the outcome is a wrong configuration when the documents are wrong.
pub(crate) fn run(command: &PipelinesCommand) -> Outcome {
    match command {
        PipelinesCommand::Check { dir } => with_pipelines(load(dir), |pipelines| {
            for pipeline in pipelines {
                cli::line(&summary(pipeline));
            }
            Outcome::Clean
        }),
        PipelinesCommand::Test { dir } => with_pipelines(load(dir), test),
        PipelinesCommand::Ddl { dir } => with_pipelines(load(dir), ddl),
        PipelinesCommand::Sample { dir, name } => {
            with_pipelines(load(dir), |pipelines| print_sample(pipelines, name))
        }
        PipelinesCommand::Run { file } => with_pipelines(load_file(file), |pipelines| {
            pipelines.first().map_or(Outcome::Clean, run_lines)
        }),
        PipelinesCommand::Schema => {
            cli::line(schema().trim_end());
            Outcome::Clean
        }
    }
}

fn load_file(file: &Path) -> Result<Vec<Pipeline>, LoadErrors> {
    let text = std::fs::read_to_string(file).map_err(|err| LoadErrors::of_file(file, &err))?;
    from_files([(file.to_owned(), text)])
}

/// Checks that the sinks of pipelines can be as declared.
///
/// # Errors
/// Every one that cannot.
pub(crate) fn with_their_tables(pipelines: Vec<Pipeline>) -> Result<Vec<Pipeline>, LoadErrors> {
    let wrong = pipelines
        .iter()
        .filter_map(|pipeline| Table::new(pipeline).err());
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        Ok(pipelines)
    } else {
        Err(LoadErrors(wrong))
    }
}

fn with_pipelines(
    loaded: Result<Vec<Pipeline>, LoadErrors>,
    go_on: impl FnOnce(&[Pipeline]) -> Outcome,
) -> Outcome {
    match loaded.and_then(with_their_tables) {
        Ok(pipelines) => go_on(&pipelines),
        Err(errors) => cli::wrong_configuration(&errors),
    }
}

/// Goes on with the decoder and the table; what is wrong with them has been told when the document
/// was loaded, but a file may have changed since.
fn with_decoder(
    pipeline: &Pipeline,
    go_on: impl FnOnce(&RecordDecoder, &Table) -> Outcome,
) -> Outcome {
    let table = Table::new(pipeline).map_err(|error| LoadErrors(vec![error]));
    match table.and_then(|table| Ok((RecordDecoder::new(pipeline)?, table))) {
        Ok((decoder, table)) => go_on(&decoder, &table),
        Err(errors) => cli::wrong_configuration(&errors),
    }
}

fn summary(pipeline: &Pipeline) -> String {
    let source = &pipeline.source;
    let sink = match &pipeline.sink {
        Sink::Clickhouse(table) => format!("ClickHouse table {}", table.table),
        Sink::Postgres(PostgresSink::Table { table, .. }) => format!("PostgreSQL table {table}"),
        _ => "PostgreSQL tables of entities".to_owned(),
    };
    let transform = pipeline
        .transform
        .as_ref()
        .map_or("", |_| " by a transform");
    let door = pipeline
        .http
        .as_ref()
        .map(|http| format!(", POST {}", http.path));
    format!(
        "{}: stream {} ({}){}{transform} to {sink}, {} tests",
        pipeline.name,
        source.stream,
        source.subjects.join(", "),
        door.unwrap_or_default(),
        pipeline.tests.len()
    )
}

/// Runs the documents' own tests; a failed one is a failed command.
fn test(pipelines: &[Pipeline]) -> Outcome {
    let (mut passed, mut failed) = (0, 0);
    for pipeline in pipelines {
        let outcome = with_decoder(pipeline, |decoder, table| {
            for report in run_tests(pipeline, decoder, &|record| table.row(record)) {
                if report.is_passed() {
                    passed += 1;
                    cli::line(&format!("ok      {}: {}", pipeline.name, report.name));
                    continue;
                }
                failed += 1;
                cli::line(&format!("FAILED  {}: {}", pipeline.name, report.name));
                let (line, column) = report.place.unwrap_or((1, 1));
                cli::line(&format!(
                    "        {}:{line}:{column}",
                    pipeline.path.display()
                ));
                for difference in &report.differences {
                    cli::line(&format!("        {difference}"));
                }
            }
            Outcome::Clean
        });
        if !matches!(outcome, Outcome::Clean) {
            return outcome;
        }
    }
    cli::line(&format!("{passed} passed, {failed} failed"));
    if failed == 0 {
        Outcome::Clean
    } else {
        Outcome::Failed
    }
}

fn ddl(pipelines: &[Pipeline]) -> Outcome {
    for pipeline in pipelines {
        let of_postgres = postgres_table_config(&pipeline.sink);
        let text = match (&pipeline.sink, Table::ddl(pipeline)) {
            (_, Some(ddl)) => format!("-- {}\n{ddl}\n", pipeline.name),
            (Sink::Clickhouse(table), None) => {
                let (name, table) = (&pipeline.name, &table.table);
                format!("-- {name}: declares no columns, those of {table} are used\n")
            }
            _ => match of_postgres.map(|table| (table.ddl(), table.table)) {
                Some((Some(ddl), _)) => format!("-- {}\n{ddl}", pipeline.name),
                Some((None, table)) => {
                    let name = &pipeline.name;
                    format!("-- {name}: declares no columns, those of {table} are used\n")
                }
                None => format!("-- {}: see `entities ddl`\n", pipeline.name),
            },
        };
        cli::line(&text);
    }
    Outcome::Clean
}

fn print_sample(pipelines: &[Pipeline], name: &str) -> Outcome {
    let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.name == name) else {
        let known: Vec<&str> = pipelines.iter().map(|known| known.name.as_str()).collect();
        return cli::wrong_configuration(&format!(
            "there is no pipeline {name:?}, expected one of {}",
            known.join(", ")
        ));
    };
    let text = match sample(pipeline) {
        TestInput::Payload(payload) => String::from_utf8_lossy(&payload).into_owned(),
        TestInput::Fields(fields) => fields.to_string(),
    };
    cli::line(&text);
    Outcome::Clean
}

/// Decodes lines of the standard input and prints what each becomes. A line is a message as it
/// stands where the format is a text, else the fields of one as JSON.
fn run_lines(pipeline: &Pipeline) -> Outcome {
    with_decoder(pipeline, |decoder, table| {
        let (mut rows, mut dead, mut dropped) = (0, 0, 0);
        for (index, line) in std::io::stdin().lock().split(b'\n').enumerate() {
            let line = match line {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => line,
                Err(err) => return cli::fail(&format!("the standard input cannot be read: {err}")),
            };
            let payload = match payload(decoder, line) {
                Ok(payload) => payload,
                Err(text) => return cli::fail(&format!("line {}: {text}", index + 1)),
            };
            let sequence = index as u64 + 1;
            let message = Message {
                payload: &payload,
                subject: pipeline.source.subjects.first().map_or("", String::as_str),
                headers: &(),
                identity: Uuid::from_u64_pair(0x8000, 0x8000_0000_0000_0000 | sequence),
                // The same on every run: nothing that is shown depends on when it is.
                published_at_ns: 1_767_225_600_000_000_000,
                stream_sequence: sequence,
                deliveries: 1,
            };
            let shown = match outcome(decoder, &message, &|record| table.row(record)) {
                EventOutcome::Row(fields) => {
                    rows += 1;
                    json!({"row": fields})
                }
                EventOutcome::DeadLetter(err) => {
                    dead += 1;
                    let (reason, error) = (err.reason.as_str(), err.text);
                    json!({"dead_letter": {"line": index + 1, "reason": reason, "error": error}})
                }
                EventOutcome::Dropped => {
                    dropped += 1;
                    json!({"dropped": {"line": index + 1}})
                }
            };
            cli::line(&shown.to_string());
        }
        cli::error_line(&format!(
            "{rows} rows, {dead} dead letters, {dropped} dropped"
        ));
        Outcome::Clean
    })
}

fn payload(decoder: &RecordDecoder, line: Vec<u8>) -> Result<Vec<u8>, String> {
    if decoder.is_text() {
        return Ok(line);
    }
    let fields = serde_json::from_slice(&line).map_err(|err| format!("is not JSON: {err}"))?;
    decoder.encode(&TestInput::Fields(fields))
}
