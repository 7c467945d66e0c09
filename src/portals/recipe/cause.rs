//! Why a login or a recovery failed. The words are part of the contract and of stored records: the order stays, new
//! ones go to the end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a login failed; decides whether it is tried again and whether a person is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The portal refused user or password. Tried once, never hammered.
    BadCredentials,
    /// The SMS did not come in time, from a phone that is otherwise heard of.
    NoSms,
    /// The portal refused the code.
    CodeRejected,
    /// The page is not what the recipe expects.
    PageChanged,
    /// The portal does not answer, or answers with an error of its own. Spends nothing of the login budget.
    PortalDown,
    /// The portal wants a proof that a person is there. Never evaded.
    Captcha,
    /// The logins that the account may spend in an hour are spent.
    BudgetSpent,
    /// Our own browser could not do its part.
    BrowserFailed,
    /// The phone that should get the code has not been heard of.
    PhoneSilent,
    /// The portal ends one session when another logs in, although two are configured.
    OneSession,
}

impl Cause {
    /// Every cause, in the contract's order.
    pub const ALL: [Self; 10] = [
        Self::BadCredentials,
        Self::NoSms,
        Self::CodeRejected,
        Self::PageChanged,
        Self::PortalDown,
        Self::Captcha,
        Self::BudgetSpent,
        Self::BrowserFailed,
        Self::PhoneSilent,
        Self::OneSession,
    ];

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadCredentials => "bad_credentials",
            Self::NoSms => "no_sms",
            Self::CodeRejected => "code_rejected",
            Self::PageChanged => "page_changed",
            Self::PortalDown => "portal_down",
            Self::Captcha => "captcha",
            Self::BudgetSpent => "budget_spent",
            Self::BrowserFailed => "browser_failed",
            Self::PhoneSilent => "phone_silent",
            Self::OneSession => "one_session",
        }
    }

    /// Whether another attempt in the same recovery is pointless: the contract names a wrong password, a spent budget
    /// and a CAPTCHA. Recovery fails at once, whatever attempts are left.
    pub const fn pointless(self) -> bool {
        matches!(self, Self::BadCredentials | Self::BudgetSpent | Self::Captcha)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is not a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a failure cause")]
pub struct UnknownCause;

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, UnknownCause> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(UnknownCause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_and_their_stored_form_are_those_of_the_contract() {
        let words = "bad_credentials no_sms code_rejected page_changed portal_down captcha budget_spent browser_failed \
                     phone_silent one_session";
        assert_eq!(Cause::ALL.map(Cause::as_str).join(" "), words);
        for (index, cause) in (0_u32..).zip(Cause::ALL) {
            assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{cause}\""));
            assert_eq!(bincode::serialize(&cause).unwrap(), index.to_le_bytes());
            assert_eq!(cause.as_str().parse(), Ok(cause));
        }
    }
}
