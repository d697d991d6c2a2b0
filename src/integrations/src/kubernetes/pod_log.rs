//! One container's log, read as a stream and never held as a whole.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::KubeError;
use super::names::{label, subdomain};
use super::reader::{KubeReader, collection, encode};
use crate::logs::{Excerpt, Pipeline, Wanted};

/// Most bytes that are read of one log before fewer lines are asked for.
const MOST_READ: usize = 8 << 20;
/// Bytes of a log that are masked and folded at a time.
const BATCH: usize = 256 << 10;
/// So few bytes cost less than the way to another thread.
const SMALL: usize = 8 << 10;
/// Longest that one reading may take.
const LONGEST: Duration = Duration::from_secs(10);
/// How often fewer lines are asked for.
const ATTEMPTS: u32 = 4;

/// Which part of a container's log to look at.
#[derive(Clone, Debug)]
pub struct LogPart {
    pub container: String,
    /// Of the run before the last restart.
    pub previous: bool,
    pub since_seconds: Option<u32>,
    /// How many of the newest lines.
    pub tail_lines: u32,
}

/// What was found, and how far the look reached.
#[derive(Clone, Debug)]
pub struct LogLook {
    pub excerpt: Excerpt,
    /// The newest lines that were looked at: fewer than asked for where lines are huge.
    pub tail_lines: u32,
    /// Even few lines were too many bytes: the newest ones may be missing.
    pub unfinished: bool,
}

impl KubeReader {
    /// Reads the newest lines of a log through the pipeline. The API sends the oldest of them
    /// first, so where they are more than can be read, fewer are asked for: the newest count.
    ///
    /// # Errors
    /// As for any read; `Invalid` where the kubelet has no such log, with its words.
    pub async fn pod_log(
        &self,
        namespace: &str,
        pod: &str,
        part: &LogPart,
        wanted: &Wanted,
    ) -> Result<LogLook, KubeError> {
        let mut tail_lines = part.tail_lines;
        for attempt in 1.. {
            let (pipeline, whole) = self
                .read_log(namespace, pod, part, tail_lines, wanted)
                .await?;
            if whole || attempt == ATTEMPTS || tail_lines <= 1 {
                return Ok(LogLook {
                    excerpt: pipeline.finish(),
                    tail_lines,
                    unfinished: !whole,
                });
            }
            let read = u32::try_from(pipeline.lines_read()).unwrap_or(u32::MAX);
            tail_lines = (read.min(tail_lines) / 2).max(1);
        }
        Err(KubeError::Unexpected {
            what: format!("the log of pod {namespace}/{pod}"),
            problem: "it could not be read in parts".to_owned(),
        })
    }

    /// Reads until the end, or until it is too much.
    async fn read_log(
        &self,
        namespace: &str,
        pod: &str,
        part: &LogPart,
        tail_lines: u32,
        wanted: &Wanted,
    ) -> Result<(Pipeline, bool), KubeError> {
        let path = collection("/api/v1", Some(namespace), "pods")?;
        let pod = subdomain("pod", pod)?;
        let container = label("container", &part.container)?;
        let query = encode([
            ("container", Some(container.to_owned())),
            ("previous", part.previous.then(|| "true".to_owned())),
            ("timestamps", Some("true".to_owned())),
            ("tailLines", Some(tail_lines.to_string())),
            // Behind the bound, so that the kubelet does not cut before we notice.
            ("limitBytes", Some((MOST_READ + 1).to_string())),
            (
                "sinceSeconds",
                part.since_seconds.map(|seconds| seconds.to_string()),
            ),
        ]);
        let what = format!("the log of container {container} of pod {namespace}/{pod}");
        let reading = async {
            let path = format!("{path}/{pod}/log?{query}");
            let mut chunks = self.connection.open(&path, &what).await?;
            let mut pipeline = Pipeline::new(wanted);
            let (mut room, mut batch) = (MOST_READ, Vec::new());
            loop {
                let chunk = chunks.next(&what).await?;
                let left = chunk.as_deref().unwrap_or_default();
                let taken = left.len().min(room);
                room -= taken;
                batch.extend_from_slice(&left[..taken]);
                let (ended, too_much) = (chunk.is_none(), taken < left.len());
                if batch.len() >= BATCH || ended || too_much {
                    pipeline = digest(pipeline, std::mem::take(&mut batch)).await?;
                }
                if ended || too_much {
                    return Ok((pipeline, ended));
                }
            }
        };
        timeout(LONGEST, reading).await.unwrap_or_else(|_| {
            Err(KubeError::Unavailable {
                problem: format!(
                    "{what} did not come to its end within {} s: ask for fewer tail_lines",
                    LONGEST.as_secs()
                ),
            })
        })
    }
}

/// Off the threads that answer everybody else: a whole log takes seconds to mask and fold. A batch
/// bounds what goes on for nobody when the caller has left.
async fn digest(mut pipeline: Pipeline, batch: Vec<u8>) -> Result<Pipeline, KubeError> {
    if batch.len() < SMALL {
        pipeline.feed(&batch);
        return Ok(pipeline);
    }
    let digesting = spawn_blocking(move || {
        pipeline.feed(&batch);
        pipeline
    });
    digesting.await.map_err(|_| KubeError::Unexpected {
        what: "a log".to_owned(),
        problem: "it could not be processed".to_owned(),
    })
}
