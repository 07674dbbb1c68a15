//! Tokens: who asks, and what they may do.
//!
//! ```text
//! twofold_<64 hexadecimal digits: 256 random bits><8 more: a checksum of them>
//! ```
//!
//! The checksum tells a token that was mistyped or cut short from one that was revoked; it is no secret, and protects
//! nothing. What is kept of a token is its hash. A plain cryptographic hash (BLAKE3) is right here: slow and salted
//! hashes are for passwords, which people choose and others guess; of 256 random bits nobody guesses anything, however
//! fast the hash. It is compared in constant time, with every token that there is.
//!
//! For SCRAM, by which the PostgreSQL wire checks a password without seeing it, the salted password (RFC 5802:
//! `SaltedPassword`) is kept beside the hash. It does not lead back to the token, but whoever has it can pass for the
//! token's bearer over the PostgreSQL wire, and there only, until the token is revoked.

use crate::digest::Digest;
use crate::error::{Error, Result};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

/// What every token begins with, so that people and scanners of leaked secrets know it when they see it.
pub const TOKEN_PREFIX: &str = "twofold_";
/// What stands for all streams, or all relations, in a scope.
pub const ALL: &str = "*";
/// How often the password is hashed for SCRAM: what RFC 7677 asks for. More would slow nobody down who guesses 256 bits.
pub const SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

const SECRET_DIGITS: usize = 64;
const CHECK_DIGITS: usize = 8;
const NAME_LENGTH: usize = 63;
const HASH: &str = "twofold 2026-11 hash of a token";
const CHECK: &str = "twofold 2026-11 checksum of a token";
const SALT: &str = "twofold 2026-11 salt of nobody";
const PASSWORD: &str = "twofold 2026-11 password of nobody";

/// A secret that lets its bearer in. It is shown by [`reveal`](Self::reveal) only.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

/// What is kept of a token so that it is known again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(Digest);

/// What a bearer may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// The streams that events may be sent to; [`ALL`] for every one.
    pub ingest: BTreeSet<String>,
    /// The relations that may be read; [`ALL`] for every one.
    pub read: BTreeSet<String>,
    /// Everything, and what is not of one stream or relation: status, metrics, the speed layer's own address.
    pub admin: bool,
}

/// What SCRAM-SHA-256 needs to check a password.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Scram {
    salt: Digest,
    salted_password: Digest,
    iterations: NonZeroU32,
}

/// A token as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What people call it; the user's name on the PostgreSQL wire.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// From when on it is not valid any more, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// What its bearer may do.
    pub scopes: Scopes,
    /// How it is known again.
    pub hash: TokenHash,
    /// How it is known again on the PostgreSQL wire.
    pub scram: Scram,
}

impl Token {
    /// A new one, of random bits of the operating system.
    ///
    /// # Errors
    /// `Internal` if the system gives none.
    pub fn random() -> Result<Self> {
        random().map(Self)
    }

