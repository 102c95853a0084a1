//! Settings that are read and never shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// What stands for it wherever settings are shown.
pub(super) const HIDDEN: &str = "***";

/// A password or the like. Shown, logged and serialised it is `***`; empty when it is not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { HIDDEN }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == HIDDEN {
            return Err(serde::de::Error::custom(
                "*** stands for a secret that is not shown: put the secret itself here",
            ));
        }
        Ok(Secret(text))
    }
}

/// A URL whose password is read and never shown: `redis://user:***@host`. Empty when it is not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> String {
        let Some(mut url) = Url::parse(&self.0).ok().filter(|u| u.password().is_some()) else { return self.0.clone() };
        // Refused only by URLs that have no host, and so no password.
        let _set = url.set_password(Some(HIDDEN));
        url.into()
    }

    /// A URL of one of these schemes with a host, or nothing.
    pub(super) fn of(text: String, schemes: &[&str]) -> Result<SecretUrl, String> {
        if text.is_empty() {
            return Ok(SecretUrl(text));
        }
        // What was typed may hold a password, so it is not repeated.
        let url = Url::parse(&text).ok().filter(|u| schemes.contains(&u.scheme()) && u.has_host());
        match url {
            None => Err(format!("not a URL that begins with {}:// and names a host", schemes.join(":// or "))),
            Some(url) if url.password() == Some(HIDDEN) => {
                Err("*** stands for a password that is not shown: put the password itself here".into())
            }
            Some(_) => Ok(SecretUrl(text)),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}
