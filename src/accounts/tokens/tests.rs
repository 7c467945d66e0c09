//! What a token says, and everything that is refused: other algorithms, keys, kinds and claims, and Wycheproof's vectors.

use std::path::Path;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use wycheproof_ng_kdf_jose::json_web::{TestName, TestSet};

use super::*;
use crate::accounts::audit::Who;
use crate::accounts::keys::{KeysError, LEAD, MAX_ACCESS_TTL, Rotation};
use crate::lifecycle::Lifecycle;
use crate::secret::Vault;
use crate::store::{Durability, Store};

const MINUTE: Duration = Duration::from_secs(60);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

struct Bench {
    tokens: Tokens,
    keys: Keys,
    clock: Clock,
    store: Store,
    random: Random,
    vault: Arc<Vault>,
    life: Lifecycle,
    _dir: tempfile::TempDir,
}

fn settings() -> Settings {
    let issuer = "https://porter.example".to_owned();
    Settings { audience: issuer.clone(), issuer, access_ttl: 10 * MINUTE }
}

impl Bench {
    async fn new() -> Self {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap();
        let (random, vault) = (Random::seeded(5), Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap());
        let vault = Arc::new(vault);
        let keys =
            Keys::start(store.clone(), vault.clone(), clock.clone(), random.clone(), MONTH, &life).await.unwrap();
        let tokens = Tokens::new(keys.clone(), clock.clone(), random.clone(), settings());
        Self { tokens, keys, clock, store, random, vault, life, _dir: dir }
    }

    /// What another process that shares the store would say.
    async fn other(&self) -> Tokens {
        let (store, vault) = (self.store.clone(), self.vault.clone());
        let keys = Keys::start(store, vault, self.clock.clone(), self.random.clone(), MONTH, &self.life).await.unwrap();
        Tokens::new(keys, self.clock.clone(), self.random.clone(), settings())
    }

    fn issue(&self) -> String {
        let ends_at = self.clock.now() + 24 * 60 * MINUTE;
        let begun = Begun { id: SessionId::draw(&self.random), ends_at, refresh: Secret::new("npr_") };
        self.tokens.issue(Uuid::from_bytes([7; 16]), 3, begun).unwrap().access.expose().to_owned()
    }

    /// A token that this very key has signed, with another head or other claims.
    fn forge(&self, change: impl Fn(&mut Header, &mut Value)) -> String {
        let token = self.issue();
        let mut claims = part(&token, 1);
        let ring = self.keys.ring();
        let signer = ring.signing(self.clock.now()).unwrap();
        let mut header = signer.header.clone();
        change(&mut header, &mut claims);
        jsonwebtoken::encode(&header, &claims, &signer.encoding).unwrap()
    }
}

fn part(token: &str, at: usize) -> Value {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(at).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn encoded(value: &Value) -> String {
    data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

#[tokio::test]
async fn a_token_says_what_it_must_and_ends_to_the_second() {
    let bench = Bench::new().await;
    let token = bench.issue();
    let head = part(&token, 0);
    assert_eq!((&head["alg"], &head["typ"]), (&json!("EdDSA"), &json!("at+jwt")));
    assert_eq!(head["kid"], bench.tokens.key_set()["keys"][0]["kid"]);
    let claims = part(&token, 1);
    assert_eq!((&claims["iss"], &claims["epoch"]), (&json!("https://porter.example"), &json!(3)));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_800_000_000), &json!(1_800_000_600)));
    assert_eq!(bench.tokens.verify(&token).unwrap().sub, Uuid::from_bytes([7; 16]));
    bench.clock.advance(10 * MINUTE - Duration::from_millis(1));
    assert!(bench.tokens.verify(&token).is_ok());
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.tokens.verify(&token), Err(Refused::Expired));
    bench.clock.set(bench.clock.now() - 20 * MINUTE);
    assert_eq!(bench.tokens.verify(&token), Err(Refused::Foreign), "from a future that the clock does not know");
}

#[tokio::test]
async fn a_token_never_outlives_its_session() {
    let bench = Bench::new().await;
    let ends_at = bench.clock.now() + 2 * MINUTE;
    let begun = Begun { id: SessionId::draw(&bench.random), ends_at, refresh: Secret::new("npr_") };
    let grant = bench.tokens.issue(Uuid::nil(), 0, begun).unwrap();
    assert_eq!(grant.expires_in, 2 * MINUTE);
    bench.clock.advance(2 * MINUTE);
    assert_eq!(bench.tokens.verify(grant.access.expose()), Err(Refused::Expired));
}

