//! The keys as they are worked with: opened, by the head of the tokens that they sign, and published as a JSON Web Key Set
//! (RFC 7517, RFC 8037). Knows neither the store nor the time.

use std::collections::HashMap;
use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use zeroize::Zeroizing;

use super::Kept;
use crate::clock::Time;

/// What a token says it is (RFC 9068), so that no other JWT of ours can ever pass for one.
const TYPE: &str = "at+jwt";
/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// One key, opened.
pub(in crate::accounts) struct Signer {
    pub(in crate::accounts) header: Header,
    pub(in crate::accounts) encoding: EncodingKey,
    pub(in crate::accounts) decoding: DecodingKey,
    /// The first part of every token that it signs, byte for byte.
    head: String,
    public: [u8; 32],
    active_at: Time,
    gone_at: Option<Time>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key {}", self.kid())
    }
}

impl Signer {
    /// The key whose seed was opened; None when it is no seed, or not this key's.
    pub(super) fn new(kept: &Kept, seed: &[u8]) -> Option<Self> {
        let der = Zeroizing::new([&PKCS8, <&[u8; 32]>::try_from(seed).ok()?.as_slice()].concat());
        let encoding = EncodingKey::from_ed_der(&der);
        let decoding = DecodingKey::from_ed_der(&kept.public);
        let mut header = Header::new(Algorithm::EdDSA);
        (header.typ, header.kid) = (Some(TYPE.to_owned()), Some(kept.kid.clone()));
        // Signing once proves that the seed is one, and shows what the library writes.
        let sample = jsonwebtoken::encode(&header, &(), &encoding).ok()?;
        let (message, signature) = sample.rsplit_once('.')?;
        let good = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &decoding, Algorithm::EdDSA).ok()?;
        let head = message.split_once('.')?.0.to_owned();
        let Kept { public, active_at, gone_at, .. } = *kept;
        good.then_some(Self { header, encoding, decoding, head, public, active_at, gone_at })
    }

    fn kid(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    fn is_known(&self, now: Time) -> bool {
        self.gone_at.is_none_or(|gone_at| now < gone_at)
    }
}

/// All keys that count.
#[derive(Debug, Default)]
pub(in crate::accounts) struct Ring {
    signers: Vec<Signer>,
    by_head: HashMap<String, usize>,
}

impl Ring {
    pub(super) fn new(signers: Vec<Signer>) -> Self {
        let by_head = signers.iter().enumerate().map(|(at, signer)| (signer.head.clone(), at)).collect();
        Self { signers, by_head }
    }

    /// The one that signs at `now`: of those that have begun the newest. A clock that was set back to before all of them
    /// leaves the oldest.
    pub(in crate::accounts) fn signing(&self, now: Time) -> Option<&Signer> {
        self.signers.iter().rev().find(|signer| signer.active_at <= now).or(self.signers.first())
    }

    /// The one that signs tokens with this first part, if it is known at `now`. A head is compared whole, so nothing that
    /// a sender wrote into one (another algorithm, a key, an address of keys) is ever looked at.
    pub(in crate::accounts) fn of_head(&self, head: &str, now: Time) -> Option<&Signer> {
        self.by_head.get(head).map(|at| &self.signers[*at]).filter(|signer| signer.is_known(now))
    }

    /// The key set as others fetch it.
    pub(in crate::accounts) fn jwks(&self, now: Time) -> serde_json::Value {
        let known = self.signers.iter().filter(|signer| signer.is_known(now));
        let keys = known.map(|signer| {
            let x = data_encoding::BASE64URL_NOPAD.encode(&signer.public);
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": signer.kid(), "use": "sig", "alg": "EdDSA"})
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

/// The RFC 7638 thumbprint of an Ed25519 key.
pub(super) fn thumbprint(public: &[u8; 32]) -> String {
    let x = data_encoding::BASE64URL_NOPAD.encode(public);
    // Members in the order of their names, without spaces: RFC 8037, appendix A.3.
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    data_encoding::BASE64URL_NOPAD.encode(digest.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        // RFC 8037, appendix A.3.
        let x = data_encoding::BASE64URL_NOPAD.decode(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&x.try_into().unwrap()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
