//! One connection with its socket: where it stands, and what is known of its two directions.

use super::jobs::Life;
use super::rates::{Rated, RatesOf};
use crate::address::Address;
use crate::buffer::WriteQueue;
use crate::codec::Codec;
use crate::connection::{CloseReason, Halt, Halts, Inbox, Overflow};
use crate::id::ListenerId;
use crate::net::{Received, Stream};
use crate::time::{Tick, TimerKey};

/// Where a connection stands. Each step goes down this list, never up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The connect has no answer yet. What is sent waits.
    Dialing,
    /// Connected; TLS is not agreed on yet.
    Handshaking,
    /// Connected; `on_open` comes in this turn or the next.
    Opening,
    /// Open.
    Open,
    /// No further message will be delivered. It ends when its outbox is empty and no answer is owed.
    Finishing,
    /// It takes nothing more to send either. It ends when its outbox is empty.
    Closing,
    /// It has ended, and waits for the end of the turn.
    Ended,
}

/// What is known of a connection's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// More may come.
    Open,
    /// The end was read. What is held has to be delivered first.
    Ended,
    /// The end was read and the handler knows.
    Finished,
}

/// Where our own output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OurSide {
    /// More may be sent.
    Open,
    /// Nothing more is taken; our side is shut when what is queued has been written.
    Ending,
    /// Our side is shut. The peer's may be open still.
    Ended,
    /// The connection has ended with bytes unsent: its socket is cut by a reset.
    Lost,
}

/// One connection.
///
/// In memory as written: what each message touches is together at the front, in four lines of a cache, and what only the ends
/// of a connection need is behind it.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Live<C, S> {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) halts: Halts,
    pub(super) input: Input,
    pub(super) output: OurSide,
    /// The socket may have something to read. Only a read that says so clears it.
    pub(super) readable: bool,
    /// The socket may have room. Only a write that says so clears it.
    pub(super) writable: bool,
    /// An event said that the peer has ended its input: short reads prove nothing any more, the end has to be read.
    pub(super) read_closed: bool,
    /// An event told of urgent data: a short read proves nothing until the socket has answered that it is empty.
    pub(super) urgent: bool,
    /// It is on the list of those to be flushed.
    pub(super) dirty: bool,
    /// It is on the list of those to be looked at in the next turn.
    pub(super) scheduled: bool,
    /// It is on the list of those that wait for memory before they are read.
    pub(super) starved: bool,
    /// Its outbox is above the high mark: `on_writable` comes when it has fallen to the low one.
    pub(super) above_mark: bool,
    /// The kernel has taken something from us.
    pub(super) spoke: bool,
    /// A write has left something that waits for the peer.
    pub(super) waits: bool,
    /// A whole message has come from it.
    pub(super) heard: bool,
    /// It is on the list of those whose `on_writable` is due.
    pub(super) writable_due: bool,
    /// It is read although its outbox is above the mark.
    pub(super) reads_above_mark: bool,
    /// We dialed it.
    pub(super) dialed: bool,
    /// What becomes of messages that it does not take fast enough.
    pub(super) overflow: Overflow,
    /// Its handler was told of such messages, and its outbox has not fallen to the low mark since.
    pub(super) overflowed: bool,
    /// Its directions that have a rate.
    pub(super) rated: Rated,
    /// When a byte last came or went.
    pub(super) active: Tick,
    /// When the kernel last took something of what waits.
    pub(super) moved: Tick,
    /// Answers still to come.
    pub(super) owed: u32,
    /// Its place in the list of the open.
    pub(super) place: u32,
    /// When it was opened.
    pub(super) opened: Tick,
    /// What it holds, as last counted in the reactor's sum.
    pub(super) counted: usize,
    pub(super) stream: Stream,
    pub(super) codec: C,
    pub(super) outbox: WriteQueue,
    pub(super) inbox: Inbox,
    // ---- what few turns look at
    pub(super) peer: Address,
    pub(super) listener: Option<ListenerId>,
    /// The one deadline of its phase: dial, idle or close.
    pub(super) watch: Option<TimerKey>,
    /// Where in the stream that frame begins.
    pub(super) frame_at: u64,
    /// Why it is on its way to the end, or will be when our side ends too.
    pub(super) reason: Option<Box<CloseReason>>,
    /// What few connections have.
    pub(super) extras: Option<Box<Extras>>,
    /// When the first byte came of the frame that is not whole yet.
    pub(super) frame_since: Tick,
    /// There until the handler gets it back.
    pub(super) session: Option<S>,
}

/// What a proxy in front may say of a client.
#[cfg(feature = "proxy-protocol")]
pub(super) type Header = Option<Box<crate::proxy_protocol::ProxyHeader>>;
/// Nobody says anything.
#[cfg(not(feature = "proxy-protocol"))]
pub(super) type Header = Option<std::convert::Infallible>;

