//! Whose rights the browser gets: never root's. Reads `/etc/passwd`; accounts that only a directory service knows are not
//! found.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::BrowserError;

/// An account to run as, with its primary group and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Its name, for messages.
    pub(super) name: String,
    /// Its user id; never 0.
    pub(super) uid: u32,
    /// Its primary group.
    pub(super) gid: u32,
}

/// The accounts tried when the operator names none.
const DEFAULTS: [&str; 2] = ["nightporter-browser", "nobody"];

impl Account {
    /// The account the browser shall run as, or `None` to stay who we are, which only a process without root's rights may.
    pub(super) fn for_browser(configured: Option<&str>) -> Result<Option<Self>, BrowserError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd")
            .map_err(|error| BrowserError::Launch { reason: format!("/etc/passwd: {error}") })?;
        Self::choose(&passwd, configured).map(Some)
    }

    fn choose(passwd: &str, configured: Option<&str>) -> Result<Self, BrowserError> {
        let names = configured.map_or(DEFAULTS.to_vec(), |name| vec![name]);
        let found = names.iter().find_map(|name| Self::find(passwd, name));
        let refuse = |reason| Err(BrowserError::Launch { reason });
        match found {
            Some(account) if account.uid == 0 => {
                refuse(format!("browser.user = {:?} has root's rights; name an unprivileged account", account.name))
            }
            Some(account) => Ok(account),
            None => refuse(format!("no account {} in /etc/passwd; create one or set browser.user", names.join(" or "))),
        }
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            found.then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// The first directory from the root down to `path` that this account may not pass through.
    pub(super) fn barrier<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        above.into_iter().find(|directory| !fs::metadata(directory).is_ok_and(|meta| self.may_pass(&meta)))
    }

    fn may_pass(&self, meta: &fs::Metadata) -> bool {
        let bit = match meta {
            meta if meta.uid() == self.uid => 0o100,
            meta if meta.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        meta.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";

    #[test]
    fn the_browser_never_gets_roots_rights() {
        assert_eq!(Account::choose(PASSWD, None).unwrap().uid, 65534);
        assert!(Account::choose(PASSWD, Some("root")).unwrap_err().to_string().contains("root's rights"));
        assert!(Account::choose(PASSWD, Some("nobdy")).unwrap_err().to_string().contains("nobdy"));
        let own = format!("{PASSWD}nightporter-browser:x:990:991::/:/usr/sbin/nologin\n");
        assert_eq!(Account::choose(&own, None).unwrap().gid, 991);
    }

    #[test]
    fn the_directory_that_bars_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (closed, inner) = (dir.path().join("closed"), dir.path().join("closed/inner"));
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 4_000_001, gid: 4_000_001 };
        assert_eq!(stranger.barrier(&inner), Some(&*closed));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.barrier(&inner), None);
    }
}
