//! Runs one statement on a connection of its own. Everything here blocks.

use bytes::Bytes;

use crate::blocks;
use crate::exception::{Exception, codes};
use crate::ffi::{Connection, Counts};
use crate::format::{Header, Joining, joining};
use crate::native;
use crate::request::Parameters;
use crate::spool::{Pieces, Spool};
use crate::statement::{Insert, Output, Refusal, Statement, inspect};
use crate::surroundings::Surroundings;

/// The format of a result when neither the query nor the client names one.
const DEFAULT_FORMAT: &str = "TabSeparated";
/// Bytes of the body that may be looked at to find where an INSERT's data begins; ClickHouse's `max_query_size`.
const HEAD_BYTES: usize = 256 * 1024;
/// Bytes of a statement that is no INSERT.
const STATEMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A statement to run.
#[derive(Debug)]
pub(crate) struct Job {
    /// What the client asked for.
    pub(crate) parameters: Parameters,
    /// The method is GET: the statement must not change anything.
    pub(crate) read_only: bool,
    /// What comes behind the statement's first part in [`Parameters::query`].
    pub(crate) body: Spool,
}

/// What happens while a statement runs, in this order: at most one `Started`, any number of `Data`, and one `Ended`
/// or `Failed`.
#[derive(Debug)]
pub(crate) enum Event {
    /// The statement has a result, in this format.
    Started {
        /// The format's name, as the query or the client wrote it.
        format: String,
    },
    /// A piece of the result.
    Data(Bytes, Counts),
    /// It is over, and this is what it did besides what the pieces counted.
    Ended(Counts),
    /// It failed.
    Failed(Exception),
}

/// The receiving side has gone: the client hung up.
#[derive(Debug)]
pub(crate) struct Gone;

/// Runs `job` and tells `tell` what happens; stops as soon as `tell` says that nobody listens.
///
/// The last event is returned, not told, so that the caller can tidy up first; `None` when nobody listens.
pub(crate) fn run(
    connection: &mut Connection,
    job: Job,
    tell: &mut dyn FnMut(Event) -> Result<(), Gone>,
) -> Option<Event> {
    let surroundings = match Surroundings::enter(connection, &job.parameters) {
        Ok(surroundings) => surroundings,
        Err(exception) => return Some(Event::Failed(exception)),
    };
    let ran = Run { connection, tell }.statement(job);
    surroundings.leave(connection);
    match ran {
        Ok(counts) => Some(Event::Ended(counts)),
        Err(Stop::Failed(exception)) => Some(Event::Failed(exception)),
        Err(Stop::Gone) => None,
    }
}

enum Stop {
    Failed(Exception),
    Gone,
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Self {
        Self::Failed(exception)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

struct Run<'a> {
    connection: &'a mut Connection,
    tell: &'a mut dyn FnMut(Event) -> Result<(), Gone>,
}

impl Run<'_> {
    fn statement(&mut self, job: Job) -> Result<Counts, Stop> {
        let Job {
            mut parameters,
            read_only,
            body,
        } = job;
        let mut text = std::mem::take(&mut parameters.query).into_bytes();
        if !text.is_empty() && !body.is_empty() {
            text.push(b'\n');
        }
        let body_bytes = body.len();
        let mut pieces = body.into_pieces().map_err(unreadable)?;
        let mut statement = inspect(&text);
        if !matches!(statement, Statement::Insert(_)) && body_bytes > 0 {
            text.extend(pieces.read_at_least(HEAD_BYTES).map_err(unreadable)?);
            statement = inspect(&text);
        }
        if let Statement::Insert(insert) = statement {
            if read_only {
                return Err(readonly().into());
            }
            return Ok(self.insert(&insert, &text[insert.data_at..], pieces, &parameters)?);
        }
        if body_bytes > STATEMENT_BYTES_MAX {
            return Err(too_large().into());
        }
        for piece in pieces {
            text.extend_from_slice(&piece.map_err(unreadable)?);
        }
        self.check(&text, read_only)?;
        match statement {
            Statement::Select(output) => self.select(&text, &output, &parameters),
            Statement::Other(output) => self.whole(&text, &output, &parameters),
            Statement::Refused(refusal) => Err(refused(refusal).into()),
            Statement::Insert(_) => unreachable!("handled above"),
        }
    }

    /// Asks the engine's parser what the statement does, where that matters.
    fn check(&mut self, text: &[u8], read_only: bool) -> Result<(), Exception> {
        if !read_only && !text.contains(&b';') {
            return Ok(());
        }
        let class = self.connection.classify(text);
        if class.statements > 1 {
            return Err(Exception::new(
                codes::SYNTAX_ERROR,
                "SYNTAX_ERROR",
                "Syntax error (Multi-statements are not allowed)",
            ));
        }
        // What does not parse is left to the engine, which says where the mistake is.
        if read_only && class.statements == 1 && !class.read_only {
            return Err(readonly());
        }
        Ok(())
    }

    fn insert(
        &mut self,
        insert: &Insert,
        head: &[u8],
        pieces: Pieces,
        parameters: &Parameters,
    ) -> Result<Counts, Exception> {
        let mut stream = self
            .connection
            .insert(&insert.sql, &insert.format, &parameters.values)
            .map_err(Exception::from_engine)?;
        if !head.is_empty() {
            stream.append(head).map_err(Exception::from_engine)?;
        }
        for piece in pieces {
            stream
                .append(&piece.map_err(unreadable)?)
                .map_err(Exception::from_engine)?;
        }
        stream.finish().map_err(Exception::from_engine)
    }

