//! What the provisioner's cleaners become: the scripts that it ships have a built-in way each, anything else is run as it
//! is.

use super::super::config::value::{COMMAND_TIMEOUT, SHRED_PASSES};
use crate::volume::{CleanMethod, Mode};

/// What a cleaner becomes, and what has to be said of that.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) method: CleanMethod,
    /// Why it is not quite what it was.
    pub(super) because: Option<&'static str>,
}

/// Where the provisioner's image has its scripts.
const SCRIPTS: &str = "/scripts/";

/// What `shred.sh` and `dd_zero.sh` do where no number is given.
const SHRED_DEFAULT: u32 = 3;
const ZERO_DEFAULT: u32 = 1;

/// What the provisioner runs where a class says nothing.
pub(super) fn default(mode: Mode) -> Cleaner {
    quick_reset(mode)
}

/// What `command` becomes in a class of this mode.
pub(super) fn of(command: &[String], mode: Mode) -> Result<Cleaner, String> {
    let (program, arguments) =
        command.split_first().ok_or("it is empty; leave it out for the provisioner's default")?;
    let plain = |method| Cleaner { method, because: None };
    match program.strip_prefix(SCRIPTS) {
        Some("quick_reset.sh") => Ok(quick_reset(mode)),
        Some("blkdiscard.sh") => Ok(Cleaner {
            method: CleanMethod::Discard,
            because: Some("what does not read back as zeros is zeroed"),
        }),
        Some("dd_zero.sh") => {
            let once = number(arguments, ZERO_DEFAULT)? == 1;
            let because = (!once).then_some("zeros over zeros add nothing: once is enough");
            Ok(Cleaner { method: CleanMethod::Zero, because })
        }
        Some("shred.sh") => match number(arguments, SHRED_DEFAULT)? {
            0 => Ok(plain(CleanMethod::Zero)),
            passes if SHRED_PASSES.contains(&passes) => Ok(plain(CleanMethod::Shred { passes })),
            passes => Err(format!("{passes} passes are not from 0 to {}", SHRED_PASSES.end())),
        },
        Some("fsclean.sh") if mode == Mode::Filesystem => Ok(plain(CleanMethod::Delete)),
        Some("fsclean.sh") => {
            Err("fsclean.sh empties directories, and a Block class has none".into())
        }
        _ => custom(command),
    }
}

/// `quick_reset.sh` makes a file system and takes its signature away again: it erases nothing.
fn quick_reset(mode: Mode) -> Cleaner {
    match mode {
        Mode::Filesystem => Cleaner {
            method: CleanMethod::Delete,
            because: Some("a device is made blank and formatted anew for the next tenant"),
        },
        Mode::Block => Cleaner {
            method: CleanMethod::Discard,
            because: Some(
                "quick_reset.sh would leave the last tenant's blocks for the next to read",
            ),
        },
    }
}

/// The one number that a script may be given.
fn number(arguments: &[String], default: u32) -> Result<u32, String> {
    match arguments {
        [] => Ok(default),
        [number] => number.parse().map_err(|_| format!("{number:?} is not a number of passes")),
        _ => Err("the script takes one argument".to_owned()),
    }
}

fn custom(command: &[String]) -> Result<Cleaner, String> {
    if !command[0].starts_with('/') {
        return Err(
            "it must start with the absolute path of a program; no shell is involved".into()
        );
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err("it has a NUL character".into());
    }
    let method = CleanMethod::Command { command: command.to_owned(), timeout: COMMAND_TIMEOUT };
    let because = "the program has to be in the agent's image, is told the device in BERTH_PATH and not in LOCAL_PV_BLKDEVICE, and has ten minutes";
    Ok(Cleaner { method, because: Some(because) })
}
