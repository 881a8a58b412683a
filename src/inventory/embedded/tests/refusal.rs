//! Directories and files that are refused, never reset.

use std::os::unix::fs::FileExt;
use std::process::Command;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::*;

fn file_in(state: &TempDir) -> PathBuf {
    state.path().join("inventory.redb")
}

#[test]
fn a_second_store_on_the_directory_is_refused_by_the_name_of_the_file() {
    let state = tempfile::tempdir().unwrap();
    let _first = Embedded::open(state.path()).unwrap();

    let refused = Embedded::open(state.path()).unwrap_err();

    assert!(matches!(&refused, OpenError::InUse { file } if *file == file_in(&state)));
    assert!(refused.to_string().contains("inventory.redb is in use"), "{refused}");
}

#[test]
fn two_first_starts_at_once_do_not_both_make_the_inventory() {
    let state = tempfile::tempdir().unwrap();
    let first = fs::File::open(state.path()).unwrap();
    first.try_lock().unwrap();

    let refused = Embedded::open(state.path()).unwrap_err();

    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    assert!(!file_in(&state).exists());
}

#[tokio::test]
async fn a_second_process_on_the_directory_is_refused_until_the_first_ends() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();

    assert_eq!(opened_by_another_process(&state), "opened: false");
    store.close().await;
    assert_eq!(opened_by_another_process(&state), "opened: true");
}

fn opened_by_another_process(state: &TempDir) -> String {
    let child = "inventory::embedded::tests::refusal::as_another_process";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env("BERTH_TEST_STATE", state.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find(|line| line.starts_with("opened")).unwrap().to_owned()
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn as_another_process() {
    let state = std::env::var("BERTH_TEST_STATE").unwrap();
    let opened = match Embedded::open(Path::new(&state)) {
        Ok(_) => true,
        Err(OpenError::InUse { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    println!("\nopened: {opened}");
}

#[tokio::test]
async fn an_empty_file_is_damage_and_not_a_new_inventory() {
    let state = directory_of(1).await;
    fs::write(file_in(&state), "").unwrap();

    let refused = Embedded::open(state.path()).unwrap_err();

    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    assert!(refused.to_string().contains("backup"), "{refused}");
    assert_eq!(fs::metadata(file_in(&state)).unwrap().len(), 0);
}

#[tokio::test]
async fn a_truncated_file_is_refused_and_left_as_it_is() {
    let state = directory_of(100).await;
    let whole = fs::read(file_in(&state)).unwrap();

    for length in [1, 63, 512, 4096, whole.len() / 4, whole.len() / 2] {
        fs::write(file_in(&state), &whole[..length]).unwrap();
        let refused = Embedded::open(state.path()).unwrap_err();
        assert!(
            matches!(refused, OpenError::Damaged { .. } | OpenError::Foreign { .. }),
            "{length} bytes: {refused:?}"
        );
        assert_eq!(fs::metadata(file_in(&state)).unwrap().len(), length as u64);
    }
    fs::write(file_in(&state), &whole).unwrap();
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap().len(), 100);
}

#[tokio::test]
async fn an_altered_byte_is_refused_or_was_nobodys() {
    let state = directory_of(100).await;
    let whole = fs::read(file_in(&state)).unwrap();
    let expected = Embedded::open(state.path()).unwrap().list().await.unwrap();

    let mut refusals = 0;
    for at in (0..whole.len()).step_by(whole.len() / 150) {
        fs::write(file_in(&state), &whole).unwrap();
        let file = fs::OpenOptions::new().write(true).open(file_in(&state)).unwrap();
        file.write_all_at(&[whole[at] ^ 0x55], at as u64).unwrap();
        match Embedded::open(state.path()) {
            Ok(store) => assert_eq!(store.list().await.unwrap(), expected, "byte {at}"),
            Err(OpenError::InUse { .. } | OpenError::Io { .. }) => panic!("byte {at}"),
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals > 0, "no byte of the file matters");
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_as_it_is() {
    let state = tempfile::tempdir().unwrap();
    let text = "nobody's inventory\n".repeat(1000);
    fs::write(file_in(&state), &text).unwrap();

    let refused = Embedded::open(state.path()).unwrap_err();

    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(file_in(&state)).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
    let database = Database::create(file_in(&state)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let refused = Embedded::open(state.path()).unwrap_err();

    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    let database = Database::open(file_in(&state)).unwrap();
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.open_table(table).unwrap().get(1).unwrap().unwrap().value(), 1);
}

/// Puts `value` into a row of the inventory's file.
fn write_row(state: &TempDir, table: &str, row: &str, value: Value<'_>) {
    let database = Database::open(file_in(state)).unwrap();
    let transaction = database.begin_write().unwrap();
    match value {
        Value::Number(number) => {
            let table: TableDefinition<'_, &str, u64> = TableDefinition::new(table);
            transaction.open_table(table).unwrap().insert(row, number).unwrap();
        }
        Value::Text(text) => {
            let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            transaction.open_table(table).unwrap().insert(row, text.as_bytes()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Text(&'a str),
}

#[tokio::test]
async fn a_file_of_a_newer_or_an_older_release_is_refused_with_both_numbers() {
    for number in [2, 0] {
        let state = directory_of(1).await;
        write_row(&state, "berth", "schema", Value::Number(number));

        let refused = Embedded::open(state.path()).unwrap_err();

        let OpenError::Schema { found, known: 1, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*found, number);
        assert!(refused.to_string().contains(&format!("schema {number}")), "{refused}");
    }
}

#[tokio::test]
async fn a_row_that_no_release_writes_is_damage() {
    let held = |number: usize, version: u64| {
        let volume = volume(number);
        let spec = volume.claimed(claim("pvc-1"), delete()).unwrap();
        let volume = LocalVolume { spec, ..volume };
        let row = volume.name.to_string();
        (row, serde_json::json!({"version": version, "volume": volume}).to_string())
    };
    let (row, first) = held(1, 1);
    let (other, second) = held(2, 1);
    let (_, future) = held(1, 99);

    for (what, rows) in [
        ("not JSON", vec![(&row, "{")]),
        ("another's row", vec![(&other, first.as_str())]),
        ("a version that was never given", vec![(&row, future.as_str())]),
        ("two volumes of one claim", vec![(&row, first.as_str()), (&other, second.as_str())]),
    ] {
        let state = directory_of(1).await;
        for (row, text) in rows {
            write_row(&state, "volumes", row, Value::Text(text));
        }
        let refused = Embedded::open(state.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_first_start_is_no_inventory() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("inventory.redb.new"), "half").unwrap();

    let store = Embedded::open(state.path()).unwrap();

    assert_eq!(store.list().await.unwrap(), []);
    assert!(!state.path().join("inventory.redb.new").exists());
}

#[tokio::test]
async fn an_inventory_with_volumes_of_another_node_is_refused_with_both_names() {
    let state = directory_of(1).await;
    let store = Embedded::open(state.path()).unwrap();

    store.require_node(&"node-a".parse().unwrap()).unwrap();
    let refused = store.require_node(&"node-b".parse().unwrap()).unwrap_err().to_string();

    assert!(refused.contains("--node node-a") && refused.contains("node-b"), "{refused}");
    let empty = directory_of(0).await;
    let store = Embedded::open(empty.path()).unwrap();
    assert!(store.require_node(&"node-b".parse().unwrap()).is_ok());
}
