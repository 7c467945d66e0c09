//! The threads on which connections are served: one for each processor, with a runtime of its own. Holds no connections.
//!
//! On the runtime that the parts share, a request of a connection may run on another processor than the one before it, and
//! find what it needs in that one's cache; `benches/README.md` has what that costs. Here a connection stays where it was put.
//! The price: what a handler does for long without waiting keeps its neighbours waiting. It belongs off the runtime anyway.
//! What outlives a request does not stay here: [`Lifecycle`](crate::lifecycle::Lifecycle) runs it beside the parts.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads; clones share them. They end with the last clone, and whatever is left on them is dropped.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    runtimes: Vec<Runtime>,
    turn: AtomicUsize,
}

impl Workers {
    /// Starts one for each processor that this process may use.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Not tokio's runtime for one thread: to wake that takes a system call each time, also when it is awake.
        let start = |_| Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build();
        let runtimes = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Shared { runtimes, turn: AtomicUsize::new(0) })))
    }

    /// Whose turn it is to take a connection.
    pub fn next(&self) -> &Handle {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        self.0.runtimes[turn % self.0.runtimes.len()].handle()
    }
}

impl Drop for Shared {
    /// Without waiting, for which this is no place: connections have been drained or cut by now.
    fn drop(&mut self) {
        self.runtimes.drain(..).for_each(Runtime::shutdown_background);
    }
}
