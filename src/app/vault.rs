//! Opens the store's vault and proves that its key is the right one before anything is sealed with another.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StartError;
use crate::config;
use crate::ids::Random;
use crate::secret::{Vault, VaultError};
use crate::store::{Decision, Expires, Kind, Record, Store};

/// The key's file in the store's directory, when the operator gives no key.
pub(crate) const KEY_FILE: &str = "store.key";

/// A known text, sealed when the store was new: a key that opens it is the store's own.
#[derive(Clone, Serialize, Deserialize)]
struct Check(Vec<u8>);

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<Check>()];

impl Record for Check {
    const SPACE: &'static str = "vault";
    const SCHEMA: u8 = 1;
}

const CHECK: &str = "check";
const CONTEXT: &str = "vault/check";
const KNOWN: &[u8] = b"nightporter";

/// The vault of `store`, with the configured key or the one in the store's directory, which is made for a new store.
pub(crate) async fn open(store: &Store, config: &config::Store, random: &Random) -> Result<Vault, StartError> {
    let file = config.path.join(KEY_FILE);
    let sealed = store.get::<Check>(CHECK)?.map(|check| check.value.0);
    let (vault, origin) = match &config.key {
        Some(key) => (Vault::from_hex(key.expose(), Path::new("store.key"))?, "store.key".to_owned()),
        None => {
            let origin = file.display().to_string();
            if sealed.is_some() && !file.exists() {
                return Err(StartError::KeyLost { origin });
            }
            (Vault::from_file(&file, random)?, origin)
        }
    };
    match sealed {
        Some(sealed) => match vault.open(CONTEXT, &sealed) {
            Ok(known) if known.as_slice() == KNOWN => Ok(vault),
            Ok(_) | Err(VaultError::Sealed) => Err(StartError::WrongKey { origin }),
            Err(error) => Err(error.into()),
        },
        None => {
            let check = Check(vault.seal(CONTEXT, KNOWN)?);
            store.update::<Check, _>(CHECK, |_| Decision::Put(check.clone(), Expires::Never, ())).await?;
            Ok(vault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::golden;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        golden::<Check>(&Check(vec![1, 2, 3]), "03010203");
    }
}
