//! Where the commands print: standard output, which may be a pipe that nobody reads any more, or a full disk.

use std::io::{self, ErrorKind, Write};

use super::client::Error;

/// Prints `text`. Whoever has closed the other end of a pipe wants no more of it, which is no failure.
pub(super) fn print(text: &str) -> Result<(), Error> {
    print_to(&mut io::stdout().lock(), text)
}

fn print_to(output: &mut impl Write, text: &str) -> Result<(), Error> {
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::Output),
    }
}

/// Says why a command failed. Where that cannot be said, only the exit status tells.
pub(super) fn complain(error: &anyhow::Error) {
    let _ = writeln!(io::stderr().lock(), "berth: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
        assert!(print_to(&mut Failing(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(print_to(&mut Failing(ErrorKind::StorageFull), "text").is_err());
    }
}
