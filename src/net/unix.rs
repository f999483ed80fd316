//! Unix sockets: their names, and the files that stand for them.
//!
//! A file outlives its socket. One that a server has left behind keeps the next one from its address, and there is no call
//! that replaces it: so it is found out whether anybody is there, and what is removed is compared with what was looked at.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{self, Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{ListenOptions, SocketOptions};
use crate::address::Address;

/// How many bytes a path may have: the field of the system's structure, without the NUL behind it. unix(7)
const PATH_MAX: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// Marks a name that has no file.
const ABSTRACT: u8 = b'@';

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&ABSTRACT)
}

/// What the system calls the socket at `path`.
fn system_name(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if bytes.is_empty() || bytes == [ABSTRACT] {
        return wrong("a socket without a name cannot be reached".to_owned());
    }
    if bytes.contains(&0) {
        return wrong("there is a NUL in the path".to_owned());
    }
    if bytes.len() > PATH_MAX {
        let len = bytes.len();
        return wrong(format!("the path has {len} bytes, and that of a socket may have {PATH_MAX}"));
    }
    if !is_abstract(path) {
        return SockAddr::unix(path);
    }
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let name: Vec<u8> = std::iter::once(0).chain(bytes[1..].iter().copied()).collect();
        return SockAddr::unix(OsStr::from_bytes(&name));
    }
    let what = "this system has no names without a file; a file that is called so is ./@name";
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}

/// The address of a socket, as the system has answered it.
pub(crate) fn address(name: &SocketAddr) -> Address {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt;
        if let Some(name) = name.as_abstract_name() {
            let path: Vec<u8> = std::iter::once(ABSTRACT).chain(name.iter().copied()).collect();
            return Address::Unix(OsStr::from_bytes(&path).into());
        }
    }
    Address::Unix(name.as_pathname().map(Path::to_owned).unwrap_or_default())
}

// ---- dialing -------------------------------------------------------------------------------------------------------

/// A socket that is to be connected to `path`, and what it is called there.
pub(crate) fn prepare(path: &Path, options: &SocketOptions) -> io::Result<(Socket, SockAddr)> {
    let name = system_name(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    options.apply_unix(&SockRef::from(&socket))?;
    Ok((socket, name))
}

/// Connects without waiting. There is nothing to wait for: the answer is at hand.
pub(super) fn dial(path: &Path, options: &SocketOptions) -> io::Result<Socket> {
    let (socket, name) = prepare(path, options)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&name) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        // No connect is under way: nothing would ever come of waiting for it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(backlog_is_full()),
        connected => connected.map(|()| socket),
    }
}

fn backlog_is_full() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "as many wait to be accepted there as may")
}

// ---- listening -----------------------------------------------------------------------------------------------------

/// The file of a socket that was bound here. It is removed when this is dropped, if it is still the same one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// From the root on: the directory that a process is in can change.
    path: PathBuf,
    identity: Identity,
}

/// Which file this is: device and inode. While its socket is open, no other file can have them.
type Identity = (u64, u64);

/// A file that was there before.
#[derive(Debug, PartialEq, Eq)]
struct Leftover {
    identity: Identity,
    /// When it was last changed: another one that has got the inode since has another time.
    changed: (i64, i64),
}

