//! libchdb's C functions behind safe types: the only module of the crate with `unsafe` in it.
//!
//! Rules of the C interface that the types here keep, so that their callers need not know them:
//!
//! - the library is loaded once and never unloaded, hence [`Library`] lives for `'static`;
//! - one connection runs one statement at a time: every statement borrows its [`Connection`] mutably;
//! - every handle is destroyed exactly once, on drop, also on error paths;
//! - a result owns its bytes until it is destroyed: [`QueryResult`] gives them out as a slice of itself.
#![expect(
    unsafe_code,
    reason = "the C interface of libchdb cannot be called without it"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::path::Path;
use std::ptr::{self, NonNull};

unsafe extern "C" {
    /// Ends the process without running what C++ registered for its end.
    safe fn _exit(code: c_int) -> !;
}

/// Ends the process at once, with `code`.
///
/// What libchdb would do at an ordinary end (destroying its globals while threads of its own are parked in them) may
/// abort the process, and the exit code would be lost.
pub fn leave(code: u8) -> ! {
    _exit(code.into())
}

/// What C calls `chdb_connection *`.
type RawConnection = *mut c_void;
/// What C calls `chdb_connection`.
type RawSession = *mut c_void;
/// What C calls `chdb_result *`.
type RawResult = *mut c_void;
/// What C calls `chdb_insert_stream`.
type RawInsert = *mut c_void;