/// What few connections have: timers of their own, groups, and jobs elsewhere.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) timers: Vec<TimerKey>,
    /// Keys of groups, and the place in each.
    pub(super) groups: Vec<(u64, usize)>,
    /// Messages that the overflow policy has dropped.
    pub(super) missed: u64,
    pub(super) rates: RatesOf,
    /// Told when it takes nothing more.
    pub(super) life: Option<Life>,
    /// Input dropped while closing.
    pub(super) discarded: u64,
    /// What the proxy in front has said of it.
    pub(super) header: Header,
    /// How many hold it back, see [`Halt::Workers`].
    pub(super) holds: u32,
}

impl<C: Codec, S: Default> Live<C, S> {
    pub(super) fn new(stream: Stream, peer: Address, codec: C, phase: Phase, now: Tick) -> Live<C, S> {
        let mut halts = Halts::default();
        halts.set(Halt::Phase);
        Live {
            generation: 0,
            phase,
            halts,
            input: Input::Open,
            output: OurSide::Open,
            readable: false,
            writable: phase != Phase::Dialing,
            read_closed: false,
            urgent: false,
            dirty: false,
            scheduled: false,
            starved: false,
            above_mark: false,
            writable_due: false,
            reads_above_mark: phase == Phase::Dialing,
            dialed: phase == Phase::Dialing,
            overflow: Overflow::Close,
            overflowed: false,
            rated: Rated::default(),
            owed: 0,
            place: u32::MAX,
            stream,
            peer,
            listener: None,
            codec,
            session: Some(S::default()),
            inbox: Inbox::default(),
            outbox: WriteQueue::default(),
            spoke: false,
            waits: false,
            heard: false,
            opened: now,
            frame_since: now,
            frame_at: u64::MAX,
            moved: now,
            active: now,
            watch: None,
            reason: None,
            extras: None,
            counted: 0,
        }
    }

    /// Reads once, and notes what that says about the socket.
    #[inline]
    pub(super) fn note(&mut self, received: &Received) {
        match received {
            Received::Some { drained, .. } => {
                if *drained {
                    self.readable = false;
                }
            }
            Received::Empty => {
                self.readable = false;
                self.urgent = false;
            }
            Received::End => {
                self.readable = false;
                self.input = Input::Ended;
            }
            Received::Failed(_) => self.readable = false,
        }
    }

    /// Whether a short read may be taken for a drained socket.
    #[inline]
    pub(super) fn trusts_short_reads(&self) -> bool {
        !self.read_closed && !self.urgent
    }

    /// Its peer may be gone, and what it has sent before that still counts.
    #[inline]
    pub(super) fn hears_the_gone(&self) -> bool {
        self.stream.keeps_input_when_cut() && self.phase <= Phase::Open && !self.is_detaching()
    }

    /// Its `on_open` has come.
    pub(super) fn is_open(&self) -> bool {
        self.place != u32::MAX
    }

    /// Its socket was asked for, and leaves at the end of the turn.
    pub(super) fn is_detaching(&self) -> bool {
        self.phase == Phase::Open && self.halts.contains(Halt::Phase)
    }

    /// What is held begins a frame that is not whole. Returns whether it has just begun.
    #[inline]
    pub(super) fn note_frame(&mut self, now: Tick) -> bool {
        let begins = self.inbox.offset();
        if self.frame_at == begins {
            return false;
        }
        (self.frame_at, self.frame_since) = (begins, now);
        true
    }

    /// Input dropped while closing.
    pub(super) fn discarded(&self) -> u64 {
        self.extras.as_ref().map_or(0, |extras| extras.discarded)
    }

    /// What it holds alone, by capacity.
    #[inline]
    pub(super) fn held(&self) -> usize {
        // Of one that has ended nothing more is counted; its stream goes at the end of the turn.
        let stream = if self.phase == Phase::Ended { 0 } else { self.stream.held() };
        self.inbox.held() + self.outbox.held() + stream
    }

    /// Whether something waits to be written: what TLS has sealed, or has to say, is in no outbox.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || self.stream.holds_output()
    }

    /// Bytes that wait to be written.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.outbox.bytes() + self.stream.unsent()
    }

    /// What would be let go of with it, if it is the last to hold what it shares.
    pub(super) fn burden(&self) -> usize {
        self.held() + self.outbox.shared()
    }

    /// Whether something is left to be delivered or read without a further event.
    pub(super) fn is_unfinished(&self) -> bool {
        self.readable || self.inbox.is_due() || self.input == Input::Ended
    }

    /// Nothing more can be sent to it: who makes something for it elsewhere may stop.
    pub(super) fn end_life(&mut self) {
        if let Some(life) = self.extras.as_ref().and_then(|extras| extras.life.as_ref()) {
            life.end();
        }
    }

    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}
