//! `tract-sparse`: arguments, tables and exit codes over the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tract_sparse_cli::main(std::env::args_os()))
}
