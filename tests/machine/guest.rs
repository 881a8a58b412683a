//! What the virtual machine runs beside its init: it carries out the test's commands, and leads its calls to Berth's socket.
//! The standard library alone, so that `rustc` makes one static file of it; `tests/machine/build` does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;

/// Where commands come in: `LENGTH`, a line break, and so many bytes of a script; one a connection.
const COMMANDS: u16 = 7000;
/// Where gRPC comes in, and where it goes.
const CALLS: u16 = 7001;
const SOCKET: &str = "/run/berth/csi.sock";
/// Where HTTP comes in, and where it goes.
const WEB: u16 = 7002;
const METRICS: &str = "127.0.0.1:8080";

fn main() {
    thread::spawn(|| serve(CALLS, call));
    thread::spawn(|| serve(WEB, browse));
    serve(COMMANDS, carry_out);
}

fn serve(port: u16, answer: fn(TcpStream) -> io::Result<()>) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is nobody's");
    for connection in listener.incoming().flatten() {
        thread::spawn(move || answer(connection));
    }
}

/// Runs a script, and answers `STATUS LENGTH`, a line break and what it printed.
fn carry_out(mut connection: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut length = String::new();
    reader.read_line(&mut length)?;
    let mut script = vec![0; length.trim().parse().map_err(io::Error::other)?];
    reader.read_exact(&mut script)?;
    let script = format!("exec 2>&1\n{}", String::from_utf8_lossy(&script));
    let done = Command::new("/bin/sh").arg("-c").arg(script).output()?;
    write!(connection, "{} {}\n", done.status.code().unwrap_or(255), done.stdout.len())?;
    connection.write_all(&done.stdout)
}

/// Leads what comes in to Berth's socket and back.
fn call(caller: TcpStream) -> io::Result<()> {
    let berth = UnixStream::connect(SOCKET)?;
    let answers = berth.try_clone()?;
    let ended = relay(caller, &berth, answers);
    berth.shutdown(Shutdown::Both)?;
    ended
}

/// As [`call`], to Berth's metrics and health.
fn browse(caller: TcpStream) -> io::Result<()> {
    let berth = TcpStream::connect(METRICS)?;
    let answers = berth.try_clone()?;
    let ended = relay(caller, &berth, answers);
    berth.shutdown(Shutdown::Both)?;
    ended
}

/// Copies both ways, until the caller is done or `answers` are.
fn relay(
    mut caller: TcpStream,
    mut berth: impl Write,
    mut answers: impl Read + Send + 'static,
) -> io::Result<()> {
    let mut back = caller.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    io::copy(&mut caller, &mut berth).map(drop)
}
