//! What goes wrong in the demo web: one row a URL, with what should become of it.

use super::Expectation::{self, Dead, DeadOneOf, Dropped, Duplicate, Indexed};
use super::text::Lang;

/// One URL that is not a plain page of its host.
pub(super) struct Fault {
    pub host: &'static str,
    /// The path, with the query the URL is listed with.
    pub path: &'static str,
    pub act: Act,
    /// `None`: only visited on the way from another row, and not listed.
    pub expect: Option<Expectation>,
    pub note: &'static str,
}

/// What the server does.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// A good article, written from this page's own seed.
    Page,
    /// A redirect to a path of this host, to `host/path` of the demo web, or to a whole URL.
    Redirect(u16, &'static str),
    /// As many redirects as `?left=` says, then a good article.
    Countdown,
    /// This status and a short error page, always.
    Status(u16),
    /// The first request gets this status, the next ones a good article.
    Once(u16, RetryAfter),
    Empty,
    /// A good article after 1.5 s.
    Slow,
    /// Headers and half an article, then silence.
    Stalled,
    Silent,
    Truncated,
    ChunkCut,
    Reset,
    /// 40 MiB, with or without a `Content-Length` that says so.
    Oversized {
        declared: bool,
    },
    Endless,
    Bomb,
    BrokenGzip,
    Encoded(Coding),
    /// UTF-8 that the header calls ISO 8859-1.
    FalseCharset,
    /// Encoded as its `<meta charset>` says, and no header says so.
    MetaCharset(Lang, &'static str),
    Utf16,
    Pdf,
    Png,
    Json,
    HeaderFlood,
    Deep,
    Attributes,
    Entities,
    Untitled,
    /// The same article under every URL with this key, in the dress of its host.
    Twin(&'static str),
    /// The same bytes under every URL with this key.
    Mirror(&'static str),
    /// As [`Act::Twin`], with one sentence changed.
    Near(&'static str),
}

/// How a refusal says when to come back.
#[derive(Clone, Copy)]
pub(super) enum RetryAfter {
    Unsaid,
    /// In one second.
    Seconds,
    /// At a date one to two seconds from now.
    Date,
}

/// A `Content-Encoding`.
#[derive(Clone, Copy)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

const fn row(host: &'static str, path: &'static str, act: Act, expect: Expectation, note: &'static str) -> Fault {
    Fault { host, path, act, expect: Some(expect), note }
}

/// A stop on the way of another row.
const fn stop(host: &'static str, path: &'static str, act: Act) -> Fault {
    Fault { host, path, act, expect: None, note: "" }
}

const fn twin(group: &'static str) -> Expectation {
    Duplicate { group, reason: "duplicate-content" }
}

const NEWS: &str = "news.demo.test";
const REDIRECTS: &str = "redirects.demo.test";
const ERRORS: &str = "errors.demo.test";
const BUSY: &str = "busy.demo.test";
const BROKEN: &str = "broken.demo.test";
const HUGE: &str = "huge.demo.test";
const CHARSET: &str = "charset.demo.test";
const ENCODED: &str = "encoded.demo.test";
const FILES: &str = "files.demo.test";
const STRANGE: &str = "strange.demo.test";
const STRICT: &str = "strict.demo.test";
const MIRROR: &str = "mirror.demo.test";
const COPY: &str = "copy.demo.test";

use Act::{Encoded, Mirror, Near, Once, Page, Redirect, Status, Twin};
use RetryAfter::{Date, Seconds, Unsaid};

/// Every fault, by host.
#[rustfmt::skip] // One row a line reads as the table it is.
pub(super) static FAULTS: &[Fault] = &[
    row(REDIRECTS, "/chain", Redirect(301, "/chain/2"), Indexed, "three redirects that end well"),
    stop(REDIRECTS, "/chain/2", Redirect(302, "/chain/3")),
    stop(REDIRECTS, "/chain/3", Redirect(308, "/chain/end")),
    stop(REDIRECTS, "/chain/end", Page),
    row(REDIRECTS, "/temporary", Redirect(307, "/temporary/end"), Indexed, "one temporary redirect"),
    stop(REDIRECTS, "/temporary/end", Page),
    row(REDIRECTS, "/countdown?left=12", Act::Countdown, Dead("redirect-limit"), "twelve redirects"),
    row(REDIRECTS, "/loop", Redirect(302, "/loop/2"), Dead("redirect-loop"), "two pages that redirect to each other"),
    stop(REDIRECTS, "/loop/2", Redirect(302, "/loop")),
    row(REDIRECTS, "/elsewhere", Redirect(301, "news.demo.test/moved-here"), Indexed, "redirect to another host"),
    stop(NEWS, "/moved-here", Page),
    row(REDIRECTS, "/metadata", Redirect(302, "http://169.254.169.254/latest/meta-data/"), Dead("blocked-address"), "redirect to a cloud metadata address"),
    row(REDIRECTS, "/private", Redirect(302, "http://10.0.0.1/"), Dead("blocked-address"), "redirect to a private address"),

    row(ERRORS, "/missing", Status(404), Dead("http-4xx"), "not found"),
    row(ERRORS, "/gone", Status(410), Dropped("gone"), "gone for good"),
    row(ERRORS, "/forbidden", Status(403), Dead("http-4xx"), "forbidden"),
    row(ERRORS, "/flaky", Once(500, Unsaid), Indexed, "fails once, then is well"),
    row(ERRORS, "/down", Status(503), Dead("http-5xx"), "unavailable, always"),
    row(ERRORS, "/no-content", Status(204), Dropped("empty"), "204"),
    row(ERRORS, "/empty", Act::Empty, Dropped("empty"), "200 without a body"),

    row(BUSY, "/seconds", Once(429, Seconds), Indexed, "429 once, Retry-After in seconds"),
    row(BUSY, "/date", Once(429, Date), Indexed, "429 once, Retry-After as a date"),
    row("overrun.demo.test", "/always", Status(429), Dead("http-429"), "429 always, without Retry-After"),

    row("slow.demo.test", "/slow", Act::Slow, Indexed, "1.5 s to the first byte"),
    row("stalled.demo.test", "/stalled", Act::Stalled, Dead("timeout"), "half a body, then silence"),
    row("silent.demo.test", "/silent", Act::Silent, Dead("timeout"), "accepts and never answers"),
    row(BROKEN, "/truncated", Act::Truncated, Dead("truncated"), "fewer bytes than Content-Length says"),
    row(BROKEN, "/chunk-cut", Act::ChunkCut, Dead("truncated"), "chunked, without the last chunk"),
    row(BROKEN, "/reset", Act::Reset, Dead("connect"), "reset right after the request"),
    row(BROKEN, "/gzip", Act::BrokenGzip, Dead("decode"), "gzip with damaged bytes"),

    row(HUGE, "/oversized", Act::Oversized { declared: false }, Dead("too-large"), "40 MiB, chunked"),
    row(HUGE, "/declared", Act::Oversized { declared: true }, Dead("too-large"), "40 MiB, announced by Content-Length"),
    row(HUGE, "/bomb", Act::Bomb, Dead("bomb"), "gzip of 600 KB that opens to 600 MiB"),
    row("endless.demo.test", "/endless", Act::Endless, DeadOneOf(&["too-large", "timeout"]), "1 MiB/s without end"),

    row(CHARSET, "/false-header", Act::FalseCharset, Indexed, "UTF-8, called ISO 8859-1 by the header"),
    row(CHARSET, "/windows-1252", Act::MetaCharset(Lang::Fr, "windows-1252"), Indexed, "windows-1252, said in meta only"),
    row(CHARSET, "/shift-jis", Act::MetaCharset(Lang::Ja, "shift_jis"), Indexed, "Shift JIS, said in meta only"),
    row(CHARSET, "/utf-16", Act::Utf16, Indexed, "UTF-16LE, known by its byte order mark"),

    row(ENCODED, "/gzip", Encoded(Coding::Gzip), Indexed, "gzip"),
    row(ENCODED, "/deflate", Encoded(Coding::Deflate), Indexed, "deflate (zlib)"),
    row(ENCODED, "/brotli", Encoded(Coding::Brotli), Indexed, "brotli"),
    row(ENCODED, "/zstd", Encoded(Coding::Zstd), Indexed, "zstd"),

    row(FILES, "/report.pdf", Act::Pdf, Dropped("unsupported-type"), "a small PDF"),
    row(FILES, "/pixel.png", Act::Png, Dropped("unsupported-type"), "an image"),
    row(FILES, "/data.json", Act::Json, Dropped("unsupported-type"), "JSON"),

    row(STRANGE, "/headers", Act::HeaderFlood, Dead("too-large"), "200 KB of headers"),
    row(STRANGE, "/deep", Act::Deep, Indexed, "200,000 nested elements"),
    row(STRANGE, "/attributes", Act::Attributes, Indexed, "100,000 attributes on one element"),
    row(STRANGE, "/entities", Act::Entities, Indexed, "200,000 character references"),
    row(STRANGE, "/untitled", Act::Untitled, Indexed, "no title, heading or metadata"),

    row(STRICT, "/private/plan", Page, Dropped("robots"), "disallowed"),
    row(STRICT, "/private/a%2Fb", Page, Dropped("robots"), "disallowed, with an escaped slash"),
    row(STRICT, "/private/press/1", Page, Indexed, "allowed by the longer rule"),

    row(NEWS, "/wire/1", Twin("wire"), Indexed, "the same article in another dress"),
    row(COPY, "/wire/1", Twin("wire"), Indexed, "the same article in another dress"),
    row(MIRROR, "/same", Mirror("same"), twin("same"), "the same bytes on another host"),
    row(COPY, "/same", Mirror("same"), twin("same"), "the same bytes on another host"),
    row(MIRROR, "/near/1", Twin("near"), Indexed, "one sentence apart from another page"),
    row(COPY, "/near/2", Near("near"), Indexed, "one sentence apart from another page"),
    row(NEWS, "/spelled", Page, Duplicate { group: "spelled", reason: "duplicate-url" }, "a URL listed in two spellings"),
];

/// The row of a path (without its query).
pub(super) fn find(host: &str, path: &str) -> Option<&'static Fault> {
    let same = |fault: &&Fault| fault.path.split('?').next() == Some(path) && fault.host == host;
    FAULTS.iter().find(same)
}
