//! The threads that hash: one a core, each with the memory that one hash takes, used again for the next. So much may be under way
//! and so much may wait; what comes beyond is told to come again. So no number of requests takes more memory or more of the
//! cores than this, and a core is never taken from the runtime.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::oneshot;

use super::{Cost, Failure};
use crate::lifecycle::Lifecycle;
use crate::secret::{Secret, same};

/// Bytes of a hash.
pub(super) const OUTPUT: usize = 32;
/// After this long without work a worker gives its memory back.
const REST: Duration = Duration::from_secs(10);
/// When to come again: the queue is worked off in about this time.
const AGAIN: Duration = Duration::from_secs(2);

/// What a worker is asked to do.
pub(super) enum Task {
    Hash {
        password: Secret,
        salt: [u8; 16],
    },
    Compare {
        password: Secret,
        kept: Option<String>,
        /// For the hash that takes the old one's place.
        salt: [u8; 16],
    },
}

/// What came of it.
#[derive(Default)]
pub(super) struct Done {
    pub(super) right: bool,
    pub(super) hash: Option<String>,
}

type Reply = oneshot::Sender<Result<Done, Failure>>;

/// The workers; clones share them. They end when the last clone is dropped or the process stops.
#[derive(Clone)]
pub(super) struct Workers(Arc<Closing>);

struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    most: usize,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<(Task, Reply)>,
    closed: bool,
}

impl Workers {
    pub(super) fn start(threads: usize, most: usize, cost: Cost, life: &Lifecycle) -> io::Result<Self> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), most });
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            life.thread(&format!("passwords-{number}"), move || Worker { cost, memory: Vec::new() }.run(&queue))?;
        }
        let (stop, stopped) = (life.stopping(), Arc::clone(&queue));
        life.spawn("passwords", async move {
            stop.cancelled().await;
            stopped.close();
        });
        Ok(Self(Arc::new(Closing(queue))))
    }

    /// Waits for a worker and its work; nothing is begun for a caller who has left.
    pub(super) async fn run(&self, task: Task) -> Result<Done, Failure> {
        let (reply, answer) = oneshot::channel();
        self.0.0.push(task, reply)?;
        // Dropped unanswered: the process stops.
        answer.await.unwrap_or(Err(Failure::Busy(AGAIN)))
    }
}

impl Queue {
    fn push(&self, task: Task, reply: Reply) -> Result<(), Failure> {
        let mut state = self.lock();
        state.tasks.retain(|(_, reply)| !reply.is_closed());
        if state.closed || state.tasks.len() >= self.most {
            return Err(Failure::Busy(AGAIN));
        }
        state.tasks.push_back((task, reply));
        self.changed.notify_one();
        Ok(())
    }

    /// The next task; None: there will be none. Calls `rest` when there was none for a while.
    fn next(&self, mut rest: impl FnMut()) -> Option<(Task, Reply)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = state.tasks.pop_front() {
                return Some(next);
            }
            let waited = self.changed.wait_timeout(state, REST).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                rest();
            }
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.tasks.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    cost: Cost,
    /// What the last hash was made in.
    memory: Vec<Block>,
}

impl Worker {
    fn run(mut self, queue: &Queue) {
        while let Some((task, reply)) = queue.next(|| self.memory = Vec::new()) {
            if !reply.is_closed() {
                // The caller may have left meanwhile.
                let _ = reply.send(self.work(&task));
            }
        }
    }

    fn work(&mut self, task: &Task) -> Result<Done, Failure> {
        match task {
            Task::Hash { password, salt } => Ok(Done { right: false, hash: Some(self.hash(password, salt)?) }),
            // Wrong whatever was sent, after the work that a comparison takes.
            Task::Compare { password, kept: None, salt } => {
                self.hash(password, salt)?;
                Ok(Done::default())
            }
            Task::Compare { password, kept: Some(kept), salt } => self.compare(password, kept, salt),
        }
    }

