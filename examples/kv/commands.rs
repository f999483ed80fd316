//! What each command does, in the words of redis.

use super::resp::{BULK_MAX, Reply, Request, digits, whole};
use super::store::{Maps, Store};

/// Whether a connection goes on after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Close,
}

const SYNTAX: Reply<'_> = Reply::Error(b"syntax error");
const NO_INTEGER: Reply<'_> = Reply::Error(b"value is not an integer or out of range");
const OVERFLOW: Reply<'_> = Reply::Error(b"increment or decrement would overflow");
const TOO_LONG: Reply<'_> = Reply::Error(b"string exceeds maximum allowed size (proto-max-bulk-len)");

/// How many there are below.
const COMMANDS: i64 = 14;

/// Runs one request. `reply` sends its answer, at once, so that it may be lent from the store. An empty request has none.
#[inline]
pub(crate) fn run(
    store: &mut impl Store,
    mut request: Request<'_>,
    reply: &mut impl FnMut(Reply<'_>),
) -> Then {
    let Some(name) = request.next() else { return Then::GoOn };
    let mut folded = [0; NAME_MAX];
    match folded_name(name, &mut folded) {
        b"get" => get(store, request, reply),
        b"set" => set(store, request, reply),
        b"ping" => ping(request, reply),
        b"echo" => echo(request, reply),
        b"incr" => incr(store, request, reply),
        b"append" => append(store, request, reply),
        b"mget" => mget(store, request, reply),
        b"mset" => mset(store, request, reply),
        b"del" => count(store, "del", request, reply, |map, key| map.of_mut(key).remove(key)),
        b"exists" => count(store, "exists", request, reply, |map, key| map.of(key).contains(key)),
        b"flushall" => flush_all(store, request, reply),
        b"command" => command(request, reply),
        b"config" => config(request, reply),
        b"quit" => {
            reply(Reply::OK);
            return Then::Close;
        }
        // A web page has made its visitor's browser speak to this port: what stands behind may be meant for us. As redis does.
        b"post" | b"host:" => {
            unknown(name, request, reply);
            return Then::Close;
        }
        _ => unknown(name, request, reply),
    }
    Then::GoOn
}

/// The longest name of a command.
const NAME_MAX: usize = 8;

/// `name` in small letters; nothing when it is longer than all there are.
#[inline]
fn folded_name<'f>(name: &[u8], folded: &'f mut [u8; NAME_MAX]) -> &'f [u8] {
    let Some(place) = folded.get_mut(..name.len()) else { return &[] };
    place.copy_from_slice(name);
    place.make_ascii_lowercase();
    place
}