type QueryFn = unsafe extern "C" fn(
    RawSession,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> RawResult;

/// The functions of a loaded libchdb.
pub(crate) struct Library {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> RawConnection,
    close_conn: unsafe extern "C" fn(RawConnection),
    query_with_params_n: QueryFn,
    stream_query_with_params_n: QueryFn,
    stream_fetch_result: unsafe extern "C" fn(RawSession, RawResult) -> RawResult,
    stream_cancel_query: unsafe extern "C" fn(RawSession, RawResult),
    stream_insert_with_params_n: QueryFn,
    stream_append: unsafe extern "C" fn(RawInsert, *const c_void, usize) -> c_int,
    stream_done: unsafe extern "C" fn(RawInsert) -> RawResult,
    stream_insert_error: unsafe extern "C" fn(RawInsert) -> *const c_char,
    destroy_insert_stream: unsafe extern "C" fn(RawInsert),
    classify_query_n: unsafe extern "C" fn(
        RawSession,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *mut Analysis,
    ) -> c_int,
    result_buffer: unsafe extern "C" fn(RawResult) -> *const c_char,
    result_length: unsafe extern "C" fn(RawResult) -> usize,
    result_error: unsafe extern "C" fn(RawResult) -> *const c_char,
    result_rows_read: unsafe extern "C" fn(RawResult) -> u64,
    result_bytes_read: unsafe extern "C" fn(RawResult) -> u64,
    result_storage_rows_read: unsafe extern "C" fn(RawResult) -> u64,
    result_storage_bytes_read: unsafe extern "C" fn(RawResult) -> u64,
    result_rows_written: unsafe extern "C" fn(RawResult) -> u64,
    result_bytes_written: unsafe extern "C" fn(RawResult) -> u64,
    destroy_query_result: unsafe extern "C" fn(RawResult),
    shutdown: unsafe extern "C" fn() -> c_int,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

/// Why libchdb could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The dynamic linker refused the file.
    #[error("libchdb cannot be loaded")]
    Open(#[source] libloading::Error),
    /// A function is missing: the library is older than 26.7.
    #[error("libchdb has no function {name}; version 26.7 or later is needed")]
    Symbol {
        /// The name of the C function.
        name: &'static str,
        /// What the dynamic linker said.
        #[source]
        source: libloading::Error,
    },
}

impl Library {
    /// Loads the library from `path`, for the rest of the process, and tells it to leave signals alone.
    pub(crate) fn load(path: &Path) -> Result<&'static Self, LoadError> {
        // SAFETY: loading runs the library's initializers. The file is one the operator named or the project
        // installed; there is no way to check it further.
        let library = unsafe { libloading::Library::new(path) }.map_err(LoadError::Open)?;
        // The engine's threads run in the library's code until the process ends: it is never unloaded.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the type it is assigned to is the one chdb.h of 26.7.3 declares for this name.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }
                    .map_err(|source| LoadError::Symbol { name: $name, source })?
            }};
        }
        let set_signal_handlers_enabled: unsafe extern "C" fn(c_int) =
            symbol!("chdb_set_signal_handlers_enabled");
        // SAFETY: takes a flag by value; called before the first connection, as the header asks.
        unsafe { set_signal_handlers_enabled(0) };
        Ok(Box::leak(Box::new(Self {
            connect: symbol!("chdb_connect"),
            close_conn: symbol!("chdb_close_conn"),
            query_with_params_n: symbol!("chdb_query_with_params_n"),
            stream_query_with_params_n: symbol!("chdb_stream_query_with_params_n"),
            stream_fetch_result: symbol!("chdb_stream_fetch_result"),
            stream_cancel_query: symbol!("chdb_stream_cancel_query"),
            stream_insert_with_params_n: symbol!("chdb_stream_insert_with_params_n"),
            stream_append: symbol!("chdb_stream_append"),
            stream_done: symbol!("chdb_stream_done"),
            stream_insert_error: symbol!("chdb_stream_insert_error"),
            destroy_insert_stream: symbol!("chdb_destroy_insert_stream"),
            classify_query_n: symbol!("chdb_classify_query_n"),
            result_buffer: symbol!("chdb_result_buffer"),
            result_length: symbol!("chdb_result_length"),
            result_error: symbol!("chdb_result_error"),
            result_rows_read: symbol!("chdb_result_rows_read"),
            result_bytes_read: symbol!("chdb_result_bytes_read"),
            result_storage_rows_read: symbol!("chdb_result_storage_rows_read"),
            result_storage_bytes_read: symbol!("chdb_result_storage_bytes_read"),
            result_rows_written: symbol!("chdb_result_rows_written"),
            result_bytes_written: symbol!("chdb_result_bytes_written"),
            destroy_query_result: symbol!("chdb_destroy_query_result"),
            shutdown: symbol!("chdb_shutdown"),
        })))
    }

    /// Opens a connection; the first one boots the engine with `arguments` (`--path=…`, `--setting=value`).
    ///
    /// Every connection must name the same path. Blocks while the engine boots.
    ///
    /// `None` when the engine refused; it says why on its log alone.
    pub(crate) fn connect(&'static self, arguments: &[String]) -> Option<Connection> {
        // An argument with a NUL in it cannot be meant; it is cut away rather than refused.
        let owned: Vec<CString> = std::iter::once("clickhouse")
            .chain(arguments.iter().map(String::as_str))
            .map(|argument| CString::new(argument.split('\0').next().unwrap_or_default()))
            .collect::<Result<_, _>>()
            .ok()?;
        let mut pointers: Vec<*mut c_char> = owned
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        // SAFETY: `pointers` holds as many NUL-terminated strings as said, alive during the call; the engine copies
        // them and does not write to them.
        let handle = unsafe { (self.connect)(pointers.len() as c_int, pointers.as_mut_ptr()) };
        NonNull::new(handle).map(|handle| Connection {
            library: self,
            handle,
        })
    }

    /// Ends the engine's threads. Every connection must have been dropped; afterwards none can be opened.
    ///
    /// `false` when a connection is open, and also when a thread is left that the library has no way to end.
    pub(crate) fn shutdown(&'static self) -> bool {
        // SAFETY: takes nothing, may be called from any thread.
        unsafe { (self.shutdown)() == 0 }
    }

    fn error_text(pointer: *const c_char) -> Option<String> {
        if pointer.is_null() {
            return None;
        }
        // SAFETY: an error is a NUL-terminated string owned by its handle, which outlives this call.
        Some(
            unsafe { CStr::from_ptr(pointer) }
                .to_string_lossy()
                .into_owned(),
        )
    }
}

/// What [`Connection::classify`] asks the engine to fill in; the layout of `chdb_query_analysis_v1`.
#[repr(C)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// What a text does, by the engine's own parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classification {
    /// Statements in the text; 0 when it does not parse.
    pub(crate) statements: u32,
    /// `true` for SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK.
    pub(crate) read_only: bool,
}

/// One connection to the engine: a session with its own settings and current database.
pub(crate) struct Connection {
    library: &'static Library,
    handle: NonNull<c_void>,
}

// SAFETY: a connection is not tied to the thread that opened it; the C functions lock inside, and `&mut self` keeps
// statements apart.
unsafe impl Send for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is live and dropped once; statements borrow the connection, so none is running.
        unsafe { (self.library.close_conn)(self.handle.as_ptr()) };
    }
}

