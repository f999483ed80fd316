//! What is agreed on in a handshake, and who the peer is.

use std::fs;
use std::io::Write;

use mainspring::tls::rustls::ServerConfig;
use mainspring::tls::{Acceptor, Certificates, Connector, Error, TlsInfo};
use mainspring::{ConnId, Dial};

use crate::certificates::{Authority, Issued, local};
use crate::common::Server;
use crate::peers::{TlsStream, client, client_config, dialing, echo_server, expect_echo, plain_client};

/// The names in the certificate that the server has shown.
fn shown(stream: &mut TlsStream) -> Vec<u8> {
    stream.flush().expect("a handshake");
    stream.conn.peer_certificates().expect("it has shown one")[0].to_vec()
}

fn der(issued: &Issued) -> Vec<u8> {
    use mainspring::tls::rustls::pki_types::CertificateDer;
    use mainspring::tls::rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate").to_vec()
}

/// Asks the server about its only connection.
#[track_caller]
fn about<T: Send + 'static>(server: &Server, ask: impl FnOnce(TlsInfo<'_>) -> T + Send + 'static) -> T {
    let conn: ConnId = server.events.wait_opened();
    server.ask(move |cx| cx.tls(conn).map(ask)).expect("it speaks TLS")
}

#[test]
fn who_asks_for_a_name_gets_its_certificate() {
    let authority = Authority::new();
    let default = authority.issue(&["default.example", "anything.else"]);
    let shop = authority.issue(&["shop.example"]);
    let wild = authority.issue(&["*.wild.example"]);
    let certificates = default.certificates();
    certificates.add_pem("shop.example", shop.chain.as_bytes(), shop.key.as_bytes()).expect("a certificate");
    certificates
        .add_pem("*.Wild.example", wild.chain.as_bytes(), wild.key.as_bytes())
        .expect("a certificate");
    let server = echo_server(Acceptor::builder(certificates).build().expect("all it needs"));
    for (name, expected) in [
        ("shop.example", &shop),
        ("SHOP.example", &shop),
        ("a.wild.example", &wild),
        ("anything.else", &default),
        ("default.example", &default),
    ] {
        let mut client = client(client_config(&authority, None), name, server.address);
        assert!(shown(&mut client) == der(expected), "{name}");
        let asked = about(&server, |tls| tls.server_name().map(str::to_owned));
        assert_eq!(asked.map(|name| name.to_ascii_lowercase()), Some(name.to_ascii_lowercase()));
    }
    // `a.b.wild.example` has one label too many.
    let mut config = client_config(&authority, None);
    config.enable_sni = false;
    let mut anonymous = client(config, "default.example", server.address);
    assert!(shown(&mut anonymous) == der(&default));
    assert_eq!(about(&server, |tls| tls.server_name().map(str::to_owned)), None);
}

#[test]
fn a_protocol_is_agreed_on_or_the_client_is_turned_away() {
    let (authority, issued) = local();
    let acceptor =
        Acceptor::builder(issued.certificates()).alpn(["new/2", "old/1"]).build().expect("all it needs");
    let server = echo_server(acceptor);
    for (offered, agreed) in
        [(&["old/1", "new/2"][..], Some("new/2")), (&["old/1"], Some("old/1")), (&[], None)]
    {
        let connector = Connector::builder().trust_pem(authority.pem().as_bytes()).alpn(offered).build();
        let to = Dial::to(("localhost", server.address.port())).tls(connector.expect("a root"));
        let (dialing, _answers) = dialing(to);
        let own = about(&dialing, |tls| tls.alpn().map(<[u8]>::to_vec));
        assert_eq!(own.as_deref(), agreed.map(str::as_bytes));
        let theirs = about(&server, |tls| tls.alpn().map(<[u8]>::to_vec));
        assert_eq!(theirs.as_deref(), agreed.map(str::as_bytes));
    }
    let connector = Connector::builder().trust_pem(authority.pem().as_bytes()).alpn(["unheard/3"]).build();
    let (dialing, _answers) =
        dialing(Dial::to(("localhost", server.address.port())).tls(connector.expect("a root")));
    let (_, error) = dialing.events.wait("on_dial_failed", crate::common::dial_failed);
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    server.wait_stats("one turned away", |stats| stats.handshakes_failed == 1);
}

#[test]
fn the_identity_of_a_client_is_known() {
    let (authority, issued) = local();
    let clients = Authority::new();
    let builder = || Acceptor::builder(issued.certificates()).client_ca_pem(clients.pem().as_bytes());
    let server = echo_server(builder().client_optional(true).build().expect("a root"));
    let known = clients.issue(&["client-7.example"]);
    let connector = Connector::builder()
        .trust_pem(authority.pem().as_bytes())
        .identity_pem(known.chain.as_bytes(), known.key.as_bytes())
        .build()
        .expect("an identity");
    // The second time the session is resumed, and it is the same client.
    for resumed in [false, true] {
        let to = Dial::to(("localhost", server.address.port())).tls(connector.clone());
        let (dialing, answers) = dialing(to);
        let conn = dialing.events.wait_opened();
        dialing.ask(move |cx| cx.send(conn, b"who am I?"));
        answers.recv_timeout(crate::common::PATIENCE).expect("an answer");
        let (name, names, shown, again) = about(&server, |tls| {
            let shown = tls.certificates().iter().map(|one| one.to_vec()).collect::<Vec<_>>();
            (tls.common_name(), tls.dns_names(), shown, tls.is_resumed())
        });
        assert_eq!(name.as_deref(), Some("client-7.example"));
        assert_eq!(names, ["client-7.example"]);
        assert_eq!(shown, [der(&known)]);
        assert_eq!(again, resumed);
    }
    let mut anonymous = plain_client(&authority, server.address);
    expect_echo(&mut anonymous, b"I am nobody");
    assert_eq!(about(&server, |tls| (tls.common_name(), tls.certificates().len())), (None, 0));
}