#[cold]
fn wrong_count(name: &str, reply: &mut impl FnMut(Reply<'_>)) {
    reply(Reply::Error(format!("wrong number of arguments for '{name}' command").as_bytes()));
}

fn ping(mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    match (arguments.next(), arguments.next()) {
        (None, _) => reply(Reply::PONG),
        (message, None) => reply(Reply::Value(message)),
        _ => wrong_count("ping", reply),
    }
}

fn echo(mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    match arguments.all() {
        Some([message]) => reply(Reply::Value(Some(message))),
        None => wrong_count("echo", reply),
    }
}

#[inline]
fn get(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let Some([key]) = arguments.all() else { return wrong_count("get", reply) };
    reply(Reply::Value(store.one(key).get(key)));
}

/// `SET key value [NX | XX] [GET] [KEEPTTL]`. No key expires here: options that say when are refused.
#[inline]
fn set(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let (Some(key), Some(value)) = (arguments.next(), arguments.next()) else {
        return wrong_count("set", reply);
    };
    if arguments.len() == 0 {
        store.one(key).set(key, value);
        return reply(Reply::OK);
    }
    let (mut absent, mut present, mut old) = (false, false, false);
    for option in arguments {
        match &*option.to_ascii_lowercase() {
            b"nx" => absent = true,
            b"xx" => present = true,
            b"get" => old = true,
            b"keepttl" => {}
            _ => return reply(SYNTAX),
        }
    }
    if absent && present {
        return reply(SYNTAX);
    }
    let mut map = store.one(key);
    let there = map.get(key);
    let sets = if there.is_some() { !absent } else { !present };
    match (old, sets) {
        (true, _) => reply(Reply::Value(there)),
        (false, true) => reply(Reply::OK),
        (false, false) => reply(Reply::Value(None)),
    }
    if sets {
        map.set(key, value);
    }
}

#[inline]
fn incr(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let Some([key]) = arguments.all() else { return wrong_count("incr", reply) };
    let mut map = store.one(key);
    let Some(old) = map.get(key).map_or(Some(0), whole) else { return reply(NO_INTEGER) };
    let Some(new) = old.checked_add(1) else { return reply(OVERFLOW) };
    map.set(key, digits(new).as_bytes());
    reply(Reply::Integer(new));
}

fn append(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let Some([key, more]) = arguments.all() else { return wrong_count("append", reply) };
    let mut map = store.one(key);
    let len = map.get(key).map_or(0, <[u8]>::len) + more.len();
    if len as u64 > BULK_MAX {
        return reply(TOO_LONG);
    }
    map.value(key).extend_from_slice(more);
    reply(Reply::Integer(len as i64));
}

fn mget(store: &mut impl Store, arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    if arguments.len() == 0 {
        return wrong_count("mget", reply);
    }
    let maps = store.many(arguments.clone());
    let values: Vec<_> = arguments.map(|key| maps.of(key).get(key)).collect();
    reply(Reply::Values(&values));
}

fn mset(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    if arguments.len() == 0 || arguments.len() % 2 != 0 {
        return wrong_count("mset", reply);
    }
    let mut maps = store.many(arguments.clone().step_by(2));
    while let (Some(key), Some(value)) = (arguments.next(), arguments.next()) {
        maps.of_mut(key).set(key, value);
    }
    reply(Reply::OK);
}

/// Answers for how many keys something is so. A key that is named twice is asked twice.
fn count<S: Store>(
    store: &mut S,
    name: &str,
    keys: Request<'_>,
    reply: &mut impl FnMut(Reply<'_>),
    mut is_so: impl FnMut(&mut S::Many<'_>, &[u8]) -> bool,
) {
    if keys.len() == 0 {
        return wrong_count(name, reply);
    }
    let mut maps = store.many(keys.clone());
    reply(Reply::Integer(keys.filter(|key| is_so(&mut maps, key)).count() as i64));
}

fn flush_all(store: &mut impl Store, mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let how = arguments.next().map(<[u8]>::to_ascii_lowercase);
    if !matches!(how.as_deref(), None | Some(b"async" | b"sync")) || arguments.len() > 0 {
        return reply(SYNTAX);
    }
    store.clear();
    reply(Reply::OK);
}

/// `redis-cli` asks `COMMAND DOCS` for what it shows while one types, and does without.
fn command(mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let Some(what) = arguments.next() else { return reply(Reply::NO_VALUES) };
    match &*what.to_ascii_lowercase() {
        b"docs" => reply(Reply::NO_VALUES),
        b"count" if arguments.len() > 0 => wrong_count("command|count", reply),
        b"count" => reply(Reply::Integer(COMMANDS)),
        _ => unknown_part("COMMAND", what, reply),
    }
}

/// What `redis-benchmark` asks for: nothing is ever saved.
const CONFIG: [(&[u8], &[u8]); 2] = [(b"save", b""), (b"appendonly", b"no")];

fn config(mut arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let Some(what) = arguments.next() else { return wrong_count("config", reply) };
    if !what.eq_ignore_ascii_case(b"get") {
        return unknown_part("CONFIG", what, reply);
    }
    if arguments.len() == 0 {
        return wrong_count("config|get", reply);
    }
    let asked = |name: &&[u8]| arguments.clone().any(|word| word == b"*" || word.eq_ignore_ascii_case(name));
    let known = CONFIG.iter().filter(|(name, _)| asked(name));
    let values: Vec<_> = known.flat_map(|(name, value)| [Some(*name), Some(*value)]).collect();
    reply(Reply::Values(&values));
}

/// At most so many bytes of a stranger's words are said again.
const SAID_AGAIN: usize = 128;

#[cold]
fn unknown(name: &[u8], arguments: Request<'_>, reply: &mut impl FnMut(Reply<'_>)) {
    let mut said = Vec::new();
    for word in arguments {
        if said.len() >= SAID_AGAIN {
            break;
        }
        let word = cut(word, SAID_AGAIN - said.len());
        said.extend([b"'", word, b"' "].concat());
    }
    let text = [b"unknown command '", cut(name, SAID_AGAIN), b"', with args beginning with: ", &*said];
    reply(Reply::Error(&text.concat()));
}

#[cold]
fn unknown_part(of: &str, name: &[u8], reply: &mut impl FnMut(Reply<'_>)) {
    let hint = format!("'. Try {of} HELP.");
    reply(Reply::Error(&[b"unknown subcommand '", cut(name, SAID_AGAIN), hint.as_bytes()].concat()));
}

/// `word` up to `len` bytes, and up to a NUL, which ends a string of redis's.
fn cut(word: &[u8], len: usize) -> &[u8] {
    let word = &word[..word.len().min(len)];
    word.split(|byte| *byte == 0).next().unwrap_or(word)
}
