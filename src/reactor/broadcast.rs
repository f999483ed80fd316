//! One message to many: encoded once, judged for each.

use bytes::Bytes;
use log::trace;

use super::Context;
use super::send::{BY_REFERENCE, DropReason, Sent};
use crate::buffer::{Label, Ledger, Payload, Shared};
use crate::codec::{Codec, EncodeError, Output};
use crate::handler::{Handler, Outgoing};
use crate::id::ConnId;

/// Encoded bytes of at least this are shared by all outboxes; shorter ones are copied into each, which costs less than
/// counting references and writing more slices.
const SHARE: usize = 8 * 1024;

/// Whom a broadcast goes to. Each gets it once.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum To<'a> {
    /// Every open connection.
    All,
    /// Every open connection but this one.
    AllBut(ConnId),
    /// These. One that is named twice gets it twice.
    Set(&'a [ConnId]),
    /// The members of a group, see [`Context::join`]; a dial that has joined gets it when it is open.
    Group(u64),
    /// The members of a group but this one.
    GroupBut(u64, ConnId),
}

/// What became of a broadcast, in receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Broadcast {
    /// It is queued for so many, those above the mark included.
    pub queued: usize,
    /// Of those, so many outboxes are above the high mark.
    pub above_mark: usize,
    /// So many did not get it: gone, closing, closed now as slow consumers, or by their overflow policy.
    pub dropped: usize,
    /// So many did not get it because their framing cannot say it.
    pub refused: usize,
}

impl Broadcast {
    fn count(&mut self, sent: Sent) {
        match sent {
            Sent::Queued => self.queued += 1,
            Sent::AboveMark => {
                self.queued += 1;
                self.above_mark += 1;
            }
            Sent::Dropped(DropReason::Refused(_)) => self.refused += 1,
            Sent::Dropped(_) => self.dropped += 1,
        }
    }
}

/// The bytes of a message for all codecs that encode like the first one.
#[derive(Debug)]
pub(super) struct Encoded<C> {
    codec: C,
    bytes: Result<Shape, EncodeError>,
}

#[derive(Debug)]
enum Shape {
    Copied,
    Shared(Shared),
}

impl<C: Codec> Encoded<C> {
    /// Encodes, into `scratch` what is to be copied.
    pub(super) fn new(
        mut codec: C,
        message: C::Outgoing<'_>,
        scratch: &mut Vec<u8>,
        ledger: &mut Ledger,
    ) -> Encoded<C> {
        scratch.clear();
        let bytes = codec.encode(message, &mut Output::to_vec(scratch)).map(|()| {
            if scratch.len() < SHARE {
                Shape::Copied
            } else {
                Shape::Shared(ledger.enter(Bytes::from(std::mem::take(scratch))))
            }
        });
        Encoded { codec, bytes }
    }

    pub(super) fn is_copied(&self) -> bool {
        matches!(self.bytes, Ok(Shape::Copied))
    }
}

impl<H: Handler> Context<H> {
    /// Sends one message to many connections.
    ///
    /// It is encoded once for all whose codecs say [`same_encoding`](Codec::same_encoding), and once for each other. Each
    /// receiver is judged by its own outbox, and a slow one never delays the others: past the write limit it is closed at
    /// the end of the turn, unless it has another [`Overflow`](crate::Overflow) policy.
    pub fn broadcast(&mut self, to: To<'_>, message: Outgoing<'_, H>) -> Broadcast {
        let result = self.broadcast_labelled(to, message, Label::default());
        trace!("a broadcast to {} connections", result.queued);
        result
    }

    pub(super) fn broadcast_labelled(
        &mut self,
        to: To<'_>,
        message: Outgoing<'_, H>,
        label: Label,
    ) -> Broadcast {
        let but = match to {
            To::AllBut(but) => Some(but),
            _ => None,
        };
        let plain = label == Label::default();
        let mut encoded = None;
        if plain && matches!(to, To::All | To::AllBut(_)) {
            if let Some(result) = self.gather(but, message, &mut encoded) {
                return result;
            }
            self.end_series();
            if encoded.is_none() {
                if let Some(result) = self.begin_broadcasts(but, message, &mut encoded) {
                    return result;
                }
            }
        }
        self.end_series();
        let mut result = Broadcast::default();
        match to {
            To::Set(set) => {
                for conn in set {
                    result.count(self.send_encoded(*conn, message, label, &mut encoded));
                }
            }
            // Nothing in here opens or removes a connection, so that places stay what they are.
            To::All | To::AllBut(_) => {
                for place in 0..self.table.open().len() {
                    let conn = self.table.open()[place];
                    if but != Some(conn) {
                        result.count(self.send_encoded(conn, message, label, &mut encoded));
                    }
                }
            }
            To::Group(key) | To::GroupBut(key, _) => {
                let Some(members) = self.groups.remove(&key) else { return result };
                let len = members.len();
                self.walked_group = Some((key, members));
                for place in 0..len {
                    let Some(conn) = self.walked_group.as_ref().map(|(_, members)| members[place]) else {
                        break;
                    };
                    if !matches!(to, To::GroupBut(_, but) if but == conn) {
                        result.count(self.send_encoded(conn, message, label, &mut encoded));
                    }
                }
                if let Some((key, members)) = self.walked_group.take() {
                    self.groups.insert(key, members);
                }
            }
        }
        result
    }

    /// One receiver of a broadcast.
    fn send_encoded(
        &mut self,
        to: ConnId,
        message: Outgoing<'_, H>,
        label: Label,
        encoded: &mut Option<Encoded<H::Codec>>,
    ) -> Sent {
        let Context { table, pool, scratch, limits, current, dirty, ledger, .. } = self;
        let Some(live) = table.get_mut(to) else { return self.dropped(DropReason::Gone) };
        let whole = live.takes_whole(limits, label, *current == Some(to));
        let encoded = match encoded {
            Some(encoded) if encoded.codec.same_encoding(&live.codec) => encoded,
            None if live.codec.same_encoding(&live.codec) => {
                encoded.insert(Encoded::new(live.codec.clone(), message, scratch, ledger))
            }
            _ => return self.append(to, label, |codec, out| codec.encode(message, out)),
        };
        if whole {
            let payload = match &encoded.bytes {
                Ok(Shape::Copied) => Payload::Own(scratch.as_slice().into()),
                Ok(Shape::Shared(bytes)) => Payload::Shared(bytes.clone()),
                Err(error) => {
                    let error = *error;
                    return self.dropped(DropReason::Refused(error));
                }
            };
            return self.push(to, payload, label);
        }
        match &encoded.bytes {
            Ok(Shape::Copied) => {
                live.outbox.tail(pool).extend_from_slice(scratch);
                live.outbox.commit(scratch.len(), pool);
            }
            Ok(Shape::Shared(bytes)) => {
                if live.outbox.is_empty() || bytes.len() >= BY_REFERENCE {
                    live.outbox.share(bytes.clone(), pool);
                } else {
                    live.outbox.copy(bytes.bytes(), pool);
                }
                live.outbox.mark(bytes.len(), pool);
            }
            Err(error) => {
                let error = *error;
                return self.dropped(DropReason::Refused(error));
            }
        }
        live.appended(to, limits, dirty)
    }
}