impl Leftover {
    /// The socket at `path`. `None` for what is no socket, a symbolic link included.
    fn at(path: &Path) -> io::Result<Option<Leftover>> {
        let found = fs::symlink_metadata(path)?;
        let it =
            Leftover { identity: (found.dev(), found.ino()), changed: (found.ctime(), found.ctime_nsec()) };
        Ok(found.file_type().is_socket().then_some(it))
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let path = path::absolute(path)?;
        let found = Leftover::at(&path)?.ok_or(io::ErrorKind::AddrInUse)?;
        Ok(SocketFile { path, identity: found.identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = Leftover::at(&self.path).ok().flatten();
        if found.is_some_and(|found| found.identity == self.identity) {
            // One that cannot be removed is found again by the next server, as one that was left behind.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Binds and listens. A file is made, or takes the place of one that was left behind.
pub(super) fn listen(path: &Path, options: &ListenOptions) -> io::Result<(Socket, Option<SocketFile>)> {
    let (socket, name) = prepare(path, &options.socket)?;
    socket.set_nonblocking(true)?;
    let file = if is_abstract(path) {
        socket.bind(&name)?;
        None
    } else {
        match socket.bind(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_leftover(path, &name)?;
                socket.bind(&name)?;
            }
            bound => bound?,
        }
        let file = SocketFile::of(path)?;
        // Nobody can connect before it listens: there is no moment at which it has other rights.
        fs::set_permissions(path, fs::Permissions::from_mode(options.unix_mode & 0o7777))?;
        Some(file)
    };
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok((socket, file))
}

/// Removes the file at `path` if it is a socket that nobody listens on.
fn remove_leftover(path: &Path, name: &SockAddr) -> io::Result<()> {
    let in_use = |what: &str| io::Error::new(io::ErrorKind::AddrInUse, what);
    let look = || match Leftover::at(path) {
        Ok(found) => found.map(Some).ok_or_else(|| in_use("there is a file, and it is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let Some(found) = look()? else { return Ok(()) };
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose backlog is full answers that at once too: it lives.
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(in_use("there is a socket that we may not connect to"));
        }
        _ => return Err(in_use("somebody listens there")),
    }
    match look()? {
        Some(still) if still == found => fs::remove_file(path),
        // Somebody else was faster: whether their socket is in our way, binding tells.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::{UnixDatagram, UnixListener};

    /// Where a test's socket is.
    fn socket_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("s")
    }

    fn remove(path: &Path) -> io::Result<()> {
        remove_leftover(path, &system_name(path).unwrap())
    }

    #[test]
    fn what_was_left_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        drop(UnixListener::bind(&path).unwrap());
        remove(&path).unwrap();
        assert!(!path.exists());
        remove(&path).expect("one that is gone already is in nobody's way");
    }

    #[test]
    fn what_is_alive_or_no_socket_or_of_another_kind_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        let refused = |what: &str| {
            let error = remove(&path).expect_err(what);
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{what}: {error}");
            assert!(fs::symlink_metadata(&path).is_ok(), "{what}");
            fs::remove_file(&path).unwrap();
        };
        let alive = UnixListener::bind(&path).unwrap();
        refused("a live one");
        drop(alive);
        let datagrams = UnixDatagram::bind(&path).unwrap();
        refused("one of datagrams");
        drop(datagrams);
        fs::write(&path, "text").unwrap();
        refused("a file");
        drop(UnixListener::bind(folder.path().join("other")).unwrap());
        std::os::unix::fs::symlink(folder.path().join("other"), &path).unwrap();
        refused("a link to one that was left");
        assert!(folder.path().join("other").exists());
    }

    #[test]
    fn a_file_is_removed_by_who_made_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        let options = ListenOptions::default();
        let (socket, file) = listen(&path, &options).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Someone else takes the path while the first still lives.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "it is another one's");
        drop((socket, other));
        let (_socket, file) = listen(&path, &options).expect("it was left behind");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_cannot_be_one_is_an_error_that_says_why() {
        for (path, word) in [
            (String::new(), "name"),
            ("@".to_owned(), "name"),
            ("a\0b".to_owned(), "NUL"),
            ("x".repeat(PATH_MAX + 1), "bytes"),
        ] {
            let error = system_name(Path::new(&path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(system_name(Path::new(&"x".repeat(PATH_MAX))).is_ok());
    }

    #[test]
    fn a_name_comes_back_as_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(address(&listener.local_addr().unwrap()), Address::Unix(path));
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(address(&ours.peer_addr().unwrap()), Address::Unix(PathBuf::new()));
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn an_abstract_name_has_no_file() {
        let path = PathBuf::from(format!("@mainspring-{}", std::process::id()));
        let (socket, file) = listen(&path, &ListenOptions::default()).unwrap();
        assert!(file.is_none());
        let listener = UnixListener::from(socket);
        assert_eq!(address(&listener.local_addr().unwrap()), Address::Unix(path.clone()));
        assert!(dial(&path, &SocketOptions::default()).is_ok());
        let again = listen(&path, &ListenOptions::default()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