#[test]
fn certificates_are_changed_while_the_server_runs() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let write = |issued: &Issued| {
        fs::write(&chain, &issued.chain).expect("a file");
        fs::write(&key, &issued.key).expect("a file");
    };
    let (first, second) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    write(&first);
    let certificates = Certificates::from_pem_files(&chain, &key).expect("a certificate");
    let server = echo_server(Acceptor::builder(certificates.clone()).build().expect("all it needs"));
    let mut old = plain_client(&authority, server.address);
    assert!(shown(&mut old) == der(&first));

    // Files that do not belong together change nothing.
    fs::write(&chain, &second.chain).expect("a file");
    let error = certificates.reload().expect_err("another key");
    assert!(error.to_string().contains("chain.pem"), "{error}");
    assert!(shown(&mut plain_client(&authority, server.address)) == der(&first));

    write(&second);
    certificates.reload().expect("a certificate");
    assert!(shown(&mut plain_client(&authority, server.address)) == der(&second));
    expect_echo(&mut old, b"still there");

    folder.close().expect("our folder");
    let error = certificates.reload().expect_err("no file");
    assert!(matches!(&error, Error::Read { path, .. } if *path == chain), "{error}");
    assert!(shown(&mut plain_client(&authority, server.address)) == der(&second));
}

#[test]
fn a_client_that_comes_back_resumes_its_session() {
    let (authority, issued) = local();
    let server = echo_server(issued.acceptor());
    let connector = authority.connector();
    for resumed in [false, true, true] {
        let to = Dial::to(("localhost", server.address.port())).tls(connector.clone());
        let (dialing, answers) = dialing(to);
        let conn = dialing.events.wait_opened();
        // The tickets come before the answer.
        dialing.ask(move |cx| cx.send(conn, b"hello"));
        answers.recv_timeout(crate::common::PATIENCE).expect("an answer");
        assert_eq!(dialing.ask(move |cx| cx.tls(conn).map(|tls| tls.is_resumed())), Some(resumed));
        assert_eq!(about(&server, |tls| tls.is_resumed()), resumed);
    }
}

#[test]
fn tickets_are_written_though_nobody_sends() {
    let (authority, issued) = local();
    let server = Server::with(
        mainspring::Reactor::<crate::common::Tester>::builder(),
        &mainspring::ListenOptions::tls(issued.acceptor()),
        crate::common::Tester::new(crate::common::ignore),
    );
    let mut client = plain_client(&authority, server.address);
    client.conn.complete_io(&mut client.sock).expect("a handshake");
    let before = client.conn.tls13_tickets_received();
    client.conn.complete_io(&mut client.sock).expect("what comes behind it");
    assert!(before < 2 && client.conn.tls13_tickets_received() > 0 || before == 2);
    server.expect_rest();
}

#[test]
fn files_that_are_no_good_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["one"]), authority.issue(&["other"]));
    let says = |what: &str| {
        let error = Acceptor::from_pem_files(&chain, &key).expect_err("no good").to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    says("chain.pem");
    fs::write(&chain, &one.chain).expect("a file");
    says("key.pem");
    fs::write(&key, &one.chain).expect("a file");
    says("key.pem: there is no private key");
    fs::write(&key, &other.key).expect("a file");
    says("chain.pem: the certificate cannot be used with its key");
    fs::write(&chain, "nothing").expect("a file");
    says("chain.pem: there is no certificate");
    let error = Connector::trusting_pem_file(&chain).expect_err("no root").to_string();
    assert!(error.contains("chain.pem"), "{error}");
    assert!(Connector::builder().build().expect_err("nobody is trusted").to_string().contains("no root"));
}

#[test]
fn a_configuration_of_rustls_is_taken_as_it_is_but_for_early_data() {
    use mainspring::tls::rustls::crypto::ring::default_provider;
    use mainspring::tls::rustls::pki_types::pem::PemObject;
    use mainspring::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (authority, issued) = local();
    let mut config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key"),
        )
        .expect("a certificate");
    let server = echo_server(Acceptor::from_config(config.clone().into()).expect("no early data"));
    let connector = Connector::from_config(client_config(&authority, None).into());
    let (dialing, answers) = dialing(Dial::to(("localhost", server.address.port())).tls(connector));
    let conn = dialing.events.wait_opened();
    dialing.ask(move |cx| cx.send(conn, b"hello"));
    assert_eq!(answers.recv_timeout(crate::common::PATIENCE).expect("an answer"), b"hello");
    config.max_early_data_size = 1_000;
    assert!(matches!(Acceptor::from_config(config.into()), Err(Error::Config(_))));
}
