//! Groups of connections: rooms, topics, teams.

use super::Context;
use super::live::Phase;
use crate::handler::Handler;
use crate::id::ConnId;

impl<H: Handler> Context<H> {
    /// Makes `conn` a member of the group with that key. A group is there while it has members; a connection leaves all its
    /// groups when it ends, before its `on_close`. False when it is a member already, or gone.
    pub fn join(&mut self, conn: ConnId, group: u64) -> bool {
        let Some(live) = self.table.get_mut(conn) else { return false };
        if live.phase == Phase::Ended || live.extras().groups.iter().any(|(key, _)| *key == group) {
            return false;
        }
        let members = self.groups.entry(group).or_default();
        live.extras().groups.push((group, members.len()));
        members.push(conn);
        true
    }

    /// Ends the membership of `conn`. False when it is none.
    pub fn leave(&mut self, conn: ConnId, group: u64) -> bool {
        let Some(extras) = self.table.get_mut(conn).and_then(|live| live.extras.as_mut()) else {
            return false;
        };
        let Some(at) = extras.groups.iter().position(|(key, _)| *key == group) else { return false };
        let (_, place) = extras.groups.swap_remove(at);
        self.drop_member(group, place);
        true
    }

    /// The members of a group. The order is arbitrary.
    pub fn members(&self, group: u64) -> &[ConnId] {
        self.groups.get(&group).map_or(&[], Vec::as_slice)
    }

    /// `conn` leaves all groups that are listed.
    pub(super) fn leave_all(&mut self, groups: Vec<(u64, usize)>) {
        for (group, place) in groups {
            self.drop_member(group, place);
        }
    }

    /// Takes the member at `place` out; the last one moves there and is told.
    fn drop_member(&mut self, group: u64, place: usize) {
        let Some(members) = self.groups.get_mut(&group) else { return };
        members.swap_remove(place);
        let Some(moved) = members.get(place).copied() else {
            if members.is_empty() {
                self.groups.remove(&group);
            }
            return;
        };
        if let Some(extras) = self.table.get_mut(moved).and_then(|live| live.extras.as_mut()) {
            if let Some(entry) = extras.groups.iter_mut().find(|(key, _)| *key == group) {
                entry.1 = place;
            }
        }
    }
}
