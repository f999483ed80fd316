//! Against another implementation: `openssl s_client` and `openssl s_server`, where they are installed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use mainspring::codec::Lines;
use mainspring::{CloseReason, ConnId, Context, Dial, Handler, ListenOptions, Reactor};
use tempfile::TempDir;

use crate::certificates::{Authority, Issued};
use crate::common::{turn_until, wait_for};
use crate::foreign::{Foreign, installed};

/// What `openssl` is to have in its folder.
fn files(authority: &Authority, issued: &Issued) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("ca.pem", &authority.pem());
    write("chain.pem", &issued.chain);
    write("key.pem", &issued.key);
    folder
}

fn openssl(folder: &TempDir, arguments: &[&str]) -> Foreign {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Foreign(command.spawn().expect("openssl starts"))
}

/// Answers lines, and notes how connections have ended.
#[derive(Default)]
struct Talker {
    open: Option<ConnId>,
    lines: Vec<Vec<u8>>,
    closed: Option<CloseReason>,
    failed: Option<String>,
    echoes: bool,
}

impl Handler for Talker {
    type Codec = Lines;
    type Session = ();

    fn on_open(&mut self, _: &mut Context<Self>, conn: ConnId) {
        self.open = Some(conn);
    }
    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &[u8]) {
        if self.echoes {
            cx.send(from, line);
        }
        self.lines.push(line.to_vec());
    }
    fn on_close(&mut self, _: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.closed = Some(reason);
    }
    fn on_dial_failed(&mut self, _: &mut Context<Self>, _: ConnId, error: mainspring::DialError, (): ()) {
        self.failed = Some(error.to_string());
    }
}

#[test]
fn a_client_of_openssl_is_served_and_hears_our_last_word() {
    if !installed("openssl", &["version"]) {
        return;
    }
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let files = files(&authority, &issued);
    for version in ["-tls1_3", "-tls1_2"] {
        let mut reactor = Reactor::new(Talker { echoes: true, ..Talker::default() }).expect("a poller");
        let options = ListenOptions::tls(issued.acceptor());
        let listening = reactor.listen_with("127.0.0.1:0", Lines::default(), &options).expect("a free port");
        let address = listening.to_string();
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            "localhost",
            "-CAfile",
            "ca.pem",
            "-verify_return_error",
            "-quiet",
            version,
        ];
        let mut client = openssl(&files, &arguments);
        let mut stdin = client.0.stdin.take().expect("it is piped");
        let mut stdout = BufReader::new(client.0.stdout.take().expect("it is piped"));
        let mut stderr = client.0.stderr.take().expect("it is piped");
        let long = "x".repeat(100_000);
        let input = format!("hello\n{long}\n");
        let expected = input.clone();
        let talking = std::thread::spawn(move || {
            stdin.write_all(input.as_bytes()).expect("it reads");
            let mut got = String::new();
            while got.len() < expected.len() {
                assert!(stdout.read_line(&mut got).expect("text") > 0, "the end after {} bytes", got.len());
            }
            assert!(got == expected);
            // The end of the output is the end of the connection.
            stdout.read_to_string(&mut got).expect("text");
            let mut errors = String::new();
            stderr.read_to_string(&mut errors).expect("text");
            drop(stdin);
            errors
        });
        turn_until(&mut reactor, "two lines", |reactor| (reactor.handler().lines.len() == 2).then_some(()));
        reactor.context().shutdown();
        while reactor.turn(None).expect("a poller that works") == mainspring::Flow::Continue {}
        let errors = talking.join().expect("no panic");
        assert!(!errors.contains("unexpected eof"), "{errors}");
    }
}

#[test]
fn a_server_of_openssl_is_dialed() {
    if !installed("openssl", &["version"]) {
        return;
    }
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let files = files(&authority, &issued);
    for version in ["-tls1_3", "-tls1_2"] {
        // A port that is free now, and by all odds when it is used.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let accept = format!("127.0.0.1:{port}");
        let arguments =
            ["s_server", "-accept", &accept, "-cert", "chain.pem", "-key", "key.pem", "-rev", version];
        let _server = openssl(&files, &arguments);
        // It answers each line with the same line backwards.
        let mut reactor = Reactor::new(Talker::default()).expect("a poller");
        let connector = authority.connector();
        let conn = wait_for("a server that listens", || {
            let to = Dial::to(accept.as_str()).tls(connector.clone()).server_name("localhost");
            let conn = reactor.connect(to, Lines::default());
            turn_until(&mut reactor, "an answer", |reactor| {
                let talker = reactor.handler();
                (talker.open.is_some() || talker.failed.is_some()).then_some(())
            });
            reactor.handler_mut().failed = None;
            reactor.handler().open.map(|open| {
                assert_eq!(open, conn);
                conn
            })
        });
        reactor.context().send(conn, b"desserts");
        turn_until(&mut reactor, "a line", |reactor| (!reactor.handler().lines.is_empty()).then_some(()));
        assert_eq!(reactor.handler().lines, [b"stressed"]);
        reactor.context().close(conn);
        turn_until(&mut reactor, "the end", |reactor| reactor.handler().closed.is_some().then_some(()));
        assert!(matches!(reactor.handler().closed, Some(CloseReason::Local)));
    }
}
