//! Keys instead of accounts: ed25519 pairs, and the names they go by.
//!
//! A submitter has a name and a secret key; what they sign can be checked by anyone with the public key. A board pins a
//! name to the first key that used it (`store`). The file of a key is JSON, readable by its owner only:
//!
//! ```text
//! { "format": "jepa-bench.key/1",
//!   "name": "lab",
//!   "secret": "..",      32 bytes, hex
//!   "public": ".." }     32 bytes, hex; for people, checked against the secret
//! ```
//!
//! Every signature is over a purpose and a hash, so that one made for a purpose is worth nothing for another.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// First line of a key file.
const FORMAT: &str = "jepa-bench.key/1";
/// Bytes of a secret and of a public key.
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Longest name.
const LONGEST_NAME: usize = 39;

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A bundle of a run.
    Submission,
    /// The owner of a key calls it invalid.
    Revocation,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Submission => "jepa-bench 2026 submission",
            Self::Revocation => "jepa-bench 2026 revocation",
        }
    }

    /// What is signed: the purpose, a zero byte, and the hash (blake3) of the message.
    fn message(self, content: &[u8]) -> Vec<u8> {
        let mut message = self.context().as_bytes().to_vec();
        message.push(0);
        message.extend_from_slice(blake3::hash(content).as_bytes());
        message
    }
}

/// Who signed: the public half of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is something else, or no point of the curve that a signature could be checked with.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes: [u8; KEY_BYTES] = from_hex(text)
            .ok_or_else(|| invalid(format!("`{}` is not a public key", shown(text))))?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| invalid(format!("`{text}` is not a public key")))?;
        if key.is_weak() {
            return Err(invalid(format!(
                "`{text}` is a weak key: others can sign for it"
            )));
        }
        Ok(Self(bytes))
    }

    /// Checks a signature, 128 hexadecimal digits, of `content`.
    ///
    /// # Errors
    /// When it is not one of this key for this purpose and content.
    pub fn check(&self, purpose: Purpose, content: &[u8], signature: &str) -> Result<()> {
        let wrong = || invalid(format!("the signature is not one of key {}", self.short()));
        let bytes: [u8; SIGNATURE_BYTES] = from_hex(signature).ok_or_else(wrong)?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| wrong())?;
        // Strict: one message has one signature that counts, whatever the key.
        key.verify_strict(&purpose.message(content), &Signature::from_bytes(&bytes))
            .map_err(|_| wrong())
    }

    /// The first sixteen digits, for people.
    pub fn short(&self) -> String {
        to_hex(&self.0)[..16].to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// A name with its secret key.
pub struct Identity {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({}, {})", self.name, self.public())
    }
}

/// The file of a key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: String,
    name: String,
    secret: String,
    public: String,
}

impl Identity {
    /// A new key from the system's random numbers.
    ///
    /// # Errors
    /// When the name is not one, or the system has no random numbers.
    pub fn generate(name: &str) -> Result<Self> {
        let mut secret = [0; KEY_BYTES];
        getrandom::fill(&mut secret)
            .map_err(|error| invalid(format!("the system gave no random numbers: {error}")))?;
        Self::from_secret(name, &secret)
    }

    /// The key of a secret; for tests that need the same key each time.
    ///
    /// # Errors
    /// When the name is not one.
    pub fn from_secret(name: &str, secret: &[u8; KEY_BYTES]) -> Result<Self> {
        Ok(Self {
            name: check_name(name)?.to_string(),
            key: SigningKey::from_bytes(secret),
        })
    }

    /// The name it goes by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// Signs `content`: 128 hexadecimal digits.
    pub fn sign(&self, purpose: Purpose, content: &[u8]) -> String {
        to_hex(&self.key.sign(&purpose.message(content)).to_bytes())
    }

    /// Writes the key to a new file that only its owner may read.
    ///
    /// # Errors
    /// When there is such a file already, which is never overwritten, or it cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<()> {
        let file = KeyFile {
            format: FORMAT.into(),
            name: self.name.clone(),
            secret: to_hex(&self.key.to_bytes()),
            public: self.public().to_string(),
        };
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| invalid(format!("the key cannot be written: {error}")))?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut out = options
            .open(path)
            .map_err(|source| Error::io("create", path, source))?;
        out.write_all(text.as_bytes())
            .and_then(|()| out.sync_all())
            .map_err(|source| Error::io("write", path, source))
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    /// When there is none, others may read it, or it is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let metadata =
                std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
            if metadata.permissions().mode() & 0o077 != 0 {
                return Err(Error::Key {
                    detail: format!("others may read the secret key `{}`", path.display()),
                    hint: Some(format!("chmod 600 '{}'", path.display())),
                });
            }
        }
        let broken =
            |detail: &str| invalid(format!("`{}` is not a key file: {detail}", path.display()));
        let file: KeyFile =
            serde_json::from_str(&text).map_err(|error| broken(&error.to_string()))?;
        if file.format != FORMAT {
            return Err(broken(&format!("its format is not `{FORMAT}`")));
        }
        let secret: [u8; KEY_BYTES] =
            from_hex(&file.secret).ok_or_else(|| broken("`secret` is not 64 digits"))?;
        let identity = Self::from_secret(&file.name, &secret)?;
        if identity.public().to_string() != file.public {
            return Err(broken("`public` does not belong to `secret`"));
        }
        Ok(identity)
    }
}

