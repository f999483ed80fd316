//! A dial that has several addresses: which one is tried when, as RFC 8305 ("Happy Eyeballs") describes it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::{AttemptError, FailedAttempt};
use crate::time::deadline;

/// An attempt without an answer lets the next one begin after this (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Attempts do not follow each other faster, however many share the time (RFC 8305, section 8).
const STAGGER_MIN: Duration = Duration::from_millis(10);
/// So many addresses are tried; a name with more has names enough that answer.
const ADDRESSES_MAX: usize = 64;

/// The attempts of one dial: those to come, those under way, and those that have failed. No socket and no clock.
///
/// Addresses of both families take turns, and the first one's family begins, because the resolver's order says what is
/// likely to work. The next attempt begins when the last one has had [`STAGGER`] without an answer, or at once when one has
/// failed. All of them get their turn: with many addresses and little time they follow each other sooner.
#[derive(Debug)]
pub(crate) struct Race {
    untried: VecDeque<Address>,
    /// By the numbers of their sockets, in the order they began.
    under_way: Vec<(u32, Address)>,
    failed: Vec<FailedAttempt>,
    stagger: Duration,
    /// When the next one may begin, whatever those under way do.
    next_at: Instant,
}

/// What a race wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// An attempt at this address, now. The answer is [`Race::began`] or [`Race::failed_at_once`].
    Try(Address),
    /// Nothing before this moment, unless an attempt is answered.
    WaitUntil(Instant),
    /// Nothing until an attempt is answered: all have begun.
    Wait,
    /// Nothing any more: all have failed.
    Lost,
}

impl Race {
    /// A race that may begin at `now` and has so much time.
    pub(crate) fn new(addresses: Vec<Address>, now: Instant, within: Duration) -> Race {
        let untried = interleave(addresses);
        let share = within / (untried.len().max(1) as u32);
        let stagger = share.clamp(STAGGER_MIN, STAGGER);
        Race { untried, under_way: Vec::new(), failed: Vec::new(), stagger, next_at: now }
    }

    /// What is to be done at `now`.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        match self.untried.front() {
            Some(_) if !self.under_way.is_empty() && self.next_at > now => Step::WaitUntil(self.next_at),
            Some(_) => self.untried.pop_front().map_or(Step::Wait, Step::Try),
            None if self.under_way.is_empty() => Step::Lost,
            None => Step::Wait,
        }
    }

    /// The attempt at `address` is under way since `now`, by this number.
    pub(crate) fn began(&mut self, number: u32, address: Address, now: Instant) {
        self.under_way.push((number, address));
        self.next_at = deadline(now, self.stagger);
    }

    /// The attempt at `address` could not even begin.
    pub(crate) fn failed_at_once(&mut self, address: Address, error: AttemptError) {
        self.failed.push(FailedAttempt { address, error });
    }

    /// An attempt under way has failed at `now`: the next one may begin.
    pub(crate) fn failed(&mut self, number: u32, error: AttemptError, now: Instant) {
        if let Some(place) = self.under_way.iter().position(|(other, _)| *other == number) {
            let (_, address) = self.under_way.remove(place);
            self.failed.push(FailedAttempt { address, error });
            self.next_at = now;
        }
    }

    /// The numbers of the attempts under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = u32> + '_ {
        self.under_way.iter().map(|(number, _)| *number)
    }

    /// What has become of each address that was tried: those that failed, then those without an answer.
    pub(crate) fn into_attempts(self) -> Vec<FailedAttempt> {
        let unanswered = self
            .under_way
            .into_iter()
            .map(|(_, address)| FailedAttempt { address, error: AttemptError::Unanswered });
        self.failed.into_iter().chain(unanswered).collect()
    }
}