    /// The token that was shown.
    ///
    /// # Errors
    /// `Unauthenticated`, saying what is wrong with its form, and nothing of what it is.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::Unauthenticated(format!("{what}: copy it again, or ask for another"));
        let digits = text.trim().strip_prefix(TOKEN_PREFIX);
        let digits = digits.ok_or_else(|| wrong("this is no token of Twofold, which begin with twofold_"))?;
        if digits.len() != SECRET_DIGITS + CHECK_DIGITS {
            return Err(wrong("the token is cut short, or has something after it"));
        }
        let mistyped = || wrong("the token is mistyped: its checksum does not match");
        let (secret, check) = digits.split_at_checked(SECRET_DIGITS).ok_or_else(mistyped)?;
        let token = Self(*Digest::from_hex(secret).ok_or_else(mistyped)?.as_bytes());
        if token.check().eq_ignore_ascii_case(check) { Ok(token) } else { Err(mistyped()) }
    }

    /// The token as its bearer shows it.
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}{}", blake3::Hash::from_bytes(self.0).to_hex(), self.check())
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Digest::from_array(blake3::derive_key(HASH, &self.0)))
    }

    /// What is kept of it for SCRAM, with a new salt.
    ///
    /// # Errors
    /// `Internal` if the system gives no random bits.
    pub fn scram(&self) -> Result<Scram> {
        let (salt, mut salted) = (random()?, [0; 32]);
        let password = self.reveal();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, SCRAM_ITERATIONS, &salt, password.as_bytes(), &mut salted);
        let (salt, salted_password) = (Digest::from_array(salt), Digest::from_array(salted));
        Ok(Scram { salt, salted_password, iterations: SCRAM_ITERATIONS })
    }

    fn check(&self) -> String {
        let key = blake3::derive_key(CHECK, &self.0);
        Digest::from_array(key).to_string()[..CHECK_DIGITS].to_string()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenHash {
    /// The digest that is kept: for telling two tokens apart, not for letting one in.
    pub fn digest(&self) -> Digest {
        self.0
    }

    /// Whether it is of that token, in a time that does not tell how much of it is.
    pub fn is_of(&self, token: &Token) -> bool {
        // blake3::Hash, unlike an array of bytes, is compared in constant time.
        blake3::Hash::from_bytes(*self.0.as_bytes()) == blake3::Hash::from_bytes(*token.hash().0.as_bytes())
    }
}

impl Scram {
    /// That of a user that there is not, which no password fits: the same for as long as `secret` is.
    pub fn of_nobody(user: &str, secret: &Digest) -> Self {
        let of = |what: &str| {
            let key = blake3::derive_key(what, secret.as_bytes());
            Digest::from_array(*blake3::keyed_hash(&key, user.as_bytes()).as_bytes())
        };
        let (salt, salted_password) = (of(SALT), of(PASSWORD));
        Self { salt, salted_password, iterations: SCRAM_ITERATIONS }
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        self.salt.as_bytes()
    }

    /// `SaltedPassword` of RFC 5802.
    pub fn salted_password(&self) -> &[u8] {
        self.salted_password.as_bytes()
    }

    /// How often the password was hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram(…)")
    }
}

impl Scopes {
    /// Everything.
    pub fn all() -> Self {
        Self { admin: true, ..Self::default() }
    }

    /// Whether a relation may be read.
    pub fn may_read(&self, relation: &str) -> bool {
        self.admin || allows(&self.read, relation)
    }

    /// Whether events may be sent to a stream.
    pub fn may_ingest(&self, stream: &str) -> bool {
        self.admin || allows(&self.ingest, stream)
    }

    /// Whether it lets nobody do anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.admin {
            return f.write_str("admin");
        }
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        let scopes = [("ingest", &self.ingest), ("read", &self.read)];
        let told: Vec<String> = (scopes.into_iter())
            .filter(|(_, names)| !names.is_empty())
            .map(|(scope, names)| format!("{scope} {}", list(names)))
            .collect();
        f.write_str(&told.join("; "))
    }
}

fn allows(names: &BTreeSet<String>, name: &str) -> bool {
    names.contains(ALL) || names.contains(name)
}

