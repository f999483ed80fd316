//! What went over a connection, chunk by chunk with its times: kept as text, and played again.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use super::peer::Peer;
use crate::codec::{Codec, FrameError, Scan};

/// Which way a chunk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// One thing that went over a connection: what one read has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunk {
    /// Bytes, never none.
    Bytes(Vec<u8>),
    /// That side has ended its output.
    End,
    /// That side has cut the connection.
    Reset,
}

/// All that went over one connection.
///
/// As text, which is also its format in a file, it is a first line that says so, then a line for each chunk: seconds since the
/// connection was opened, `>` for what the client sent or `<` for what the server did, and the bytes in hexadecimal, or `end`, or
/// `reset`. Empty lines and those that begin with `#` say nothing.
///
/// ```
/// use mainspring::sim::{Recording, Way};
///
/// let recording: Recording = "\
/// mainspring recording 1
/// ## A greeting that came in two pieces, and its answer.
/// 0.000000 > 68656c
/// 0.012500 > 6c6f0a
/// 0.013000 < 48454c4c4f0a
/// 1.000000 > end
/// "
/// .replace("##", "#")
/// .parse()?;
/// assert_eq!(recording.bytes(Way::ToServer), b"hello\n");
/// # Ok::<(), mainspring::sim::RecordingError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    chunks: Vec<(Duration, Way, Chunk)>,
}

const FIRST_LINE: &str = "mainspring recording 1";

/// A text that is no recording: which line, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingError {
    line: usize,
    what: &'static str,
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for RecordingError {}

impl Recording {
    /// One to which nothing was added.
    pub fn new() -> Recording {
        Recording::default()
    }

    /// Adds a chunk. One that is earlier than the last is taken to be as late as that. Bytes that are none are left out.
    pub fn add(&mut self, at: Duration, way: Way, chunk: Chunk) {
        let at = self.chunks.last().map_or(at, |(last, ..)| at.max(*last));
        if chunk != Chunk::Bytes(Vec::new()) {
            self.chunks.push((at, way, chunk));
        }
    }

    /// All chunks in order, with the time since the beginning.
    pub fn chunks(&self) -> impl Iterator<Item = (Duration, Way, &Chunk)> {
        self.chunks.iter().map(|(at, way, chunk)| (*at, *way, chunk))
    }

