//! Output of the commands.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;

/// Value of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Text,
    Json,
}

/// Writes the text. A closed pipe is not an error: `meshwright plan | head`.
pub(super) fn print(mut out: impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FailingWriter(ErrorKind);

    impl Write for FailingWriter {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ignores_broken_pipe_but_not_full_disk() {
        assert!(print(FailingWriter(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(print(FailingWriter(ErrorKind::StorageFull), "text").is_err());
    }
}
