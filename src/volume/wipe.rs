//! A wipe that has ended, as it is remembered: for whoever has to show later what became of a tenant's data, and for the
//! next agent, which does not try again what has been shown to be in vain.
//!
//! A volume has its latest wipe in its status, written together with what the wipe led to, so that no volume is clean of
//! which that is not recorded. A node's store keeps more of them, as each becomes the latest.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Bytes, CleanMethod, CleanReason, LocalVolume, NodeName, PoolName, Status, Tenancy, VolumeName,
};

/// Characters of a message that are kept.
const MESSAGE_MAX: usize = 512;

/// A wipe of a volume that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wipe {
    /// The tenancy after which it wiped.
    pub tenancy: Tenancy,
    /// How; of a command the program alone.
    pub method: CleanMethod,
    /// When it was begun.
    pub started: Timestamp,
    /// How long it took, in milliseconds; absent where its agent was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub duration_millis: Option<u64>,
    /// Directory entries removed.
    #[serde(default)]
    #[schemars(with = "Bytes")]
    pub entries: u64,
    /// Bytes of a device overwritten or discarded, in all passes together.
    #[serde(default)]
    pub bytes: Bytes,
    /// How it ended.
    pub result: WipeResult,
    /// What was read back.
    #[serde(default)]
    pub verified: Verified,
    /// Why the volume is not clean after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE_MAX))]
    pub message: Option<String>,
    /// How often in a row it came to this; times and counts are those of the last.
    pub times: u32,
    /// When a person had last asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Timestamp>,
}

/// How a wipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WipeResult {
    /// The volume is clean.
    Wiped,
    /// Nothing was to be wiped: the method is `none`.
    LeftAsIs,
    /// It failed, and is tried again.
    Failed,
    /// It ended, and reading back found data. It is not tried again before a person asks for it.
    VerifyFailed,
    /// It was stopped, or its agent was killed.
    Interrupted,
}

/// What was read back after a wipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verified {
    /// Nothing.
    #[default]
    Nothing,
    /// The directory: it is empty.
    Listing,
    /// Places of the device, its first and last mebibyte among them: they are zeros.
    Samples,
    /// Whatever could announce what was on the device: it is gone.
    Signatures,
}

/// A wipe with whose it was. It outlives the volume's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WipeRecord {
    /// The volume.
    pub volume: VolumeName,
    /// Its node.
    pub node: NodeName,
    /// Its pool.
    pub pool: PoolName,
    /// The wipe.
    #[serde(flatten)]
    pub wipe: Wipe,
}

impl WipeResult {
    /// The result as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wiped => "Wiped",
            Self::LeftAsIs => "LeftAsIs",
            Self::Failed => "Failed",
            Self::VerifyFailed => "VerifyFailed",
            Self::Interrupted => "Interrupted",
        }
    }
}

impl fmt::Display for WipeResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "-",
            Self::Listing => "listing",
            Self::Samples => "samples",
            Self::Signatures => "signatures",
        })
    }
}

impl Wipe {
    /// A wipe of which no more is known than that it was begun.
    pub fn begun(tenancy: Tenancy, method: &CleanMethod, started: Timestamp) -> Self {
        Self {
            tenancy,
            method: method.brief(),
            started,
            duration_millis: None,
            entries: 0,
            bytes: Bytes(0),
            result: WipeResult::Interrupted,
            verified: Verified::Nothing,
            message: None,
            times: 1,
            asked: None,
        }
    }

    /// Gives it the reason for which the volume is not clean.
    #[must_use]
    pub fn because(mut self, message: &str) -> Self {
        self.message = Some(message.chars().take(MESSAGE_MAX).collect());
        self
    }

    /// Whether this one came to what `before` had come to in vain. Tries that fail alike, one after the other, are one
    /// entry with a number, so that they don't crowd out those that wiped.
    pub fn repeats(&self, before: &Self) -> bool {
        let vain = matches!(self.result, WipeResult::Failed | WipeResult::VerifyFailed);
        let alike = (self.tenancy, self.result) == (before.tenancy, before.result);
        vain && alike && self.method == before.method
    }
}

impl CleanMethod {
    /// What is remembered of it. A command's arguments are the administrator's and may be long; the order that is
    /// recorded with the volume has them.
    #[must_use]
    pub fn brief(&self) -> Self {
        match self {
            Self::Command { command, timeout } => {
                let command = command.iter().take(1).cloned().collect();
                Self::Command { command, timeout: *timeout }
            }
            other => other.clone(),
        }
    }
}

impl Status {
    /// Takes up that `wipe` has ended.
    #[must_use]
    pub fn remembering(mut self, mut wipe: Wipe) -> Self {
        if let Some(before) = self.last_wipe.as_ref().filter(|before| wipe.repeats(before)) {
            wipe.times = before.times.saturating_add(1);
        }
        self.last_wipe = Some(Box::new(wipe));
        self
    }
}

