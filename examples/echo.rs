//! x
use mainspring::{ConnId, Context, Handler, Reactor, codec::LengthPrefixed};

struct Echo;

impl Handler for Echo {
    type Codec = LengthPrefixed;
    type Session = ();

    fn on_message(&mut self, cx: &mut Context<Self>, from: ConnId, message: &[u8]) {
        cx.send(from, message);
    }
}

fn main() -> Result<(), mainspring::Error> {
    env_logger::init();
    let mut reactor = Reactor::new(Echo)?;
    let listening = reactor.listen("127.0.0.1:0", LengthPrefixed::default())?;
    println!("listening on {listening}");
    reactor.run()
}
