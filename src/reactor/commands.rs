//! What other threads have asked for.

use std::mem;

use super::Reactor;
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
            match command {
                Command::Send(conn, message) => {
                    self.cx.send_owned(conn, &message);
                }
                Command::Broadcast(to, message) => {
                    self.cx.broadcast(to, <H::Codec as crate::codec::Codec>::lend(&message));
                }
                Command::Close(conn) => self.cx.close(conn),
                Command::Run(run) => run(&mut self.handler, &mut self.cx),
            }
        }
        if commands.capacity() <= 1024 {
            self.cx.commands = commands;
        }
    }
}
