//! What other threads have asked for.

use std::mem;

use super::Reactor;
use super::pace::Callback;
use crate::codec::Codec;
use crate::handle::Command;
use crate::handler::Handler;

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
            self.run_command(command);
        }
        self.take_newcomers();
        if commands.capacity() <= 1024 {
            self.cx.commands = commands;
        }
    }

    fn run_command(&mut self, command: Command<H>) {
        let (blame, command) = match command {
            // Each result is a callback of its own.
            Command::Collect(from) => return self.collect(from),
            Command::Send(conn, _) => (Some(conn), command),
            _ => (None, command),
        };
        self.call(Callback::Command, blame, |handler, cx| match command {
            Command::Send(conn, message) => drop(cx.send_owned(conn, &message)),
            Command::Broadcast(to, message) => drop(cx.broadcast(to, <H::Codec as Codec>::lend(&message))),
            Command::Close(conn) => cx.close(conn),
            Command::Run(run) => run(handler, cx),
            Command::Collect(_) => {}
        });
    }
}
