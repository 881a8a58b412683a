use super::*;
use crate::volume::fixture::*;

#[tokio::test]
async fn what_was_added_is_there_after_a_reopen() {
    let state = tempfile::tempdir().unwrap();
    let store = Embedded::open(state.path()).unwrap();
    let added = store.add(available()).await.unwrap();
    drop(store);

    let store = Embedded::open(state.path()).unwrap();

    assert_eq!(store.list().await.unwrap(), [added]);
}
