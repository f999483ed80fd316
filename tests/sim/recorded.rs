//! What was recorded is played again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainspring::codec::{Lines, Raw};
use mainspring::sim::{self, Chunk, Recorder, Recording, Way};
use mainspring::{ConnId, Context, Handler, Reactor};

struct Shout;

impl Handler for Shout {
    type Codec = Lines;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, line: &[u8]) {
        cx.send(from, &line.to_ascii_uppercase());
    }
}

fn kept() -> (Arc<Mutex<Vec<Recording>>>, impl FnMut(Recording) + Send) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&all);
    (all, move |recording| keep.lock().expect("nobody panics with it").push(recording))
}

#[test]
fn a_connection_is_recorded_and_does_the_same_again() {
    sim::check_seeds(0..30, |world| {
        let server = world.reactor(Shout);
        server.listen("10.0.0.1:7000", Lines::default());
        let (all, keep) = kept();
        let recorder = world.reactor(Recorder::new("10.0.0.1:7000", keep));
        let at = recorder.listen("10.0.0.2:7000", Raw);
        let mut alice = world.dial(&at);
        alice.send("one\ntw").expect("ONE\n");
        alice.after(Duration::from_secs(2)).send("o\n").expect("TWO\n").shut_down_writing().expect_end();
        let mut bob = world.dial(&at);
        bob.send("x").after(Duration::from_millis(50)).reset();
        world.run_for(Duration::from_secs(1));

        let all = all.lock().unwrap().clone();
        let [alice, bob] = &all[..] else { panic!("two are over: {all:?}") };
        assert_eq!(alice.bytes(Way::ToServer), b"one\ntwo\n");
        assert_eq!(alice.bytes(Way::ToClient), b"ONE\nTWO\n");
        assert!(alice.chunks().any(|(at, ..)| at >= Duration::from_secs(2)));
        assert!(alice.chunks().any(|(_, way, chunk)| (way, chunk) == (Way::ToServer, &Chunk::End)));
        assert_eq!(
            bob.chunks().last().map(|(_, way, chunk)| (way, chunk)),
            Some((Way::ToServer, &Chunk::Reset))
        );

        let text = alice.to_string();
        let again: Recording = text.parse().unwrap();
        assert_eq!(again, *alice);
        let before = world.elapsed();
        world.dial("10.0.0.1:7000").play(&again).expect(again.bytes(Way::ToClient)).expect_end();
        assert!(world.elapsed() - before >= Duration::from_secs(2), "the same time apart");
        let mut lines = 0;
        again.play(Way::ToServer, Lines::default(), |_| lines += 1).unwrap();
        assert_eq!(lines, 2);
    });
}

#[test]
fn a_live_connection_is_recorded_too() {
    let (all, keep) = kept();
    let mut server = Reactor::new(Shout).unwrap();
    let to = server.listen("127.0.0.1:0", Lines::default()).unwrap();
    let mut recorder = Reactor::new(Recorder::new(&to.address, keep)).unwrap();
    let at = recorder.listen("127.0.0.1:0", Raw).unwrap();
    let (stop_server, stop_recorder) = (server.handle(), recorder.handle());
    std::thread::scope(|scope| {
        scope.spawn(move || server.run().unwrap());
        scope.spawn(move || recorder.run().unwrap());
        let mut client = mainspring::client::Client::connect(at.address, Lines::default()).unwrap();
        client.send(b"live").unwrap();
        assert_eq!(client.recv().unwrap(), Some(&b"LIVE"[..]));
        drop(client);
        stop_recorder.shutdown();
        stop_server.shutdown();
    });
    let all = all.lock().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].bytes(Way::ToServer), b"live\n");
    assert_eq!(all[0].bytes(Way::ToClient), b"LIVE\n");
}
