//! Logs: JSON lines for machines, short lines for a terminal, both on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON unless stderr is a terminal.
    #[default]
    Auto,
    Json,
    Text,
}

/// Starts logging. `filter` is in tracing's directive syntax (`info`, `tidemill=debug,reqwest=warn`).
/// What the Kafka client says of itself is only heard if it is named (`rdkafka=debug`): what matters of it comes back as
/// the error of a call, and is said in our words.
pub fn start(format: Format, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("librdkafka=off,rdkafka=off,{filter}")).map_err(|e| {
        format!("log filter {filter:?} is not valid ({e}); use one like \"info\" or \"tidemill=debug\"")
    })?;
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Json => true,
        Format::Text => false,
    };
    // It would complain of a closed stderr on stderr, and panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.compact().with_target(false).try_init()
    };
    // A second start (several commands in one test process) keeps the first.
    let _ = started;
    Ok(())
}
