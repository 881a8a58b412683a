//! Logs: one line an event on standard error, for a person or for a machine that collects.
//!
//! Set once by `main`, before anything else runs. What must never be in a log (secrets, contexts, mount flags) is
//! withheld where those types are defined, not here.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The libraries beneath a plain level: at `debug` they write a line a frame and bury what one looks for.
const QUIET: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: time, level, message, fields.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged: a level, or a filter in the syntax of `tracing_subscriber::EnvFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

/// A text that says nothing of what is logged.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLevel {
    /// A word that is no level. As a filter it would be the name of a part of the program, and everything else silent.
    #[error(
        "{0:?} is no level: write error, warn, info, debug, trace or off, or a filter like berth::clean=debug,info"
    )]
    Word(String),
    /// A filter that is not understood.
    #[error(transparent)]
    Filter(#[from] ParseError),
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl std::str::FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        let is_word = |part: &str| !part.contains(['=', '[']) && !is_level(part);
        if let Some(word) = text.split(',').find(|part| is_word(part)) {
            return Err(InvalidLevel::Word(word.to_owned()));
        }
        let plain = is_level(text);
        let filter = if plain {
            let quiet = QUIET.iter().map(|target| format!(",{target}=warn"));
            text.to_owned() + &quiet.collect::<String>()
        } else {
            text.to_owned()
        };
        EnvFilter::builder().parse(&filter)?;
        Ok(Self(filter))
    }
}

impl Level {
    fn filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

/// Writes every event of this process from now on to standard error. Fails if that was decided before.
pub fn init(format: Format, level: &Level) -> Result<(), TryInitError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(format, level, colours, io::stderr).try_init()
}

fn subscriber<W>(
    format: Format,
    level: &Level,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(level.filter()).with_writer(writer);
    match format {
        Format::Text => Box::new(lines.with_ansi(colours).with_target(false).finish()),
        Format::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, info_span};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, level: &str, events: impl FnOnce()) -> String {
        let page = Page::default();
        let copy = page.clone();
        let level = level.parse().unwrap();
        let subscriber = subscriber(format, &level, false, move || copy.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_of_json_has_the_message_the_fields_and_the_call() {
        let line = written(Format::Json, "info", || {
            let _call = info_span!("call", method = "CreateVolume").entered();
            info!(volume = "v1", "done");
        });

        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "done");
        assert_eq!(value["volume"], "v1");
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["span"]["method"], "CreateVolume");
    }

    #[test]
    fn a_line_of_text_is_one_line_without_colours() {
        let line = written(Format::Text, "info", || info!(volume = "v1\n", "done"));

        assert!(line.ends_with(" INFO done volume=\"v1\\n\"\n"), "{line:?}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn the_libraries_stay_quiet_at_a_plain_level_and_speak_when_asked_to() {
        let frame = || debug!(target: "h2", "a frame");

        assert_eq!(written(Format::Text, "debug", frame), "");
        assert_ne!(written(Format::Text, "info,h2=debug", frame), "");
    }

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        for wrong in ["berth=loud", "inof", "info,berth", "", "info,", "3"] {
            assert!(wrong.parse::<Level>().is_err(), "{wrong:?} was taken");
        }
        for right in ["berth=debug,info", "INFO", "off", "warn,berth::clean=trace", "[call]=debug"]
        {
            assert!(right.parse::<Level>().is_ok(), "{right:?} was refused");
        }
    }

    proptest::proptest! {
        /// Whatever is taken says at which level something is logged.
        #[test]
        fn any_text_is_a_filter_with_a_level_or_is_refused(
            text in "(\\PC{0,12}|(info|berth|berth::clean|\\[call\\]|[a-z]{1,5})?(=(debug|off|[a-z]{0,4}))?(,[a-z=\\[]{0,6})?)"
        ) {
            if let Ok(level) = text.parse::<Level>() {
                let named = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
                proptest::prop_assert!(
                    text.split(',').all(|part| part.contains(['=', '[']) || named(part)),
                    "{text:?}"
                );
                drop(level.filter());
            }
        }
    }
}
