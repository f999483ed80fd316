//! The other side: rustls' own blocking stream on a socket of the standard library, and frames of the default codec.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use mainspring::codec::LengthPrefixed;
use mainspring::tls::Acceptor;
use mainspring::tls::rustls::pki_types::ServerName;
use mainspring::tls::rustls::pki_types::pem::PemObject;
use mainspring::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use mainspring::tls::rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring::default_provider,
};
use mainspring::{Dial, ListenOptions};

use crate::certificates::{Authority, Issued};
use crate::common::{Server, Tester, connect, echo, frame};

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A client's configuration of rustls' own.
pub(crate) fn client_config(authority: &Authority, identity: Option<&Issued>) -> ClientConfig {
    config_of_versions(authority, identity, ALL_VERSIONS)
}

fn config_of_versions(
    authority: &Authority,
    identity: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a root");
    roots.add(root).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain.expect("a chain"), key).expect("an identity")
        }
    }
}

pub(crate) fn client_of_version(
    authority: &Authority,
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> TlsStream {
    client(config_of_versions(authority, None, &[version]), "localhost", address)
}

pub(crate) fn client(config: ClientConfig, name: &str, address: SocketAddr) -> TlsStream {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    StreamOwned::new(session, connect(address))
}

/// A client that has a connection to this server.
pub(crate) fn plain_client(authority: &Authority, address: SocketAddr) -> TlsStream {
    client(client_config(authority, None), "localhost", address)
}

pub(crate) fn send(stream: &mut impl Write, message: &[u8]) {
    stream.write_all(&frame(message)).expect("it is taken");
}

pub(crate) fn recv(stream: &mut impl Read) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a header");
    let mut message = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut message).expect("the rest of a frame");
    message
}

#[track_caller]
pub(crate) fn expect_echo(stream: &mut (impl Read + Write), message: &[u8]) {
    send(stream, message);
    let got = recv(stream);
    assert!(got == message, "{} bytes came back of {}", got.len(), message.len());
}

/// A server of TLS that echoes.
pub(crate) fn echo_server(acceptor: Acceptor) -> Server {
    let builder = mainspring::Reactor::<Tester>::builder();
    Server::with(builder, &ListenOptions::tls(acceptor), Tester::new(echo))
}

/// A reactor that dials, and what it receives.
pub(crate) fn dialing(to: Dial) -> (Server, Receiver<Vec<u8>>) {
    let (messages, received) = mpsc::channel();
    let server = Server::new(move |_, _, message| drop(messages.send(message.to_vec())));
    server.ask(move |cx| cx.connect(to, LengthPrefixed::default()));
    (server, received)
}

/// What is left, to the end: in order, or why not.
pub(crate) fn read_to_end(stream: &mut impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map(drop);
    (bytes, end)
}