/// Names and values of `{name:Type}` placeholders, in the form the C functions take.
struct Parameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl Parameters {
    fn new(parameters: &[(String, String)]) -> Self {
        Self {
            names: parameters
                .iter()
                .map(|(name, _)| name.as_ptr().cast())
                .collect(),
            name_lengths: parameters.iter().map(|(name, _)| name.len()).collect(),
            values: parameters
                .iter()
                .map(|(_, value)| value.as_ptr().cast())
                .collect(),
            value_lengths: parameters.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

impl Connection {
    fn session(&self) -> RawSession {
        // SAFETY: the handle points at the session's own pointer for as long as the connection is open.
        unsafe { *self.handle.as_ptr().cast::<RawSession>() }
    }

    fn call(
        &mut self,
        function: QueryFn,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> RawResult {
        let parameters = Parameters::new(parameters);
        // SAFETY: every pointer goes with its length and lives until the call returns; the engine copies what it
        // keeps.
        unsafe {
            function(
                self.session(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                parameters.names.as_ptr(),
                parameters.name_lengths.as_ptr(),
                parameters.values.as_ptr(),
                parameters.value_lengths.as_ptr(),
                parameters.names.len(),
            )
        }
    }

    /// Runs `sql` and returns the whole result, written in `format` unless the statement names another.
    ///
    /// Blocks until the statement has ended. The error is the engine's own text, `Code: N. DB::Exception: …`.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<QueryResult, String> {
        let raw = self.call(self.library.query_with_params_n, sql, format, parameters);
        QueryResult::own(self.library, raw).into_ok()
    }

    /// Starts a SELECT whose result is fetched block by block.
    pub(crate) fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<QueryStream<'_>, String> {
        let raw = self.call(
            self.library.stream_query_with_params_n,
            sql,
            format,
            parameters,
        );
        let handle = QueryResult::own(self.library, raw).into_ok()?;
        Ok(QueryStream {
            connection: self,
            handle,
        })
    }

    /// Starts an INSERT; `sql` has neither FORMAT nor data, `format` is that of the bytes to be appended.
    pub(crate) fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<InsertStream<'_>, String> {
        let raw = self.call(
            self.library.stream_insert_with_params_n,
            sql,
            format,
            parameters,
        );
        let Some(handle) = NonNull::new(raw) else {
            return Err("the engine gave no insert stream".to_owned());
        };
        let stream = InsertStream {
            connection: self,
            handle,
        };
        match stream.error() {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Parses `sql` without running it.
    pub(crate) fn classify(&mut self, sql: &[u8]) -> Classification {
        let mut analysis = Analysis {
            struct_size: size_of::<Analysis>() as u32,
            statement_count: 0,
            flags: 0,
            query_class: u32::MAX,
        };
        // SAFETY: the text goes with its length, no target database is named, and the struct says its own size.
        unsafe {
            (self.library.classify_query_n)(
                self.session(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &raw mut analysis,
            );
        }
        const READ_ONLY: u32 = 0;
        Classification {
            statements: analysis.statement_count,
            read_only: analysis.query_class == READ_ONLY,
        }
    }
}

/// A result or a piece of one; its bytes live in the engine's memory until it is dropped.
pub(crate) struct QueryResult {
    library: &'static Library,
    handle: NonNull<c_void>,
}

// SAFETY: after the call that returned it nothing but its owner touches a result, and its functions only read.
unsafe impl Send for QueryResult {}
// SAFETY: as above; reading from several threads is reading.
unsafe impl Sync for QueryResult {}

impl fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryResult")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: the handle is live and dropped once.
        unsafe { (self.library.destroy_query_result)(self.handle.as_ptr()) };
    }
}

impl AsRef<[u8]> for QueryResult {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the handle is live.
        let (pointer, length) = unsafe {
            (
                (self.library.result_buffer)(self.handle.as_ptr()),
                (self.library.result_length)(self.handle.as_ptr()),
            )
        };
        if pointer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the buffer holds `length` bytes and neither moves nor changes until the result is destroyed, which
        // the borrow of `self` prevents.
        unsafe { std::slice::from_raw_parts(pointer.cast(), length) }
    }
}

/// What a statement, or a piece of its result, read and wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows read from tables.
    pub(crate) read_rows: u64,
    /// Bytes read from tables, uncompressed.
    pub(crate) read_bytes: u64,
    /// Rows written, those of materialized views included.
    pub(crate) written_rows: u64,
    /// Bytes written, uncompressed.
    pub(crate) written_bytes: u64,
    /// Rows in the result.
    pub(crate) result_rows: u64,
    /// Bytes of the result in memory.
    pub(crate) result_bytes: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read_rows += other.read_rows;
        self.read_bytes += other.read_bytes;
        self.written_rows += other.written_rows;
        self.written_bytes += other.written_bytes;
        self.result_rows += other.result_rows;
        self.result_bytes += other.result_bytes;
    }
}

