//! Verbs of many callers on one writer, or few. While a batch is at work the next verbs gather, and
//! go together: many callers share one commit. When a writer is idle a caller runs its verb itself,
//! since each hand-over to another task costs a good part of what a verb costs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::sql::{Args, Write};

/// Verbs in one commit.
const BATCH: usize = 64;

/// A verb and its arguments.
pub(crate) type Verb = (&'static Write, Args);

/// What became of a verb.
pub(crate) type Done<R> = Result<Changed<R>, StoreError>;

/// Whether a verb changed anything, and the rows that came back. A verb that is only asked whether may
/// come without rows.
#[derive(Debug)]
pub(crate) struct Changed<R> {
    pub(crate) any: bool,
    pub(crate) rows: Vec<R>,
}

impl<R> From<Vec<R>> for Changed<R> {
    fn from(rows: Vec<R>) -> Self {
        Self {
            any: !rows.is_empty(),
            rows,
        }
    }
}

/// Runs verbs, a batch at a time.
pub(crate) trait Writer: Send + 'static {
    type Row: Send;

    /// As many answers as verbs, in their order. What is answered is durable.
    fn commit(&mut self, verbs: Vec<Verb>) -> impl Future<Output = Vec<Done<Self::Row>>> + Send;
}

struct Job<R> {
    verb: Verb,
    answer: oneshot::Sender<Done<R>>,
}

struct State<W: Writer> {
    /// Those that nobody is at work with.
    idle: Vec<W>,
    /// How many there are.
    writers: usize,
    waiting: VecDeque<Job<W::Row>>,
    closed: bool,
    /// Who closes waits here for the last writer.
    closer: Option<oneshot::Sender<()>>,
}

impl<W: Writer> State<W> {
    fn tell_closer(&mut self) {
        if self.idle.len() == self.writers
            && let Some(closer) = self.closer.take()
        {
            closer.send(()).ok();
        }
    }
}

/// The callers' side. Cheap to clone.
pub(crate) struct Turns<W: Writer>(Arc<Mutex<State<W>>>);

impl<W: Writer> Clone for Turns<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Writer> std::fmt::Debug for Turns<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl<W: Writer> Turns<W> {
    /// As many batches at once as there are writers.
    pub(crate) fn new(writers: Vec<W>) -> Self {
        Self(Arc::new(Mutex::new(State {
            writers: writers.len(),
            idle: writers,
            waiting: VecDeque::new(),
            closed: false,
            closer: None,
        })))
    }

    /// A caller who goes away before the answer neither undoes the verb nor harms another's.
    pub(crate) async fn run(&self, write: &'static Write, args: Args) -> Done<W::Row> {
        let (answer, answered) = oneshot::channel();
        let idle = {
            let mut state = self.state();
            if state.closed {
                return Err(StoreError::Closed);
            }
            state.waiting.push_back(Job {
                verb: (write, args),
                answer,
            });
            state.idle.pop()
        };
        if let Some(writer) = idle {
            let turn = Turn {
                turns: self.clone(),
                writer: Some(writer),
            };
            Finished(Some(Box::pin(turn.own()))).await;
        }
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Finishes what was begun; the writers, or none when it was closed before. Later verbs fail.
    pub(crate) async fn close(&self) -> Vec<W> {
        let wait = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return Vec::new();
            }
            let (closer, wait) = oneshot::channel();
            if state.idle.len() < state.writers {
                state.closer = Some(closer);
            }
            wait
        };
        // Told, or dropped since there is nothing to wait for.
        wait.await.ok();
        std::mem::take(&mut self.state().idle)
    }

    /// Closed, or every writer lost to a panic: no verb is run any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer at work. When the last one is dropped in the middle (a panic, the runtime's end) those who
/// wait are told that it is closed.
struct Turn<W: Writer> {
    turns: Turns<W>,
    writer: Option<W>,
}

impl<W: Writer> Turn<W> {
    /// One batch, the caller's own verb in it. More than that is no business of one caller.
    async fn own(mut self) {
        self.batch().await;
        if !self.rest() {
            tokio::spawn(async move {
                while !self.rest() {
                    self.batch().await;
                }
            });
        }
    }

    async fn batch(&mut self) {
        let jobs: Vec<Job<W::Row>> = {
            let mut state = self.turns.state();
            let many = state.waiting.len().min(BATCH);
            state.waiting.drain(..many).collect()
        };
        let (verbs, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.verb, job.answer)).unzip();
        if let Some(writer) = &mut self.writer {
            for (answer, done) in answers.into_iter().zip(writer.commit(verbs).await) {
                // Nobody waits any more: the verb stands all the same.
                answer.send(done).ok();
            }
        }
    }

    /// Gives the writer back when nothing waits.
    fn rest(&mut self) -> bool {
        let mut state = self.turns.state();
        if !state.waiting.is_empty() {
            return false;
        }
        state.idle.extend(self.writer.take());
        state.tell_closer();
        true
    }
}

impl<W: Writer> Drop for Turn<W> {
    fn drop(&mut self) {
        if self.writer.is_some() {
            let mut state = self.turns.state();
            state.writers -= 1;
            if state.writers == 0 {
                state.closed = true;
                state.waiting.clear();
            }
            state.tell_closer();
        }
    }
}

/// Work that is finished by a task of its own when the caller who began it goes away.
struct Finished(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for Finished {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.0 else {
            return Poll::Ready(());
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        // What has panicked is not polled again.
        if std::thread::panicking() {
            return;
        }
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}
