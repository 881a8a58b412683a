use std::fs;
use std::os::unix::fs::MetadataExt;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::service::proto::registration_client::RegistrationClient;
use super::service::proto::{InfoRequest, RegistrationStatus};
use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A socket, by its number and when it was made.
type Made = (u64, i64);

struct World {
    kubelet: TempDir,
    socket: PathBuf,
    state: watch::Receiver<State>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self::beside(|_| {})
    }

    /// A registration that begins once `before` has been done with its socket's path.
    fn beside(before: impl FnOnce(&Path)) -> Self {
        let kubelet = TempDir::new().unwrap();
        let socket = Options::socket_in(kubelet.path(), "berth.dev");
        fs::create_dir(socket.parent().unwrap()).unwrap();
        before(&socket);
        let endpoint = "/var/lib/kubelet/plugins/berth.dev/csi.sock".to_owned();
        let driver = "berth.dev".to_owned();
        let mut registration =
            Registration::new(Options { driver, endpoint, socket: socket.clone() });
        registration.patience = Duration::from_millis(20);
        let (state, cancel) = (registration.state(), CancellationToken::new());
        let task = tokio::spawn(registration.run(cancel.clone()));
        Self { kubelet, socket, state, cancel, task }
    }

    /// Which socket there is. Its number alone does not tell: it is free as soon as the socket is.
    fn made(&self) -> Option<Made> {
        fs::metadata(&self.socket).ok().map(|facts| (facts.ino(), facts.mtime_nsec()))
    }

    /// Waits for a socket that is not `old`.
    async fn socket_other_than(&self, old: Option<Made>) -> Made {
        let is_new = |made: Option<Made>| made.filter(|made| Some(*made) != old);
        let look = async {
            let mut made = is_new(self.made());
            while made.is_none() {
                sleep(Duration::from_millis(2)).await;
                made = is_new(self.made());
            }
            made
        };
        timeout(LONG, look).await.ok().flatten().expect("the socket was not made")
    }

    async fn client(&self) -> RegistrationClient<tonic::transport::Channel> {
        self.socket_other_than(None).await;
        let endpoint = format!("unix://{}", self.socket.display());
        RegistrationClient::connect(endpoint).await.unwrap()
    }

    /// Tells how the registration went, as the kubelet does.
    async fn tell(&self, plugin_registered: bool, error: &str) {
        let status = RegistrationStatus { plugin_registered, error: error.to_owned() };
        self.client().await.notify_registration_status(status).await.unwrap();
    }

    async fn until(&mut self, wanted: impl Fn(&State) -> bool) -> State {
        timeout(LONG, self.state.wait_for(wanted)).await.unwrap().unwrap().clone()
    }
}

#[tokio::test]
async fn the_kubelet_is_told_who_this_is_and_where() {
    let world = World::new();

    let info = world.client().await.get_info(InfoRequest {}).await.unwrap().into_inner();

    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "berth.dev"));
    assert_eq!(info.endpoint, "/var/lib/kubelet/plugins/berth.dev/csi.sock");
    assert_eq!(info.supported_versions, ["1.0.0"]);
    assert_eq!(*world.state.borrow(), State::Waiting);
}

#[tokio::test]
async fn a_socket_or_a_directory_that_vanishes_is_made_again() {
    let mut world = World::new();
    world.tell(true, "").await;
    world.until(|state| *state == State::Registered).await;
    let first = world.made();

    fs::remove_file(&world.socket).unwrap();
    world.until(|state| *state == State::Waiting).await;
    let second = world.socket_other_than(first).await;
    fs::rename(world.socket.parent().unwrap(), world.kubelet.path().join("away")).unwrap();
    world.socket_other_than(Some(second)).await;

    world.tell(true, "").await;
    world.until(|state| *state == State::Registered).await;
}

#[tokio::test]
async fn a_refusal_is_kept_with_its_reason_and_tried_again_until_it_is_taken_back() {
    let mut world = World::new();
    let first = world.socket_other_than(None).await;

    world.tell(false, "no CSINode").await;
    let refused = world.until(|state| *state != State::Waiting).await;
    let second = world.socket_other_than(Some(first)).await;
    world.socket_other_than(Some(second)).await;

    assert_eq!(refused, State::Refused("no CSINode".to_owned()));
    assert_eq!(*world.state.borrow(), refused);
    assert_eq!(refused.to_string(), "the kubelet refused the registration: no CSINode");
    world.tell(true, "").await;
    world.until(|state| *state == State::Registered).await;
}

#[tokio::test]
async fn the_socket_of_a_living_process_is_waited_for() {
    let mut other = None;
    let mut world = World::beside(|socket| {
        other = Some(std::os::unix::net::UnixListener::bind(socket).unwrap());
    });

    let failed = world.until(|state| *state != State::Waiting).await;
    let first = world.made();
    drop(other);
    world.socket_other_than(first).await;

    assert!(failed.to_string().contains("another process is registering this driver"), "{failed}");
    world.until(|state| *state == State::Waiting).await;
}

#[tokio::test]
async fn at_the_end_the_socket_is_taken_away() {
    let world = World::new();
    world.socket_other_than(None).await;

    world.cancel.cancel();

    timeout(LONG, world.task).await.unwrap().unwrap();
    assert_eq!(fs::read_dir(world.socket.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn patience_grows_to_a_minute() {
    let mut patience = PATIENCE;
    for _ in 0..10 {
        patience = longer(patience);
    }

    assert_eq!(patience, LONGEST);
}
