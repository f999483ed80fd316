//! TLS from outside: served and dialed by a reactor, and by the blocking client, against rustls' own blocking streams and
//! against OpenSSL where it is installed.

#![cfg(feature = "tls")]

#[path = "../common/reactor.rs"]
mod common;
#[path = "../common/foreign.rs"]
mod foreign;

mod agreed;
mod certificates;
mod echo;
mod ends;
mod flow;
mod handshakes;
mod openssl;
mod peers;
