//! Dials over real sockets, where the kernel says several things at once.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use mainspring::codec::Lines;
use mainspring::{CloseReason, ConnId, Context, Flow, Handler, Reactor};

#[derive(Default)]
struct Recorder {
    lines: Vec<Vec<u8>>,
    closed: Option<CloseReason>,
}

impl Handler for Recorder {
    type Codec = Lines;
    type Session = ();

    fn on_message(&mut self, _: &mut Context<Self>, _: ConnId, line: &[u8]) {
        self.lines.push(line.to_vec());
    }

    fn on_close(&mut self, cx: &mut Context<Self>, _: ConnId, reason: CloseReason, (): ()) {
        self.closed = Some(reason);
        cx.shutdown();
    }
}

/// The answer to the dial, the first bytes and the end of the stream come as one event, and no other follows.
#[test]
fn a_peer_that_speaks_and_ends_before_the_dial_is_noticed_is_heard_and_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut reactor = Reactor::new(Recorder::default()).expect("there is a poller");
    reactor.connect(listener.local_addr().expect("it is bound"), Lines::default());
    let (mut peer, _) = listener.accept().expect("the dial is in the queue");
    peer.write_all(b"bye\n").expect("it is open");
    drop(peer);

    let mut turns = 0;
    while reactor.turn(Some(Duration::from_secs(1))).expect("it turns") == Flow::Continue && turns < 10 {
        turns += 1;
    }
    assert_eq!(reactor.handler().lines, [b"bye"]);
    assert!(
        matches!(reactor.handler().closed, Some(CloseReason::Peer { truncated: false })),
        "{:?}",
        reactor.handler().closed
    );
}