impl LocalVolume {
    /// The wipe that was begun and of whose end nothing is recorded: its agent was killed.
    pub fn cut_off(&self) -> Option<Wipe> {
        let cleaning = self.status.cleaning.as_ref()?;
        let is_it =
            |last: &Wipe| (last.tenancy, last.started) == (cleaning.tenancy, cleaning.started);
        if self.status.last_wipe.as_deref().is_some_and(is_it) {
            return None;
        }
        let begun = Wipe::begun(cleaning.tenancy, &cleaning.method, cleaning.started);
        let (entries, bytes) = (cleaning.entries, cleaning.bytes);
        Some(
            Wipe { entries, bytes, ..begun }
                .because("its agent was killed, or stopped in the middle"),
        )
    }

    /// Whether the wipe that is due was done and reading back found data. Doing it again would say the same, or say the
    /// opposite and not be believed: a person looks at the disk first, and then asks for it.
    pub fn is_disproved(&self) -> bool {
        let said = self.status.conditions.clean.reason == CleanReason::VerifyFailed;
        let by = |last: &Wipe| {
            last.result == WipeResult::VerifyFailed
                && (last.tenancy, last.asked) == (self.spec.tenancy, self.spec.clean_asked)
        };
        said && self.status.last_wipe.as_deref().is_some_and(by)
    }

    /// Its latest wipe, with whose it was.
    pub fn last_wipe(&self) -> Option<WipeRecord> {
        Some(self.record_of(Wipe::clone(self.status.last_wipe.as_ref()?)))
    }

    /// `wipe`, with whose it was.
    pub fn record_of(&self, wipe: Wipe) -> WipeRecord {
        let (node, pool) = (self.spec.node.clone(), self.spec.pool.clone());
        WipeRecord { volume: self.name.clone(), node, pool, wipe }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{holds, released};
    use super::super::{Cleaning, fixture};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failed(tenancy: u64, second: i64) -> Wipe {
        let begun = Wipe::begun(Tenancy(tenancy), &CleanMethod::Zero, at(second));
        Wipe { result: WipeResult::Failed, ..begun }.because("no")
    }

    fn cleaning(started: Timestamp) -> Cleaning {
        Cleaning {
            tenancy: Tenancy(1),
            method: CleanMethod::Delete,
            started,
            entries: 3,
            bytes: Bytes(0),
            remount: None,
        }
    }

    #[test]
    fn failures_alike_are_counted_until_it_is_another_wipe_or_another_end() {
        let mut status = released().status;
        for second in 1..=3 {
            status = status.remembering(failed(1, second));
        }
        assert_eq!(
            status.last_wipe.as_ref().map(|last| (last.times, last.started)),
            Some((3, at(3)))
        );

        let other = status.clone().remembering(failed(2, 4));
        let done = status.clone().remembering(Wipe { result: WipeResult::Wiped, ..failed(1, 4) });
        let cut = status.remembering(Wipe { result: WipeResult::Interrupted, ..failed(1, 4) });

        assert_eq!([other, done, cut].map(|status| status.last_wipe.unwrap().times), [1, 1, 1]);
    }

    #[test]
    fn a_wipe_of_whose_end_nothing_is_recorded_was_cut_off_and_that_is_remembered_with_the_next_begin()
     {
        let mut volume = released();
        volume.status = volume.cleaning(cleaning(at(1)), &fixture::delete(), at(1)).unwrap();
        assert_eq!(volume.status.last_wipe, None);

        // The agent is killed, and the next one begins.
        let status = volume.cleaning(cleaning(at(2)), &fixture::delete(), at(2)).unwrap();

        let last = status.last_wipe.clone().unwrap();
        assert_eq!((last.result, last.started, last.entries), (WipeResult::Interrupted, at(1), 3));
        // That one fails, which is recorded: it was not cut off.
        volume.status = status.remembering(failed(1, 2));
        assert_eq!(volume.cut_off(), None);
    }

    #[test]
    fn what_was_disproved_stays_so_until_a_person_asks_for_another_try() {
        let mut volume = released();
        let wipe = Wipe { result: WipeResult::VerifyFailed, ..failed(1, 1) };
        volume.status.conditions.clean = holds(false, CleanReason::VerifyFailed);
        volume.status = volume.status.clone().remembering(wipe);
        assert!(volume.is_disproved());

        volume.spec = volume.asked_to_clean(fixture::delete(), at(2));

        assert!(!volume.is_disproved());
    }

    #[test]
    fn of_a_command_only_the_program_and_of_a_message_only_its_beginning_is_remembered() {
        let command = ["/bin/wipe", "--key", "secret"].map(str::to_owned).to_vec();
        let method = CleanMethod::Command { command, timeout: 5 };

        let wipe = Wipe::begun(Tenancy(1), &method, at(1)).because(&"é".repeat(9999));

        let command = vec!["/bin/wipe".to_owned()];
        assert_eq!(wipe.method, CleanMethod::Command { command, timeout: 5 });
        assert_eq!(wipe.message.unwrap().chars().count(), MESSAGE_MAX);
    }

    #[test]
    fn a_record_is_one_flat_object() {
        let mut volume = released();
        volume.status.last_wipe = Some(Box::new(failed(1, 1)));
        let record = volume.last_wipe().unwrap();

        let json = serde_json::to_value(&record).unwrap();

        assert_eq!((&json["node"], &json["result"]), (&"node-a".into(), &"Failed".into()));
        assert_eq!(serde_json::from_value::<WipeRecord>(json).unwrap(), record);
    }
}
