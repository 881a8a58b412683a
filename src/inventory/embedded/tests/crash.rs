//! A process that is killed while it writes: what it was told is written is there when the next one opens the file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// Versions that the killed process saw acknowledged, by volume; absent where a removal was.
type Acknowledged = BTreeMap<String, Option<u64>>;

#[tokio::test]
async fn whenever_the_process_is_killed_every_acknowledged_write_is_there() {
    let state = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();

    for (round, after) in [1, 37, 150, 3, 400, 90, 11, 250].into_iter().enumerate() {
        acknowledged.extend(killed_while_writing(&state, round, after));

        let store = Embedded::open(state.path()).unwrap();
        let there: BTreeMap<_, _> = store.list().await.unwrap().iter().map(by_name).collect();
        for (volume, version) in &acknowledged {
            // One more write of each may have been made and not been told of.
            match version {
                Some(version) => assert!(
                    there.get(volume).is_none_or(|there| there >= version),
                    "round {round}: {volume} is older than {version}"
                ),
                None => assert!(!there.contains_key(volume), "round {round}: {volume} is back"),
            }
        }
        let gone = acknowledged
            .iter()
            .filter(|(volume, version)| version.is_some() && !there.contains_key(*volume));
        assert!(gone.count() <= WRITERS, "round {round}: more are gone than were being removed");
        acknowledged.retain(|volume, version| version.is_none() || there.contains_key(volume));
        store.close().await;
    }
}

/// Each has one write under way, which may be the removal of what it was told is written.
const WRITERS: usize = 8;

fn by_name(recorded: &Recorded) -> (String, u64) {
    (recorded.volume.name.to_string(), recorded.version.0)
}

/// Runs [`as_a_process_that_is_killed`], kills it with SIGKILL once it has told of `after` writes, and returns all that
/// it told of.
fn killed_while_writing(state: &TempDir, round: usize, after: usize) -> Acknowledged {
    let test = "inventory::embedded::tests::crash::as_a_process_that_is_killed";
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("BERTH_TEST_STATE", state.path())
        .env("BERTH_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = Acknowledged::new();
    let mut count = 0;
    for line in told {
        let words: Vec<_> = line.split(' ').collect();
        // A line that the kill has cut short lacks its end.
        let ["written", volume, version, "end"] = words[..] else { continue };
        acknowledged.insert(volume.to_owned(), version.parse().ok());
        count += 1;
        if count == after {
            process.kill().unwrap();
        }
    }
    assert!(!process.wait().unwrap().success(), "it ended before it was killed");
    assert!(count >= after);
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, in a process of its own, and killed"]
async fn as_a_process_that_is_killed() {
    let state = std::env::var("BERTH_TEST_STATE").unwrap();
    let round: usize = std::env::var("BERTH_TEST_ROUND").unwrap().parse().unwrap();
    let store = Embedded::open(Path::new(&state)).unwrap();
    println!();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                // Enough never to end by itself.
                for number in 0..1_000_000 {
                    write_one(&store, &format!("v{round}-{writer}-{number}"), number).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write_one(store: &Embedded, entry: &str, number: usize) {
    let added = store.add(named(entry, Bytes(1 << 20))).await.unwrap();
    let name = &added.volume.name;
    tell(&added, Some(added.version));
    let spec = added.volume.claimed(claim(entry), delete()).unwrap();
    let claimed = store.decide(name, added.version, spec).await.unwrap();
    tell(&claimed, Some(claimed.version));
    if number.is_multiple_of(4) {
        store.remove(name, claimed.version).await.unwrap();
        tell(&claimed, None);
    }
}

fn tell(recorded: &Recorded, version: Option<Version>) {
    let version = version.map_or_else(|| "removed".to_owned(), |version| version.0.to_string());
    let line = format!("written {} {version} end\n", recorded.volume.name);
    io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
