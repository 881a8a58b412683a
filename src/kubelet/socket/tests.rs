use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let kubelet = TempDir::new().unwrap();
    let path = kubelet.path().join("plugins_registry/berth.dev-reg.sock");
    (kubelet, path)
}

async fn made(path: &Path) -> Socket {
    Socket::make(path, None).await.unwrap()
}

#[tokio::test]
async fn the_socket_is_private_and_alone_in_the_directory_that_was_made_for_it() {
    let (_kubelet, path) = place();

    let socket = made(&path).await;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o755));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert!(!socket.is_lost());
    assert!(UnixStream::connect(&path).await.is_ok());
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let (_kubelet, path) = place();
    drop(made(&path).await);

    let _socket = made(&path).await;

    let error = Socket::make(&path, None).await.unwrap_err();
    assert!(matches!(error, Error::Taken(_)), "{error}");
}

#[tokio::test]
async fn ones_own_socket_is_replaced_while_it_listens() {
    let (_kubelet, path) = place();
    let own = made(&path).await;

    let socket = Socket::make(&path, Some(&own)).await.unwrap();

    assert!(own.is_lost() && !socket.is_lost());
}

#[tokio::test]
async fn a_living_socket_that_took_the_place_of_ones_own_is_left_alone() {
    let (_kubelet, path) = place();
    let own = made(&path).await;
    fs::remove_file(&path).unwrap();
    let _other = made(&path).await;

    assert!(matches!(Socket::make(&path, Some(&own)).await, Err(Error::Taken(_))));
    own.remove();
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone_and_a_kubelet_that_is_not_there_is_named() {
    let (kubelet, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "a person's").unwrap();

    assert!(matches!(Socket::make(&path, None).await, Err(Error::NoSocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "a person's");
    let elsewhere = kubelet.path().join("none/plugins_registry/berth.dev-reg.sock");
    let error = Socket::make(&elsewhere, None).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}/none is not", kubelet.path().display())));
}
