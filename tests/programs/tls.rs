//! The options of TLS: in a build that has it, and in one that has not.

use super::support::Program;

#[cfg(not(feature = "tls"))]
#[test]
fn a_program_that_was_built_without_tls_says_so() {
    for (name, arguments) in [
        ("echo", "--listen 127.0.0.1:0 --tls-cert cert.pem --tls-key key.pem"),
        ("client", "127.0.0.1:1 --tls"),
        ("client", "127.0.0.1:1 --tls --tls-ca ca.pem"),
    ] {
        let ended = Program::start(name, arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.errors.contains("--features tls"), "{ended:?}");
    }
}

#[test]
fn options_that_belong_together_are_asked_for_together() {
    for (name, arguments) in [
        ("echo", "--listen 127.0.0.1:0 --tls-cert cert.pem"),
        ("echo", "--listen 127.0.0.1:0 --tls-key key.pem"),
        ("echo", "--listen 127.0.0.1:0 --tls-client-ca ca.pem"),
        ("client", "127.0.0.1:1 --tls-ca ca.pem"),
        ("client", "127.0.0.1:1 --tls --tls-cert cert.pem"),
    ] {
        let ended = Program::start(name, arguments).ended();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    }
}

#[cfg(feature = "tls")]
mod with {
    use std::fs;
    use std::io::Write;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
    use tempfile::TempDir;

    use super::super::support::{Ended, Program, expect_count};

    /// Certificates of one test: `ca.pem`, and `NAME.pem` with `NAME.key` for each name.
    struct Files {
        folder: TempDir,
        authority: (Certificate, KeyPair),
    }

    impl Files {
        fn new() -> Files {
            let folder = tempfile::tempdir().expect("a folder");
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
            Files { folder, authority: (certificate, key) }
        }

        fn issue(&self, name: &str) {
            let params = CertificateParams::new([name.to_owned()]).expect("a name");
            let key = KeyPair::generate().expect("a key");
            let (authority, by) = &self.authority;
            let certificate = params.signed_by(&key, authority, by).expect("a certificate");
            fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("a file");
            fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("a file");
        }

        fn path(&self, name: &str) -> String {
            self.folder.path().join(name).to_str().expect("text").to_owned()
        }
    }

    fn run(arguments: &str, input: &[u8]) -> Ended {
        let mut client = Program::start("client", arguments);
        // One that fails may have ended.
        drop(client.stdin().write_all(input));
        client.ended()
    }

    #[test]
    fn client_and_server_speak_tls() {
        let files = Files::new();
        files.issue("localhost");
        let (chain, key) = (files.path("localhost.pem"), files.path("localhost.key"));
        for reactors in [1, 2] {
            let server =
                Program::serve("echo", &format!("--tls-cert {chain} --tls-key {key} --reactors {reactors}"));
            let port = server.address().port();
            let tls = format!("--tls --tls-ca {} --wait 300ms", files.path("ca.pem"));
            let ended = run(&format!("localhost:{port} {tls}"), b"one\n\ntwo\n");
            ended.expect_success();
            assert_eq!(ended.lines, [&b"one"[..], b"", b"two"]);
            // The address is not in the certificate, but the name may be asked for.
            let ended = run(&format!("127.0.0.1:{port} {tls}"), b"");
            ended.expect_failure(&["cannot connect to 127.0.0.1", "certificate"]);
            let ended = run(&format!("127.0.0.1:{port} {tls} --tls-name localhost"), b"three\n");
            ended.expect_success();
            let stats = server.stop();
            expect_count(&stats, "frames_in", 4);
            expect_count(&stats, "handshakes_failed", 1);
            assert_eq!(stats["closes"]["peer"], 2, "{stats}");
        }
    }

    #[test]
    fn latency_measures_a_server_of_tls() {
        let files = Files::new();
        files.issue("localhost");
        let (chain, key) = (files.path("localhost.pem"), files.path("localhost.key"));
        let server = Program::serve("echo", &format!("--tls-cert {chain} --tls-key {key}"));
        let arguments = format!(
            "localhost:{} --tls --tls-ca {} --connections 3 --pipeline 4 --duration 100ms --warmup 50ms",
            server.address().port(),
            files.path("ca.pem")
        );
        let ended = Program::start("latency", &arguments).ended();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let stats = server.stop();
        expect_count(&stats, "accepted", 3);
        expect_count(&stats, "handshakes_failed", 0);
        let ended = Program::start("latency", "--tls").ended();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    }

    #[test]
    fn a_server_may_want_certificates_of_its_clients() {
        let files = Files::new();
        files.issue("localhost");
        files.issue("somebody");
        let (chain, key, ca) =
            (files.path("localhost.pem"), files.path("localhost.key"), files.path("ca.pem"));
        let server =
            Program::serve("echo", &format!("--tls-cert {chain} --tls-key {key} --tls-client-ca {ca}"));
        let to = format!("localhost:{} --tls --tls-ca {ca} --wait 300ms", server.address().port());
        let ended = run(&to, b"anonymous\n");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.errors.contains("CertificateRequired"), "{ended:?}");
        let (chain, key) = (files.path("somebody.pem"), files.path("somebody.key"));
        let ended = run(&format!("{to} --tls-cert {chain} --tls-key {key}"), b"known\n");
        ended.expect_success();
        assert_eq!(ended.lines, [b"known"]);
        expect_count(&server.stop(), "accepted", 1);
    }

    #[test]
    fn files_that_are_no_good_are_one_line_that_names_them() {
        let files = Files::new();
        files.issue("localhost");
        let (chain, key, none) =
            (files.path("localhost.pem"), files.path("localhost.key"), files.path("none.pem"));
        let echo =
            |arguments: String| Program::start("echo", &format!("--listen 127.0.0.1:0 {arguments}")).ended();
        echo(format!("--tls-cert {none} --tls-key {key}")).expect_failure(&["none.pem"]);
        echo(format!("--tls-cert {chain} --tls-key {chain}"))
            .expect_failure(&["localhost.pem", "private key"]);
        echo(format!("--tls-cert {chain} --tls-key {key} --tls-client-ca {key}"))
            .expect_failure(&["localhost.key", "no certificate"]);
        let ended = run(&format!("localhost:1 --tls --tls-ca {none}"), b"");
        ended.expect_failure(&["none.pem"]);
    }
}