#[tokio::test]
async fn no_other_algorithm_key_or_kind_of_token_passes() {
    let bench = Bench::new().await;
    let token = bench.issue();
    let (head, claims) = (part(&token, 0), token.split('.').nth(1).unwrap().to_owned());
    let x = bench.tokens.key_set()["keys"][0]["x"].as_str().unwrap().to_owned();
    let public = data_encoding::BASE64URL_NOPAD.decode(x.as_bytes()).unwrap();
    let with = |member: &str, value: Value| {
        let mut head = head.clone();
        head[member] = value;
        encoded(&head)
    };
    // No signature at all.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let head = with("alg", json!(none));
        for signature in ["", "AAAA", token.rsplit_once('.').unwrap().1] {
            assert_eq!(bench.tokens.verify(&format!("{head}.{claims}.{signature}")), Err(Refused::Foreign), "{none}");
        }
    }
    // The public key as the secret of an HMAC, in each form in which somebody may have it.
    for secret in [public, x.clone().into_bytes(), bench.tokens.key_set()["keys"][0].to_string().into_bytes()] {
        let mut header = Header::new(Algorithm::HS256);
        (header.typ, header.kid) = (Some("at+jwt".to_owned()), head["kid"].as_str().map(str::to_owned));
        let forged = jsonwebtoken::encode(&header, &part(&token, 1), &EncodingKey::from_secret(&secret)).unwrap();
        assert_eq!(bench.tokens.verify(&forged), Err(Refused::Foreign));
    }
    // Our own signature over another head: only the head as we write it counts.
    type Change = fn(&mut Header);
    let changes: [Change; 8] = [
        |header| header.kid = Some("another".to_owned()),
        |header| header.kid = None,
        |header| header.typ = Some("JWT".to_owned()),
        |header| header.typ = None,
        |header| header.jku = Some("https://evil.example/jwks.json".to_owned()),
        |header| header.x5u = Some("https://evil.example/cert".to_owned()),
        |header| header.crit = Some(vec!["exp".to_owned()]),
        |header| header.extras.insert("b64", false),
    ];
    for change in changes {
        assert_eq!(bench.tokens.verify(&bench.forge(|header, _| change(header))), Err(Refused::Foreign));
    }
    // A key of the attacker's own, offered in the head.
    let own = bench.other_key();
    let mut jwk = head.clone();
    jwk["jwk"] = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    for head in [head.clone(), jwk] {
        let message = format!("{}.{claims}", encoded(&head));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &own, Algorithm::EdDSA).unwrap();
        assert_eq!(bench.tokens.verify(&format!("{message}.{signature}")), Err(Refused::Foreign));
    }
    assert!(bench.tokens.verify(&token).is_ok(), "and the token itself is good");
}

impl Bench {
    fn other_key(&self) -> EncodingKey {
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&self.random.bytes::<32>()).unwrap();
        EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref())
    }
}

#[tokio::test]
async fn claims_that_our_own_key_has_signed_are_looked_at_all_the_same() {
    let bench = Bench::new().await;
    assert!(bench.tokens.verify(&bench.forge(|_, _| {})).is_ok());
    let replaced = [
        ("iss", json!("https://evil.example")),
        ("iss", json!(["https://porter.example"])),
        ("iss", json!(null)),
        ("aud", json!("https://evil.example")),
        ("aud", json!(["https://porter.example", "https://evil.example"])),
        ("sub", json!("kim@example.com")),
        ("sub", json!(7)),
        ("sid", json!("../../etc")),
        ("epoch", json!("3")),
        ("epoch", json!(-1)),
        ("exp", json!("1800000600")),
        ("exp", json!(1e300)),
        ("exp", json!(-1)),
        ("exp", json!(null)),
        ("nbf", json!(1_800_000_600)),
        ("admin", json!(true)),
    ];
    for (claim, value) in replaced {
        let forged = bench.forge(|_, claims| claims[claim] = value.clone());
        assert_eq!(bench.tokens.verify(&forged), Err(Refused::Foreign), "{claim}: {value}");
    }
    for claim in ["iss", "aud", "sub", "sid", "epoch", "jti", "iat", "nbf", "exp"] {
        let forged = bench.forge(|_, claims| {
            claims.as_object_mut().unwrap().remove(claim);
        });
        assert_eq!(bench.tokens.verify(&forged), Err(Refused::Foreign), "without {claim}");
    }
}