/// Both families by turns, each in its own order, the first one's family first; none twice.
fn interleave(addresses: Vec<Address>) -> VecDeque<Address> {
    let is_v6 = |address: &Address| address.ip().is_some_and(|ip| ip.is_ipv6());
    let mut unique: Vec<Address> = Vec::new();
    for address in addresses {
        if unique.len() < ADDRESSES_MAX && !unique.contains(&address) {
            unique.push(address);
        }
    }
    let first = unique.first().is_some_and(is_v6);
    let (mut ours, mut theirs): (VecDeque<_>, VecDeque<_>) =
        unique.into_iter().partition(|address| is_v6(address) == first);
    let mut all = VecDeque::with_capacity(ours.len() + theirs.len());
    while !(ours.is_empty() && theirs.is_empty()) {
        all.extend(ours.pop_front());
        all.extend(theirs.pop_front());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;
    use proptest::prelude::*;
    use std::io;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn v4(n: u8) -> Address {
        at(&format!("192.0.2.{n}:80"))
    }

    fn v6(n: u8) -> Address {
        at(&format!("[2001:db8::{n}]:80"))
    }

    fn refused() -> AttemptError {
        AttemptError::Io(io::ErrorKind::ConnectionRefused.into())
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn families_take_turns_and_the_first_one_begins() {
        let list = vec![v6(1), v6(2), v6(3), v4(1), v4(2)];
        assert_eq!(interleave(list), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(interleave(vec![v4(1), v4(2), v4(3), v6(1)]), [v4(1), v6(1), v4(2), v4(3)]);
        assert_eq!(interleave(vec![v4(1), v4(1), v6(9), v4(1)]), [v4(1), v6(9)]);
        assert_eq!(interleave((0..=255).map(v4).collect()).len(), ADDRESSES_MAX);
    }

    #[test]
    fn the_next_begins_when_the_last_has_no_answer() {
        let start = clock::now();
        let mut race = Race::new(vec![v4(1), v4(2)], start, MINUTE);
        assert_eq!(race.step(start), Step::Try(v4(1)));
        race.began(1, v4(1), start);
        assert_eq!(race.step(start), Step::WaitUntil(start + STAGGER));
        assert_eq!(race.step(start + ms(249)), Step::WaitUntil(start + STAGGER));
        assert_eq!(race.step(start + ms(250)), Step::Try(v4(2)));
        race.began(2, v4(2), start + ms(250));
        assert_eq!(race.step(start + MINUTE), Step::Wait, "all have begun");
        assert_eq!(race.under_way().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_next_begins_at_once_when_one_has_failed() {
        let start = clock::now();
        let mut race = Race::new(vec![v4(1), v4(2), v4(3)], start, MINUTE);
        assert_eq!(race.step(start), Step::Try(v4(1)));
        race.failed_at_once(v4(1), refused());
        assert_eq!(race.step(start), Step::Try(v4(2)));
        race.began(7, v4(2), start);
        race.failed(7, refused(), start + ms(5));
        assert_eq!(race.step(start + ms(5)), Step::Try(v4(3)));
        race.began(8, v4(3), start + ms(5));
        race.failed(7, refused(), start + ms(6)); // an answer of the past
        assert_eq!(race.step(start + ms(6)), Step::Wait);
        race.failed(8, AttemptError::Itself, start + ms(7));
        assert_eq!(race.step(start + ms(7)), Step::Lost);
        let tried: Vec<_> = race.into_attempts().into_iter().map(|attempt| attempt.address).collect();
        assert_eq!(tried, [v4(1), v4(2), v4(3)]);
    }

    #[test]
    fn a_black_hole_does_not_eat_the_time_of_the_others() {
        let start = clock::now();
        let mut race = Race::new(vec![v4(1), v4(2), v4(3)], start, ms(300));
        assert_eq!(race.step(start), Step::Try(v4(1)));
        race.began(1, v4(1), start);
        assert_eq!(race.step(start), Step::WaitUntil(start + ms(100)));
        let race = Race::new((0..=255).map(v4).collect(), start, ms(1));
        assert_eq!(race.stagger, STAGGER_MIN);
    }

    #[test]
    fn a_race_without_addresses_is_lost() {
        let start = clock::now();
        assert_eq!(Race::new(Vec::new(), start, MINUTE).step(start), Step::Lost);
    }

    proptest! {
        /// Whatever is answered when: each address is tried once and told of once, and the race neither stands still nor
        /// spins.
        #[test]
        fn every_address_is_tried_once(count in 0u8..20, answers in prop::collection::vec((0u8..4, 0u64..400), 0..80)) {
            let start = clock::now();
            let list: Vec<_> = (0..count).map(|n| if n % 3 == 0 { v6(n) } else { v4(n) }).collect();
            let mut race = Race::new(list.clone(), start, MINUTE);
            let mut now = start;
            let mut tried: Vec<Address> = Vec::new();
            let mut begun: Vec<(u32, Instant)> = Vec::new();
            let mut answers = answers.into_iter();
            let mut failed_since = true;
            loop {
                match race.step(now) {
                    Step::Try(address) => {
                        prop_assert!(failed_since || begun.last().is_none_or(|(_, at)| now >= *at + race.stagger));
                        prop_assert!(!tried.contains(&address));
                        tried.push(address.clone());
                        match answers.next() {
                            Some((0, _)) => race.failed_at_once(address, refused()),
                            _ => {
                                failed_since = false;
                                begun.push((tried.len() as u32, now));
                                race.began(tried.len() as u32, address, now);
                            }
                        }
                    }
                    Step::Lost => {
                        prop_assert_eq!(race.under_way().count(), 0);
                        break;
                    }
                    step => {
                        let first = race.under_way().next();
                        prop_assert!(first.is_some(), "it waits for nobody: {:?}", step);
                        match (answers.next(), step) {
                            (Some((1, wait)), _) => {
                                now += ms(wait);
                                race.failed(first.unwrap(), refused(), now);
                                failed_since = true;
                            }
                            (Some((_, wait)), _) => now += ms(wait),
                            (None, Step::WaitUntil(at)) => {
                                prop_assert!(at > now);
                                now = at;
                            }
                            (None, _) => break,
                        }
                    }
                }
            }
            let told: Vec<_> = race.into_attempts().into_iter().map(|attempt| attempt.address).collect();
            prop_assert_eq!(told.len(), list.len());
            prop_assert!(list.iter().all(|address| told.contains(address)));
        }
    }
}
