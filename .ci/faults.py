"""Faults with the real kernel: the built programs run while system calls fail, descriptors run out, packets are lost.

Everything is judged from outside: the replies, the processor time, the counters of the last line, the exit status.
Run by `.ci/faults`, which builds the programs; by hand: python3 .ci/faults.py DIRECTORY-OF-THE-PROGRAMS [part...].

A faked EAGAIN is no fault of the kernel's: no edge follows it, and code that waits for one is right. It is never injected.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 20
PROGRAMS = sys.argv[1]
WANTED = sys.argv[2:]


class Failure(Exception):
    """A promise that does not hold."""


class Skip(Exception):
    """What this machine does not allow."""


def check(condition, what):
    if not condition:
        raise Failure(what)


# ---- the programs -----------------------------------------------------------------------------------------------------


class Server:
    """A program that serves, perhaps under strace, perhaps in a network namespace."""

    def __init__(self, name, arguments=(), inject=(), netns=None, host="127.0.0.1", wrap=()):
        self.name, self.trace = name, None
        command = [os.path.join(PROGRAMS, name), "--listen", f"{host}:0", *arguments]
        if inject:
            self.trace = tempfile.NamedTemporaryFile(prefix="faults-", suffix=".strace")
            calls = sorted({rule.split(":")[0] for rule in inject})
            rules = [word for rule in inject for word in ("-e", f"inject={rule}")]
            command = ["strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={','.join(calls)}", *rules,
                       "-o", self.trace.name, *command]
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        self.child = subprocess.Popen([*wrap, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.errors, self.arrived = [], [], threading.Condition()
        threading.Thread(target=self._collect, args=(self.child.stdout, self.lines), daemon=True).start()
        self.stderr = threading.Thread(target=self._collect, args=(self.child.stderr, self.errors), daemon=True)
        self.stderr.start()
        line = self._line_with("listening on ")
        host, port = line.removeprefix("listening on ").rsplit(":", 1)
        self.address = (host, int(port))
        self.pid = self._find_pid()

    def _collect(self, stream, into):
        for line in stream:
            with self.arrived:
                into.append(line.rstrip("\n"))
                self.arrived.notify_all()

    def _line_with(self, start):
        with self.arrived:
            found = lambda: next((line for line in self.lines if line.startswith(start)), None)
            self.arrived.wait_for(found, PATIENCE)
            check(found(), f"{self.name} prints no line that begins with {start!r}: {self.errors}")
            return found()

    def _find_pid(self):
        """The program's own process, below strace and its like."""
        pid = self.child.pid
        while os.path.basename(os.readlink(f"/proc/{pid}/exe")) != self.name:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                pid = int(children.read().split()[0])
        return pid

    def injected(self, call=""):
        """How many calls have failed by our hand."""
        with open(self.trace.name) as log:
            return sum(1 for line in log if "(INJECTED)" in line and call in line)

    def processor_time(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def expect_rest(self, seconds=1.0):
        """It does next to nothing. One that spins uses all of it, or half on a busy machine."""
        before = self.processor_time()
        time.sleep(seconds)
        used = self.processor_time() - before
        check(used < 0.15 * seconds, f"{self.name} uses {used:.2f} s of a processor in {seconds} s of rest")

    def expect_alive(self):
        check(self.child.poll() is None, f"{self.name} has ended: {self.errors}")

    def stop(self):
        """SIGTERM: it ends in order, and its books balance."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            status = self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end on SIGTERM")
        self.stderr.join(PATIENCE)
        check(status == 0, f"{self.name} ends with {status}: {self.errors}")
        check(not any("panicked" in line for line in self.errors), f"a panic: {self.errors}")
        stats = json.loads(self._line_with("stats ").removeprefix("stats ")) if not self._periodic() else self._last()
        check(stats["open"] == 0 and stats["buffered_bytes"] == 0, f"something is left: {stats}")
        check(stats["accepted"] + stats["connected"] == stats["closed"], f"books: {stats}")
        check(sum(stats["closes"].values()) == stats["closed"], f"books of closes: {stats}")
        return stats

    def _periodic(self):
        return sum(line.startswith("stats ") for line in self.lines) > 1

    def _last(self):
        return json.loads(self.lines[-1].removeprefix("stats "))

    def until_stats(self, what, wanted):
        """Waits for a periodic line that is as wanted. The server is to have --stats-every."""
        end = time.monotonic() + PATIENCE
        with self.arrived:
            while time.monotonic() < end:
                for line in reversed(self.lines):
                    if line.startswith("stats "):
                        if wanted(json.loads(line[6:])):
                            return json.loads(line[6:])
                        break
                self.arrived.wait(0.2)
        raise Failure(f"{self.name}: not until {what}: {self.lines[-1:]}")

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.child.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.kill()


# ---- clients ----------------------------------------------------------------------------------------------------------


def connect(address):
    peer = socket.create_connection(address, PATIENCE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def frame(payload):
    return struct.pack(">I", len(payload)) + payload


def payload(seed, length):
    unit = bytes((seed * 31 + at * 7) % 256 for at in range(251))
    return (unit * (length // 251 + 1))[:length]


def read_exactly(peer, length):
    parts, left = [], length
    while left:
        part = peer.recv(min(left, 1 << 20))
        check(part, f"the stream ends {left} bytes too early")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_frame(peer):
    (length,) = struct.unpack(">I", read_exactly(peer, 4))
    return read_exactly(peer, length)


def expect_echo(peer, seed=1, length=100):
    sent = payload(seed, length)
    peer.sendall(frame(sent))
    check(read_frame(peer) == sent, f"another reply than the {length} bytes sent")


def converse(address, rounds=20, peers=8, sizes=(0, 1, 100, 5_000, 300_000)):
    """Some clients at once, each with frames of all sizes, pipelined. Returns how many frames and bytes were echoed."""
    failures, frames, size = [], [0], [0]

    def one(number):
        try:
            with connect(address) as peer:
                sent = [payload(number + at, sizes[at % len(sizes)]) for at in range(rounds)]
                writer = threading.Thread(target=lambda: [peer.sendall(frame(each)) for each in sent])
                writer.start()
                for each in sent:
                    check(read_frame(peer) == each, f"client {number} gets another reply than the {len(each)} bytes sent")
                writer.join(PATIENCE)
                frames[0] += len(sent)
                size[0] += sum(len(each) + 4 for each in sent)
        except (OSError, Failure) as error:
            failures.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(peers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
        check(not thread.is_alive(), "a client waits in vain")
    check(not failures, "; ".join(failures[:3]))
    return frames[0], size[0]


def latency(address, *options):
    """The measuring tool as load: it compares every reply."""
    command = [os.path.join(PROGRAMS, "latency"), f"{address[0]}:{address[1]}", "--json", "--duration", "1s", "--warmup",
               "100ms", "--connections", "8", *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    check(ran.returncode == 0, f"latency: {ran.stderr or ran.stdout}")
    measured = json.loads(ran.stdout)
    check(measured["errors"] == 0 and measured["messages"] > 0, f"latency: {measured}")
    return measured["messages"]


def run_client(arguments, given="", netns=None, timeout=PATIENCE):
    command = [os.path.join(PROGRAMS, "client"), *arguments]
    if netns:
        command = ["ip", "netns", "exec", netns, *command]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout)


def until_served(address, condition=lambda: True):
    """Clients come one by one until the condition holds and the next one after that is served."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        held = condition()
        with contextlib.suppress(OSError, Failure), connect(address) as peer:
            expect_echo(peer)
            if held:
                return
    raise Failure("nobody is served any more")


def expect_gone(peer):
    """The connection is over, in order or by a reset."""
    try:
        while peer.recv(1 << 16):
            pass
    except (ConnectionResetError, ConnectionAbortedError):
        pass


# ---- what is tried ----------------------------------------------------------------------------------------------------

PARTS = []


def part(function):
    PARTS.append(function)
    return function


def need_strace():
    if not shutil.which("strace"):
        raise Skip("there is no strace")
    ran = subprocess.run(["strace", "-qq", "-e", "trace=getpid", "-e", "inject=getpid:error=EINTR", "true"],
                         capture_output=True, text=True)
    if ran.returncode != 0:
        raise Skip(f"strace may not trace here: {ran.stderr.strip()[:100]}")


INTERRUPTED = {
    "epoll_wait": "error=EINTR:when=2+2",
    "recvfrom": "error=EINTR:when=1+2",
    "sendto": "error=EINTR:when=1+2",
    "sendmsg": "error=EINTR:when=1+2",
    "writev": "error=EINTR:when=1+2",
    "accept4": "error=EINTR:when=1+2",
    "write": "error=EINTR:when=1+2",
    "read": "error=EINTR:when=40+3",
}


@part
def interrupted_calls():
    """Every second call of each kind is interrupted by a signal: nobody notices."""
    need_strace()
    told = []
    for reactors in ("1", "2"):
        # Reads of files (the loader's, before `main`) are interrupted too: from the fortieth on they are the program's.
        with Server("echo", ["--reactors", reactors], [f"{call}:{how}" for call, how in INTERRUPTED.items()]) as server:
            frames, size = converse(server.address)
            messages = latency(server.address, "--size", "3000")
            ran = run_client([f"{server.address[0]}:{server.address[1]}", "--framing", "u32be", "--wait", "2s"], "one\ntwo\n")
            check((ran.returncode, ran.stdout) == (0, "one\ntwo\n"), f"client: {ran}")
            server.expect_rest()
            for call in ("epoll_wait", "recvfrom", "sendto", "accept4"):
                check(server.injected(call) > 0, f"{call} was never interrupted")
            count = server.injected()
            stats = server.stop()
            check(stats["frames_in"] == stats["frames_out"] >= frames + messages, f"frames: {stats}")
            check(stats["bytes_in"] == stats["bytes_out"] >= size, f"bytes: {stats}")
            check(stats["refused"] == stats["accept_errors"] == 0 and stats["closes"]["peer"] == stats["closed"], f"ends: {stats}")
            told.append(f"{reactors} reactor(s): {count} calls interrupted, {stats['frames_in']} frames right")
    return "; ".join(told)


@part
def interrupted_broadcast():
    """The same for messages to others, which take the other way out: the end of the turn."""
    need_strace()
    told = []
    for reactors in ("1", "2"):
        with Server("broadcast", ["--reactors", reactors], [f"{call}:{how}" for call, how in INTERRUPTED.items()]) as server:
            peers = [connect(server.address) for _ in range(6)]
            for number, peer in enumerate(peers):
                # Whoever gets its own has been taken in.
                sent = payload(number, 10)
                peer.sendall(frame(sent))
                while read_frame(peer) != sent:
                    pass
            for number in range(30):
                sent = b"all" + payload(number, number * 1_000)
                peers[number % 6].sendall(frame(sent))
                for peer in peers:
                    # Greetings of those who came after it may be before it.
                    while (got := read_frame(peer)) != sent:
                        check(len(got) == 10, f"message {number} comes as {len(got)} other bytes")
            server.expect_rest()
            count = server.injected()
            for peer in peers:
                peer.close()
            server.stop()
            told.append(f"{reactors} reactor(s): {count} calls interrupted, 30 messages to 6 each")
    return "; ".join(told)


@part
def accepting_without_means():
    """`accept` fails for want of something, or because a client died in the queue: it goes on by itself."""
    need_strace()
    told = []
    for error in ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPROTO"):
        # The first client is served, then it fails for a while.
        with Server("echo", ["--stats-every", "100ms"], [f"accept4:error={error}:when=3..6"]) as server:
            first = connect(server.address)
            expect_echo(first)
            begin = time.monotonic()
            others = [connect(server.address) for _ in range(4)]
            expect_echo(first)  # whoever is in goes on
            served = 0
            for number, peer in enumerate(others):
                try:
                    expect_echo(peer, number)
                    served += 1
                except (OSError, Failure):
                    # Without descriptors, who has waited for a whole pause is told so by an end.
                    check(error in ("EMFILE", "ENFILE"), f"{error}: client {number} is turned away")
            waited = time.monotonic() - begin
            # All failures are used up, and then it serves again, without anybody's help. One that comes with the last
            # failure may still be turned away.
            until_served(server.address, lambda: server.injected("accept4") == 4)
            server.expect_rest()
            expect_echo(first)
            stats = server.stop()
            check(0 < stats["accept_errors"] <= 4, f"{error}: {stats}")
            check(stats["refused"] >= 4 - served, f"{error}: {served} served, {stats}")
            told.append(f"{error} {served}/4 in {waited:.1f} s")
    return ", ".join(told)


@part
def failing_sockets():
    """A read or a write of one connection fails: that one ends with its reason, and nobody else notices."""
    need_strace()
    told = []
    for rule, reason in (
        ("recvfrom:error=ECONNRESET:when=3", "reset"),
        ("recvfrom:error=ETIMEDOUT:when=3", None),
        ("sendto:error=EPIPE:when=3", None),
        ("sendto:error=ENOBUFS:when=3", None),
        ("recvfrom:error=ENOMEM:when=3", None),
    ):
        with Server("echo", [], [rule]) as server:
            peers = [connect(server.address) for _ in range(3)]
            expect_echo(peers[0])
            expect_echo(peers[1])
            peers[2].sendall(frame(b"lost"))
            expect_gone(peers[2])
            expect_echo(peers[0])
            expect_echo(peers[1])
            server.expect_rest(0.5)
            check(server.injected() == 1, f"{rule}: {server.injected()} failures")
            for peer in peers[:2]:
                peer.close()
            time.sleep(0.1)
            stats = server.stop()
            by_fault = {name: count for name, count in stats["closes"].items() if name != "peer" and count}
            check(sum(by_fault.values()) == 1, f"{rule}: {stats}")
            check(reason is None or by_fault == {reason: 1}, f"{rule}: {stats}")
            told.append(f"{rule.split(':when')[0]} -> {next(iter(by_fault))}")
    return ", ".join(told)


@part
def no_descriptors():
    """The descriptor limit falls below what is open, and rises again."""
    with Server("echo", ["--stats-every", "100ms"]) as server:
        peers = [connect(server.address) for _ in range(10)]
        for peer in peers:
            expect_echo(peer)
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
        outside = [connect(server.address) for _ in range(5)]
        server.until_stats("accepting fails", lambda stats: stats["accept_errors"] > 0)
        server.expect_rest()
        for peer in peers:
            expect_echo(peer)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        until_served(server.address)
        served = 0
        for peer in outside:
            with contextlib.suppress(OSError, Failure):
                expect_echo(peer)
                served += 1
        for peer in peers:
            expect_echo(peer)
        stats = server.stop()
        check(stats["refused"] >= 5 - served, f"{served} of 5 were served at last: {stats}")
        return f"{stats['accept_errors']} errors, {served} of 5 outside were served later, {stats['refused']} refused"


@part
def killed_by_ss():
    """The administrator kills a connection in the kernel."""
    if not shutil.which("ss"):
        raise Skip("there is no ss")
    with Server("echo", ["--stats-every", "100ms"]) as server:
        victim, other = connect(server.address), connect(server.address)
        expect_echo(victim)
        expect_echo(other)
        port = victim.getsockname()[1]
        subprocess.run(["ss", "-K", "-t", "dport", "=", str(port)], capture_output=True)
        victim.settimeout(2)
        try:
            if victim.recv(1) != b"":
                raise Failure("bytes out of nowhere")
        except (ConnectionResetError, ConnectionAbortedError):
            pass
        except TimeoutError:
            raise Skip("the kernel has no `ss -K` (CONFIG_INET_DIAG_DESTROY)")
        stats = server.until_stats("it is noticed", lambda stats: stats["closed"] == 1)
        expect_echo(other)
        server.expect_rest(0.5)
        server.stop()
        return f"closes: {({k: v for k, v in stats['closes'].items() if v})}"


# ---- packets ----------------------------------------------------------------------------------------------------------

SERVER_IP, CLIENT_IP = "10.213.7.1", "10.213.7.2"


def command(*words):
    ran = subprocess.run(words, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Skip(f"`{' '.join(words)}`: {ran.stderr.strip()[:120]}")


class Net:
    """Two network namespaces with a cable between them. The rules are those of the client's end, where its packets go
    out and those for it come in."""

    def __init__(self):
        if not (shutil.which("ip") and shutil.which("nft")):
            raise Skip("there is no ip or no nft")
        self.server, self.client = f"ms{os.getpid()}s", f"ms{os.getpid()}c"

    def __enter__(self):
        try:
            command("ip", "netns", "add", self.server)
            command("ip", "netns", "add", self.client)
            command("ip", "link", "add", "v0", "netns", self.server, "type", "veth", "peer", "name", "v0", "netns", self.client)
            for netns, ip in ((self.server, SERVER_IP), (self.client, CLIENT_IP)):
                command("ip", "-n", netns, "addr", "add", f"{ip}/24", "dev", "v0")
                command("ip", "-n", netns, "link", "set", "v0", "up")
                command("ip", "-n", netns, "link", "set", "lo", "up")
            self.rules()
        except Skip:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for netns in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True)

    def rules(self, *rules, at=None):
        """From now on these and no others, at the client's end if no other is named; none lets everything pass."""
        nft = ("ip", "netns", "exec", at or self.client, "nft")
        subprocess.run([*nft, "delete", "table", "inet", "faults"], capture_output=True)
        command(*nft, "add", "table", "inet", "faults")
        for hook in ("input", "output"):
            command(*nft, "add", "chain", "inet", "faults", hook, f"{{ type filter hook {hook} priority 0; }}")
        for rule in rules:
            command(*nft, "add", "rule", "inet", "faults", *rule.split())

    def connect(self, address):
        """A connection from the client's namespace: a socket belongs to where its thread is when it is made."""
        made = []

        def inside():
            with open(f"/run/netns/{self.client}") as there:
                enter_namespace(there.fileno())
            try:
                made.append(connect(address))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join(PATIENCE)
        check(made and isinstance(made[0], socket.socket), f"no connection: {made}")
        return made[0]


def enter_namespace(descriptor):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@part
def packets_lost():
    """One packet of ten is lost: everything arrives, in order."""
    with Net() as net, Server("echo", netns=net.server, host=SERVER_IP) as server:
        net.rules("input numgen random mod 10 < 1 drop")
        begin = time.monotonic()
        with net.connect(server.address) as peer:
            for number in range(60):
                expect_echo(peer, number, 20_000)
        net.rules()
        stats = server.stop()
        check(stats["frames_in"] == stats["frames_out"] == 60, f"{stats}")
        return f"60 frames of 20,000 bytes in {time.monotonic() - begin:.1f} s"


@part
def packets_refused():
    """A firewall answers for the client with resets."""
    with Net() as net, Server("echo", ["--stats-every", "100ms"], netns=net.server, host=SERVER_IP) as server:
        peer = net.connect(server.address)
        expect_echo(peer)
        net.rules("input tcp sport != 0 reject with tcp reset")
        peer.sendall(frame(b"one more"))  # whose answer is answered by a reset
        stats = server.until_stats("the reset is noticed", lambda stats: stats["closed"] == 1)
        check(stats["closes"].get("reset") == 1, f"{stats}")
        server.expect_rest(0.5)
        peer.close()
        net.rules()
        net.rules("input tcp dport != 0 reject with tcp reset", at=net.server)
        begin = time.monotonic()
        ran = run_client([f"{SERVER_IP}:{server.address[1]}"], netns=net.client)
        check(ran.returncode == 1 and "refused" in ran.stderr.lower(), f"a refused dial: {ran}")
        refused = ran.stderr.strip()
        check(time.monotonic() - begin < 3, "a refused dial takes its time")
        net.rules(at=net.server)
        ran = run_client([f"{SERVER_IP}:{server.address[1]}"], "back\n", netns=net.client)
        check((ran.returncode, ran.stdout) == (0, "back\n"), f"after it: {ran}")
        server.stop()
        return f"reset noticed; {refused!r}"


@part
def peer_vanishes_idle():
    """A peer vanishes without a FIN: the idle deadline ends it."""
    with Net() as net:
        with Server("echo", ["--stats-every", "100ms", "--idle-timeout", "1500ms"], netns=net.server, host=SERVER_IP) as server:
            peer = net.connect(server.address)
            expect_echo(peer)
            begin = time.monotonic()
            net.rules("input drop", "output drop")
            stats = server.until_stats("it is ended", lambda stats: stats["closed"] == 1)
            took = time.monotonic() - begin
            check(stats["closes"].get("idle_timeout") == 1, f"{stats}")
            check(took > 1.3, f"after {took:.1f} s")
            net.rules()
            with net.connect(server.address) as late:
                expect_echo(late)
            server.expect_rest(0.5)
            peer.close()
            server.stop()
            return f"idle_timeout after {took:.1f} s of 1.5"


@part
def peer_vanishes_while_written_to():
    """A member of a broadcast vanishes while others send: it is ended for what it does not take, and nobody waits for it."""
    with Net() as net:
        arguments = ["--stats-every", "100ms", "--write-limit", "256KiB"]
        with Server("broadcast", arguments, netns=net.server, host=SERVER_IP) as server:
            lost, other = net.connect(server.address), net.connect(server.address)
            for peer in (lost, other):
                peer.sendall(frame(b"here"))
                check(read_frame(peer) == b"here", "a greeting")
            port = lost.getsockname()[1]
            net.rules(f"input tcp dport {port} drop", f"output tcp sport {port} drop")
            slowest, gone, sent = 0.0, None, 0
            message = payload(3, 60_000)
            begin = time.monotonic()
            while gone is None and time.monotonic() - begin < PATIENCE:
                round_trip = time.monotonic()
                other.sendall(frame(message))
                while read_frame(other) != message:
                    pass
                slowest = max(slowest, time.monotonic() - round_trip)
                sent += 1
                closes = [json.loads(line[6:]) for line in server.lines[-1:] if line.startswith("stats ")]
                gone = next((stats for stats in closes if stats["closed"]), None)
            check(gone and gone["closes"].get("slow_consumer") == 1, f"{sent} messages later: {server.lines[-1:]}")
            check(slowest < 2, f"the other has waited for {slowest:.1f} s")
            net.rules()
            other.close()
            stats = server.stop()
            check(stats["frames_in"] == sent + 2, f"{stats}")
            return f"slow_consumer after {sent} messages of 60,000 bytes, the other's slowest round trip {slowest * 1000:.0f} ms"


@part
def dial_into_nothing():
    """Nobody answers a dial: it ends after its own time, in one clear line."""
    with Net() as net:
        net.rules("output drop")
        begin = time.monotonic()
        ran = run_client([f"{SERVER_IP}:7000", "--timeout", "1s"], netns=net.client)
        took = time.monotonic() - begin
        check(ran.returncode == 1 and len(ran.stderr.splitlines()) == 1, f"{ran}")
        check(0.8 < took < 4, f"it takes {took:.1f} s")
        return f"{ran.stderr.strip()!r} after {took:.1f} s"


@part
def little_memory():
    """In a memory cgroup, with a memory limit below the group's: clients that take nothing do not kill it."""
    root = "/sys/fs/cgroup/memory"
    group = f"{root}/mainspring-faults-{os.getpid()}"
    try:
        os.mkdir(group)
        try:
            with open(f"{group}/memory.limit_in_bytes", "w") as limit:
                limit.write(str(96 << 20))
        except OSError as error:
            os.rmdir(group)
            raise Skip(f"no memory cgroup of version 1: {error}")
    except OSError as error:
        raise Skip(f"no memory cgroup of version 1: {error}")
    try:
        enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
        with Server("echo", ["--memory-limit", "24MiB", "--stats-every", "100ms"], wrap=enter) as server:
            # Each sends half of a long message, and then takes nothing: both are held for them.
            flood = []
            for number in range(12):
                peer = connect(server.address)
                peer.setblocking(False)
                flood.append(peer)
            begin = time.monotonic()
            half = frame(bytes(4 << 20))[: 3 << 20]
            at = [0] * len(flood)
            while time.monotonic() - begin < 3:
                for number, peer in enumerate(flood):
                    with contextlib.suppress(OSError):
                        if at[number] < len(half):
                            at[number] += peer.send(half[at[number]:at[number] + (1 << 16)])
                time.sleep(0.001)
            server.expect_alive()
            stats = server.until_stats("the largest go", lambda stats: stats["closes"].get("memory_limit", 0) > 0)
            for peer in flood:
                peer.close()
            server.until_stats("all are gone", lambda stats: stats["open"] == 0)
            with connect(server.address) as late:
                expect_echo(late, 1, 1_000_000)
            server.expect_rest(0.5)
            with open(f"{group}/memory.max_usage_in_bytes") as most:
                most = int(most.read()) >> 20
            with open(f"{group}/memory.failcnt") as failed:
                failed = int(failed.read())
            stats = server.stop()
            return f"at most {most} MiB of 96, {failed} times at the bound; {stats['closes'].get('memory_limit')} closed by the limit of 24 MiB"
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(group)
                break
            time.sleep(0.1)


# ---- all of it --------------------------------------------------------------------------------------------------------


def main():
    failed = 0
    for each in PARTS:
        if WANTED and each.__name__ not in WANTED:
            continue
        name = each.__name__.replace("_", " ")
        begin = time.monotonic()
        try:
            told = each()
            print(f"ok       {name} ({time.monotonic() - begin:.1f} s): {told}", flush=True)
        except Skip as why:
            print(f"skipped: faults, {name}: {why}", flush=True)
        except (Failure, OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
            failed += 1
            print(f"FAILED   {name}: {type(error).__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