#[tokio::test]
async fn whatever_is_no_token_is_refused_without_a_panic() {
    let bench = Bench::new().await;
    let token = bench.issue();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(bench.tokens.verify(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {at}");
        assert!(bench.tokens.verify(&token[..at]).is_err(), "cut at {at}");
    }
    let (operators, refresh) = (format!("npt_a2b3c4d5_{}", "a".repeat(52)), format!("npr_{}", "A".repeat(120)));
    let long = format!("{token}{}", "A".repeat(4096));
    let others = [operators, refresh, long, format!("{token}."), format!("{token}.x"), format!("{token}=")];
    for other in others.iter().map(String::as_str).chain(["", ".", "..", "...", "한.글.자", "\0"]) {
        assert_eq!(bench.tokens.verify(other), Err(Refused::Foreign), "{other}");
    }
}

/// All of Wycheproof's vectors for signatures are of algorithms that are not ours: valid or not, none may pass; also not when
/// their key's name is that of ours.
#[tokio::test]
async fn none_of_wycheproofs_json_web_signatures_passes() {
    let bench = Bench::new().await;
    let kid = bench.tokens.key_set()["keys"][0]["kid"].clone();
    let (mut looked, mut valid) = (0, 0);
    for group in TestSet::load(TestName::JsonWebSignature).unwrap().test_groups {
        for test in group.tests {
            let jws = test.jws.unwrap_or_default();
            let jws = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
            valid += u32::from(!test.result.must_fail());
            assert_eq!(bench.tokens.verify(&jws), Err(Refused::Foreign), "{}", test.comment);
            if let Some(mut head) = jws.split_once('.').and_then(|(head, _)| decoded(head)) {
                head["kid"] = kid.clone();
                let rest = jws.split_once('.').unwrap().1;
                assert_eq!(bench.tokens.verify(&format!("{}.{rest}", encoded(&head))), Err(Refused::Foreign));
            }
            looked += 1;
        }
    }
    assert!(looked > 300 && valid > 40, "{looked} vectors, {valid} of them valid");
}

fn decoded(head: &str) -> Option<Value> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(head.as_bytes()).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

/// The vectors know no Ed25519: what each of them does to a token is done to one of ours.
#[tokio::test]
async fn what_wycheproof_does_to_tokens_is_noticed_in_ours() {
    let bench = Bench::new().await;
    let token = bench.issue();
    let [head, claims, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
    let json =
        json!({"payload": claims, "signatures": [{"protected": head, "header": {"x": 1}, "signature": signature}]});
    let flat = json!({"payload": claims, "protected": head, "signature": signature});
    let none = encoded(&json!({"alg": "none", "kid": part(&token, 0)["kid"]}));
    let other = if signature.starts_with('X') { 'Y' } else { 'X' };
    for (what, jws) in [
        ("rejectsModifiedSignature", format!("{head}.{claims}.{other}{}", &signature[1..])),
        ("rejectsMissingSignature", format!("{head}.{claims}.")),
        ("rejectsMissingSignatureAndSeparator", format!("{head}.{claims}")),
        ("rejectsModifiedPayload", format!("{head}.X{}.{signature}", &claims[1..])),
        ("rejectsMissingPayload", format!("{head}..{signature}")),
        ("rejectsMissingPayloadAndSeparator", format!("{head}.{signature}")),
        ("rejectsModifiedHeader", format!("X{}.{claims}.{signature}", &head[1..])),
        ("rejectsMissingHeader", format!(".{claims}.{signature}")),
        ("rejectsMissingHeaderAndSeparator", format!("{claims}.{signature}")),
        ("rejectsMissingHeaderAndSignature", format!(".{claims}.")),
        ("rejectsMissingHeaderSignatureAndSeparators", claims.to_owned()),
        ("rejectsEmptyString", String::new()),
        ("rejectsExtraEmptyComponent", format!("{token}.")),
        ("rejectsExtraComponent", format!("{token}.foo")),
        ("rejectsNoneAlgorithmAndMissingSignature", format!("{none}.{claims}.")),
        ("rejectsValidJsonSerialization", json.to_string()),
        ("the flattened serialization", flat.to_string()),
        ("padding", format!("{head}.{claims}.{signature}==")),
        ("the other alphabet", format!("{head}.{claims}.{}", signature.replace('-', "+").replace('_', "/") + "+")),
        ("spaces", format!(" {token}")),
        ("a line break", format!("{token}\n")),
    ] {
        assert_eq!(bench.tokens.verify(&jws), Err(Refused::Foreign), "{what}");
    }
}

/// The signatures themselves, against the key that they belong to.
#[test]
fn wycheproofs_ed25519_vectors_are_judged_right() {
    use wycheproof::eddsa::{TestName, TestSet};
    let mut looked = 0;
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = jsonwebtoken::DecodingKey::from_ed_der(&group.key.pk);
        for test in group.tests {
            let signature = data_encoding::BASE64URL_NOPAD.encode(&test.sig);
            let good = jsonwebtoken::crypto::verify(&signature, &test.msg, &key, Algorithm::EdDSA).unwrap_or(false);
            assert_eq!(good, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
            looked += 1;
        }
    }
    assert!(looked > 100, "{looked}");
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs_and_an_old_one_stays_until_its_tokens_are_over() {
    let bench = Bench::new().await;
    let kids = || -> Vec<String> {
        let set = bench.tokens.key_set();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let [first] = <[String; 1]>::try_from(kids()).unwrap();
    let old = bench.issue();
    let views = bench.keys.rotate(Rotation::Overlap, Who::Operator("test".to_owned())).await.unwrap();
    assert_eq!(views.len(), 2);
    assert_eq!(kids().len(), 2, "published at once");
    assert_eq!(part(&bench.issue(), 0)["kid"], json!(first), "and the old one signs still");
    let early = bench.keys.rotate(Rotation::Overlap, Who::System).await;
    assert!(matches!(early, Err(KeysError::Pending(at)) if at == bench.clock.now() + LEAD));
    let other = bench.other().await;
    bench.clock.advance(LEAD);
    let new = bench.issue();
    assert_eq!(part(&new, 0)["kid"], json!(views[1].kid));
    assert!(bench.tokens.verify(&new).is_ok() && other.verify(&new).is_ok(), "every instance knows it");
    assert_eq!(bench.tokens.verify(&old), Err(Refused::Expired), "it is known, but over");
    bench.clock.advance(MAX_ACCESS_TTL + 2 * MINUTE - Duration::from_millis(1));
    assert_eq!(kids().len(), 2);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(kids(), [views[1].kid.clone()]);
    assert_eq!(bench.tokens.verify(&old), Err(Refused::Foreign));
}

#[tokio::test]
async fn a_stolen_key_is_replaced_at_once() {
    let bench = Bench::new().await;
    let old = bench.issue();
    bench.keys.rotate(Rotation::Overlap, Who::System).await.unwrap();
    bench.keys.rotate(Rotation::AtOnce, Who::Operator("test".to_owned())).await.unwrap();
    assert_eq!(bench.tokens.verify(&old), Err(Refused::Foreign));
    assert!(bench.tokens.verify(&bench.issue()).is_ok());
    assert_eq!(bench.tokens.key_set()["keys"].as_array().unwrap().len(), 1);
    let text = bench.tokens.key_set().to_string();
    assert!(!text.contains("\"d\""), "no private part: {text}");
}

#[tokio::test]
async fn keys_are_the_same_after_a_restart_and_get_successors_by_age() {
    let bench = Bench::new().await;
    let token = bench.issue();
    assert!(bench.other().await.verify(&token).is_ok());
    bench.clock.advance(MONTH);
    let later = bench.other().await;
    assert_eq!(later.key_set()["keys"].as_array().unwrap().len(), 2, "the first is a month old");
    let wrong = Vault::from_hex(&"cd".repeat(32), Path::new("test")).unwrap();
    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let locked = Keys::start(store, Arc::new(wrong), clock, bench.random.clone(), MONTH, &bench.life).await;
    assert!(matches!(locked, Err(KeysError::Vault(_))));
}
