//! What other threads have asked for.

use std::mem;

use super::pace::Callback;
use super::{Context, Reactor};
use crate::codec::Codec;
use crate::handle::Command;
use crate::handler::Handler;

fn run<H: Handler>(handler: &mut H, cx: &mut Context<H>, command: Command<H>) {
    match command {
        Command::Send(conn, message) => {
            cx.send_owned(conn, &message);
        }
        Command::Broadcast(to, message) => {
            cx.broadcast(to, <H::Codec as Codec>::lend(&message));
        }
        Command::Close(conn) => cx.close(conn),
        Command::Run(run) => run(handler, cx),
    }
}

impl<H: Handler> Reactor<H> {
    /// Runs what waits, within the budget of a turn. After the turn's input, so that no command pulls a connection away
    /// under an event.
    pub(super) fn run_commands(&mut self) {
        if !self.cx.queue.begin() {
            return;
        }
        self.cx.drain.requests += self.cx.queue.take_shutdowns();
        let mut commands = mem::take(&mut self.cx.commands);
        self.cx.queue.drain(self.cx.limits.commands_per_turn, &mut commands);
        for command in commands.drain(..) {
            let blame = match &command {
                Command::Send(conn, _) => Some(*conn),
                _ => None,
            };
            self.call(Callback::Command, blame, |handler, cx| run(handler, cx, command));
        }
        self.take_newcomers();
        if commands.capacity() <= 1024 {
            self.cx.commands = commands;
        }
    }
}
