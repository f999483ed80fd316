//! Where values are kept: a map for one reactor, and one in many parts for those who share it.
//!
//! Both use the standard library's hasher. Keys come from strangers, who could choose them so that all meet in one bucket:
//! SipHash with a secret key is made against that. It takes some 170 of the 1,300 instructions of a SET, system calls not
//! counted; a faster hasher would not be seen in requests a second.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::ops::DerefMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values by key.
#[derive(Debug, Default)]
pub(crate) struct Map(HashMap<Box<[u8]>, Vec<u8>>);

impl Map {
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// The value of `key`, to be changed; an empty one when there was none.
    pub(crate) fn value(&mut self, key: &[u8]) -> &mut Vec<u8> {
        match self.0.entry(key.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Vec::new()),
        }
    }

    #[inline]
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.0.get_mut(key) {
            // Its memory is used again, unless that is far more than is needed now.
            Some(old) if old.capacity() / 4 <= value.len() => {
                old.clear();
                old.extend_from_slice(value);
            }
            Some(old) => *old = value.to_vec(),
            None => drop(self.0.insert(key.into(), value.to_vec())),
        }
    }

    /// Whether there was something to be removed.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        self.0.remove(key).is_some()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.0.contains_key(key)
    }

    fn clear(&mut self) {
        // The table itself goes too.
        self.0 = HashMap::new();
    }
}

/// What commands need of a store. What is done with what it lends is done at one moment for everyone.
pub(crate) trait Store {
    type One<'s>: DerefMut<Target = Map>
    where
        Self: 's;
    type Many<'s>: Maps
    where
        Self: 's;

    /// The map that has `key`, or would have it.
    fn one(&mut self, key: &[u8]) -> Self::One<'_>;
    /// The maps of all these keys.
    fn many<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Self::Many<'_>;
    fn clear(&mut self);
}

/// Maps that are lent together.
pub(crate) trait Maps {
    /// The one that has `key`, which is one of those that were asked for.
    fn of(&self, key: &[u8]) -> &Map;
    fn of_mut(&mut self, key: &[u8]) -> &mut Map;
}

/// The store of one reactor: no lock, because there is one thread.
impl Store for Map {
    type One<'s> = &'s mut Map;
    type Many<'s> = &'s mut Map;

    #[inline]
    fn one(&mut self, _: &[u8]) -> &mut Map {
        self
    }
    fn many<'k>(&mut self, _: impl Iterator<Item = &'k [u8]>) -> &mut Map {
        self
    }
    fn clear(&mut self) {
        Map::clear(self);
    }
}

impl Maps for &mut Map {
    fn of(&self, _: &[u8]) -> &Map {
        self
    }
    fn of_mut(&mut self, _: &[u8]) -> &mut Map {
        self
    }
}

/// So many that two reactors seldom want the same one.
const SHARDS: u64 = 64;

/// The store of many reactors: the hash of a key says which part has it, and each part has a lock. Whoever needs several
/// takes them in the order of their numbers, so that nobody waits for somebody who waits for them.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    shards: Arc<[Mutex<Map>]>,
    hasher: RandomState,
}

impl Shared {
    pub(crate) fn new() -> Shared {
        Shared { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    fn shard(&self, key: &[u8]) -> usize {
        (self.hasher.hash_one(key) % SHARDS) as usize
    }

    /// A thread that has panicked holds back nobody: no change leaves a map half done.
    fn lock(&self, shard: usize) -> MutexGuard<'_, Map> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Shared {
    type One<'s> = MutexGuard<'s, Map>;
    type Many<'s> = Held<'s>;

    fn one(&mut self, key: &[u8]) -> MutexGuard<'_, Map> {
        self.lock(self.shard(key))
    }
    fn many<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Held<'_> {
        let shards: BTreeSet<usize> = keys.map(|key| self.shard(key)).collect();
        let guards = shards.into_iter().map(|shard| (shard, self.lock(shard))).collect();
        Held { store: self, guards }
    }
    fn clear(&mut self) {
        let all: Vec<_> = (0..self.shards.len()).map(|shard| self.lock(shard)).collect();
        for mut map in all {
            map.clear();
        }
    }
}

/// Parts of a shared store, locked.
#[derive(Debug)]
pub(crate) struct Held<'s> {
    store: &'s Shared,
    guards: BTreeMap<usize, MutexGuard<'s, Map>>,
}

const ASKED_FOR: &str = "it is of a key that was asked for";

impl Maps for Held<'_> {
    fn of(&self, key: &[u8]) -> &Map {
        self.guards.get(&self.store.shard(key)).expect(ASKED_FOR)
    }
    fn of_mut(&mut self, key: &[u8]) -> &mut Map {
        self.guards.get_mut(&self.store.shard(key)).expect(ASKED_FOR)
    }
}
