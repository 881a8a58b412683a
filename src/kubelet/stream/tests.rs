use std::time::Duration;

use http::request::Parts;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::super::fixture::{Encoder, How, PREFACE_BYTES, frame};
use super::*;

/// One request: what its headers say, and how each is written.
#[derive(Debug, Clone)]
struct Request {
    authority: (String, How),
    path: (String, How),
    more: Vec<(String, String, How)>,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Indexed), Just(How::Inserted), Just(How::Plain)]
}

/// Few names and values, so that they meet again in the table; some of them long, so that it overflows.
fn requests() -> impl Strategy<Value = Vec<Request>> {
    let authority = prop_oneof![
        Just("%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fberth.dev-reg.sock".to_owned()),
        Just("localhost".to_owned()),
        Just("a".to_owned()),
        (500_usize..5000).prop_map(|length| "%".repeat(length)),
    ];
    let value = prop_oneof!["[a-c]", (900_usize..1100).prop_map(|length| "v".repeat(length))];
    let more = prop::collection::vec(("x-[a-d]", value, how()), 0..6);
    let request = ((authority, how()), ("/[ab]", how()), more)
        .prop_map(|(authority, path, more)| Request { authority, path, more });
    prop::collection::vec(request, 1..8)
}

/// The bytes of a connection that makes `requests`, each block cut after `cut` bytes.
fn written(requests: &[Request], cut: usize) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = [PREFACE_BYTES, &frame(4, 0, 0, b"")].concat();
    for (stream, request) in (1..).step_by(2).zip(requests) {
        let mut block = Vec::new();
        let mut write = |name, value, how| encoder.write(&mut block, name, value, how);
        write(":method", "GET", How::Plain);
        write(":scheme", "http", How::Plain);
        write(":authority", &request.authority.0, request.authority.1);
        write(":path", &request.path.0, request.path.1);
        for (name, value, how) in &request.more {
            write(name, value, *how);
        }
        let (one, other) = block.split_at(cut.min(block.len()));
        bytes.extend(frame(1, 0x1, stream, one));
        bytes.extend(frame(9, 0x4, stream, other));
    }
    bytes
}

/// The first `count` requests that h2 reads of a connection on which `bytes` come.
async fn read_by_h2(bytes: Vec<u8>, count: usize) -> Result<Vec<Parts>, h2::Error> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(&bytes).await.unwrap();
    let mut connection = h2::server::Builder::new()
        .max_header_list_size(1 << 20)
        .handshake::<_, &[u8]>(Rewritten::new(server))
        .await?;
    let mut read = Vec::new();
    while read.len() < count {
        // A request that h2 refuses is answered, and not told.
        let accepted = tokio::time::timeout(Duration::from_secs(5), connection.accept()).await;
        read.push(accepted.unwrap().unwrap()?.0.into_parts().0);
    }
    Ok(read)
}

proptest! {
    #[test]
    fn h2_reads_every_request_of_a_connection_as_it_was_meant(
        requests in requests(),
        cut in 0_usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();

        let bytes = written(&requests, cut);
        let read = runtime.block_on(read_by_h2(bytes, requests.len())).unwrap();

        for (read, request) in read.iter().zip(&requests) {
            prop_assert_eq!(read.uri.authority().unwrap().as_str(), "k");
            prop_assert_eq!(read.uri.path(), &request.path.0);
            let more = |name: &str| -> Vec<_> {
                let values = request.more.iter().filter(|(other, ..)| other == name);
                values.map(|(_, value, _)| value.as_str()).collect()
            };
            for (name, ..) in &request.more {
                let values: Vec<_> =
                    read.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
                prop_assert_eq!(values, more(name));
            }
        }
    }
}

#[tokio::test]
async fn an_authority_as_short_as_can_be_is_not_pushed_out_of_a_full_table() {
    let filling = 4096 - (":authority".len() + 1 + 32) - ("x-a".len() + 32);
    let request = Request {
        authority: ("a".to_owned(), How::Indexed),
        path: ("/a".to_owned(), How::Plain),
        more: vec![("x-a".to_owned(), "v".repeat(filling), How::Indexed)],
    };

    let read = read_by_h2(written(&[request.clone(), request], 0), 2).await.unwrap();

    assert!(read.iter().all(|read| read.uri.authority().unwrap() == "k"));
}

#[tokio::test]
async fn headers_that_are_too_long_end_the_connection() {
    let bytes = [PREFACE_BYTES, &[0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]].concat();

    let error = read_by_h2(bytes, 1).await.unwrap_err();

    assert_eq!(error.to_string(), "a request has more than 16 KiB of headers");
}

#[tokio::test]
async fn what_the_server_writes_is_left_alone() {
    let (client, mut far) = tokio::io::duplex(64);
    let mut near = Rewritten::new(client);
    let answer = [PREFACE_BYTES, b"\x00\x00\x08\x01\x04\x00\x00\x00\x01\x41\x06%2Frun"].concat();

    near.write_all(&answer).await.unwrap();
    near.shutdown().await.unwrap();

    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut far, &mut read).await.unwrap();
    assert_eq!(read, answer);
}
