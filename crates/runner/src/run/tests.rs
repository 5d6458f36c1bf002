use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::mpsc::Sender,
    time::{Instant, sleep},
};

use crate::{HARD_STOP_TIME, Outcome, Runner, Shutdown, Signals, Startup, StopSignal, block_on};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);

/// What happened, in order.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Vec<&'static str>>>);

impl Journal {
    fn note(&self, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    /// A process that needs `work` to finish what is in flight after it is asked to stop.
    fn worker(
        &self,
        work: Duration,
        finished: &'static str,
    ) -> impl FnOnce(Shutdown) -> BoxFuture + Send + 'static {
        let journal = self.clone();
        move |shutdown| {
            Box::pin(async move {
                shutdown.soft().cancelled().await;
                tokio::select! {
                    () = sleep(work) => journal.note(finished),
                    () = shutdown.hard().cancelled() => journal.note("cut off"),
                }
                Ok(())
            })
        }
    }

    fn closer(
        &self,
        event: &'static str,
    ) -> impl FnOnce() -> std::future::Ready<()> + Send + use<> {
        let journal = self.clone();
        move || {
            journal.note(event);
            std::future::ready(())
        }
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

fn runner() -> (Sender<StopSignal>, Runner) {
    let (signal, signals) = Signals::simulated();
    let runner = Runner::new().with_signals(signals).with_grace_time(GRACE);
    (signal, runner)
}

/// Keeps the compiler from seeing that an assertion panics, which would change a block's type.
fn false_at_run_time() -> bool {
    std::hint::black_box(false)
}

/// Sends SIGTERM after each of the delays, one after the other.
fn send_after<const N: usize>(signal: Sender<StopSignal>, delays: [Duration; N]) {
    tokio::spawn(async move {
        for delay in delays {
            sleep(delay).await;
            signal.send(StopSignal::Terminate).await.unwrap();
        }
    });
}

#[tokio::test(start_paused = true)]
async fn one_signal_lets_processes_finish() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);

