//! One direction of a connection: bytes from one socket to the other, through the faults.
//!
//! A reader stamps what comes and queues it; a writer takes it from the queue when the mode lets it.
//! They are apart so that latency delays bytes without slowing them down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::counters::{Counter, Counting};
use super::{Control, Mode, Side};

const CHUNK_BYTES: usize = 64 * 1024;
const QUEUE_CHUNKS: usize = 64;
/// How long a server must say nothing after an answer before that counts as whole.
const ANSWER_QUIET: Duration = Duration::from_millis(100);
/// A limited rate is kept by writing this many times a second.
const RATE_STEPS: u64 = 50;

/// How a connection ends, where it does not just close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Reset,
}

pub(super) struct Pump<'a> {
    /// Where the bytes go.
    to: Side,
    control: watch::Receiver<Control>,
    counting: &'a Counting,
    /// A request came on this connection whose answer is to be thrown away.
    asked: &'a AtomicBool,
    /// The end of the chunk before, as long as a text that is looked for may begin in it.
    before: Vec<u8>,
}

struct Chunk {
    came: Instant,
    bytes: Vec<u8>,
}

/// What the mode means for one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Delay(Duration),
    Rate(u64),
    Hold,
    Swallow,
    Close,
}

impl Gate {
    fn of(mode: Mode, to: Side, asked: &AtomicBool) -> Self {
        match (mode, to) {
            (Mode::Latency(delay), _) => Self::Delay(delay),
            (Mode::Rate(bytes), _) => Self::Rate(bytes),
            (Mode::Stall, _) | (Mode::HoldResponses, Side::Client) => Self::Hold,
            (Mode::SwallowResponse, Side::Client) => Self::Swallow,
            (Mode::SwallowResponseTo(_), Side::Client) if asked.load(Ordering::SeqCst) => {
                Self::Swallow
            }
            (Mode::HalfClose(side), to) if side == to => Self::Close,
            _ => Self::Open,
        }
    }
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        to: Side,
        control: watch::Receiver<Control>,
        counting: &'a Counting,
        asked: &'a AtomicBool,
    ) -> Self {
        Self {
            to,
            control,
            counting,
            asked,
            before: Vec::new(),
        }
    }

    /// Moves bytes until the stream ends, then closes the other one's direction too.
    pub(super) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), End> {
        let (queue, queued) = mpsc::channel(QUEUE_CHUNKS);
        let (control, side, asked) = (self.control.clone(), self.to, self.asked);
        let reading = read(from, queue, control, side, asked);
        tokio::try_join!(reading, self.write(to, queued))?;
        Ok(())
    }

    async fn write(
        mut self,
        mut to: WriteHalf<'_>,
        mut queued: mpsc::Receiver<Chunk>,
    ) -> Result<(), End> {
        loop {
            if self.gate() == Gate::Close {
                return self.close(to, queued).await;
            }
            let chunk = tokio::select! {
                chunk = queued.recv() => chunk,
                changed = self.changed() => { changed?; continue }
            };
            let Some(chunk) = chunk else { break };
            self.deliver(&mut to, chunk, &mut queued).await?;
        }
        to.shutdown().await.map_err(|_| End::Reset)
    }

    /// Writes one chunk as the mode says, also when that changes on the way.
    async fn deliver(
        &mut self,
        to: &mut WriteHalf<'_>,
        chunk: Chunk,
        queued: &mut mpsc::Receiver<Chunk>,
    ) -> Result<(), End> {
        self.look_for_request(&chunk.bytes);
        let mut rest = chunk.bytes.as_slice();
        let mut due = Instant::now();
        while !rest.is_empty() {
            let step = match self.gate() {
                Gate::Delay(delay) if Instant::now() < chunk.came + delay => {
                    self.until(chunk.came + delay).await?;
                    continue;
                }
                Gate::Open | Gate::Delay(_) => rest.len(),
                Gate::Rate(_) if Instant::now() < due => {
                    self.until(due).await?;
                    continue;
                }
                Gate::Rate(rate) => rest.len().min((rate / RATE_STEPS).max(1) as usize),
                Gate::Hold => {
                    self.changed().await?;
                    continue;
                }
                Gate::Swallow => {
                    self.swallowed(rest.len());
                    return self.swallow(queued).await;
                }
                Gate::Close => {
                    self.swallowed(rest.len());
                    return Ok(());
                }
            };
            to.write_all(&rest[..step]).await.map_err(|_| End::Reset)?;
            self.moved().add(step as u64);
            rest = &rest[step..];
            if let Gate::Rate(rate) = self.gate() {
                let pause = Duration::from_secs_f64(step as f64 / rate.max(1) as f64);
                due = Instant::now() + pause;
                // Also after the last byte: the rate holds from one chunk to the next.
                if rest.is_empty() {
                    self.until(due).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes a request whose answer is not to arrive, before the server can answer it.
    fn look_for_request(&mut self, bytes: &[u8]) {
        let mode = self.control.borrow().mode;
        let (Mode::SwallowResponseTo(text), Side::Server) = (mode, self.to) else {
            return self.before.clear();
        };
        self.before.extend_from_slice(bytes);
        let mut windows = self.before.windows(text.len().max(1));
        if windows.any(|window| window == text.as_bytes()) {
            self.asked.store(true, Ordering::SeqCst);
        }
        let kept = text.len().saturating_sub(1);
        self.before.drain(..self.before.len().saturating_sub(kept));
    }

    /// Throws away the rest of an answer, whatever the mode becomes, then has the connection reset.
    async fn swallow(&self, queued: &mut mpsc::Receiver<Chunk>) -> Result<(), End> {
        while let Ok(Some(chunk)) = timeout(ANSWER_QUIET, queued.recv()).await {
            self.swallowed(chunk.bytes.len());
        }
        self.counting.responses_swallowed.add(1);
        Err(End::Reset)
    }

    /// Tells the receiver that the stream has ended and throws away what still comes for it.
    async fn close(
        self,
        mut to: WriteHalf<'_>,
        mut queued: mpsc::Receiver<Chunk>,
    ) -> Result<(), End> {
        to.shutdown().await.map_err(|_| End::Reset)?;
        while let Some(chunk) = queued.recv().await {
            self.swallowed(chunk.bytes.len());
        }
        Ok(())
    }

    fn gate(&mut self) -> Gate {
        let mode = self.control.borrow_and_update().mode;
        Gate::of(mode, self.to, self.asked)
    }

    /// Waits until then, or until the mode changes.
    async fn until(&mut self, then: Instant) -> Result<(), End> {
        tokio::select! {
            () = sleep_until(then) => Ok(()),
            changed = self.changed() => changed,
        }
    }

    async fn changed(&mut self) -> Result<(), End> {
        changed(&mut self.control).await
    }

    fn moved(&self) -> &AtomicU64 {
        match self.to {
            Side::Client => &self.counting.bytes_to_client,
            Side::Server => &self.counting.bytes_to_server,
        }
    }

    fn swallowed(&self, bytes: usize) {
        self.counting.bytes_swallowed.add(bytes as u64);
    }
}

/// Waits for another mode; without a proxy there is none, and no connection either.
async fn changed(control: &mut watch::Receiver<Control>) -> Result<(), End> {
    control.changed().await.map_err(|_| End::Reset)
}

/// Queues what comes, until the stream ends. While nothing may move it does not even read, so the
/// sender's buffers fill as they would on a dead network.
async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<Chunk>,
    mut control: watch::Receiver<Control>,
    to: Side,
    asked: &AtomicBool,
) -> Result<(), End> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let mode = control.borrow_and_update().mode;
        if Gate::of(mode, to, asked) == Gate::Hold {
            changed(&mut control).await?;
            continue;
        }
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.map_err(|_| End::Reset)?,
            changed = changed(&mut control) => {
                changed?;
                continue;
            }
        };
        if count == 0 {
            return Ok(());
        }
        let chunk = Chunk {
            came: Instant::now(),
            bytes: buffer[..count].to_vec(),
        };
        if queue.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}
