//! The control socket's file: where it is, how it comes to be without ever being open to others, and how it goes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The socket's name in the store's directory.
const NAME: &str = "control.sock";
/// Its name until its permissions are right.
const UNFINISHED: &str = "control.new";
/// What Linux takes for a socket's path, in bytes, without the final zero.
const LONGEST: usize = 107;

/// Where the server of the store in `directory` listens for commands.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The operating system takes no path of this length.
    #[error(
        "the control socket {} has a path of {} bytes, the system takes {LONGEST}; choose a shorter directory in store.url",
        .0.display(), .0.as_os_str().len()
    )]
    TooLong(PathBuf),
    /// Somebody answers there.
    #[error("another process listens on the control socket {}", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has its name.
    #[error("{} is in the control socket's place and is no socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("control socket {}: {source}", path.display())]
    Io {
        /// The socket's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The file of a socket that we listen on; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind, it is replaced by the next server.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether the socket of the store in `directory` can have its path.
///
/// # Errors
/// [`SocketError::TooLong`].
pub fn check(directory: &Path) -> Result<(), SocketError> {
    let path = path(directory);
    if path.as_os_str().len() > LONGEST { Err(SocketError::TooLong(path)) } else { Ok(()) }
}

/// Listens on the control socket in `directory`, mode 0600, in the place of one that nobody listens on any more. Call it
/// with the store's lock held, so that no two servers do this at once.
///
/// # Errors
/// When the path is too long or taken, or the operating system refuses.
pub fn bind(directory: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    check(directory)?;
    let path = path(directory);
    let failed = |source| SocketError::Io { path: path.clone(), source };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket(path)),
        Ok(_) if UnixStream::connect(&path).is_ok() => return Err(SocketError::InUse(path)),
        Ok(_) => {}
    }
    // Made under another name and renamed once nobody else can open it: the umask belongs to the whole process, and
    // changing it would change what other threads make.
    let unfinished = directory.join(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&unfinished).map_err(failed)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&unfinished, &path).map_err(failed)?;
    Ok((listener, SocketFile(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, file) = bind(dir.path()).unwrap();
        assert_eq!(fs::metadata(path(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(dir.path()), Err(SocketError::InUse(_))));
        drop(listener);
        let (_listener, second) = bind(dir.path()).unwrap();
        drop(file);
        drop(second);
        assert!(!path(dir.path()).exists());
        fs::write(path(dir.path()), "notes").unwrap();
        assert!(matches!(bind(dir.path()), Err(SocketError::NotASocket(_))));
    }

    #[test]
    fn a_path_that_is_too_long_is_told() {
        let error = check(Path::new(&format!("/tmp/{}", "x".repeat(100)))).unwrap_err().to_string();
        assert!(error.contains("118 bytes") && error.contains("store.url"), "{error}");
        assert!(check(Path::new(&format!("/tmp/{}", "x".repeat(89)))).is_ok());
    }
}
