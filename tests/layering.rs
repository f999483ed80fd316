//! The tree shows which way things depend, and this keeps it so: it reads the `use` lines of every file.

use std::fs;
use std::path::{Path, PathBuf};

/// What each folder or file of `src/` may name of the others. Everything may use what is in `ANYONE`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("codec", &[]),
    ("buffer", &[]),
    ("time", &[]),
    ("connection", &["address", "buffer", "codec", "time"]),
    // Configurations of TLS, as users make them; the sessions are in `net`.
    ("tls", &[]),
    // What a listener wants of its clients is an option of it.
    ("net", &["address", "proxy_protocol", "tls"]),
    ("handle", &["net", "reactor", "handler"]),
    ("pool", &["address", "handle", "handler", "net", "reactor"]),
    // The contract between user and loop: the one cycle, with `reactor::Context`.
    ("handler", &["address", "connection", "codec", "reactor"]),
    (
        "reactor",
        &[
            "histogram",
            "address",
            "buffer",
            "codec",
            "connection",
            "dial",
            "handle",
            "handler",
            "net",
            "proxy_protocol",
            "time",
            "tls",
        ],
    ),
    ("metrics", &["handle", "handler", "histogram", "reactor"]),
    ("client", &["address", "buffer", "codec", "net", "tls"]),
    ("workers", &["handle", "handler", "reactor"]),
    // A world around the reactor: its network is `net::mem`, which is the one of the core's own tests.
    ("sim", &["address", "codec", "connection", "dial", "handle", "handler", "net", "reactor", "workers"]),
    ("address", &[]),
    ("proxy_protocol", &["address"]),
    // What a user says of a dial, options of its socket included.
    ("dial", &["address", "net", "time", "tls"]),
    ("error", &["address"]),
    ("histogram", &[]),
    ("id", &["time"]),
    // Doors for the benches, into what is pure; and the clock.
    ("internals", &["buffer", "codec", "histogram", "net", "time"]),
    ("limits", &["connection"]),
    ("stats", &["connection"]),
];

const ANYONE: &[&str] = &["id", "limits", "stats", "error"];

fn source_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    assert!(files.len() > 30, "found only {} files", files.len());
    let name =
        |path: &PathBuf| path.strip_prefix(&root).expect("under src").to_string_lossy().replace('\\', "/");
    files.iter().map(|path| (name(path), code(&fs::read_to_string(path).expect("a readable file")))).collect()
}

/// Names of top-level modules after each `crate::`, in lists too.
fn crate_uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let word: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push(word);
        }
    }
    found
}

#[test]
fn folders_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (file, code) in all_sources() {
        let module = file.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" || file.contains("/tests/") {
            continue;
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{file}: say in the table what `{module}` may import"));
        for used in crate_uses(&code) {
            // A type re-exported at the root says nothing of where it lives: name the module instead.
            let fine = used == module || ANYONE.contains(&&*used) || allowed.contains(&&*used);
            let root = ["CloseReason"].contains(&&*used) && module == "reactor";
            if !fine && !root {
                wrong.push(format!("{file} names crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sockets_and_mio_are_named_in_net_and_the_client_alone() {
    let words = ["mio::", "socket2::", "std::os::", "TcpStream", "TcpListener", "SystemTime", "Instant::now"];
    // A socket that is taken in or handed out is a plain value of the standard library; the descriptor of the whole
    // reactor is its poller's.
    let exceptions = [
        ("reactor/adopt.rs", "TcpListener"),
        ("reactor/mod.rs", "std::os::"),
        // The bytes of a path, and no socket.
        ("proxy_protocol/header.rs", "std::os::"),
    ];
    let mut wrong = Vec::new();
    for (file, code) in all_sources() {
        let names_sockets = file.starts_with("net/") || file.starts_with("client/");
        if names_sockets || file.contains("/tests/") {
            continue;
        }
        for word in words {
            if code.contains(word) && !exceptions.contains(&(&*file, word)) {
                wrong.push(format!("{file} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rustls_is_named_in_two_folders_alone() {
    let mut wrong = Vec::new();
    for (file, code) in all_sources() {
        if file.starts_with("tls/") || file.starts_with("net/tls/") || file.contains("/tests/") {
            continue;
        }
        if ["rustls::", "webpki::"].iter().any(|word| code.contains(word)) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_write_asks_for_a_signal() {
    // `writev(2)` cannot say MSG_NOSIGNAL: with a `main` in C, a peer that resets would end the process.
    let wrong: Vec<_> = all_sources()
        .into_iter()
        .filter(|(_, code)| code.contains("write_vectored"))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "net/signal.rs is for that: {wrong:?}");
}

#[test]
fn files_have_one_idea() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for path in files {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines: which idea has not got its own file?", path.display());
    }
}

#[test]
fn the_crate_forbids_unsafe_code() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}
