//! Passwords: which ones may be, and what is kept of them: an Argon2id hash, as a PHC string. Byte for byte as they were sent:
//! nothing is trimmed, folded or normalised, so what a program stores and what a person types are never mixed up.

mod first;
mod work;

use std::fmt;
use std::io;
use std::time::Duration;

use argon2::Params;

use super::address::Address;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;
use work::{Task, Workers};

/// The shortest password, in bytes.
pub const MIN: usize = 8;
/// The longest, in bytes: beyond this it is a file.
pub const MAX: usize = 1024;
/// Passwords that wait for each worker: about a second's work.
const WAITING: usize = 32;

/// Why a password must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is too short or too long.
    #[error("a password has {MIN} to {MAX} bytes")]
    Length,
    /// It is among the first that anybody would try.
    #[error("this password is one of the most common ones; choose another")]
    Common,
    /// It is the address.
    #[error("the password is the e-mail address, or what stands before its @; choose another")]
    Address,
    /// It is what the service is called.
    #[error("the password is the name of this service with little added; choose another")]
    Service,
}

/// What hashing a password costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// In KiB.
    pub(super) memory: u32,
    /// Over that memory.
    pub(super) passes: u32,
}

/// Why a password could not be hashed or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// More wait than may; again after this.
    #[error("too many passwords wait")]
    Busy(Duration),
    /// What was stored is no hash.
    #[error("a stored password hash cannot be read")]
    Hash,
}

/// How a password compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Wrong,
    /// Right; with the hash that takes the old one's place, when that was made at another cost.
    Right(Option<String>),
}

/// Hashes and compares passwords on threads of its own, so many at once and no more; clones share them.
#[derive(Clone)]
pub(super) struct Passwords {
    workers: Workers,
    random: Random,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

/// Whether `password` may be an account's, at a service that users know by these `names`.
///
/// # Errors
/// [`Unfit`].
pub(super) fn check(password: &Secret, address: &Address, names: &[String]) -> Result<(), Unfit> {
    let text = password.expose();
    if !(MIN..=MAX).contains(&text.len()) {
        return Err(Unfit::Length);
    }
    if first::is_common(text) {
        return Err(Unfit::Common);
    }
    let local = address.as_str().split('@').next().unwrap_or_default();
    if text.eq_ignore_ascii_case(address.as_str()) || text.eq_ignore_ascii_case(local) {
        return Err(Unfit::Address);
    }
    // Digits and signs around a name make it no secret.
    let word = text.trim_matches(|letter: char| !letter.is_alphabetic());
    if names.iter().any(|name| word.eq_ignore_ascii_case(name)) {
        return Err(Unfit::Service);
    }
    Ok(())
}

/// What nobody's password may be made of: the program's name, and the host that users know as a whole and label by label.
pub(super) fn names(public_url: Option<&str>) -> Vec<String> {
    let host = public_url.and_then(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned)).unwrap_or_default();
    let parts = host.split('.').chain(["nightporter", &host]).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

impl Passwords {
    /// Starts a worker for each core under `life`.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(super) fn start(cost: Cost, random: Random, life: &Lifecycle) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { workers: Workers::start(cores, WAITING * cores, cost, life)?, random })
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: &Secret) -> Result<String, Failure> {
        let task = Task::Hash { password: password.clone(), salt: self.random.bytes() };
        self.workers.run(task).await?.hash.ok_or(Failure::Hash)
    }

    /// Compares `password` with what is kept of the right one. With nothing kept it is wrong, after the same work.
    pub(super) async fn compare(&self, password: &Secret, kept: Option<&str>) -> Result<Compared, Failure> {
        let (password, kept) = (password.clone(), kept.map(str::to_owned));
        let done = self.workers.run(Task::Compare { password, kept, salt: self.random.bytes() }).await?;
        Ok(if done.right { Compared::Right(done.hash) } else { Compared::Wrong })
    }
}

impl Cost {
    /// As argon2 takes it; one lane, since every core has a worker.
    fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory, self.passes, 1, Some(work::OUTPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory: 64, passes: 1 };

    fn fit(password: &str) -> Result<(), Unfit> {
        let names = names(Some("https://porter.example.com:8443/x"));
        check(&Secret::new(password), &Address::parse("Minseo.Kim@example.com").unwrap(), &names)
    }

