//! The programs on Unix sockets: the file that each makes, finds and leaves, and what goes through it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::support::{PATIENCE, Program, expect_count, frame, many_frames, noise};

/// A folder of a test's own, with a place for a socket. Gone when the test has passed.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("s")
    }

    /// As an address on a command line.
    fn address(&self) -> String {
        format!("unix:{}", self.path().display())
    }

    fn has_a_socket(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok_and(|found| found.file_type().is_socket())
    }
}

/// Starts a server on a socket in `folder`, and waits until it listens.
fn serve(name: &str, folder: &Folder, arguments: &str) -> Program {
    let mut program = Program::start(name, &format!("--listen {} {arguments}", folder.address()));
    assert_eq!(program.line(), format!("listening on {}", folder.address()));
    program
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

#[track_caller]
fn expect(mut stream: &UnixStream, bytes: &[u8]) {
    let mut arrived = vec![0; bytes.len()];
    stream.read_exact(&mut arrived).expect("enough arrives");
    assert!(arrived == bytes, "{} bytes arrived, and others than were sent", bytes.len());
}

#[track_caller]
fn expect_echo(mut stream: &UnixStream) {
    stream.write_all(&frame(b"hello")).expect("it is taken");
    expect(stream, &frame(b"hello"));
}

#[track_caller]
fn expect_end(mut stream: &UnixStream) {
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
}

#[test]
fn a_server_says_where_it_is_and_leaves_no_file() {
    for arguments in ["", "--reactors 2"] {
        let folder = Folder::new();
        let echo = serve("echo", &folder, arguments);
        assert!(folder.has_a_socket());
        let client = connect(&folder.path());
        expect_echo(&client);
        let stats = echo.stop();
        expect_end(&client);
        assert!(!folder.path().exists(), "it has removed its file");
        expect_count(&stats, "accepted", 1);
        expect_count(&stats, "frames_out", 1);
    }
}

#[test]
fn a_server_that_was_killed_is_replaced_by_the_next() {
    let folder = Folder::new();
    let echo = serve("echo", &folder, "");
    echo.signal("KILL");
    echo.ended();
    assert!(folder.has_a_socket(), "nobody has removed it");
    let echo = serve("echo", &folder, "");
    expect_echo(&connect(&folder.path()));
    echo.stop();
    assert!(!folder.path().exists());
}

#[test]
fn a_live_server_is_left_alone() {
    for arguments in ["", "--reactors 2"] {
        let folder = Folder::new();
        let first = serve("echo", &folder, arguments);
        let client = connect(&folder.path());
        expect_echo(&client);
        let second = Program::start("echo", &format!("--listen {} {arguments}", folder.address()));
        second.ended().expect_failure(&[&folder.address(), "listens"]);
        expect_echo(&client);
        expect_echo(&connect(&folder.path()));
        first.stop();
    }
}

#[test]
fn a_file_that_is_no_socket_is_left_as_it_is() {
    let folder = Folder::new();
    fs::write(folder.path(), "precious").expect("it can be written");
    let echo = Program::start("echo", &format!("--listen {}", folder.address()));
    echo.ended().expect_failure(&[&folder.address(), "no socket"]);
    assert_eq!(fs::read(folder.path()).expect("it is there"), b"precious");
}

#[test]
fn what_cannot_be_a_socket_is_one_line() {
    let folder = Folder::new();
    let long = format!("{}{}", folder.address(), "x".repeat(120));
    Program::start("echo", &format!("--listen {long}")).ended().expect_failure(&[&long, "bytes"]);
    Program::start("client", &long).ended().expect_failure(&[&long, "bytes"]);
    let nobody = folder.address();
    Program::start("client", &nobody).ended().expect_failure(&[&nobody]);
    Program::start("tensor", &format!("send {nobody} 1")).ended().expect_failure(&[&nobody]);
    Program::start("latency", &nobody).ended().expect_failure(&[&nobody]);
    for arguments in ["--listen unix:", "--listen unix", "--unix-mode 888"] {
        assert_eq!(Program::start("echo", arguments).ended().status.code(), Some(2), "{arguments}");
    }
}

#[test]
fn the_mode_is_as_it_is_told() {
    let mode =
        |folder: &Folder| fs::metadata(folder.path()).expect("it is there").permissions().mode() & 0o777;
    let folder = Folder::new();
    let echo = serve("echo", &folder, "");
    assert_eq!(mode(&folder), 0o600);
    echo.stop();
    let _echo = serve("echo", &folder, "--unix-mode 666");
    assert_eq!(mode(&folder), 0o666);
}

#[test]
fn clients_of_all_kinds_come_through_one() {
    let folder = Folder::new();
    let echo = serve("echo", &folder, "");
    let mut client = Program::start("client", &format!("{} --wait 300ms", folder.address()));
    client.stdin().write_all(b"one\ntwo\n").expect("it reads");
    let ended = client.ended();
    ended.expect_success();
    assert_eq!(ended.lines, [b"one", b"two"]);
    let tensor = Program::start("tensor", &format!("send {} 1.5 NaN -0.0", folder.address())).ended();
    tensor.expect_success();
    assert_eq!(tensor.lines.concat(), b"1.5NaN-0.0");
    let arguments = "--connections 2 --size 1KiB --duration 200ms --warmup 0 --json";
    let latency = Program::start("latency", &format!("{} {arguments}", folder.address())).ended();
    latency.expect_success();
    let report: serde_json::Value =
        serde_json::from_slice(latency.lines.last().expect("a report")).expect("it is JSON");
    assert_eq!(report["errors"], 0);
    assert!(report["messages"].as_u64() > Some(0), "{report}");
    echo.stop();
}

#[test]
fn a_relay_leads_from_one_to_another() {
    let (front, back) = (Folder::new(), Folder::new());
    let echo = serve("echo", &back, "");
    let proxy = serve("proxy", &front, &format!("--to {}", back.address()));
    let client = connect(&front.path());
    let wire = many_frames(2_000, 2_000);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            (&client).write_all(&wire).expect("it is taken");
            client.shutdown(Shutdown::Write).expect("it is open");
        });
        expect(&client, &wire);
    });
    expect_end(&client);
    let stats = proxy.stop();
    expect_count(&stats, "accepted", 1);
    expect_count(&stats, "connected", 1);
    echo.stop();
    // Nobody is there any more.
    let proxy = serve("proxy", &front, &format!("--to {}", back.address()));
    let refused = connect(&front.path());
    expect_end(&refused);
    proxy.stop();
}

