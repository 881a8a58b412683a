//! What one class becomes, key by key.

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde_saphyr::Spanned;

use super::cleaner::{self, Cleaner};
use super::raw::{RawClass, place};
use super::{Notes, value};
use crate::pool::{Accept, FsType, Pool};
use crate::volume::{CleanMethod, CleanPolicy, Mode, NewVolumes, PoolName};

/// Access modes that a claim of Berth's may ask for.
const ACCESS_MODES: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];
/// Those that the provisioner passes on and Berth does not offer.
const SHARED_MODES: [&str; 2] = ["ReadOnlyMany", "ReadWriteMany"];

/// Reads one class.
pub(super) struct Reader<'a, 'b> {
    name: &'a str,
    notes: &'a mut Notes<'b>,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(name: &'a str, notes: &'a mut Notes<'b>) -> Self {
        Self { name, notes }
    }

    fn key(&self, key: &str) -> String {
        if key.is_empty() { self.name.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn wrong<T>(&mut self, value: &Spanned<T>, key: &str, message: impl Into<String>) {
        self.notes.problem(place(value), &self.key(key), message);
    }

    fn becomes(&mut self, key: &str, text: impl Into<String>) {
        self.notes.line(&self.key(key), false, text.into());
    }

    fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.notes.line(&self.key(key), true, text.into());
    }

    /// The pool that a class becomes, unless something is wrong with it.
    pub(super) fn pool(mut self, raw: &Spanned<RawClass>) -> Option<Pool> {
        let before = self.notes.problems.len();
        let name = self.name(raw);
        let class = &raw.value;
        let path = self.host_dir(&class.host_dir);
        self.mount_dir(&class.host_dir.value, class.mount_dir.as_ref());
        let mode = self.volume_mode(class.volume_mode.as_ref());
        let fs_type = self.fs_type(mode, class.fs_type.as_ref());
        let (entries, globs) = self.name_pattern(class.name_pattern.as_ref());
        let (clean, clean_devices) = self.cleaner(mode, class.block_cleaner_command.as_ref());
        self.access_mode(class.access_mode.as_ref());
        if class.selector.is_some() {
            self.warn("selector", "a volume is its own node's and no other's: keep the agent off nodes by its nodeSelector, and claims by the StorageClass's allowedTopologies");
        }
        (self.notes.problems.len() == before).then_some(Pool {
            name: name?,
            path: path?,
            mode,
            entries,
            globs,
            accept: accept(mode),
            new_volumes: NewVolumes::RequireEmpty,
            clean,
            clean_devices,
            capacity: None,
            fs_type,
            mount_options: Vec::new(),
        })
    }

    fn name(&mut self, raw: &Spanned<RawClass>) -> Option<PoolName> {
        match self.name.parse() {
            Ok(name) => {
                let text = format!(
                    "pool {name}; its StorageClass has to say provisioner: berth.dev and parameters: {{pool: {name}}}"
                );
                self.becomes("", text);
                Some(name)
            }
            Err(error) => {
                self.wrong(raw, "", format!("{error}; name the class in pools.yaml instead"));
                None
            }
        }
    }

    fn host_dir(&mut self, raw: &Spanned<String>) -> Option<std::path::PathBuf> {
        match value::directory(&raw.value) {
            Ok(path) => {
                self.becomes("hostDir", format!("path: {}", path.display()));
                Some(path)
            }
            Err(message) => {
                self.wrong(raw, "hostDir", message);
                None
            }
        }
    }

    fn mount_dir(&mut self, host_dir: &str, raw: Option<&Spanned<String>>) {
        let Some(raw) = raw else { return };
        if raw.value.trim_end_matches('/') == host_dir.trim_end_matches('/') {
            self.becomes("mountDir", "not needed: the agent sees hostDir under its own path");
        } else {
            self.warn("mountDir", format!("not used: the agent has to have {host_dir} mounted at that very path, with mountPropagation"));
        }
    }

    fn volume_mode(&mut self, raw: Option<&Spanned<String>>) -> Mode {
        let mode = match raw.map_or("", |raw| raw.value.as_str()) {
            "" | "Filesystem" => Mode::Filesystem,
            "Block" => Mode::Block,
            other => {
                if let Some(raw) = raw {
                    self.wrong(raw, "volumeMode", format!("{other:?} is not Filesystem or Block"));
                }
                return Mode::Filesystem;
            }
        };
        self.becomes(
            "volumeMode",
            match mode {
                Mode::Filesystem => "mode: Filesystem, accept: [mount, device]",
                Mode::Block => "mode: Block",
            },
        );
        mode
    }

    fn fs_type(&mut self, mode: Mode, raw: Option<&Spanned<String>>) -> FsType {
        let Some(raw) = raw.filter(|raw| !raw.value.is_empty()) else { return FsType::default() };
        let Some(fs_type) = FsType::named(&raw.value) else {
            let message = format!("{:?} is not ext4 or xfs, which are what Berth makes", raw.value);
            self.wrong(raw, "fsType", message);
            return FsType::default();
        };
        match mode {
            Mode::Filesystem => {
                self.becomes("fsType", format!("fsType: {}, on devices", fs_type.name()));
            }
            Mode::Block => self.warn("fsType", "not used: nothing is made on a raw device"),
        }
        fs_type
    }

    fn name_pattern(&mut self, raw: Option<&Spanned<String>>) -> (GlobSet, Vec<String>) {
        let Some(raw) = raw.filter(|raw| !raw.value.is_empty()) else {
            return value::every_entry();
        };
        let mut set = GlobSetBuilder::new();
        let mut written = Vec::new();
        for pattern in raw.value.split(',').filter(|pattern| !pattern.is_empty()) {
            match glob(pattern) {
                Ok(glob) => {
                    written.push(glob.glob().to_owned());
                    set.add(glob);
                }
                Err(message) => self.wrong(raw, "namePattern", message),
            }
        }
        if written.is_empty() {
            self.wrong(raw, "namePattern", format!("{:?} matches no entry", raw.value));
        }
        let quoted: Vec<_> = written.iter().map(|glob| format!("{glob:?}")).collect();
        self.becomes("namePattern", format!("match: [{}]", quoted.join(", ")));
        (set.build().unwrap_or_default(), written)
    }

    /// How directories, and how devices are wiped. The provisioner empties directories whatever the command is.
    fn cleaner(
        &mut self,
        mode: Mode,
        raw: Option<&Spanned<Vec<String>>>,
    ) -> (CleanPolicy, Option<CleanPolicy>) {
        let policy = |method: CleanMethod| CleanPolicy { verify: method.is_read_back(), method };
        let cleaner = match raw.map(|raw| (raw, cleaner::of(&raw.value, mode))) {
            None => cleaner::default(mode),
            Some((_, Ok(cleaner))) => cleaner,
            Some((raw, Err(message))) => {
                self.wrong(raw, "blockCleanerCommand", message);
                cleaner::default(mode)
            }
        };
        self.say_how(mode, raw.is_none(), &cleaner);
        match (mode, cleaner.method) {
            (Mode::Block, method) => (policy(method), None),
            (Mode::Filesystem, CleanMethod::Delete) => (policy(CleanMethod::Delete), None),
            (Mode::Filesystem, method) => (policy(CleanMethod::Delete), Some(policy(method))),
        }
    }

    fn say_how(&mut self, mode: Mode, is_default: bool, cleaner: &Cleaner) {
        let how = match &cleaner.method {
            CleanMethod::Shred { passes } => format!("{{method: shred, passes: {passes}}}"),
            CleanMethod::Command { command, .. } => {
                format!("{{method: command, command: {command:?}}}")
            }
            other => format!("{{method: {}}}", other.name()),
        };
        let way = match (mode, &cleaner.method) {
            (Mode::Block, _) => format!("clean: {how}"),
            (Mode::Filesystem, CleanMethod::Delete) => {
                format!("clean: {how}: directories are emptied")
            }
            (Mode::Filesystem, _) => {
                format!("cleanDevices: {how}; directories are emptied (clean: {{method: delete}})")
            }
        };
        let default = if is_default { "as it is not given, " } else { "" };
        let because = cleaner.because.map(|why| format!("; {why}")).unwrap_or_default();
        let is_custom = matches!(cleaner.method, CleanMethod::Command { .. });
        let key = self.key("blockCleanerCommand");
        self.notes.line(&key, is_custom, format!("{default}{way}{because}"));
    }

    fn access_mode(&mut self, raw: Option<&Spanned<String>>) {
        let Some(raw) = raw.filter(|raw| !raw.value.is_empty()) else { return };
        match raw.value.as_str() {
            mode if ACCESS_MODES.contains(&mode) => {
                self.becomes("accessMode", "not needed: a claim says how it wants to be used");
            }
            mode if SHARED_MODES.contains(&mode) => self.warn(
                "accessMode",
                format!("claims that ask for {mode} are refused: with ReadWriteOnce any number of pods of the volume's node use it"),
            ),
            other => {
                let known = [ACCESS_MODES, SHARED_MODES].concat().join(", ");
                self.wrong(raw, "accessMode", format!("{other:?} is not one of {known}"));
            }
        }
    }
}

/// The provisioner takes mount points, and devices in a class of either mode; the kubelet formats those of a
/// `Filesystem` class.
fn accept(mode: Mode) -> Accept {
    Accept { mount: mode == Mode::Filesystem, directory: false, device: true }
}

/// A pattern of Go's `filepath.Match`, in which braces mean themselves.
fn glob(pattern: &str) -> Result<Glob, String> {
    let mut translated = String::new();
    let (mut escaped, mut in_class) = (false, false);
    for character in pattern.chars() {
        match character {
            '{' | '}' if !escaped && !in_class => translated.extend(['\\', character]),
            _ => translated.push(character),
        }
        in_class = match character {
            '[' if !escaped => true,
            ']' if !escaped => false,
            _ => in_class,
        };
        escaped = character == '\\' && !escaped;
    }
    value::glob(&translated).map_err(|_| format!("{pattern:?} is not a pattern of names"))
}
