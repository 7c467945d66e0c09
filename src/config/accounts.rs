//! `[accounts]`: how the team's own users sign up and log in. Every default is safe as it stands.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::limits::count;
use super::read::Section;
use super::{duration, words};

/// `[accounts]`: sign-up, logins and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// The least time between two codes to one address. Default 60 s.
    pub resend_after: Duration,
    /// How long a code for a registration or a new password counts. Default 15 min.
    pub code_ttl: Duration,
    /// How long a code for a login counts. Default 10 min.
    pub login_code_ttl: Duration,
    /// How long a login lasts at most. Default 24 h.
    pub session_ttl: Duration,
    /// How long a login lasts unused. Default 12 h.
    pub idle_ttl: Duration,
    /// How long an access token counts. Default 10 min.
    pub access_ttl: Duration,
    /// How long a refresh token that was used gives the same successor again. Default 10 s.
    pub refresh_grace: Duration,
    /// How long a key signs tokens before the next one is made. Default 90 days.
    pub key_ttl: Duration,
    /// The language of the mails. Default [`Locale::English`].
    pub locale: Locale,
    /// The memory that hashing a password takes, in bytes. Default 19 MiB, the least that OWASP recommends with two passes.
    pub password_memory: usize,
    /// The passes over that memory. Default 2.
    pub password_passes: u32,
    /// Requests a minute of one client: an IPv4 address or an IPv6 network of 64 bits. Default 60.
    pub client_per_minute: NonZeroU32,
    /// Requests a minute about one e-mail address. Default 20.
    pub address_per_minute: NonZeroU32,
    /// Requests a minute of everybody together. Default 3000: about as many passwords as two cores can check.
    pub total_per_minute: NonZeroU32,
}

/// The language of mails to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locale {
    /// `en`
    English,
    /// `ko`
    Korean,
}

const LOCALES: &[(&str, Locale)] = &[("en", Locale::English), ("ko", Locale::Korean)];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MIB: usize = 1024 * 1024;
/// A code that counts for longer than a day would outlive the day's limit of codes.
const CODE_LIFE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(24 * 3600);
const LOGIN_LIFE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(400 * 86_400);

pub(super) fn accounts(root: &Section<'_>) -> Option<Accounts> {
    let section = root.section_or_empty("accounts")?;
    let resend_after = section.or("resend_after", "60s", duration::within(SECOND..=HOUR));
    let code_ttl = section.or("code_ttl", "15m", duration::within(CODE_LIFE));
    let login_code_ttl = section.or("login_code_ttl", "10m", duration::within(CODE_LIFE));
    let session_ttl = section.or("session_ttl", "24h", duration::within(LOGIN_LIFE));
    let idle_ttl = section.or("idle_ttl", "12h", duration::within(LOGIN_LIFE));
    let access_ttl = section.or("access_ttl", "10m", duration::within(SECOND..=HOUR));
    let refresh_grace = section.or("refresh_grace", "10s", duration::within(Duration::ZERO..=SECOND * 60));
    let key_ttl = section.or("key_ttl", "90d", duration::within(HOUR * 24..=HOUR * 24 * 400));
    let locale = section.or("locale", "en", words::choice(LOCALES));
    let password_memory = section.or("password_memory", "19 MiB", words::bytes(19 * MIB..=1024 * MIB));
    let password_passes = section.or("password_passes", "2", words::integer(2..=100));
    let client_per_minute = section.or("client_per_minute", "60", count(60_000_000));
    let address_per_minute = section.or("address_per_minute", "20", count(60_000_000));
    let total_per_minute = section.or("total_per_minute", "3000", count(60_000_000));
    section.finish();
    Some(Accounts {
        resend_after: resend_after?,
        code_ttl: code_ttl?,
        login_code_ttl: login_code_ttl?,
        session_ttl: session_ttl?,
        idle_ttl: idle_ttl?,
        access_ttl: access_ttl?,
        refresh_grace: refresh_grace?,
        key_ttl: key_ttl?,
        locale: locale?,
        password_memory: password_memory?,
        password_passes: password_passes?,
        client_per_minute: client_per_minute?,
        address_per_minute: address_per_minute?,
        total_per_minute: total_per_minute?,
    })
}
