//! Volumes in columns, for people.

use crate::csi::proto::operator_v1alpha1::Problem;
use crate::volume::{LocalVolume, Phase};

/// One line a volume.
pub(super) fn table(volumes: &[LocalVolume]) -> String {
    let head = ["NAME", "POOL", "NODE", "MODE", "CAPACITY", "PHASE", "TENANCY", "CLAIM"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|volume| brief(volume).to_vec()));
    columns(&rows)
}

/// One line a volume, with where it is, what it is, and what is wrong with it.
pub(super) fn wide(volumes: &[LocalVolume]) -> String {
    let head = [
        "NAME",
        "POOL",
        "NODE",
        "MODE",
        "CAPACITY",
        "PHASE",
        "TENANCY",
        "CLAIM",
        "PATH",
        "FINGERPRINT",
        "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|volume| {
        let mut row = brief(volume).to_vec();
        row.extend([
            volume.status.path.to_string(),
            volume.status.fingerprint.to_string(),
            why(volume),
        ]);
        row
    }));
    columns(&rows)
}

/// What is said instead of a table without a line. An empty name of a pool or a node is every one.
pub(super) fn nothing(pool: &str, node: &str) -> String {
    let part = |word: &str, name: &str| match name {
        "" => String::new(),
        name => format!(" {word} {name}"),
    };
    format!("There are no volumes{}{}.\n", part("of pool", pool), part("on node", node))
}

/// Beneath a list of volumes: what is not in it and why, as far as that is not too much.
pub(super) fn footer(problems: &[Problem]) -> String {
    const MOST: usize = 10;
    if problems.is_empty() {
        return String::new();
    }
    let more = match problems.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!("and {more} more: see `berth problems`\n"),
    };
    format!("\n{}{more}", lines(&problems[..problems.len().min(MOST)]))
}

/// Every problem, a line each.
pub(super) fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "Everything in the pools is offered.\n".to_owned();
    }
    lines(problems)
}

fn lines(problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{}: {}\n", problem.pool, on_one_line(&problem.message));
    problems.iter().map(line).collect()
}

/// A file's name may hold any character, and a terminal obeys some of them.
pub(super) fn on_one_line(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    });
    escaped.collect()
}

fn brief(volume: &LocalVolume) -> [String; 8] {
    [
        volume.name.to_string(),
        volume.spec.pool.to_string(),
        volume.spec.node.to_string(),
        volume.spec.mode.to_string(),
        volume.status.capacity.to_string(),
        volume.phase().to_string(),
        volume.spec.tenancy.to_string(),
        holder(volume),
    ]
}

/// Who holds it, by the name that a person knows.
fn holder(volume: &LocalVolume) -> String {
    match &volume.spec.claim {
        None => "-".to_owned(),
        Some(claim) => match &claim.pvc {
            Some(pvc) => format!("{}/{}", pvc.namespace, pvc.name),
            None => claim.name.as_str().escape_debug().to_string(),
        },
    }
}

/// The sentence of the condition that keeps it from being claimed; how far a wipe is.
fn why(volume: &LocalVolume) -> String {
    let status = &volume.status;
    match (volume.phase(), &status.cleaning) {
        (Phase::Lost, _) => status.conditions.healthy.message.to_string(),
        (Phase::Cleaning, Some(cleaning)) => {
            let (entries, bytes) = (cleaning.entries, cleaning.bytes);
            format!("{}: {entries} entries and {bytes} so far", status.conditions.clean.message)
        }
        (Phase::Cleaning | Phase::Dirty, _) => status.conditions.clean.message.to_string(),
        (Phase::Claimed | Phase::Available | Phase::Cordoned, _) => "-".to_owned(),
    }
}

/// Rows in columns as wide as their widest cell, two spaces apart; the last is not filled up.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fixture::{available, claimed_by, holds, named};
    use crate::volume::{Bytes, CleanReason, HealthReason, PersistentVolumeClaim};

    #[test]
    fn volumes_stand_in_columns() {
        let mut claimed = claimed_by("pvc-1");
        claimed.spec.claim.as_mut().unwrap().pvc =
            Some(PersistentVolumeClaim { namespace: "db".into(), name: "data-0".into() });

        let shown = table(&[named("v2", Bytes(10 << 30)), claimed]);

        let expected = "\
NAME                             POOL  NODE    MODE        CAPACITY  PHASE      TENANCY  CLAIM
node-a-fast-v2-HASHHASHHASHHASH  fast  node-a  Filesystem  10Gi      Available  0        -
node-a-fast-v1-HASHHASHHASHHASH  fast  node-a  Filesystem  1Gi       Claimed    1        db/data-0
";
        assert_eq!(without_hashes(&shown), expected);
    }

    #[test]
    fn what_keeps_a_volume_from_being_claimed_is_said_in_wide() {
        let mut lost = available();
        lost.status.conditions.healthy = holds(false, HealthReason::Missing);
        let mut dirty = named("v2", Bytes(5));
        dirty.status.clean_for = None;
        dirty.status.conditions.clean = holds(false, CleanReason::FoundData);

        for (volume, phase) in [(lost, "Lost"), (dirty, "Dirty")] {
            let shown = wide(&[volume]);
            let line = shown.lines().nth(1).unwrap();
            assert!(line.contains(phase) && line.ends_with("a sentence"), "{shown}");
        }
    }

    #[test]
    fn an_empty_inventory_says_of_what() {
        assert_eq!(nothing("", ""), "There are no volumes.\n");
        assert_eq!(
            nothing("fast", "node-a"),
            "There are no volumes of pool fast on node node-a.\n"
        );
    }

    #[test]
    fn what_is_not_offered_stands_beneath_the_volumes_as_far_as_it_is_not_too_much() {
        let problem = |number| Problem {
            pool: "fast".into(),
            path: format!("/mnt/fast/{number}"),
            kind: "Unsuitable".into(),
            message: format!("/mnt/fast/{number}\n is not offered: it's a file"),
        };
        let many: Vec<_> = (0..12).map(problem).collect();

        assert_eq!(footer(&[]), "");
        assert_eq!(footer(&many[..1]), "\nfast: /mnt/fast/0\\n is not offered: it's a file\n");
        assert!(footer(&many).ends_with("and 2 more: see `berth problems`\n"));
        assert_eq!(problems(&many).lines().count(), 12);
        assert!(problems(&[]).contains("Everything"));
    }

    fn without_hashes(shown: &str) -> String {
        let hash = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let parts = shown.split_inclusive(['-', ' ']);
        let plain = parts.map(|part| {
            if hash(part.trim_end()) {
                part.replace(part.trim_end(), "HASHHASHHASHHASH")
            } else {
                part.into()
            }
        });
        plain.collect()
    }
}