impl TokenRecord {
    /// A token as it is kept.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one, or scopes that allow nothing; `Internal` without random bits.
    pub fn new(
        name: &str,
        token: &Token,
        scopes: Scopes,
        created: i64,
        expires: Option<i64>,
    ) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME_LENGTH || !name.chars().all(legal) {
            return Err(Error::Invalid(format!(
                "{name:?} cannot be the name of a token: use 1 to {NAME_LENGTH} letters, digits, dots, dashes and underscores"
            )));
        }
        if scopes.is_empty() {
            return Err(Error::Invalid(
                "a token that may do nothing is of no use: say --ingest STREAM, --read RELATION or --admin"
                    .into(),
            ));
        }
        Ok(Self { name: name.into(), created, expires, scopes, hash: token.hash(), scram: token.scram()? })
    }

    /// Whether it is not valid any more at a time, in nanoseconds since 1970.
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let none = |_| Error::Internal("the operating system gives no random bits".into());
    SystemRandom::new().fill(&mut bytes).map_err(none)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_is_known_again() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        assert_eq!((text.len(), text.starts_with(TOKEN_PREFIX)), (80, true));
        let again = Token::parse(&format!(" {text}\n")).unwrap();
        assert!(token.hash().is_of(&again));
        assert!(!token.hash().is_of(&Token::random().unwrap()));
    }

    #[test]
    fn whatever_digit_is_wrong_is_a_typo() {
        let text = Token::random().unwrap().reveal();
        for at in TOKEN_PREFIX.len()..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'0' { b'1' } else { b'0' };
            let e = Token::parse(std::str::from_utf8(&typo).unwrap()).unwrap_err().to_string();
            assert!(e.starts_with("the token is mistyped"), "{at}: {e}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_without_telling_it() {
        let text = Token::random().unwrap().reveal();
        let umlauts = format!("{TOKEN_PREFIX}{}", "ü".repeat(36));
        for (wrong, says) in [
            ("hunter2", "no token of Twofold"),
            (&text[..79], "cut short"),
            (&format!("{text}0"), "something after"),
            (&umlauts, "mistyped"),
            ("", "no token"),
        ] {
            let e = Token::parse(wrong).unwrap_err().to_string();
            assert!(e.contains(says) && (wrong.is_empty() || !e.contains(wrong)), "{wrong}: {e}");
        }
    }

    #[test]
    fn what_is_shown_for_debugging_and_what_is_kept_is_not_the_token() {
        let token = Token::random().unwrap();
        let record = TokenRecord::new("a", &token, Scopes::all(), 0, None).unwrap();
        let secret = &token.reveal()[TOKEN_PREFIX.len()..][..16];
        for shown in [format!("{token:?} {record:?}"), serde_json::to_string(&record).unwrap()] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(!format!("{record:?}").contains(&record.scram.salted_password.to_string()[..16]));
    }

    /// The values of RFC 7677, section 3, by its own functions: what a client computes from the token is what is kept.
    #[test]
    fn scram_keeps_the_salted_password() {
        let token = Token::random().unwrap();
        let scram = token.scram().unwrap();
        let (password, iterations) = (token.reveal(), NonZeroU32::new(scram.iterations()).unwrap());
        let check = |password: &str| {
            let (salt, salted) = (scram.salt(), scram.salted_password());
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), salted)
        };
        assert!(check(&password).is_ok());
        assert!(check("twofold").is_err());
        assert_ne!(scram.salt(), token.scram().unwrap().salt());
    }

    #[test]
    fn scopes_are_by_name_or_for_all() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_string()).collect::<BTreeSet<_>>();
        let some = Scopes { ingest: names(&["s"]), read: names(&["v", "w"]), admin: false };
        assert!(some.may_ingest("s") && !some.may_ingest("v") && some.may_read("w") && !some.may_read("s"));
        assert_eq!(some.to_string(), "ingest s; read v, w");
        let all = Scopes { read: names(&[ALL]), ..Scopes::default() };
        assert!(all.may_read("anything") && !all.may_ingest("anything"));
        assert!(Scopes::all().may_ingest("x") && Scopes::all().may_read("x"));
    }

    #[test]
    fn a_name_is_short_and_plain_and_a_token_may_something() {
        let token = Token::random().unwrap();
        let new = |name: &str, scopes| TokenRecord::new(name, &token, scopes, 0, Some(5));
        for name in ["", "a b", "ü", "a;b", &"x".repeat(64)] {
            assert!(new(name, Scopes::all()).is_err(), "{name}");
        }
        assert!(new("a", Scopes::default()).is_err());
        let record = new("till-4.b_2", Scopes::all()).unwrap();
        assert!(!record.is_expired(4) && record.is_expired(5));
    }
}
