//! tokio: one task a connection for echo, two for broadcast, all on one thread.

use std::io;
use std::net::SocketAddr;

use ::tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use ::tokio::net::{TcpListener, TcpStream};
use ::tokio::runtime;
use ::tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::announce;
use crate::frame::PAYLOAD_MAX;
use crate::scenario::Job;

/// Frames that a member of a broadcast may be behind before it is given up.
const BEHIND_MAX: usize = 1024;

pub(super) fn serve(job: Job, listen: SocketAddr) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(accept(job, listen))
}

async fn accept(job: Job, listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    announce(listener.local_addr()?)?;
    let (room, _) = broadcast::channel(BEHIND_MAX);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match job {
            Job::Echo => drop(::tokio::spawn(echo(stream))),
            Job::Broadcast => {
                let (from, to) = stream.into_split();
                let writer = ::tokio::spawn(hear(room.subscribe(), to));
                let room = room.clone();
                ::tokio::spawn(async move {
                    // Whatever the reason, the connection is over.
                    let _ = speak(from, room).await;
                    writer.abort();
                });
            }
        }
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(PAYLOAD_MAX).new_codec()
}

/// `forward` flushes when no more frame is there: one write for what one read brought.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (from, to) = stream.split();
    let frames = FramedRead::new(from, codec()).map_ok(BytesMut::freeze);
    frames.forward(FramedWrite::new(to, codec())).await
}

async fn speak(from: OwnedReadHalf, room: broadcast::Sender<Bytes>) -> io::Result<()> {
    let mut frames = FramedRead::new(from, codec());
    while let Some(frame) = frames.next().await {
        // Nobody there to hear it is no error.
        let _ = room.send(frame?.freeze());
    }
    Ok(())
}

/// All frames that wait go out in one write.
async fn hear(mut room: broadcast::Receiver<Bytes>, to: OwnedWriteHalf) -> io::Result<()> {
    let mut out = FramedWrite::new(to, codec());
    loop {
        match room.recv().await {
            Ok(frame) => out.feed(frame).await?,
            Err(RecvError::Closed | RecvError::Lagged(_)) => return Ok(()),
        }
        loop {
            match room.try_recv() {
                Ok(frame) => out.feed(frame).await?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed | TryRecvError::Lagged(_)) => return Ok(()),
            }
        }
        SinkExt::<Bytes>::flush(&mut out).await?;
    }
}
