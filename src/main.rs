//! argv in, exit code out. One function a command, in `cli/`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tidemill::cli::{self, Exit, args::Cli};

fn main() -> ExitCode {
    let _failpoints = tidemill::failpoints::start();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let usage = e.use_stderr();
            // Nothing is to be done about a closed terminal.
            let _closed = e.print();
            return if usage { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match cli::run(cli) {
        Ok(exit) => exit.into(),
        Err(e) => {
            let _closed = writeln!(std::io::stderr(), "error: {e:#}");
            cli::exit_of(&e).into()
        }
    }
}
