//! What lies beneath the API server: keys written straight to its etcd, one after another.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::harness::Cluster;
use crate::samples::Samples;

/// `count` writes of a kibibyte, through etcd's gateway for JSON and one connection.
pub fn writes(cluster: &Cluster, count: usize) -> Samples {
    let number = fs::read_to_string(cluster.state.join("number")).unwrap();
    let mut stream = TcpStream::connect(format!("10.77.{}.1:2379", number.trim())).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Both in base64: the key is "berth-bench", and the value a kibibyte of zeros.
    let body = format!("{{\"key\":\"YmVydGgtYmVuY2g=\",\"value\":\"{}\"}}", "A".repeat(1364));
    let request = format!(
        "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut samples = Samples::default();
    for _ in 0..count {
        samples.time(|| {
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            // A short answer with a length, which ends in the last of two braces.
            while !answer.ends_with(b"}}") {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&part[..read]);
            }
        });
    }
    samples
}