    fn select(
        &mut self,
        text: &[u8],
        output: &Output,
        parameters: &Parameters,
    ) -> Result<Counts, Stop> {
        let format = output_format(output, parameters);
        let joining = joining(&format);
        let by_block = joining != Joining::Whole && !output.totals && !extremes(text, parameters);
        if by_block && self.blocks(text, &format, joining, parameters)? {
            return Ok(Counts::default());
        }
        self.whole(text, output, parameters)
    }

    /// Runs a query block by block; `false` if it is one of those the engine only runs whole.
    fn blocks(
        &mut self,
        text: &[u8],
        format: &str,
        joining: Joining,
        parameters: &Parameters,
    ) -> Result<bool, Stop> {
        let mut stream = match self.connection.stream(text, format, &parameters.values) {
            Ok(stream) => stream,
            Err(error) if error.contains("Streaming query is not supported") => return Ok(false),
            Err(error) => return Err(Exception::from_engine(error).into()),
        };
        (self.tell)(Event::Started {
            format: format.to_owned(),
        })?;
        let mut header = None;
        while let Some(block) = stream.next().map_err(Exception::from_engine)? {
            let counts = block.counts();
            let mut data = Bytes::from_owner(block);
            if let Some(header) = header {
                data = data.slice(Header::length(header, &data)..);
            } else if let Joining::Header(of_format) = joining {
                header = Some(of_format);
            }
            let data = for_client(data, format, parameters, native::block_with_revision)?;
            (self.tell)(Event::Data(data, counts))?;
        }
        Ok(true)
    }

    fn whole(
        &mut self,
        text: &[u8],
        output: &Output,
        parameters: &Parameters,
    ) -> Result<Counts, Stop> {
        let format = output_format(output, parameters);
        let result = self
            .connection
            .query(text, &format, &parameters.values)
            .map_err(Exception::from_engine)?;
        let counts = result.counts();
        if result.as_ref().is_empty() {
            if output.format.is_some() {
                (self.tell)(Event::Started { format })?;
            }
            return Ok(counts);
        }
        (self.tell)(Event::Started {
            format: format.clone(),
        })?;
        let data = for_client(
            Bytes::from_owner(result),
            &format,
            parameters,
            native::with_revision,
        )?;
        (self.tell)(Event::Data(data, counts))?;
        Ok(Counts::default())
    }
}

fn output_format(output: &Output, parameters: &Parameters) -> String {
    let named = output
        .format
        .as_ref()
        .or(parameters.default_format.as_ref());
    named.cloned().unwrap_or_else(|| DEFAULT_FORMAT.to_owned())
}

/// Rewrites Native for a client that knows a revision of the protocol; no other format depends on that.
type Rewrite = fn(&[u8], u64) -> Result<Vec<u8>, Exception>;

fn for_client(
    data: Bytes,
    format: &str,
    parameters: &Parameters,
    rewrite: Rewrite,
) -> Result<Bytes, Exception> {
    if parameters.protocol_revision == 0 || !format.eq_ignore_ascii_case("Native") {
        return Ok(data);
    }
    rewrite(&data, parameters.protocol_revision).map(Bytes::from)
}

/// Extremes come behind the rows, and rows may be wrapped in an array: such results cannot be joined from blocks.
fn extremes(text: &[u8], parameters: &Parameters) -> bool {
    const NAMES: [&str; 2] = ["extremes", "output_format_json_array_of_rows"];
    parameters
        .settings
        .iter()
        .any(|(name, _)| NAMES.contains(&name.as_str()))
        || NAMES.iter().any(|name| {
            text.windows(name.len())
                .any(|window| window == name.as_bytes())
        })
}

/// The data in compressed frames.
pub(crate) fn compressed(event: Event) -> Event {
    match event {
        Event::Data(data, counts) => Event::Data(blocks::encode(&data), counts),
        other => other,
    }
}

fn readonly() -> Exception {
    Exception::new(
        codes::READONLY,
        "READONLY",
        "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use \
         method POST for modifying queries, and another user than the reader.",
    )
}

fn too_large() -> Exception {
    Exception::new(
        codes::QUERY_IS_TOO_LARGE,
        "QUERY_IS_TOO_LARGE",
        format_args!("A statement that is no INSERT may have at most {STATEMENT_BYTES_MAX} bytes"),
    )
}

fn refused(refusal: Refusal) -> Exception {
    match refusal {
        Refusal::Infile => Exception::new(
            codes::UNKNOWN_TYPE_OF_QUERY,
            "UNKNOWN_TYPE_OF_QUERY",
            "Query has infile and was send directly to server",
        ),
        Refusal::Outfile => Exception::new(
            codes::INTO_OUTFILE_NOT_ALLOWED,
            "INTO_OUTFILE_NOT_ALLOWED",
            "INTO OUTFILE is not allowed",
        ),
        Refusal::Input => Exception::new(
            codes::NOT_IMPLEMENTED,
            "NOT_IMPLEMENTED",
            "INSERT … SELECT … FROM input() is not implemented by this server",
        ),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "taken as it comes from map_err"
)]
fn unreadable(error: std::io::Error) -> Exception {
    Exception::new(
        codes::NETWORK_ERROR,
        "NETWORK_ERROR",
        format_args!("The request's body cannot be read back from disk: {error}"),
    )
}