    let outcome = runner
        .with_app_process("worker", journal.worker(3 * SECOND, "finished"))
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(journal.events(), ["finished", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_signal_before_the_run_is_not_lost() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    signal.send(StopSignal::Interrupt).await.unwrap();

    let outcome = runner
        .with_app_process("worker", journal.worker(SECOND, "finished"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(journal.events(), ["finished"]);
}

#[tokio::test(start_paused = true)]
async fn others_finish_when_one_process_fails() {
    let journal = Journal::default();
    let (_signal, runner) = runner();

    let outcome = runner
        .with_app_process("worker", journal.worker(3 * SECOND, "finished"))
        .with_app_process("broken", |_| async { Err("no luck") })
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(journal.events(), ["finished", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn others_finish_when_one_process_panics() {
    let journal = Journal::default();
    let (_signal, runner) = runner();

    let outcome = runner
        .with_app_process("worker", journal.worker(3 * SECOND, "finished"))
        .with_app_process("broken", |_| async {
            assert!(false_at_run_time(), "on purpose");
        })
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(journal.events(), ["finished", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn an_early_end_stops_the_others_and_counts_as_a_failure() {
    let journal = Journal::default();
    let (_signal, runner) = runner();

    let outcome = runner
        .with_app_process("worker", journal.worker(3 * SECOND, "finished"))
        .with_app_process("short", |_| async {})
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(journal.events(), ["finished", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_while_draining_counts_as_a_failure() {
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);

    let outcome = runner
        .with_app_process("worker", |shutdown: Shutdown| async move {
            shutdown.soft().cancelled().await;
            Err("flush failed")
        })
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_process_can_ask_for_the_stop_itself() {
    let journal = Journal::default();
    let (_signal, runner) = runner();

    let outcome = runner
        .with_app_process("worker", journal.worker(SECOND, "finished"))
        .with_app_process("last", |shutdown: Shutdown| async move {
            shutdown.soft().cancel();
        })
        .run()
        .await;

    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(journal.events(), ["finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_cancels_the_hard_token() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND, SECOND]);
    let begun = Instant::now();

    let outcome = runner
        .with_app_process("worker", journal.worker(9 * SECOND, "finished"))
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::DrainTimedOut);
    assert_eq!(journal.events(), ["cut off", "closed"]);
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_grace_time_cancels_the_hard_token() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);
    let begun = Instant::now();

    let outcome = runner
        .with_app_process("worker", journal.worker(60 * SECOND, "finished"))
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::DrainTimedOut);
    assert_eq!(journal.events(), ["cut off", "closed"]);
    assert_eq!(begun.elapsed(), SECOND + GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_failure_outranks_work_cut_off() {
    let journal = Journal::default();
    let (_signal, runner) = runner();

    let outcome = runner
        .with_app_process("worker", journal.worker(60 * SECOND, "finished"))
        .with_app_process("broken", |_| async { Err("no luck") })
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(journal.events(), ["cut off"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ignores_both_tokens_is_aborted() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);
    let begun = Instant::now();

    let outcome = runner
        .with_app_process("deaf", |_| pending::<()>())
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::DrainTimedOut);
    assert_eq!(journal.events(), ["closed"]);
    assert_eq!(begun.elapsed(), SECOND + GRACE + HARD_STOP_TIME);
}

#[test]
fn a_process_that_blocks_its_thread_is_left_behind() {
    let journal = Journal::default();

    let outcome = block_on(async {
        let (signal, runner) = runner();
        runner
            .with_grace_time(Duration::ZERO)
            .with_app_process("stuck", |_| async move {
                signal.send(StopSignal::Terminate).await.unwrap();
                std::thread::sleep(Duration::from_hours(1));
            })
            .with_closer("closer", journal.closer("closed"))
            .run()
            .await
    });

    assert_eq!(outcome, Outcome::DrainTimedOut);
    assert_eq!(journal.events(), ["closed"]);
}

#[tokio::test(start_paused = true)]
async fn background_processes_outlive_app_processes() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);

    let outcome = runner
        .with_background_process("admin", journal.worker(Duration::ZERO, "admin finished"))
        .with_app_process("worker", journal.worker(3 * SECOND, "worker finished"))
        .with_closer("closer", journal.closer("closed"))
        .run()
        .await;

    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(
        journal.events(),
        ["worker finished", "admin finished", "closed"]
    );
}

#[tokio::test(start_paused = true)]
async fn background_processes_begin_before_the_start_up_and_app_processes_after_it() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [5 * SECOND]);
    let note = |event| {
        let journal = journal.clone();
        move |shutdown: Shutdown| async move {
            journal.note(event);
            shutdown.soft().cancelled().await;
        }
    };
    let (started, late) = (journal.clone(), note("late app process"));

    let outcome = runner
        .with_app_process("app", note("app process"))
        .with_background_process("admin", note("background process"))
        .with_startup(|startup: Startup| async move {
            sleep(SECOND).await;
            startup.app_process("late", late);
            sleep(SECOND).await;
            started.note("started");
        })
        .run()
        .await;

    assert_eq!(outcome, Outcome::Clean);
    let events = journal.events();
    assert_eq!(events[..2], ["background process", "started"]);
    assert_eq!(events.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_background_process_stops_the_start_up() {
    let journal = Journal::default();
    let (_signal, runner) = runner();
    let never = journal.clone();

    let outcome = runner
        .with_background_process("admin", |_| async { Err("port in use") })
        .with_startup(|_| async move {
            sleep(5 * SECOND).await;
            never.note("started");
        })
        .run()
        .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(journal.events(), Vec::<&str>::new());
}

/// Runs a start-up that registers a closer and a process and then does `rest`.
async fn start_up_with<Fut, const N: usize>(
    signals: [Duration; N],
    rest: impl FnOnce() -> Fut + Send + 'static,
) -> (Outcome, Vec<&'static str>, Duration)
where
    Fut: Future<Output = Result<(), &'static str>> + Send + 'static,
{
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, signals);
    let begun = Instant::now();
    let (closer, unborn) = (journal.closer("connection closed"), journal.clone());

    let outcome = runner
        .with_closer("first", journal.closer("first closed"))
        .with_startup_timeout(30 * SECOND)
        .with_startup(|startup: Startup| async move {
            startup.phase("connecting");
            startup.closer("connection", closer);
            startup.app_process("worker", |_| async move { unborn.note("worker began") });
            rest().await
        })
        .run()
        .await;

    (outcome, journal.events(), begun.elapsed())
}

const CLOSED: [&str; 2] = ["connection closed", "first closed"];

#[tokio::test(start_paused = true)]
async fn a_signal_interrupts_the_start_up_and_closers_run() {
    let (outcome, events, elapsed) = start_up_with([SECOND], pending).await;

    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(events, CLOSED);
    assert_eq!(elapsed, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_up_runs_the_closers() {
    let (outcome, events, _) = start_up_with([], async || Err("no server")).await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(events, CLOSED);
}

#[tokio::test(start_paused = true)]
async fn a_panicked_start_up_runs_the_closers() {
    let (outcome, events, _) = start_up_with([], async || {
        assert!(false_at_run_time(), "on purpose");
        Ok(())
    })
    .await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(events, CLOSED);
}

#[tokio::test(start_paused = true)]
async fn a_start_up_that_takes_too_long_fails() {
    let (outcome, events, elapsed) = start_up_with([], pending).await;

    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(events, CLOSED);
    assert_eq!(elapsed, 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn closers_run_in_reverse_order_whatever_they_do() {
    let journal = Journal::default();
    let (signal, runner) = runner();
    send_after(signal, [SECOND]);
    let begun = Instant::now();

    let outcome = runner
        .with_closer_timeout(2 * SECOND)
        .with_closer("first", journal.closer("first"))
        .with_closer("slow", pending::<()>)
        .with_closer("third", journal.closer("third"))
        .with_closer("slower", pending::<()>)
        .run()
        .await;

    assert_eq!(outcome, Outcome::DrainTimedOut);
    assert_eq!(journal.events(), ["third", "first"]);
    assert_eq!(begun.elapsed(), SECOND + 2 * (2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_panicked_closer_counts_as_a_failure() {
    for panics in [false, true] {
        let journal = Journal::default();
        let (signal, runner) = runner();
        send_after(signal, [SECOND]);

        let outcome = runner
            .with_closer("first", journal.closer("first"))
            .with_closer("broken", move || async move {
                assert!(!panics, "on purpose");
                Err("no luck")
            })
            .run()
            .await;

        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(journal.events(), ["first"]);
    }
}