/// Checks a name: 2 to 39 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit. Names are plain
/// ASCII so that no two of them look alike.
///
/// # Errors
/// When it is something else.
pub fn check_name(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = bytes.first().is_some_and(|&b| plain(b)) && bytes.last().is_some_and(|&b| plain(b));
    let fits = (2..=LONGEST_NAME).contains(&bytes.len());
    if fits && ends && bytes.iter().all(|&byte| plain(byte) || byte == b'-') {
        return Ok(name);
    }
    Err(Error::Key {
        detail: format!("`{}` is not a name", shown(name)),
        hint: Some(format!(
            "a name has 2 to {LONGEST_NAME} of a-z, 0-9 and `-`, and begins and ends with a letter or digit"
        )),
    })
}

fn invalid(detail: String) -> Error {
    Error::Key { detail, hint: None }
}

/// What of an unknown text can be shown: no control characters, not too much.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("..");
    }
    shown
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes of lower-case hexadecimal digits.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| match d {
            b'0'..=b'9' => Some(d - b'0'),
            b'a'..=b'f' => Some(d - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_secret("lab", &[7; 32]).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_key_purpose_and_content_only() {
        let (lab, other) = (identity(), Identity::from_secret("lab", &[8; 32]).unwrap());
        let signature = lab.sign(Purpose::Submission, b"content");
        let check = |key: PublicKey, purpose, content: &[u8], signature: &str| {
            key.check(purpose, content, signature).is_ok()
        };
        assert!(check(
            lab.public(),
            Purpose::Submission,
            b"content",
            &signature
        ));
        assert!(!check(
            other.public(),
            Purpose::Submission,
            b"content",
            &signature
        ));
        assert!(!check(
            lab.public(),
            Purpose::Revocation,
            b"content",
            &signature
        ));
        assert!(!check(
            lab.public(),
            Purpose::Submission,
            b"contens",
            &signature
        ));
        let mut changed = signature.clone();
        changed.replace_range(0..1, if signature.starts_with('0') { "1" } else { "0" });
        assert!(!check(
            lab.public(),
            Purpose::Submission,
            b"content",
            &changed
        ));
        for text in ["", "00", &signature[1..], &signature.to_uppercase()] {
            assert!(
                !check(lab.public(), Purpose::Submission, b"content", text),
                "{text}"
            );
        }
    }

    /// RFC 8032, section 7.1, test 1: the key of a known secret.
    #[test]
    fn the_public_key_is_that_of_the_standard() {
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let identity = Identity::from_secret("lab", &from_hex(secret).unwrap()).unwrap();
        assert_eq!(
            identity.public().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn weak_and_broken_public_keys_are_refused() {
        let neutral = "0100000000000000000000000000000000000000000000000000000000000000";
        for text in [neutral, "", "zz", &neutral[2..], &"0".repeat(64)] {
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
        let key = identity().public();
        assert_eq!(PublicKey::parse(&key.to_string()).unwrap(), key);
    }

    #[test]
    fn names_are_plain() {
        for name in ["lab", "a1", "my-lab-2"] {
            assert_eq!(check_name(name).unwrap(), name);
        }
        let long = "a".repeat(40);
        for name in [
            "",
            "a",
            "-ab",
            "ab-",
            "Lab",
            "lab x",
            "l\u{430}b",
            "<b>",
            "a'b",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_key_survives_its_file_which_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/key.json");
        let identity = Identity::generate("lab").unwrap();
        identity.write_new(&path).unwrap();
        let read = Identity::read(&path).unwrap();
        assert_eq!((read.name(), read.public()), ("lab", identity.public()));
        assert!(Identity::generate("lab").unwrap().write_new(&path).is_err());
        assert_eq!(Identity::read(&path).unwrap().public(), identity.public());
        assert_ne!(
            Identity::generate("lab").unwrap().public(),
            identity.public()
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        identity().write_new(&path).unwrap();
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::read(&path).unwrap_err();
        assert!(error.hint().unwrap().starts_with("chmod 600"), "{error}");
    }

    #[test]
    fn files_that_are_not_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        identity().write_new(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let public = identity().public().to_string();
        for (from, to) in [
            ("key/1", "key/2"),
            ("\"lab\"", "\"LAB\""),
            (
                &public,
                &Identity::from_secret("lab", &[9; 32])
                    .unwrap()
                    .public()
                    .to_string(),
            ),
            ("\"secret\": \"0", "\"secret\": \"x"),
        ] {
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
            assert!(Identity::read(&path).is_err(), "{to}");
        }
    }
}
