//! Values of flags as people write them.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::time::Duration;

use clap::Arg;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use ipnet::IpNet;
use serde_json_path::JsonPath;

use super::records::Since;
use crate::topology::{self, Ladder, StageName};

pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is no time; write 500ms, 2s or 1m"))
}

/// A time, or a length of time before now.
pub(in crate::cli) fn since(text: &str) -> Result<Since, String> {
    match text {
        "start" => return Ok(Since::Start),
        "end" => return Ok(Since::End),
        _ => {}
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::Time(time.as_millisecond()));
    }
    // "10m" and "10m ago" mean the same: a start lies behind.
    let ago = text.parse::<jiff::SignedDuration>().ok().map(jiff::SignedDuration::abs);
    let time = ago.and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok());
    time.map(|t| Since::Time(t.as_millisecond()))
        .ok_or_else(|| format!("{text:?} is no time; write start, end, '10m ago' or 2026-01-31T12:00:00Z"))
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time, or a length of time before now, as Unix ms.
pub(in crate::cli) fn moment(text: &str) -> Result<i64, String> {
    match since(text) {
        Ok(Since::Time(time)) => Ok(time),
        _ => Err(format!("{text:?} is no time; write '10m ago' or 2026-01-31T12:00:00Z")),
    }
}

pub(in crate::cli) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.001 => Ok(n),
        _ => Err(format!("{text:?} is no rate; write records a second, such as 50 or 0.5")),
    }
}

pub(in crate::cli) fn json_path(text: &str) -> Result<JsonPath, String> {
    JsonPath::parse(text).map_err(|e| format!("{text:?} is no JSONPath (RFC 9535), such as '$.attrs.source': {e}"))
}

pub(super) fn separator(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty separator separates nothing; write '\\t' or ':'".into()),
        "\\t" | "TAB" => Ok("\t".into()),
        other => Ok(other.into()),
    }
}

/// A topic's name: any text here, because the prefix is configured; the names without it for help and completion.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicParser;

impl TypedValueParser for TopicParser {
    type Value = String;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(topology::topics().into_iter().map(|t| PossibleValue::new(t.name))))
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is no network; write 10.0.0.0/8, 127.0.0.1 or fd00::/8"))
}

pub(super) fn host_address(text: &str) -> Result<(String, IpAddr), String> {
    let say = || format!("{text:?} is not HOST=IP, such as shop.test=127.0.0.1");
    let (host, address) = text.split_once('=').ok_or_else(say)?;
    Ok((host.to_owned(), address.parse().map_err(|_| say())?))
}

pub(in crate::cli) fn stage(text: &str) -> Result<StageName, String> {
    text.parse()
}

pub(super) fn ladder(text: &str) -> Result<Ladder, String> {
    [Ladder::Quick, Ladder::Standard, Ladder::Patient]
        .into_iter()
        .find(|l| l.as_str() == text)
        .ok_or_else(|| format!("{text:?} is no ladder; write quick, standard or patient"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read_generously_and_refused_with_the_fix() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("soon").unwrap_err().contains("500ms"));
        assert_eq!(network("127.0.0.1").unwrap().prefix_len(), 32);
        assert!(host_address("a").unwrap_err().contains("HOST=IP"));
        assert_eq!(since("start"), Ok(Since::Start));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::Time(1_000)));
        assert_eq!(since("1970-01-01T01:00:01+01:00"), Ok(Since::Time(1_000)));
        for ago in ["10m ago", "10m", "10 minutes ago", "PT10M"] {
            let Ok(Since::Time(ms)) = since(ago) else { panic!("{ago}") };
            assert!((599_000..660_000).contains(&(crate::record::now_ms() - ms)), "{ago}");
        }
        for wrong in ["yesterday", "", "12:00", "999999999y"] {
            assert!(since(wrong).unwrap_err().contains("10m ago"), "{wrong}");
        }
        assert!(header("a").unwrap_err().contains("NAME=VALUE"));
        assert_eq!((separator("\\t"), separator("::")), (Ok("\t".into()), Ok("::".into())));
        assert!(separator("").is_err());
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
    }
}
