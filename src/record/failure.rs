//! The one list of ways a record can fail or be dropped. It serves metrics, dead-letter headers and retry policy;
//! `docs/failures.md` has a line for each (a test holds the two together).

use std::fmt;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// The kebab-case name used in headers, metrics and reports.
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text,)* } }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("no {} is called {s:?}", stringify!($name))),
                }
            }
        }
    };
}

names! {
/// Why a record failed.
FailureClass {
    /// The host name does not resolve.
    Dns = "dns",
    /// No connection, or it broke before an answer.
    Connect = "connect",
    /// TLS handshake or certificate failure.
    Tls = "tls",
    /// A time-out: to connect, to the first byte, between bytes, or in total.
    Timeout = "timeout",
    /// The body ended before its announced length.
    Truncated = "truncated",
    /// An answer that is not HTTP.
    Protocol = "protocol",
    /// 4xx other than 410 and 429.
    Http4xx = "http-4xx",
    /// 5xx.
    Http5xx = "http-5xx",
    /// 429, or 503 with Retry-After.
    Http429 = "http-429",
    /// Body or headers over the limit.
    TooLarge = "too-large",
    /// A compressed body that opens to an absurd size.
    Bomb = "bomb",
    /// A redirect that comes back to a URL already visited.
    RedirectLoop = "redirect-loop",
    /// More redirects than allowed.
    RedirectLimit = "redirect-limit",
    /// An address, scheme or port that is refused by default.
    BlockedAddress = "blocked-address",
    /// Not a URL that can be fetched.
    InvalidUrl = "invalid-url",
    /// robots.txt could not be read (5xx or no answer), so nothing may be fetched.
    RobotsUnreachable = "robots-unreachable",
    /// The record's bytes are not what the topic carries, or a content coding is corrupt.
    Decode = "decode",
    /// The document could not be parsed.
    Parse = "parse",
    /// The record does not fit its schema.
    Schema = "schema",
    /// An upstream (index, model) asked us to slow down.
    Upstream429 = "upstream-429",
    /// An upstream failed.
    Upstream5xx = "upstream-5xx",
    /// The index refused this document for good.
    Rejected = "rejected",
    /// The blob a record refers to is gone.
    BlobMissing = "blob-missing",
    /// The local disk, database or store failed.
    Storage = "storage",
    /// The record outlived its `expires`.
    Expired = "expired",
    /// The handler panicked.
    Panic = "panic",
    /// The handler passed its deadline.
    Deadline = "deadline",
}
}

names! {
/// Why a record was dropped on purpose.
DropReason {
    /// robots.txt disallows it.
    Robots = "robots",
    /// The same URL was already taken in this job.
    DuplicateUrl = "duplicate-url",
    /// It was fetched before and is still fresh.
    Fresh = "fresh",
    /// Another document has the very same bytes.
    DuplicateContent = "duplicate-content",
    /// A kind of file no stage reads yet.
    UnsupportedType = "unsupported-type",
    /// 410: gone for good.
    Gone = "gone",
    /// No text in it.
    Empty = "empty",
}
}

impl FailureClass {
    /// Whether another attempt may succeed. A class that says no goes straight to the dead letters.
    pub fn retried(self) -> bool {
        use FailureClass as F;
        matches!(
            self,
            F::Dns
                | F::Connect
                | F::Tls
                | F::Timeout
                | F::Truncated
                | F::Protocol
                | F::Http5xx
                | F::Http429
                | F::RobotsUnreachable
                | F::Upstream429
                | F::Upstream5xx
                | F::Storage
                | F::Panic
                | F::Deadline
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for c in FailureClass::ALL {
            assert_eq!(c.as_str().parse::<FailureClass>(), Ok(*c));
        }
        for r in DropReason::ALL {
            assert_eq!(r.as_str().parse::<DropReason>(), Ok(*r));
        }
        assert!("robot".parse::<DropReason>().is_err());
    }

    /// docs/failures.md promises a row for each name; its second column says whether it is retried.
    #[test]
    fn the_page_of_failures_has_every_class() {
        let page = include_str!("../../docs/failures.md");
        for class in FailureClass::ALL {
            let row = page.lines().find(|l| l.starts_with(&format!("| `{class}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/failures.md has no row for `{class}`"));
            let said = row.split('|').nth(2).map(str::trim);
            assert_eq!(said, Some(if class.retried() { "yes" } else { "no" }), "docs/failures.md, row of {class}");
        }
        for reason in DropReason::ALL {
            assert!(
                page.lines().any(|l| l.starts_with(&format!("| `{reason}` |"))),
                "docs/failures.md has no row for `{reason}`"
            );
        }
    }
}
