//! Access tokens: signed JSON Web Tokens of ten minutes, of one kind only.
//!
//! A token is looked at in this order, and the first thing that does not fit refuses it: its length, its first part as a
//! whole (which fixes algorithm, type and key), the signature, then issuer, audience and times by our clock. There is no
//! leeway at the end. That the session behind it still lives is the gate's business, not this room's.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::Keys;
use super::sessions::{Begun, SessionId};
use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::secret::Secret;

/// The longest token in bytes that is looked at; ours have about 550.
const MAX_LENGTH: usize = 2048;
/// How far ahead of our clock a token's beginning may lie: it may have been set back a little meanwhile.
const LEEWAY: Duration = Duration::from_secs(60);

/// What every token says and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Who makes them: the public address.
    pub issuer: String,
    /// For whom they are.
    pub audience: String,
    /// How long they live; at most [`super::keys::MAX_ACCESS_TTL`].
    pub access_ttl: Duration,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    /// The user.
    pub sub: Uuid,
    /// The session.
    pub sid: SessionId,
    /// The user's epoch when it was signed: a higher one since ends it.
    pub epoch: u64,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Claims {
    /// When it ends.
    pub(super) const fn expires_at(&self) -> Time {
        Time::from_millis(self.exp.saturating_mul(1000))
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none of ours: made up, changed, of another kind, or of a key that is known no more.
    #[error("the token is not one of ours")]
    Foreign,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// Its session has ended, or its user may not come in any more.
    #[error("the session of the token has ended")]
    Ended,
}

/// No token could be signed: there is no key. That is a failure on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key to sign a token with")]
pub struct Unsigned;

/// What somebody who logged in, or refreshed, is given.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The access token.
    pub access: Secret,
    /// How long it is good.
    pub expires_in: Duration,
    /// What gets the next one.
    pub refresh: Secret,
    /// The session.
    pub session: SessionId,
    /// When that ends at the latest, from now on.
    pub session_left: Duration,
}

/// The maker and judge of access tokens; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    clock: Clock,
    random: Random,
    rules: RwLock<Arc<Rules>>,
}

#[derive(Debug)]
struct Rules {
    settings: Settings,
    validation: Validation,
}

impl Rules {
    fn new(settings: Settings) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        // By our clock, in `verify`.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        Self { settings, validation }
    }
}

impl Tokens {
    /// Tokens signed with `keys`.
    pub(super) fn new(keys: Keys, clock: Clock, random: Random, settings: Settings) -> Self {
        let rules = RwLock::new(Arc::new(Rules::new(settings)));
        Self(Arc::new(Inner { keys, clock, random, rules }))
    }

    /// Makes tokens by other settings from now on.
    pub(super) fn reconfigure(&self, settings: Settings) {
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(settings));
    }

    /// What is given to the user `user`, whose session has just begun or was refreshed. `epoch` is the one that the record
    /// has after that change.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub(super) fn issue(&self, user: Uuid, epoch: u64, begun: Begun) -> Result<Grant, Unsigned> {
        let now = self.0.clock.now();
        let session_left = begun.ends_at.since(now);
        let rules = self.rules();
        let expires_in = rules.settings.access_ttl.min(session_left);
        let (begins, ends) = (now.as_millis() / 1000, (now + expires_in).as_millis() / 1000);
        let claims = Claims {
            iss: rules.settings.issuer.clone(),
            aud: rules.settings.audience.clone(),
            sub: user,
            sid: begun.id,
            epoch,
            jti: self.0.random.session_id(),
            iat: begins,
            nbf: begins,
            exp: ends,
        };
        let ring = self.0.keys.ring();
        let signer = ring.signing(now).ok_or(Unsigned)?;
        let access = jsonwebtoken::encode(&signer.header, &claims, &signer.encoding).map_err(|_| Unsigned)?;
        let access = Secret::new(access);
        Ok(Grant { access, expires_in, refresh: begun.refresh, session: begun.id, session_left })
    }

    /// What `token` says, if we signed it and it is good at this moment.
    ///
    /// # Errors
    /// [`Refused::Foreign`] or [`Refused::Expired`].
    pub(super) fn verify(&self, token: &str) -> Result<Claims, Refused> {
        let now = self.0.clock.now();
        if token.len() > MAX_LENGTH {
            return Err(Refused::Foreign);
        }
        let (head, rest) = token.split_once('.').ok_or(Refused::Foreign)?;
        let ring = self.0.keys.ring();
        let signer = ring.of_head(head, now).ok_or(Refused::Foreign)?;
        if rest.matches('.').count() != 1 {
            return Err(Refused::Foreign);
        }
        let rules = self.rules();
        let claims = jsonwebtoken::decode::<Claims>(token, &signer.decoding, &rules.validation);
        let claims = claims.map_err(|_| Refused::Foreign)?.claims;
        if Time::from_millis(claims.nbf.saturating_mul(1000)).since(now) > LEEWAY {
            return Err(Refused::Foreign);
        }
        if claims.expires_at() <= now { Err(Refused::Expired) } else { Ok(claims) }
    }

    /// The keys as others fetch them, to check our tokens themselves: an RFC 7517 key set.
    pub(super) fn key_set(&self) -> serde_json::Value {
        self.0.keys.ring().jwks(self.0.clock.now())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
