//! A file that was altered behind the store's back, cut, flipped, zeroed, in any place: opening it gives exactly the
//! records that were acknowledged, or refuses by a sentence that names the file and the way out. It is never taken for a
//! new one, and never gives an older state of itself.
//!
//! A few hundred alterations each time, others with each `BERTH_SEED`; all of them with `BERTH_PROVE=1`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Pages of a redb file.
const PAGE: usize = 4096;
/// Bytes of the header: where the file says which of its commits is the newest, and what they are.
const HEADER: usize = 320;
/// The byte of it that says which.
const GOD_BYTE: usize = 9;
/// Alterations of each sort in a run that does not take all.
const FEW: usize = 60;

/// What a store has left, and what it has to give.
struct Left {
    bytes: Vec<u8>,
    records: Vec<Recorded>,
}

/// The file of a store whose last change was a claim: as a server leaves it that is killed then, or that ends well.
async fn left(killed: bool) -> Left {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    for number in 0..12 {
        store.add(volume(number)).await.unwrap();
    }
    let first = store.list().await.unwrap().remove(0);
    let spec = first.volume.claimed(claim("pvc-1"), delete()).unwrap();
    store.decide(&first.volume.name, first.version, spec).await.unwrap();
    until_twice(&store).await;
    let records = store.list().await.unwrap();
    let file = state.path().join("inventory.redb");
    let while_open = fs::read(&file).unwrap();
    store.close().await;
    let bytes = if killed { while_open } else { fs::read(&file).unwrap() };
    Left { bytes, records }
}

