"""What a peer is: another queue that the same cases (cases.py) are run against.

A peer has a worker and a program that produces, both in its own language. The program is called as `produce TASK COUNT single|bulk`
and as `trips COUNT`; it finds the server, the length of a message and the file of the counter in PEER_SERVER, PEER_BYTES and
PEER_DONE, and prints one JSON line: {"from": s, "to": s} of the monotonic clock, or {"us": [...]}. Tasks are `noop` and `burn`,
which uses 5 ms of CPU. A peer whose server does not know how many jobs are done lets each worker process count in a file
PEER_DONE.<pid> of eight bytes.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import measure

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MESSAGE_BYTES = 1260  # of a Celery message with small arguments
BURN_S = 0.005


class Unavailable(Exception):
    """It can not be installed here, and why."""


def cause_in(text):
    """The line of a stack trace that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])[:300]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peer:
    name = ""
    packages = ()  # of Debian
    jobs = 10000  # default size of a case
    setup = ""  # what was configured, for the report
    results = True  # a result is stored for each job

    def __init__(self, scratch):
        self.scratch = scratch  # survives a run: programs that were built or downloaded
        self.directory = None
        self.server = None
        self.bytes = MESSAGE_BYTES

    # --- what a peer says of itself ---

    def version(self):
        raise NotImplementedError

    def build(self):
        """What has to be made or downloaded after the packages are there."""

    def serve(self):
        """Starts its server in self.directory; returns what its programs are told as PEER_SERVER."""
        raise NotImplementedError

    def worker_words(self, runners, task):
        """A list of command lines: what together is a worker with so many runners."""
        raise NotImplementedError

    def program(self):
        """The words in front of `produce` and `trips`."""
        raise NotImplementedError

    def environment(self):
        return {}

    # --- installing ---

    def install(self, may_install):
        missing = [p for p in self.packages if not package_is_there(p)]
        if missing and (os.geteuid() != 0 or not may_install):
            raise Unavailable(f"packages are missing; as root run: scripts/apt-install {' '.join(missing)}")
        if missing:
            subprocess.run(["apt-get", "update", "-q"], stdout=sys.stderr, check=False)
            done = subprocess.run([ROOT / "scripts" / "apt-install", *missing], stdout=sys.stderr, check=False)
            if done.returncode:
                raise Unavailable(f"apt-get install {' '.join(missing)} failed")
        self.build()

    # --- one fresh server ---

    def start(self, directory):
        self.directory = directory
        self.server = self.serve()

    def stop(self):
        self.close()
        self.directory = self.server = None

    def close(self):
        """Stops what serve started."""
        raise NotImplementedError

    def server_pids(self):
        """Its own server: counts as part of the peer."""
        return []

    def broker_pids(self):
        """A server that it only uses, Redis: counted apart."""
        return []

    # --- jobs ---

    def env(self):
        return {**os.environ, "PEER_SERVER": str(self.server), "PEER_BYTES": str(self.bytes), "PEER_BURN_S": str(BURN_S),
                "PEER_DONE": f"{self.directory}/done", **self.environment()}

    def ask(self, *words):
        done = subprocess.run([*self.program(), *map(str, words)], env=self.env(), capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {cause_in(done.stderr)}")
        return json.loads(done.stdout.splitlines()[-1])

    def produce(self, count, how="bulk", task="noop"):
        """Enqueues; the times between which it did, without the start of the program."""
        return self.ask("produce", task, count, how)

    def trips(self, count):
        """Microseconds from call to result of each."""
        return self.ask("trips", count)["us"]

    def done(self):
        """How many jobs are done; by files unless the server can tell."""
        return sum(int.from_bytes(p.read_bytes()[:8], "little") for p in pathlib.Path(self.directory).glob("done.*"))

    def worker(self, runners, task="noop"):
        return Worker(self, runners, task)


class Worker:
    """The processes of a peer's worker; gone at the end of the block."""

    def __init__(self, peer, runners, task):
        self.peer, self.lines, self.processes = peer, peer.worker_words(runners, task), []

    def __enter__(self):
        with open(f"{self.peer.directory}/worker.log", "ab") as log:
            for words in self.lines:
                self.processes.append(subprocess.Popen(words, env=self.peer.env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                       cwd=self.peer.directory))
        return self

    def pids(self):
        return [p.pid for p in self.processes]

    def __exit__(self, *exc):
        for sig, deadline_s in ((signal.SIGTERM, 15), (signal.SIGKILL, None)):
            rest = measure.family([p.pid for p in self.processes if p.poll() is None]) if sig == signal.SIGKILL else self.pids()
            for pid in rest:
                kill(pid, sig)
            for p in self.processes:
                try:
                    p.wait(deadline_s)
                except subprocess.TimeoutExpired:
                    break
            else:
                return


def kill(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def package_is_there(name):
    done = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status}", name], capture_output=True, text=True)
    return done.stdout == "installed"


def package_version(name):
    return subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True).stdout


class RedisPeer(Peer):
    """A peer whose broker is a private Redis without persistence on a unix socket."""
    queue_key = ""  # the list whose elements are messages; "" when they are not

    def serve(self):
        self.redis = measure.harness.Redis(self.directory).start()
        return self.redis.socket

    def close(self):
        self.redis.stop()

    def broker_pids(self):
        return [self.redis.process.pid]

    def start(self, directory):
        super().start(directory)
        if self.queue_key:
            self.fit()

    def fit(self):
        """Lengthens the argument until a message has MESSAGE_BYTES, however the peer encodes it."""
        lengths = []
        for self.bytes in (0, 60):
            self.produce(1, "single")
            r = measure.Redis(self.server)
            lengths.append(len(r.ask("LINDEX", self.queue_key, "0")))
            r.ask("FLUSHALL")
        per_byte = (lengths[1] - lengths[0]) / 60
        self.bytes = max(0, round((MESSAGE_BYTES - lengths[0]) / per_byte))


class OwnServerPeer(Peer):
    """A peer with a server of its own on a loopback port."""

    def server_words(self, port):
        raise NotImplementedError

    def serve(self):
        port = free_port()
        self.process = subprocess.Popen(self.server_words(port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, cwd=self.directory)
        measure.harness.wait_until(lambda: answers(port), self.name)
        return port

    def close(self):
        self.process.terminate()
        self.process.wait(15)

    def server_pids(self):
        return [self.process.pid]


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def compile_c(source, program, *libraries):
    """The programs in C are built when they are needed: their libraries are no part of our own build."""
    if not shutil.which("cc"):
        raise Unavailable("no C compiler; apt-get install gcc libc6-dev")
    done = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-o", program, source, *libraries],
                          capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{source.name} does not compile: {done.stderr.strip().splitlines()[0]}")
