//! The programs behind a proxy.

use super::support::{Program, expect_count, frame};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n";

#[test]
fn a_server_behind_a_proxy_takes_a_header_first() {
    for arguments in ["--proxy-protocol", "--proxy-protocol --reactors 2 --proxy-trust 127.0.0.1"] {
        let echo = Program::serve("echo", arguments);
        let mut client = echo.connect();
        client.send(&[HEADER, &frame(b"hi")].concat());
        client.expect(&frame(b"hi"));
        client.expect_echo();
        let mut other = echo.connect();
        other.send(&frame(b"no header"));
        other.expect_gone();
        let stats = echo.stop();
        expect_count(&stats, "accepted", 1);
        expect_count(&stats, "refused", 1);
        expect_count(&stats, "proxy_refused", 1);
    }
}

#[test]
fn a_server_behind_a_proxy_trusts_whom_it_is_told_to() {
    let echo =
        Program::serve("echo", "--proxy-protocol --proxy-trust 10.0.0.0/8 --proxy-trust 2001:db8::/32");
    let mut client = echo.connect();
    client.expect_gone();
    expect_count(&echo.stop(), "proxy_refused", 1);
    let echo = Program::serve("echo", "");
    let mut client = echo.connect();
    client.send(HEADER);
    // It is a frame that is too long, and no header, where nobody asks for one.
    client.expect_gone();
    expect_count(&echo.stop(), "closes.frame_too_long", 1);
    for arguments in ["--proxy-protocol --proxy-trust 10.0.0.1/8", "--proxy-trust 10.0.0.0/8"] {
        assert_eq!(Program::start("echo", arguments).ended().status.code(), Some(2), "{arguments}");
    }
}
