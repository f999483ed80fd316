//! Clients whose proxy has to say first who they are: what is between `accept` and the admission.
//!
//! They have no place in the table: they are no connections yet, and a header that does not come makes them none. Each has a
//! number, by which the poller tells of it, and a deadline. They count among the connections that may be.

use std::collections::HashMap;
use std::sync::Arc;

use log::{debug, warn};

use super::timers::Deadline;
use super::{Context, Reactor};
use crate::address::Address;
use crate::handler::Handler;
use crate::id::{ConnId, ListenerId};
use crate::net::{GREETING_MAX, Received, Stream, receive};
use crate::proxy_protocol::{Prelude, ProxyHeader, ProxyProtocol, Refusal};
use crate::time::{TimerKey, deadline};

/// All clients of one reactor that have said nothing of themselves yet.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    waiting: HashMap<u32, Greeting>,
    last_number: u32,
}

impl Greetings {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A number that none of them has.
    fn number(&mut self) -> u32 {
        loop {
            self.last_number = if self.last_number < GREETING_MAX { self.last_number + 1 } else { 0 };
            if !self.waiting.contains_key(&self.last_number) {
                return self.last_number;
            }
        }
    }
}

#[derive(Debug)]
struct Greeting {
    listener: ListenerId,
    stream: Stream,
    proxy: Address,
    prelude: Prelude,
    until: TimerKey,
}

/// How far reading a header has come.
enum Progress {
    Waits,
    Whole(Box<ProxyHeader>),
    Refused(Refusal),
}

/// Reads on, and no further than to the end of the header.
fn advance(stream: &mut Stream, prelude: &mut Prelude, proxy: &Address) -> Progress {
    let mut bytes = [0; 512];
    loop {
        let to = match prelude.wants() {
            Ok(0) => {
                return match prelude.read(proxy.clone()) {
                    Ok(header) => Progress::Whole(Box::new(header)),
                    Err(refusal) => Progress::Refused(refusal),
                };
            }
            Ok(wants) => wants.min(bytes.len()),
            Err(refusal) => return Progress::Refused(refusal),
        };
        match receive(stream, &mut bytes[..to], false) {
            Received::Some { n, .. } => prelude.add(&bytes[..n]),
            Received::Empty => return Progress::Waits,
            Received::End | Received::Failed(_) => return Progress::Refused(Refusal::Ended),
        }
    }
}

impl<H: Handler> Context<H> {
    /// What the proxy in front has said of `conn`. `None` for those whose listener asks for nothing, and for dialed ones.
    pub fn proxy_header(&self, conn: ConnId) -> Option<&ProxyHeader> {
        self.table.get(conn)?.extras.as_ref()?.header.as_deref()
    }

    fn refuse_greeting(&mut self, peer: &Address, refusal: &Refusal, silent: bool) {
        self.stats.proxy_refused += 1;
        // One that came and said nothing has only looked whether somebody is there.
        if !silent && self.gate.opens("proxy", self.now) {
            warn!("refused {peer}: {refusal}");
        }
        self.refuse(peer, &refusal.to_string());
    }

    /// Takes a client out of those that wait.
    fn end_greeting(&mut self, number: u32) -> Option<Greeting> {
        let mut greeting = self.greetings.waiting.remove(&number)?;
        self.timers.cancel(greeting.until);
        // A failure means that it was not registered, which is what is wanted.
        drop(self.poller.remove_stream(&mut greeting.stream));
        Some(greeting)
    }

    /// Its header was not whole in time.
    pub(super) fn greeting_timed_out(&mut self, number: u32) {
        if let Some(Greeting { proxy, prelude, .. }) = self.end_greeting(number) {
            self.refuse_greeting(&proxy, &Refusal::TimedOut, prelude.is_empty());
            self.retry_paused_listeners();
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// A client was accepted whose listener wants a header first.
    pub(super) fn greet(
        &mut self,
        listener: ListenerId,
        wanted: &Arc<ProxyProtocol>,
        mut stream: Stream,
        proxy: Address,
    ) {
        let cx = &mut self.cx;
        if !wanted.trusts(&proxy) {
            return cx.refuse_greeting(&proxy, &Refusal::Untrusted, false);
        }
        // Of clients that are handed out, those judge who get them.
        let handed_out = cx.hands_out(listener);
        let full = if handed_out { cx.greetings.len() >= cx.connections_max } else { cx.is_full() };
        if full {
            return cx.refuse(&proxy, "there are as many connections as may be");
        }
        let mut prelude = Prelude::new(wanted.header_max);
        // It has come with the connection, usually.
        match advance(&mut stream, &mut prelude, &proxy) {
            Progress::Waits => {}
            Progress::Whole(header) => return self.greeted(listener, stream, proxy, header),
            Progress::Refused(refusal) => return cx.refuse_greeting(&proxy, &refusal, prelude.is_empty()),
        }
        let number = cx.greetings.number();
        if let Err(error) = cx.poller.add_greeting(&mut stream, number) {
            return cx.refuse(&proxy, &format!("it cannot be waited for: {error}"));
        }
        let until = cx.timers.set(deadline(cx.now, wanted.timeout), Deadline::Greeting(number));
        cx.greetings.waiting.insert(number, Greeting { listener, stream, proxy, prelude, until });
    }

    /// More of a header has come.
    pub(super) fn greeting_is_ready(&mut self, number: u32) {
        let Some(greeting) = self.cx.greetings.waiting.get_mut(&number) else {
            self.cx.stats.stale_events += 1;
            return;
        };
        let progress = advance(&mut greeting.stream, &mut greeting.prelude, &greeting.proxy);
        if matches!(progress, Progress::Waits) {
            return;
        }
        let Some(Greeting { listener, stream, proxy, prelude, .. }) = self.cx.end_greeting(number) else {
            return;
        };
        match progress {
            Progress::Waits => {}
            Progress::Whole(header) => self.greeted(listener, stream, proxy, header),
            Progress::Refused(refusal) => {
                self.cx.refuse_greeting(&proxy, &refusal, prelude.is_empty());
                self.cx.retry_paused_listeners();
            }
        }
    }

    /// It is known who the client is: from now on it is like any other.
    fn greeted(&mut self, listener: ListenerId, stream: Stream, proxy: Address, header: Box<ProxyHeader>) {
        let peer = header.source().cloned().unwrap_or_else(|| proxy.clone());
        debug!("{proxy} passes on {peer}");
        self.take_in(listener, Ok(stream), peer, Some(header));
    }

    /// The listener is about to end: those whose header is there are served like the others.
    pub(super) fn end_greetings(&mut self, listener: ListenerId) {
        let of_it =
            |(number, greeting): (&u32, &Greeting)| (greeting.listener == listener).then_some(*number);
        let numbers: Vec<u32> = self.cx.greetings.waiting.iter().filter_map(of_it).collect();
        for number in numbers {
            self.greeting_is_ready(number);
            if let Some(greeting) = self.cx.end_greeting(number) {
                self.cx.refuse(&greeting.proxy, "its header is not there, and the server shuts down");
            }
        }
    }
}