    #[test]
    fn a_password_has_8_to_1024_bytes_and_is_not_a_common_one() {
        assert_eq!((fit("1a2b3x4"), fit("1a2b3x4y")), (Err(Unfit::Length), Ok(())));
        assert_eq!((fit(&"x y".repeat(341)), fit(&"x".repeat(1025))), (Ok(()), Err(Unfit::Length)));
        assert_eq!(fit(&format!("{}x", "x y".repeat(341))), Ok(()));
        assert_eq!((fit("가나"), fit("가나다")), (Err(Unfit::Length), Ok(())));
        for common in ["password", "PassWord1", "qwertyuiop", "12345678", "baseball"] {
            assert_eq!(fit(common), Err(Unfit::Common), "{common}");
        }
        assert_eq!((fit("minseo.kim"), fit("MINSEO.KIM@example.com")), (Err(Unfit::Address), Err(Unfit::Address)));
        for service in ["Nightporter", "nightporter2026!", "porter.example.com", "Porter123", "##EXAMPLE##"] {
            assert_eq!(fit(service), Err(Unfit::Service), "{service}");
        }
        assert_eq!((fit("the porter sleeps"), fit("12345 67-8901")), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn passwords_are_compared_byte_for_byte() {
        let life = Lifecycle::new();
        let passwords = Passwords::start(CHEAP, Random::seeded(1), &life).unwrap();
        let composed = "비밀번호é";
        let hash = passwords.hash(&Secret::new(composed)).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let compare = async |text: &str| passwords.compare(&Secret::new(text), Some(&hash)).await.unwrap();
        assert_eq!(compare(composed).await, Compared::Right(None));
        for other in ["비밀번호e\u{301}", "비밀번호é ", " 비밀번호é", "비밀번호É", "비밀번호é\0", ""]
        {
            assert_eq!(compare(other).await, Compared::Wrong, "{other:?}");
        }
        assert_ne!(passwords.hash(&Secret::new(composed)).await.unwrap(), hash, "a salt of its own");
        assert_eq!(passwords.compare(&Secret::new(composed), None).await, Ok(Compared::Wrong));
        assert_eq!(passwords.compare(&Secret::new(composed), Some("$argon2id$")).await, Err(Failure::Hash));
        assert!(life.shutdown(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_made_anew_when_its_password_is_right() {
        let life = Lifecycle::new();
        let old = Passwords::start(CHEAP, Random::seeded(1), &life).unwrap();
        let dear = Passwords::start(Cost { memory: 128, passes: 2 }, Random::seeded(2), &life).unwrap();
        let password = Secret::new("나의 비밀번호");
        let hash = old.hash(&password).await.unwrap();
        let Compared::Right(Some(new)) = dear.compare(&password, Some(&hash)).await.unwrap() else {
            panic!("it was not made anew")
        };
        assert!(new.starts_with("$argon2id$v=19$m=128,t=2,p=1$"), "{new}");
        assert_eq!(dear.compare(&password, Some(&new)).await, Ok(Compared::Right(None)));
        assert_eq!(dear.compare(&Secret::new("wrong"), Some(&hash)).await, Ok(Compared::Wrong));
        // One that was brought along costs no more than it says, and one that would take all memory is refused.
        let greedy = hash.replace("m=64", "m=4000000000");
        assert_eq!(dear.compare(&password, Some(&greedy)).await, Err(Failure::Hash));
        assert!(life.shutdown(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_at_once() {
        let life = Lifecycle::new();
        let passwords = Passwords::start(Cost { memory: 19 * 1024, passes: 2 }, Random::seeded(1), &life).unwrap();
        let password = Secret::new("xxxxxxxx");
        let all = (0..1000).map(|_| passwords.compare(&password, None));
        let done = futures_util::future::join_all(all).await;
        let busy = done.iter().filter(|done| matches!(done, Err(Failure::Busy(_)))).count();
        assert!(busy > 0 && busy < 1000, "{busy}");
        assert_eq!(passwords.compare(&password, None).await, Ok(Compared::Wrong), "and later ones are not");
        assert!(life.shutdown(Duration::from_secs(60)).await);
    }
}