/// Of `count` alterations those that this run takes.
fn chosen(count: usize) -> impl Iterator<Item = usize> {
    let proves = std::env::var_os("BERTH_PROVE").is_some_and(|value| value == "1");
    let seed = std::env::var("BERTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| usize::try_from(std::process::id()).unwrap());
    println!("BERTH_SEED={seed}");
    let stride = if proves { 1 } else { count.div_ceil(FEW) };
    (0..count).skip(seed % stride).step_by(stride)
}

/// What opening a file came to.
#[derive(Debug, PartialEq, Eq)]
enum Opened {
    /// It gives the records that were acknowledged.
    Whole,
    /// It was refused by name, with the way out.
    Refused,
    /// It gives others.
    Other,
}

/// Opens a file with these bytes; whether it was refused.
async fn is_refused(bytes: &[u8], records: &[Recorded], what: &str) -> bool {
    let opened = open(bytes, records, what).await;
    assert_ne!(opened, Opened::Other, "{what}: other records");
    opened == Opened::Refused
}

async fn open(bytes: &[u8], records: &[Recorded], what: &str) -> Opened {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("inventory.redb");
    fs::write(&file, bytes).unwrap();
    let opened = catch_unwind(AssertUnwindSafe(|| Embedded::open(state.path())));
    match opened.unwrap_or_else(|_| panic!("{what}: opening it panicked")) {
        Ok(store) => {
            let whole = store.list().await.unwrap() == records;
            if whole { Opened::Whole } else { Opened::Other }
        }
        Err(error @ (OpenError::Damaged { .. } | OpenError::Foreign { .. })) => {
            let said = error.to_string();
            assert!(said.contains(file.to_str().unwrap()), "{what}: {said}");
            assert!(said.contains("move it away"), "{what}: {said}");
            assert!(file.exists() && !state.path().join("inventory.redb.new").exists(), "{what}");
            Opened::Refused
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_cut_anywhere_gives_no_other_records() {
    for killed in [false, true] {
        let Left { bytes, records } = left(killed).await;
        let pages = (0..bytes.len()).step_by(PAGE);
        let odd = pages.clone().flat_map(|at| [at + 1, at + 511, at + 512, at + PAGE - 1]);
        let lengths: Vec<_> = pages.chain(odd).filter(|length| *length < bytes.len()).collect();

        let mut refusals = 0;
        for at in chosen(lengths.len()) {
            let length = lengths[at];
            let what = format!("{length} of {} bytes, killed: {killed}", bytes.len());
            refusals += usize::from(is_refused(&bytes[..length], &records, &what).await);
        }
        assert!(refusals > 0, "no length of the file matters");
    }
}

#[tokio::test]
async fn no_bit_of_the_header_gives_other_records() {
    for killed in [false, true] {
        let Left { bytes, records } = left(killed).await;
        let mut refusals = 0;
        let newest = GOD_BYTE * 8..(GOD_BYTE + 1) * 8;
        for bit in newest.chain(chosen(HEADER * 8)) {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let what = format!("bit {} of byte {}, killed: {killed}", bit % 8, bit / 8);
            refusals += usize::from(is_refused(&altered, &records, &what).await);
        }
        assert!(refusals > 0, "no bit of the header matters");
    }
}

#[tokio::test]
async fn what_a_crash_left_in_the_file_once_is_there_twice_as_soon_as_it_is_opened() {
    let state = directory_of(12).await;
    let disk = Disk::new(state.path()).unwrap();
    let (file, contents) = File::open(&disk).unwrap();
    let (memory, index) = contents.into_memory();
    let first = memory.list().remove(0);
    let spec = first.volume.claimed(claim("pvc-1"), delete()).unwrap();
    let version = index.version + 1;
    let claimed = LocalVolume { spec, ..LocalVolume::clone(&first.volume) };
    let claimed = Arc::new(Recorded::new(claimed, Version(version)));
    let rows = [(&claimed.volume.name, Some(&claimed))];
    assert!(file.commit(version, rows.into_iter(), &[]).is_ok());
    let crashed = fs::read(disk.path()).unwrap();

    let next = tempfile::tempdir().unwrap();
    fs::write(next.path().join("inventory.redb"), &crashed).unwrap();
    let store = Embedded::open(next.path()).unwrap();
    let records = store.list().await.unwrap();

    assert!(records.contains(&claimed));
    // Nobody asks the store for anything more.
    let harmless = async |bytes: &[u8]| {
        for byte in 0..HEADER {
            let mut altered = bytes.to_owned();
            altered[byte] ^= 1;
            if open(&altered, &records, "a bit of each byte").await == Opened::Other {
                return false;
            }
        }
        true
    };
    assert!(!harmless(&crashed).await, "it was there twice before");
    let mut looks = 0;
    while !harmless(&fs::read(next.path().join("inventory.redb")).unwrap()).await {
        looks += 1;
        assert!(looks < 10, "it is there once only");
    }
}

#[tokio::test]
async fn no_bit_of_the_rest_gives_other_records() {
    for killed in [false, true] {
        let Left { bytes, records } = left(killed).await;
        let mut refusals = 0;
        let places: Vec<_> = (HEADER..bytes.len()).step_by(61).collect();
        for at in chosen(places.len()) {
            let (byte, bit) = (places[at], at % 8);
            let mut altered = bytes.clone();
            altered[byte] ^= 1 << bit;
            let what = format!("bit {bit} of byte {byte}, killed: {killed}");
            refusals += usize::from(is_refused(&altered, &records, &what).await);
        }
        println!("{refusals} of {} refused, killed: {killed}", chosen(places.len()).count());
    }
}

#[tokio::test]
async fn a_page_of_zeros_or_of_another_place_gives_no_other_records() {
    for killed in [false, true] {
        let Left { bytes, records } = left(killed).await;
        let pages = bytes.len() / PAGE;
        let mut refusals = 0;
        for page in 0..pages {
            let (from, other) = (page * PAGE, (page + 1) % pages * PAGE);
            let mut zeroed = bytes.clone();
            zeroed[from..from + PAGE].fill(0);
            let what = format!("zeros in page {page}, killed: {killed}");
            refusals += usize::from(is_refused(&zeroed, &records, &what).await);
            let mut misplaced = bytes.clone();
            misplaced.copy_within(other..other + PAGE, from);
            let what = format!("another page in page {page}, killed: {killed}");
            is_refused(&misplaced, &records, &what).await;
        }
        assert!(refusals > 0, "no page of the file matters");
    }
}
