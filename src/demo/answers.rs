//! From a request to what the server does: robots.txt, generated pages, faults, plain pages.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;

use super::faults::{self, Act, RetryAfter};
use super::hosts::{self, Host, Robots};
use super::pages::{self, Dress, Place};
use super::text::{self, Article, Lang};
use super::wire::{Answer, Ending, Framing, Piece, Reply, Request};
use super::{Options, bodies};

const HTML: &str = "text/html; charset=utf-8";
/// A type without a charset, for pages that tell it otherwise.
const BARE_HTML: &str = "text/html";
/// The longest wait that `delay_ms` can ask for.
const LONGEST_DELAY: u64 = 60_000;

/// What to answer. `hit` counts the requests for this host and path, this one included.
pub(super) fn answer(options: &Options, port: u16, request: &Request, hit: usize) -> Answer {
    let Some(host) = hosts::find(&request.host) else {
        return Answer::Reply(Reply::new(421, "text/plain", "No such host in the demo web.\n"));
    };
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::Reply(Reply::new(405, "text/plain", "").header("Allow", "GET, HEAD"));
    }
    let place = Place { host, name: &request.host, port, path: &request.path };
    if request.path == "/robots.txt" {
        return Answer::Reply(robots(host));
    }
    let answer = match faults::find(&request.host, &request.path) {
        Some(fault) => act(options, fault.act, place, request, hit),
        None => Ok(Answer::Reply(good(place, request).unwrap_or_else(|| error(404)))),
    };
    match answer {
        Ok(Answer::Reply(mut reply)) => {
            let delay = parameter(request, "delay_ms").unwrap_or(0);
            reply.delay += Duration::from_millis(delay.min(LONGEST_DELAY));
            Answer::Reply(reply)
        }
        Ok(answer) => answer,
        // Only compressing into memory can fail here, and it does not.
        Err(_) => Answer::Reply(error(500)),
    }
}

fn robots(host: &Host) -> Reply {
    match host.robots {
        Robots::Text(text) => Reply::new(200, "text/plain", text),
        Robots::Missing => error(404),
        Robots::Broken => error(500),
    }
}

/// A page without a fault: generated, listed, or one of its host's. `None`: there is none.
fn good(place: Place, request: &Request) -> Option<Reply> {
    let host = place.host;
    let mut segments = place.path.strip_prefix('/')?.splitn(2, '/');
    let (first, rest) = (segments.next()?, segments.next());
    let body = match (first, rest) {
        ("", None) => pages::listing(place),
        ("gen", Some(n)) => {
            let words = parameter(request, "words").unwrap_or(300);
            pages::generated(place, n.parse().ok()?, words as usize)
        }
        (slug, Some(n)) if slug == host.kind.slug() => {
            n.parse::<usize>().ok().filter(|n| (1..=host.pages).contains(n))?;
            pages::numbered(place, &Article::new(host.lang, place.seed()))
        }
        _ => return None,
    };
    Some(Reply::new(200, HTML, body))
}

