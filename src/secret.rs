//! Secrets: text that cannot be printed, and the vault that keeps it encrypted at rest.
//!
//! A [`Secret`] has no `Display`, no `Serialize` and a `Debug` that says nothing; whoever needs the text says
//! [`Secret::expose`], which is easy to find in a review. The [`Vault`] seals what is stored: AES-256-GCM-SIV, which
//! stays safe should a nonce ever repeat, bound to the record it belongs to, so that a sealed value moved to another
//! record does not open. Nothing here may log, and no error here carries content.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{constant_time, digest, hmac};
use serde::{Deserialize, Deserializer};
use zeroize::{Zeroize, Zeroizing};

use crate::ids::Random;

/// Text that must not be seen: wiped when dropped, compared in constant time, printed as `[secret]`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Say this only where it leaves for the place that it is the secret of.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// SHA-256 in lowercase hex: how a token or a text is recognised without being kept.
pub fn fingerprint(text: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, text).as_ref())
}

/// HMAC-SHA256 of the concatenated `parts`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// HMAC-SHA1 of `message`, for RFC 6238 and Twilio, which know no other.
pub fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mut tag = [0; 20];
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    tag.copy_from_slice(hmac::sign(&key, message).as_ref());
    tag
}

/// The bytes of a key written in base32, as portals show it to authenticator apps: in either case, with or without spaces
/// and padding. None when it is none, or empty.
pub fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bare = |c: &char| !c.is_whitespace() && !matches!(c, '-' | '=');
    let bare: Zeroizing<String> = Zeroizing::new(text.chars().filter(bare).collect::<String>().to_ascii_uppercase());
    let bytes = Zeroizing::new(data_encoding::BASE32_NOPAD.decode(bare.as_bytes()).ok()?);
    (!bytes.is_empty()).then_some(bytes)
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Seals and opens what is stored, with one 256-bit key for the whole store.
pub struct Vault {
    key: RandomizedNonceKey,
    mac: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// Why a vault could not be opened, or a sealed value not read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file could not be read or made.
    #[error("store key {}: {source}", path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key file is not 64 hex digits.
    #[error("store key {}: expected 64 hexadecimal digits", .0.display())]
    Malformed(PathBuf),
    /// Others than the owner can read the key file.
    #[error("store key {}: readable by others (mode {mode:o}); make it 0600", path.display())]
    Exposed {
        /// The file in question.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The value was sealed with another key, for another record, or is damaged.
    #[error("a sealed value does not open: wrong store key, or damaged")]
    Sealed,
}

impl Vault {
    /// A vault with the key given as 64 hexadecimal digits, as the credential `store.key` carries it.
    ///
    /// # Errors
    /// [`VaultError::Malformed`] when `text` is anything else; `origin` is named in it.
    pub fn from_hex(text: &str, origin: &Path) -> Result<Self, VaultError> {
        let malformed = || VaultError::Malformed(origin.to_owned());
        let bytes =
            Zeroizing::new(data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map_err(|_| malformed())?);
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes).map_err(|_| malformed())?;
        // A second key for fingerprints, derived so that one use never reveals anything about the other.
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &hmac_sha256(&bytes, &[b"nightporter fingerprint key v1"]));
        Ok(Self { key, mac })
    }

    /// The vault whose key is in the 0600 file `path`; makes the file with a fresh key when it is missing.
    ///
    /// # Errors
    /// When the file cannot be read or made, is readable by others, or holds no key.
    pub fn from_file(path: &Path, random: &Random) -> Result<Self, VaultError> {
        let io_error = |source| VaultError::Io { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(VaultError::Exposed { path: path.to_owned(), mode });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_new_key(path, random).map_err(io_error)?;
            }
            Err(error) => return Err(io_error(error)),
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error)?);
        Self::from_hex(&text, path)
    }

    /// Encrypts `plain` for the place named `context`; the result is nonce, ciphertext and tag.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses, which it documents for absurd lengths alone.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut body = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| VaultError::Sealed)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Decrypts what [`Vault::seal`] made for the same `context`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] for another key, another context, or a single changed bit.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(VaultError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Sealed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| VaultError::Sealed)?
            .len();
        body[length..].zeroize();
        body.truncate(length);
        Ok(body)
    }

    /// A keyed fingerprint: recognises low-entropy values (an SMS, a code) in the store without revealing them.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.mac);
        for part in parts {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

fn write_new_key(path: &Path, random: &Random) -> io::Result<()> {
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(&*Zeroizing::new(random.bytes::<32>())));
    // Written aside and renamed: a crash in between must not leave half a key that a later start would refuse.
    let partial = path.with_extension("new");
    let _ = fs::remove_file(&partial);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Vault {
        Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_only_unchanged_and_in_its_place() {
        let sealed = vault().seal("session/a", "비밀번호".as_bytes()).unwrap();
        assert_eq!(&**vault().open("session/a", &sealed).unwrap(), "비밀번호".as_bytes());
        assert!(vault().open("session/b", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(vault().open("session/a", &damaged).is_err(), "bit {bit}");
        }
        assert!(vault().open("session/a", b"short").is_err());
    }

    #[test]
    fn the_key_file_is_made_private_and_refused_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        let random = Random::seeded(1);
        let sealed = Vault::from_file(&path, &random).unwrap().seal("x", b"y").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Vault::from_file(&path, &random).unwrap().open("x", &sealed).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Vault::from_file(&path, &random), Err(VaultError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }

    #[test]
    fn hmac_agrees_with_the_forwarders_published_check() {
        let tag = hmac_sha256(b"testkey1", &[br#"{"event":"sms:received"}"#, b"1700000000"]);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&tag),
            "5b28e05f025d90ee09f676000cc2a76de9fc7eed8c2c46dec37bffbe22233854"
        );
    }
}
