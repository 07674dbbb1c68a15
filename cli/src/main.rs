//! The one binary of Twofold.

use std::process::ExitCode;

fn main() -> ExitCode {
    twofold_cli::main()
}