    /// All bytes of one way, without where they were cut.
    pub fn bytes(&self, way: Way) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, of, chunk) in &self.chunks {
            match chunk {
                Chunk::Bytes(chunk) if *of == way => bytes.extend_from_slice(chunk),
                _ => {}
            }
        }
        bytes
    }

    /// Plays one way into a codec, chunk by chunk, and hands over its messages.
    ///
    /// # Errors
    /// What the codec says of bytes that are no frame. A recording that ends inside a frame, without the end of that way, is no
    /// error.
    pub fn play<C: Codec>(
        &self,
        way: Way,
        mut codec: C,
        mut message: impl FnMut(C::Message<'_>),
    ) -> Result<(), FrameError> {
        let mut held: Vec<u8> = Vec::new();
        let mut skip = 0;
        for (_, of, chunk) in &self.chunks {
            if *of != way {
                continue;
            }
            match chunk {
                Chunk::Bytes(bytes) => held.extend_from_slice(bytes),
                Chunk::End => {
                    while let Some(len) = codec.scan_end(&held)?.filter(|len| (1..=held.len()).contains(len))
                    {
                        message(codec.parse(&mut held[..len])?);
                        held.drain(..len);
                    }
                    return Ok(());
                }
                Chunk::Reset => return Ok(()),
            }
            let mut at = 0;
            loop {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(held.len() - at);
                skip -= skipped as u64;
                at += skipped;
                if at == held.len() {
                    break;
                }
                match codec.scan(&held[at..])? {
                    Scan::Frame(0) | Scan::Skip(0) => {
                        return Err(FrameError::malformed("the codec found a frame without bytes"));
                    }
                    Scan::Frame(len) if len <= held.len() - at => {
                        message(codec.parse(&mut held[at..at + len])?);
                        at += len;
                    }
                    Scan::Frame(_) | Scan::Need(_) => break,
                    Scan::Skip(n) => skip = n,
                }
            }
            held.drain(..at);
        }
        Ok(())
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        for (at, way, chunk) in &self.chunks {
            let way = if *way == Way::ToServer { '>' } else { '<' };
            write!(f, "{}.{:06} {way} ", at.as_secs(), at.subsec_micros())?;
            match chunk {
                Chunk::Bytes(bytes) => {
                    for byte in bytes {
                        write!(f, "{byte:02x}")?;
                    }
                    f.write_char('\n')?;
                }
                Chunk::End => writeln!(f, "end")?,
                Chunk::Reset => writeln!(f, "reset")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Recording {
    type Err = RecordingError;

    fn from_str(text: &str) -> Result<Recording, RecordingError> {
        let mut recording = Recording::new();
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line.trim_end()) != Some(FIRST_LINE) {
            return Err(RecordingError { line: 1, what: "it is not `mainspring recording 1`" });
        }
        for (line, number) in lines {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| RecordingError { line: number, what };
            let mut words = line.split_whitespace();
            let (at, way, chunk) = (words.next(), words.next(), words.next());
            let at = at
                .and_then(seconds)
                .ok_or(wrong("the time is not in seconds, with up to six digits behind the point"))?;
            let way = match way {
                Some(">") => Way::ToServer,
                Some("<") => Way::ToClient,
                _ => return Err(wrong("the way is neither > nor <")),
            };
            let chunk = match chunk {
                Some("end") => Chunk::End,
                Some("reset") => Chunk::Reset,
                Some(hex) => Chunk::Bytes(bytes(hex).ok_or(wrong("the bytes are not in hexadecimal"))?),
                None => return Err(wrong("nothing went over")),
            };
            if words.next().is_some() {
                return Err(wrong("something is behind the chunk"));
            }
            recording.add(at, way, chunk);
        }
        Ok(recording)
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let micros = format!("{part:0<6}").parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_micros(micros))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() % 2 != 0 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

impl Peer {
    /// Does what the client of a recording did: the same chunks, the same time apart. What the server sent is left to
    /// [`expect`](Peer::expect): `alice.play(&recording).expect(recording.bytes(Way::ToClient))`.
    pub fn play(&mut self, recording: &Recording) -> &mut Peer {
        let begin = self.engine.now();
        for (at, way, chunk) in recording.chunks() {
            if way != Way::ToServer {
                continue;
            }
            self.after((begin + at).saturating_sub(self.engine.now()));
            match chunk {
                Chunk::Bytes(bytes) => self.send(bytes),
                Chunk::End => self.shut_down_writing(),
                Chunk::Reset => self.reset(),
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Lines;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn sample() -> Recording {
        let mut recording = Recording::new();
        recording.add(ms(0), Way::ToServer, Chunk::Bytes(b"one\ntw".to_vec()));
        recording.add(ms(1), Way::ToClient, Chunk::Bytes(vec![0, 255]));
        recording.add(ms(1_500), Way::ToServer, Chunk::Bytes(b"o\nthree".to_vec()));
        recording.add(ms(1_400), Way::ToServer, Chunk::End);
        recording.add(ms(2_000), Way::ToClient, Chunk::Reset);
        recording
    }

    #[test]
    fn text_says_all_of_it() {
        let text = sample().to_string();
        assert_eq!(text.lines().nth(2), Some("0.001000 < 00ff"));
        assert_eq!(text.lines().nth(4), Some("1.500000 > end"), "time does not go back");
        assert_eq!(text.parse(), Ok(sample()));
        let loose = text.replace("0.001000", "\n # a note\n  0.001");
        assert_eq!(loose.parse(), Ok(sample()));
    }

    #[test]
    fn text_that_is_no_recording_says_where() {
        for (line, at) in [
            ("x > 00", 2),
            ("0.1 = 00", 2),
            ("0.1 > 0", 2),
            ("0.1 > +1", 2),
            ("0.1 > 0g", 2),
            ("0.1 >", 2),
            ("0.1 > 00 00", 2),
            ("1.0000001 > 00", 2),
            ("\n.5 > 00", 3),
        ] {
            let error = format!("{FIRST_LINE}\n{line}\n").parse::<Recording>().unwrap_err();
            assert_eq!(error.line, at, "{line}: {error}");
        }
        assert_eq!("".parse::<Recording>().unwrap_err().line, 1);
    }

    #[test]
    fn it_is_played_into_a_codec_with_its_end() {
        let mut lines = Vec::new();
        sample().play(Way::ToServer, Lines::default(), |line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines, [&b"one"[..], b"two", b"three"]);
    }
}
