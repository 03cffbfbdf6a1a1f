// SPDX-License-Identifier: Apache-2.0

//! The tenant's own time limit, which is enforced whatever the host does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use enarx_agent::{DeployError, Ending, Fault, Stop};
use tokio::time::{sleep, sleep_until};

use super::kept::{Kept, failed, failure};
use crate::failure::{Exit, Failure};
use crate::summary::Summary;

/// The end of a deployment, and the time limit if that was over before.
pub type Ended = (Ending, Option<Duration>);

/// Time beyond the grace period in which the Keep has to report the end.
const ANSWER: Duration = Duration::from_secs(5);

/// The time limit of a command, from its beginning.
#[derive(Clone, Copy)]
pub struct Due {
    after: Duration,
    /// Its end.
    pub at: Instant,
    /// The time that the program has from then on.
    grace: Duration,
}

impl Due {
    /// Begins now; at the end the program has the grace.
    pub fn begin(after: Duration, grace: Duration) -> Self {
        /// A time that no command sees the end of, where the clock has no later one.
        const NEVER: Duration = Duration::from_secs(1 << 31);
        let now = Instant::now();
        let at = now.checked_add(after).unwrap_or(now + NEVER);
        // The reader of standard error may have stopped reading.
        if let Some(end) = at.checked_add(grace + ANSWER) {
            crate::output::limit_all(end);
        }
        Self { after, at, grace }
    }
}

/// The tenant's own time limit: at its end the program is stopped, and after a grace period the command ends, whatever
/// the host lets through.
pub struct Limit {
    after: Duration,
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// The failure of a server that ended at the time limit.
pub fn reached(limit: Duration) -> Failure {
    Failure::of(
        Exit::TimedOut,
        format!(
            "the time limit of {limit:?} was reached and the server was ended: give --timeout more"
        ),
    )
}

impl Limit {
    /// Begins to watch over what `stop` is for.
    pub fn start(due: Due, stop: &Stop) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (stop, over) = (stop.clone(), is_over.clone());
        let task = tokio::spawn(async move {
            sleep_until(due.at.into()).await;
            over.store(true, Ordering::SeqCst);
            stop.stop();
            sleep(due.grace + ANSWER).await;
            stop.leave();
        });
        Self {
            after: due.after,
            is_over,
            task,
        }
    }

    /// The end of the deployment, in view of the limit.
    ///
    /// # Errors
    /// The failure of a deployment that failed, or whose end did not come.
    pub fn judge(
        &self,
        result: Result<Ending, DeployError>,
        summary: &mut Summary,
        keep: fn(&DeployError) -> Kept,
    ) -> Result<Ended, Failure> {
        self.task.abort();
        let is_over = self.is_over.load(Ordering::SeqCst);
        let reached = format!("the time limit of {:?} was reached", self.after);
        match result {
            Err(error) if is_over => {
                let kept = keep(&error);
                summary.failed(&error, kept.name());
                let (exit, what) = match &error {
                    DeployError::Cancelled => {
                        (Exit::TimedOut, "before anything was sent".to_owned())
                    }
                    DeployError::Failed(failed)
                        if !failed.started && matches!(failed.fault, Fault::Cancelled) =>
                    {
                        (Exit::TimedOut, "before the program ran".to_owned())
                    }
                    DeployError::Left { host, .. } => (
                        Exit::Fault,
                        format!(
                            "and no end of the program came from {host}: the host withholds it, or nobody reads the output"
                        ),
                    ),
                    other => {
                        let exit = failure(other, &kept).exit();
                        (exit, format!("and {other}"))
                    }
                };
                let sentence = format!("{reached} {what}{}", kept.rest(&error));
                Err(Failure::of(exit, sentence).named(error.code()))
            }
            Err(error) => Err(failed(&error, summary, keep)),
            Ok(ending) => Ok((ending, is_over.then_some(self.after))),
        }
    }
}
