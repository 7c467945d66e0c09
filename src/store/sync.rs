//! What the store's threads wait on, in one place: the operating system's locks and threads, or shuttle's where a test
//! explores interleavings (`tests/interleavings.rs`). The rest of the store must not know which, and tokio's own locks need no
//! other: they park a task, and whichever scheduler runs it wakes it.

pub(super) use chosen::{
    AtomicBool, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, REST, RwLock, RwLockReadGuard, blocking, thread,
};

#[cfg(not(all(test, feature = "interleavings")))]
mod chosen {
    pub(in crate::store) use std::sync::atomic::{AtomicBool, Ordering};
    pub(in crate::store) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub(in crate::store) use std::thread::JoinHandle;

    use std::time::Duration;

    use crate::lifecycle::Lifecycle;
    use crate::store::StoreError;

    /// How long the commit thread waits, at most, until as many wait again as its last flush has let go on. About two flushes of
    /// a fast disk.
    pub(in crate::store) const REST: Duration = Duration::from_micros(300);

    /// Runs `work` on a thread of its own, whose panic ends the process.
    pub(in crate::store) fn thread(
        life: &Lifecycle,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        life.thread(name, work)
    }

    /// Runs blocking engine work off the runtime.
    pub(in crate::store) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            // Cancelled only when the runtime ends; a panic inside is a bug that must not be taken for an empty answer.
            Err(ended) if ended.is_cancelled() => Err(StoreError::Stopped),
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod chosen {
    pub(in crate::store) use shuttle::sync::atomic::{AtomicBool, Ordering};
    pub(in crate::store) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub(in crate::store) use shuttle::thread::JoinHandle;

    use std::time::Duration;

    use crate::lifecycle::Lifecycle;
    use crate::store::StoreError;

    /// In shuttle's world no time passes: who waits for it to pass waits for ever.
    pub(in crate::store) const REST: Duration = Duration::ZERO;

    pub(in crate::store) fn thread(
        _: &Lifecycle,
        _: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        Ok(shuttle::thread::spawn(work))
    }

    pub(in crate::store) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        work()
    }
}
