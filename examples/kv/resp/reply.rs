//! What is answered.

use mainspring::codec::Output;

use super::number::digits;
use super::scan::Complaint;

/// A reply. What is kept elsewhere is lent, and copied once: into what goes to the kernel, or not at all when it is large.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply<'a> {
    /// One that is always the same, as it goes out.
    Fixed(&'static str),
    Integer(i64),
    /// A bulk string, or nil.
    Value(Option<&'a [u8]>),
    /// An array of them.
    Values(&'a [Option<&'a [u8]>]),
    /// `-ERR` and this text, whose line breaks become blanks.
    Error(&'a [u8]),
    /// A protocol error, the last reply of a connection.
    Complaint(Complaint),
}

impl Reply<'_> {
    pub(crate) const OK: Reply<'static> = Reply::Fixed("+OK\r\n");
    pub(crate) const PONG: Reply<'static> = Reply::Fixed("+PONG\r\n");
    pub(crate) const NO_VALUES: Reply<'static> = Reply::Fixed("*0\r\n");
}

impl<'m> Reply<'m> {
    #[inline]
    pub(super) fn encode(self, out: &mut Output<'_, 'm>) {
        match self {
            Reply::Fixed(wire) => out.put(wire.as_bytes()),
            Reply::Integer(number) => put_number(b':', number, out),
            Reply::Value(value) => put_value(value, out),
            Reply::Values(values) => {
                put_number(b'*', values.len() as i64, out);
                values.iter().for_each(|value| put_value(*value, out));
            }
            Reply::Error(text) => put_error(text, out),
            Reply::Complaint(complaint) => {
                put_error(format!("Protocol error: {complaint}").as_bytes(), out);
            }
        }
    }
}

#[inline]
fn put_value<'m>(value: Option<&'m [u8]>, out: &mut Output<'_, 'm>) {
    match value {
        None => out.put(b"$-1\r\n"),
        Some(value) => {
            put_number(b'$', value.len() as i64, out);
            out.payload(value);
            out.put(b"\r\n");
        }
    }
}

/// `kind`, a number and the end of a line, in one piece.
#[inline]
fn put_number(kind: u8, number: i64, out: &mut Output<'_, '_>) {
    let digits = digits(number);
    let digits = digits.as_bytes();
    let mut line = [0; 24];
    let end = 1 + digits.len();
    line[0] = kind;
    line[1..end].copy_from_slice(digits);
    line[end..end + 2].copy_from_slice(b"\r\n");
    out.put(&line[..end + 2]);
}

#[cold]
fn put_error(text: &[u8], out: &mut Output<'_, '_>) {
    out.put(b"-ERR ");
    for line in text.split_inclusive(|byte| is_break(*byte)) {
        match line.split_last() {
            Some((last, before)) if is_break(*last) => {
                out.put(before);
                out.put(b" ");
            }
            _ => out.put(line),
        }
    }
    out.put(b"\r\n");
}

fn is_break(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}