/// A number in the query.
fn parameter(request: &Request, name: &str) -> Option<u64> {
    let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

fn act(options: &Options, act: Act, place: Place, request: &Request, hit: usize) -> io::Result<Answer> {
    let article = Article::new(place.host.lang, place.seed());
    let page = |dress| pages::page(place, &article, dress);
    let plain = || page(Dress::PLAIN);
    let well = || Reply::new(200, HTML, plain());
    let reply = match act {
        Act::Page => well(),
        Act::Redirect(status, to) => redirect(place, status, to),
        Act::Countdown => match parameter(request, "left") {
            Some(left @ 1..) => redirect(place, 302, &format!("/countdown?left={}", left - 1)),
            _ => well(),
        },
        Act::Status(204) => Reply::new(204, "", ""),
        Act::Status(status) => error(status),
        Act::Once(status, after) if hit == 1 => retry_after(error(status), after),
        Act::Once(..) => well(),
        Act::Empty => Reply::new(200, HTML, ""),
        Act::Slow => Reply { delay: options.slow, ..well() },
        Act::Stalled => cut(plain(), Ending::Silence),
        Act::Silent => return Ok(Answer::Silence),
        Act::Truncated => cut(plain(), Ending::Cut),
        Act::ChunkCut => Reply { framing: Framing::Chunked, ..cut(plain(), Ending::Cut) },
        Act::Reset => return Ok(Answer::Reset),
        Act::Oversized { declared } => {
            let framing = if declared { Framing::Length } else { Framing::Chunked };
            // 640 blocks of 64 KiB.
            Reply { pieces: vec![bodies::piece(block(), 640)], framing, ..Reply::new(200, HTML, "") }
        }
        Act::Endless => Reply {
            pieces: vec![bodies::piece(block(), u64::MAX)],
            framing: Framing::Chunked,
            rate: Some(options.endless_rate),
            ..Reply::new(200, HTML, "")
        },
        Act::Bomb => Reply { pieces: bodies::bomb()?, ..Reply::new(200, HTML, "") }.header("Content-Encoding", "gzip"),
        Act::BrokenGzip => Reply::new(200, HTML, bodies::broken_gzip(&plain())?).header("Content-Encoding", "gzip"),
        Act::Encoded(coding) => {
            let (name, body) = bodies::encode(coding, &plain())?;
            Reply::new(200, HTML, body).header("Content-Encoding", name)
        }
        Act::FalseCharset => {
            let article = Article::new(Lang::Pt, place.seed());
            let body = pages::page(place, &article, Dress::PLAIN);
            Reply::new(200, "text/html; charset=iso-8859-1", body)
        }
        Act::MetaCharset(lang, charset) => {
            let article = Article::new(lang, place.seed());
            let dress = Dress { charset: Some(charset), ..Dress::PLAIN };
            let body = pages::page(place, &article, dress);
            Reply::new(200, BARE_HTML, bodies::in_charset(charset, &body))
        }
        Act::Utf16 => {
            let article = Article::new(Lang::Ru, place.seed());
            let dress = Dress { charset: None, ..Dress::PLAIN };
            Reply::new(200, BARE_HTML, bodies::utf16(&pages::page(place, &article, dress)))
        }
        Act::Pdf => Reply::new(200, "application/pdf", bodies::pdf()),
        Act::Png => Reply::new(200, "image/png", bodies::png()?),
        Act::Json => {
            let body = json!({ "title": article.title, "date": article.date }).to_string();
            Reply::new(200, "application/json", body)
        }
        Act::HeaderFlood => {
            (0..2_000).fold(well(), |reply, n| reply.header(format!("X-Flood-{n}"), "0123456789".repeat(9)))
        }
        Act::Deep => flooded(plain(), bodies::deep()),
        Act::Attributes => flooded(plain(), bodies::attributes()),
        Act::Entities => flooded(plain(), bodies::entities()),
        Act::Untitled => Reply::new(200, HTML, page(Dress { titled: false, ..Dress::PLAIN })),
        Act::Twin(key) => {
            let shared = Article::new(place.host.lang, text::seed(key));
            Reply::new(200, HTML, pages::page(place, &shared, Dress::PLAIN))
        }
        Act::Near(key) => {
            let near = Article::new(place.host.lang, text::seed(key)).nearly(place.seed());
            Reply::new(200, HTML, pages::page(place, &near, Dress::PLAIN))
        }
        Act::Mirror(key) => {
            // The place shapes the page's metadata and links, so the mirrors share one.
            let place = Place { name: key, path: "/", ..place };
            let shared = Article::new(place.host.lang, text::seed(key));
            let dress = Dress { canonical: false, ..Dress::PLAIN };
            Reply::new(200, HTML, pages::page(place, &shared, dress))
        }
    };
    Ok(Answer::Reply(reply))
}

fn error(status: u16) -> Reply {
    let body = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Error {status}</title></head>\
         <body><h1>Error {status}</h1></body></html>\n"
    );
    Reply::new(status, HTML, body)
}

fn redirect(place: Place, status: u16, to: &str) -> Reply {
    let location = match to.split_once('/') {
        Some(("" | "http:", _)) | None => to.to_owned(),
        Some((host, path)) => format!("http://{host}:{}/{path}", place.port),
    };
    Reply::new(status, "", "").header("Location", location)
}

fn retry_after(reply: Reply, after: RetryAfter) -> Reply {
    match after {
        RetryAfter::Unsaid => reply,
        RetryAfter::Seconds => reply.header("Retry-After", "1"),
        RetryAfter::Date => {
            // A date has whole seconds, so two of them ahead is at least one.
            let due = Timestamp::now() + Duration::from_secs(2);
            match DateTimePrinter::new().timestamp_to_rfc9110_string(&due) {
                Ok(date) => reply.header("Retry-After", date),
                Err(_) => reply.header("Retry-After", "1"),
            }
        }
    }
}

/// The first half of a page under the length of the whole.
fn cut(page: String, ending: Ending) -> Reply {
    let length = page.len();
    let mut half = page.into_bytes();
    half.truncate(length / 2);
    Reply { framing: Framing::Claimed(length as u64), ending, ..Reply::new(200, HTML, half) }
}

/// A page with a flood before the end of its body.
fn flooded(page: String, flood: impl IntoIterator<Item = Piece>) -> Reply {
    Reply { pieces: bodies::with_flood(&page, flood), ..Reply::new(200, HTML, "") }
}

/// 64 KiB of paragraphs, for streams.
fn block() -> String {
    let mut block = String::with_capacity(64 * 1024);
    for (sentence, _) in text::pool(Lang::En).iter().cycle() {
        if block.len() + sentence.len() + 8 > 64 * 1024 {
            break;
        }
        block.push_str("<p>");
        block.push_str(sentence);
        block.push_str("</p>\n");
    }
    // Filled up to the byte, so that block counts are byte counts.
    block.extend(std::iter::repeat_n('\n', 64 * 1024 - block.len()));
    block
}
