//! The program: hands its arguments to the command line and its answer to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Several libraries speak TLS; all of them with this one provider.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    nightporter::cli::main()
}