impl QueryResult {
    /// Takes ownership of what a C function returned, which the header promises is never null.
    fn own(library: &'static Library, raw: RawResult) -> Owned {
        Owned(NonNull::new(raw).map(|handle| Self { library, handle }))
    }

    fn error(&self) -> Option<String> {
        // SAFETY: the handle is live.
        Library::error_text(unsafe { (self.library.result_error)(self.handle.as_ptr()) })
    }

    /// What was read and written for it.
    pub(crate) fn counts(&self) -> Counts {
        let (library, handle) = (self.library, self.handle.as_ptr());
        // SAFETY: the handle is live.
        unsafe {
            Counts {
                read_rows: (library.result_storage_rows_read)(handle),
                read_bytes: (library.result_storage_bytes_read)(handle),
                written_rows: (library.result_rows_written)(handle),
                written_bytes: (library.result_bytes_written)(handle),
                result_rows: (library.result_rows_read)(handle),
                result_bytes: (library.result_bytes_read)(handle),
            }
        }
    }
}

/// A result that may carry an error in place of bytes.
struct Owned(Option<QueryResult>);

impl Owned {
    fn into_ok(self) -> Result<QueryResult, String> {
        let result = self
            .0
            .ok_or_else(|| "the engine gave no result".to_owned())?;
        match result.error() {
            Some(error) => Err(error),
            None => Ok(result),
        }
    }
}

/// A SELECT under way. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct QueryStream<'connection> {
    connection: &'connection mut Connection,
    handle: QueryResult,
}

impl QueryStream<'_> {
    /// The next block, written as a whole document of the format: with its own header, if the format has one.
    ///
    /// `None` after the last one. Blocks until there is one.
    pub(crate) fn next(&mut self) -> Result<Option<QueryResult>, String> {
        let library = self.connection.library;
        // SAFETY: both handles are live; `&mut self` keeps other calls on the connection away.
        let raw = unsafe {
            (library.stream_fetch_result)(self.connection.session(), self.handle.handle.as_ptr())
        };
        let piece = QueryResult::own(library, raw).into_ok()?;
        Ok((!piece.as_ref().is_empty()).then_some(piece))
    }
}

impl Drop for QueryStream<'_> {
    fn drop(&mut self) {
        // SAFETY: both handles are live. Cancelling an ended stream does nothing.
        unsafe {
            (self.connection.library.stream_cancel_query)(
                self.connection.session(),
                self.handle.handle.as_ptr(),
            );
        }
    }
}

/// An INSERT under way. Dropping it without [`InsertStream::finish`] cancels it.
///
/// What is cancelled may have been stored in part, as in ClickHouse: blocks of `max_insert_block_size` rows are
/// written as they fill.
#[derive(Debug)]
pub(crate) struct InsertStream<'connection> {
    connection: &'connection mut Connection,
    handle: NonNull<c_void>,
}

impl InsertStream<'_> {
    fn error(&self) -> Option<String> {
        // SAFETY: the handle is live.
        Library::error_text(unsafe {
            (self.connection.library.stream_insert_error)(self.handle.as_ptr())
        })
    }

    /// Hands over more bytes, cut anywhere. Blocks while the engine is behind.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), String> {
        // SAFETY: the handle is live; the bytes go with their length and are copied.
        let state = unsafe {
            (self.connection.library.stream_append)(
                self.handle.as_ptr(),
                data.as_ptr().cast(),
                data.len(),
            )
        };
        if state == 0 {
            return Ok(());
        }
        Err(self
            .error()
            .unwrap_or_else(|| "the engine ended the insert without saying why".to_owned()))
    }

    /// Says that the data is complete and waits until it is stored.
    pub(crate) fn finish(self) -> Result<Counts, String> {
        // SAFETY: the handle is live; it is destroyed by the drop of `self` afterwards.
        let raw = unsafe { (self.connection.library.stream_done)(self.handle.as_ptr()) };
        QueryResult::own(self.connection.library, raw)
            .into_ok()
            .map(|result| result.counts())
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live and destroyed once; an unfinished insert is cancelled by it.
        unsafe { (self.connection.library.destroy_insert_stream)(self.handle.as_ptr()) };
    }
}
