//! What commands print, and in which form.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;

/// How to show something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

/// Prints a text. Whoever has stopped reading has read enough: `meshwright plan | head`.
pub(super) fn print(mut out: impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_trouble_and_a_full_disk_is() {
        assert!(print(Refusing(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(print(Refusing(ErrorKind::StorageFull), "text").is_err());
    }
}
