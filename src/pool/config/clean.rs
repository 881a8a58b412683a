//! How a pool's volumes are wiped: which ways suit which volumes, and which keys belong to which way.

use std::path::Path;

use serde_saphyr::Spanned;

use super::check::Checker;
use super::raw::{RawClean, RawMethod, RawPool};
use super::value::{COMMAND_TIMEOUT, DEFAULT_SHRED_PASSES, SHRED_PASSES, seconds};
use crate::pool::Accept;
use crate::volume::{CleanMethod, CleanPolicy, Mode, NewVolumes};

impl Checker<'_> {
    /// How the pool's volumes are wiped, and how those that are devices are, where that is another way.
    pub(super) fn ways(
        &mut self,
        mode: Mode,
        accept: Accept,
        pool: &RawPool,
    ) -> (CleanPolicy, Option<CleanPolicy>) {
        let (all, devices) = (pool.clean.as_ref(), pool.clean_devices.as_ref());
        let mixed = mode == Mode::Filesystem && accept.device && (accept.mount || accept.directory);
        if let Some(devices) = devices.filter(|_| !mixed) {
            let message = "a pool has two ways to wipe only where it accepts directories and devices, both; say clean";
            self.wrong(devices, "cleanDevices", message);
        }
        let apart = mixed && devices.is_some();
        let clean = self.clean(mode, Accept { device: accept.device && !apart, ..accept }, all);
        self.wipes_what_is_new(pool.new_volumes, "clean", all);
        self.wipes_what_is_new(pool.new_volumes, "cleanDevices", devices);
        (clean, devices.map(|devices| self.policy("cleanDevices", devices)))
    }

    /// `accept`: what is wiped in this way.
    fn clean(
        &mut self,
        mode: Mode,
        accept: Accept,
        raw: Option<&Spanned<RawClean>>,
    ) -> CleanPolicy {
        let Some(raw) = raw else {
            let method = match mode {
                Mode::Filesystem => CleanMethod::Delete,
                Mode::Block => CleanMethod::Discard,
            };
            return CleanPolicy { verify: method.is_read_back(), method };
        };
        self.allowed(mode, accept, &raw.value.method);
        self.policy("clean", raw)
    }

    fn policy(&mut self, key: &str, raw: &Spanned<RawClean>) -> CleanPolicy {
        let clean = &raw.value;
        self.stray_keys(key, clean);
        let method = match clean.method.value {
            RawMethod::Delete => CleanMethod::Delete,
            RawMethod::Reformat => CleanMethod::Reformat,
            RawMethod::None => CleanMethod::None,
            RawMethod::Discard => CleanMethod::Discard,
            RawMethod::Zero => CleanMethod::Zero,
            RawMethod::Shred => self.shred(key, clean),
            RawMethod::Command => self.command(key, raw),
        };
        CleanPolicy { verify: clean.verify.unwrap_or(method.is_read_back()), method }
    }

    fn allowed(&mut self, mode: Mode, accept: Accept, method: &Spanned<RawMethod>) {
        let only_devices = accept.device && !accept.mount && !accept.directory;
        let files = matches!(method.value, RawMethod::Delete | RawMethod::Reformat);
        let blocks =
            matches!(method.value, RawMethod::Discard | RawMethod::Zero | RawMethod::Shred);
        if mode == Mode::Block && files {
            self.wrong(
                method,
                "clean.method",
                "a Block pool is wiped by discard, zero, shred, command or none",
            );
        } else if mode == Mode::Filesystem && blocks && !only_devices {
            self.wrong(
                method,
                "clean.method",
                "directories are wiped by delete, reformat, command or none; discard, zero and shred need accept: [device], or stand in cleanDevices",
            );
        } else if method.value == RawMethod::Reformat && !accept.mount && !accept.device {
            self.wrong(
                method,
                "clean.method",
                "a plain directory has no file system of its own to make anew; use delete, command or none",
            );
        }
    }

    /// `newVolumes: clean` promises a wipe, and `none` would offer the data that was found.
    fn wipes_what_is_new(
        &mut self,
        new_volumes: NewVolumes,
        key: &str,
        clean: Option<&Spanned<RawClean>>,
    ) {
        if let Some(clean) = clean
            && clean.value.method.value == RawMethod::None
            && new_volumes == NewVolumes::Clean
        {
            self.wrong(
                &clean.value.method,
                &format!("{key}.method"),
                "newVolumes: clean needs a way to wipe; newVolumes: accept offers what volumes hold",
            );
        }
    }

    fn stray_keys(&mut self, key: &str, clean: &RawClean) {
        let method = clean.method.value;
        if let Some(passes) = clean.passes.as_ref().filter(|_| method != RawMethod::Shred) {
            self.wrong(passes, &format!("{key}.passes"), "only shred has passes");
        }
        if let Some(command) = clean.command.as_ref().filter(|_| method != RawMethod::Command) {
            self.wrong(
                command,
                &format!("{key}.command"),
                "a command runs only with method: command",
            );
        }
        if let Some(timeout) = clean.timeout.as_ref().filter(|_| method != RawMethod::Command) {
            self.wrong(timeout, &format!("{key}.timeout"), "only a command has a timeout");
        }
    }

    fn shred(&mut self, key: &str, clean: &RawClean) -> CleanMethod {
        let passes = clean.passes.as_ref().map_or(DEFAULT_SHRED_PASSES, |passes| passes.value);
        if let Some(wrong) =
            clean.passes.as_ref().filter(|passes| !SHRED_PASSES.contains(&passes.value))
        {
            self.wrong(wrong, &format!("{key}.passes"), format!("{passes} is not from 1 to 32"));
        }
        CleanMethod::Shred { passes }
    }

    fn command(&mut self, key: &str, clean: &Spanned<RawClean>) -> CleanMethod {
        let raw = &clean.value;
        let command = raw.command.as_ref().map(|command| command.value.clone()).unwrap_or_default();
        match (&raw.command, command.first()) {
            (None, _) => {
                self.wrong(clean, key, "method: command needs command: [PROGRAM, ARGUMENT…]");
            }
            (Some(list), Some(program)) if Path::new(program).is_absolute() => {
                if command.iter().any(|word| word.contains('\0')) {
                    self.wrong(list, &format!("{key}.command"), "it has a NUL character");
                }
            }
            (Some(list), _) => {
                self.wrong(
                    list,
                    &format!("{key}.command"),
                    "it must start with the absolute path of a program; no shell is involved",
                );
            }
        }
        let timeout = match &raw.timeout {
            None => COMMAND_TIMEOUT,
            Some(text) => seconds(&text.value).unwrap_or_else(|| {
                self.wrong(
                    text,
                    &format!("{key}.timeout"),
                    format!(
                        "{:?} is not a time of at most 30 days; write for example 30s, 10m or 2h",
                        text.value
                    ),
                );
                COMMAND_TIMEOUT
            }),
        };
        CleanMethod::Command { command, timeout }
    }
}
