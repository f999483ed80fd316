//! What `broadcast` does with frames.

use super::support::{Program, expect_count, frame, noise};

#[test]
fn each_frame_reaches_every_member_its_sender_too_and_in_order() {
    let server = Program::serve("broadcast", "");
    let mut members = Vec::new();
    for joined in 0..4_u32 {
        members.push(server.connect());
        // The newest speaks: it is a member by then, and so are all before it.
        let word = frame(&joined.to_be_bytes());
        members[joined as usize].send(&word);
        for member in &mut members {
            member.expect(&word);
        }
    }
    for number in 0..1_000_u32 {
        members[(number % 4) as usize].send(&frame(&number.to_be_bytes()));
        if number % 4 == 3 {
            // Of different senders there is no order.
            for member in &mut members {
                for _ in 0..4 {
                    member.expect(&4_u32.to_be_bytes());
                    let mut payload = [0; 4];
                    std::io::Read::read_exact(&mut member.0, &mut payload).expect("a payload");
                    assert_eq!(u32::from_be_bytes(payload) / 4, number / 4);
                }
            }
        }
    }
    let stats = server.stop();
    expect_count(&stats, "frames_in", 1_004);
    expect_count(&stats, "frames_out", 1 + 2 + 3 + 4 + 4_000);
}

#[test]
fn with_others_the_sender_hears_nothing_of_its_own() {
    let server = Program::serve("broadcast", "--others --framing lines");
    // Clients are taken in in their order, so that `first` is a member when `second` is heard.
    let (mut first, mut second) = (server.connect(), server.connect());
    second.send(b"from the second\n");
    first.expect(b"from the second\n");
    first.send(b"from the first\n");
    // Had its own line come back, it would be here.
    second.expect(b"from the first\n");
    second.send(b"once more\n");
    first.expect(b"once more\n");
    expect_count(&server.stop(), "frames_out", 3);
}

#[test]
fn a_member_that_never_reads_is_closed_as_a_slow_consumer_and_the_others_get_all() {
    let mut server = Program::serve("broadcast", "--others --write-limit 64KiB --stats-every 20ms");
    let mut deaf = server.connect();
    let mut listening = [server.connect(), server.connect()];
    let mut sender = server.connect();
    let mut sent = 0;
    // In step with those who listen, so that nobody else is ever behind.
    while sent < 4_000 && server_has_not_closed_anyone(&mut server, sent) {
        for _ in 0..50 {
            let word = frame(&noise(sent, 64 * 1024));
            sender.send(&word);
            for member in &mut listening {
                member.expect(&word);
            }
            sent += 1;
        }
    }
    deaf.expect_gone();
    sender.send(&frame(b"the end"));
    for member in &mut listening {
        member.expect(&frame(b"the end"));
    }
    let stats = server.stop();
    expect_count(&stats, "closes.slow_consumer", 1);
    expect_count(&stats, "closes.shutdown", 3);
    expect_count(&stats, "frames_in", sent + 1);
}

/// Looks at the first statistics that know of everything sent.
fn server_has_not_closed_anyone(server: &mut Program, sent: u64) -> bool {
    let stats = server.stats_until("all is read", |stats| stats["frames_in"].as_u64() >= Some(sent));
    stats["closes"]["slow_consumer"] == 0
}
