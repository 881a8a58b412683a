//! Wipes in columns, for people.

use super::table::{columns, on_one_line};
use crate::volume::{CleanMethod, WipeRecord};

/// One line a wipe.
pub(super) fn table(wipes: &[WipeRecord]) -> String {
    let head = ["VOLUME", "TENANCY", "METHOD", "STARTED", "TOOK", "ENTRIES", "BYTES", "RESULT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(wipes.iter().map(|wipe| brief(wipe).to_vec()));
    columns(&rows)
}

/// One line a wipe, with whose it was, what was read back, how often it came to the same, and why it was not clean.
pub(super) fn wide(wipes: &[WipeRecord]) -> String {
    let head = [
        "VOLUME", "TENANCY", "METHOD", "STARTED", "TOOK", "ENTRIES", "BYTES", "RESULT", "POOL",
        "NODE", "VERIFIED", "TIMES", "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(wipes.iter().map(|record| {
        let mut row = brief(record).to_vec();
        let wipe = &record.wipe;
        row.extend([
            record.pool.to_string(),
            record.node.to_string(),
            wipe.verified.to_string(),
            wipe.times.to_string(),
            wipe.message.as_deref().map_or_else(|| "-".to_owned(), on_one_line),
        ]);
        row
    }));
    columns(&rows)
}

fn brief(record: &WipeRecord) -> [String; 8] {
    let wipe = &record.wipe;
    [
        record.volume.to_string(),
        wipe.tenancy.to_string(),
        method(&wipe.method),
        // The fractions of a second are in JSON.
        wipe.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        wipe.duration_millis.map_or_else(|| "-".to_owned(), took),
        wipe.entries.to_string(),
        wipe.bytes.to_string(),
        wipe.result.to_string(),
    ]
}

fn method(method: &CleanMethod) -> String {
    match method {
        CleanMethod::Shred { passes } => format!("{method}:{passes}"),
        other => other.to_string(),
    }
}

/// A time as a person reads it: `0.012s`, `75.0s`, `2h03m`.
fn took(millis: u64) -> String {
    let (seconds, rest) = (millis / 1000, millis % 1000);
    match seconds {
        0..10 => format!("{seconds}.{rest:03}s"),
        10..600 => format!("{seconds}.{}s", rest / 100),
        600..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::volume::fixture::available;
    use crate::volume::{Bytes, Tenancy, Verified, Wipe, WipeResult};

    fn records() -> [WipeRecord; 2] {
        let begun =
            Wipe::begun(Tenancy(1), &CleanMethod::Shred { passes: 3 }, Timestamp::UNIX_EPOCH);
        let done = Wipe {
            result: WipeResult::Wiped,
            duration_millis: Some(12_345),
            bytes: Bytes(4 << 20),
            verified: Verified::Samples,
            ..begun.clone()
        };
        let cut = begun.because("it\nstopped");
        [done, cut].map(|wipe| available().record_of(wipe))
    }

    #[test]
    fn wipes_stand_in_columns() {
        let shown = table(&records());

        let lines: Vec<Vec<_>> =
            shown.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
        assert_eq!(
            lines[1..],
            [
                ["1", "shred:3", "1970-01-01T00:00:00Z", "12.3s", "0", "4Mi", "Wiped"],
                ["1", "shred:3", "1970-01-01T00:00:00Z", "-", "0", "0", "Interrupted"],
            ]
        );
    }

    #[test]
    fn what_was_read_back_and_why_a_volume_is_not_clean_stands_in_wide() {
        let shown = wide(&records());

        let mut lines = shown.lines().skip(1);
        assert!(lines.next().unwrap().ends_with("samples   1      -"), "{shown}");
        assert!(lines.next().unwrap().ends_with("-         1      it\\nstopped"), "{shown}");
    }

    #[test]
    fn times_are_told_as_finely_as_a_person_wants_them() {
        let told = [12, 9_999, 75_040, 601_000, 7_384_000].map(took);

        assert_eq!(told, ["0.012s", "9.999s", "75.0s", "10m01s", "2h03m"]);
    }
}