#[test]
fn a_broadcast_reaches_the_clients_of_both_kinds() {
    for arguments in ["", "--reactors 2"] {
        let folder = Folder::new();
        let mut server = Program::start(
            "broadcast",
            &format!("--listen 127.0.0.1:0 --listen {} {arguments}", folder.address()),
        );
        let tcp = server.expect_listening();
        assert_eq!(server.line(), format!("listening on {}", folder.address()));
        let (ours, mut theirs) = (connect(&folder.path()), super::support::Peer::connect(tcp));
        // Each is known to be open once it has heard something.
        (&ours).write_all(&frame(b"I am here")).expect("it is taken");
        expect(&ours, &frame(b"I am here"));
        theirs.send(&frame(b"so am I"));
        expect(&ours, &frame(b"so am I"));
        server.stop();
    }
}

#[test]
fn a_socket_of_a_service_manager_is_served_and_its_file_stays() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path()).expect("it is free");
    let early = connect(&folder.path());
    let passed = std::os::fd::OwnedFd::from(listener);
    let mut echo = Program::activate("echo", "", passed, 1, "$$");
    assert_eq!(echo.line(), format!("listening on {}", folder.address()));
    expect_echo(&early);
    expect_echo(&connect(&folder.path()));
    echo.stop();
    assert!(folder.has_a_socket(), "it is the manager's");
}

/// oven-sh/bun PR #37920: half a frame and a hang-up, while the server does not read that client.
#[test]
fn a_client_that_hangs_up_while_it_is_not_read_costs_no_processor() {
    let folder = Folder::new();
    let echo = serve("echo", &folder, "");
    let client = connect(&folder.path());
    client.set_nonblocking(true).expect("it can be set");
    // Never reads: at some point its own answers hold it back.
    let wire = frame(&noise(1, 100_000));
    let mut sent = 0;
    let mut full = 0;
    while full < 20 {
        match (&client).write(&wire[sent % wire.len()..]) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(_) => {
                full += 1;
                std::thread::park_timeout(std::time::Duration::from_millis(10));
            }
        }
    }
    drop(client);
    echo.expect_rest();
    let stats = echo.stop();
    expect_count(&stats, "closed", 1);
}