    fn compare(&mut self, password: &Secret, kept: &str, salt: &[u8; 16]) -> Result<Done, Failure> {
        let kept = PasswordHash::new(kept).map_err(|_| Failure::Hash)?;
        let (Some(old_salt), Some(expected)) = (&kept.salt, &kept.hash) else { return Err(Failure::Hash) };
        let algorithm = Algorithm::try_from(kept.algorithm.as_str()).map_err(|_| Failure::Hash)?;
        let version = kept.version.map_or(Ok(Version::V0x13), Version::try_from).map_err(|_| Failure::Hash)?;
        let params = Params::try_from(&kept).map_err(|_| Failure::Hash)?;
        let mut output = vec![0; expected.as_bytes().len()];
        self.fill(&Argon2::new(algorithm, version, params.clone()), password, old_salt.as_ref(), &mut output)?;
        let current = self.cost.params().map_err(|_| Failure::Hash)?;
        if !same(&output, expected.as_bytes()) {
            if let Some(rest) = rest(&params, &current) {
                self.fill(&Argon2::new(Algorithm::Argon2id, Version::V0x13, rest), password, salt, &mut output)?;
            }
            return Ok(Done::default());
        }
        let same_cost = params.m_cost() == current.m_cost()
            && params.t_cost() == current.t_cost()
            && params.p_cost() == current.p_cost();
        let fresh = same_cost && algorithm == Algorithm::Argon2id && version == Version::V0x13;
        let hash = if fresh { None } else { Some(self.hash(password, salt)?) };
        Ok(Done { right: true, hash })
    }

    /// A PHC string at the present cost.
    fn hash(&mut self, password: &Secret, salt: &[u8; 16]) -> Result<String, Failure> {
        let params = self.cost.params().map_err(|_| Failure::Hash)?;
        let mut output = [0; OUTPUT];
        self.fill(&Argon2::new(Algorithm::Argon2id, Version::V0x13, params), password, salt, &mut output)?;
        let Cost { memory, passes } = self.cost;
        let salt = Salt::new(salt).map_err(|_| Failure::Hash)?;
        let output = data_encoding::BASE64_NOPAD.encode(&output);
        Ok(format!("$argon2id$v=19$m={memory},t={passes},p=1${}${output}", salt.to_salt_string()))
    }

    fn fill(&mut self, argon2: &Argon2<'_>, password: &Secret, salt: &[u8], output: &mut [u8]) -> Result<(), Failure> {
        let blocks = argon2.params().block_count();
        // A hash that was brought along may be of another cost, but not of one that nobody has configured.
        if blocks > MOST_BLOCKS {
            return Err(Failure::Hash);
        }
        if self.memory.len() < blocks {
            self.memory = vec![Block::default(); blocks];
        }
        argon2
            .hash_password_into_with_memory(password.expose().as_bytes(), salt, output, &mut self.memory[..blocks])
            .map_err(|_| Failure::Hash)
    }
}

/// What a comparison with a hash that was made at less cost has to do besides, to take as long as one with none: or users from
/// before the cost was raised could be told from addresses without a user. The time of a hash is that of its passes over memory.
fn rest(kept: &Params, current: &Params) -> Option<Params> {
    let work = |params: &Params| params.m_cost().saturating_mul(params.t_cost());
    let memory = work(current).checked_sub(work(kept))? / current.t_cost();
    Params::new(memory, current.t_cost(), 1, None).ok()
}

/// The most memory that a configuration may ask for, in blocks of 1 KiB: 1 GiB.
const MOST_BLOCKS: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_takes_the_same_work_whenever_the_right_one_was_set() {
        let params = |memory, passes| Cost { memory, passes }.params().unwrap();
        let rest = |kept: (u32, u32), current: (u32, u32)| {
            let rest = rest(&params(kept.0, kept.1), &params(current.0, current.1))?;
            Some((rest.m_cost(), rest.t_cost()))
        };
        assert_eq!(rest((19_456, 2), (65_536, 2)), Some((46_080, 2)));
        assert_eq!(rest((19_456, 2), (19_456, 4)), Some((9_728, 4)));
        assert_eq!((rest((19_456, 2), (19_456, 2)), rest((65_536, 2), (19_456, 2))), (None, None));
        assert_eq!(rest((19_456, 2), (1_048_576, 100)).map(|rest| rest.1), Some(100));
    }
}
