use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;

fn endpoint(path: &Path) -> Endpoint {
    format!("unix://{}", path.display()).parse().unwrap()
}

#[test]
fn an_endpoint_is_an_absolute_path_of_a_socket() {
    for right in ["unix:///run/csi.sock", "unix:/run/csi.sock"] {
        assert_eq!(right.parse::<Endpoint>().unwrap().path(), Path::new("/run/csi.sock"));
    }
    let long = format!("unix:///{}", "x".repeat(107));
    for wrong in
        ["", "/run/csi.sock", "unix://run/csi.sock", "unix:///", "tcp://127.0.0.1:1", &long]
    {
        assert!(wrong.parse::<Endpoint>().is_err(), "{wrong:?} was taken");
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("csi.sock");
    drop(UnixListener::bind(&path).unwrap());
    let endpoint = endpoint(&path);

    let live = Socket::listen(&endpoint).unwrap();

    assert!(matches!(Socket::listen(&endpoint), Err(ServerError::Taken(_))));
    drop(live);
    assert!(!path.exists());
    assert!(Socket::listen(&endpoint).is_ok());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("csi.sock");
    std::fs::write(&path, "a person's").unwrap();

    assert!(matches!(Socket::listen(&endpoint(&path)), Err(ServerError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a person's");
}

#[tokio::test]
async fn the_socket_and_a_directory_made_for_it_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("berth/csi.sock");

    let _socket = Socket::listen(&endpoint(&path)).unwrap();

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn a_socket_that_another_server_made_since_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("csi.sock");
    let socket = Socket::listen(&endpoint(&path)).unwrap();
    // Removed first, it could leave its number to the other.
    std::fs::rename(&path, directory.path().join("aside")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();

    drop(socket);

    assert!(path.exists());
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_endpoint_that_reads_back_or_is_refused(text in "(unix:(//)?)?\\PC{0,120}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            proptest::prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }
}
