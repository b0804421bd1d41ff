"""What the process, integration and fault tests share: a celeriac program, a fresh broker, a worker and its processes.

Everything lives in a temporary directory and on unix sockets; every process that is started here is stopped by its pid.
Waiting is always on a condition with a deadline. Standard library only.
"""
import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

from rabbitmq import RabbitMQ

# With CELERIAC_VALGRIND set every celeriac runs under valgrind, which writes what it finds into that folder.
VALGRIND = os.environ.get("CELERIAC_VALGRIND")
SCALE = 5 if VALGRIND else 1
DEADLINE_S = SCALE * float(os.environ.get("CELERIAC_TEST_DEADLINE", "60"))


def program():
    """The celeriac under test: $CELERIAC, else the one of the build directory ctest runs in."""
    path = os.environ.get("CELERIAC") or str(pathlib.Path.cwd() / "app" / "celeriac")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"no celeriac program at {path}: set CELERIAC")
    return path


def command(url, *args):
    """The words that run celeriac."""
    checker = []
    if VALGRIND:
        # libc's own clean-up at exit would forget environ and make its copy look lost.
        checker = ["valgrind", "-q", "--vgdb=no", "--run-libc-freeres=no", "--leak-check=full", "--show-leak-kinds=definite",
                   "--errors-for-leak-kinds=definite", "--error-exitcode=97",
                   "--trace-children=yes", f"--log-file={VALGRIND}/%p.log"]
    return [*checker, program(), "-b", url, *args]


def valgrind_findings():
    """What valgrind has written so far; processes that were killed write nothing."""
    if not VALGRIND:
        return ""
    return "".join(p.read_text(errors="replace") for p in sorted(pathlib.Path(VALGRIND).glob("*.log")))


def wait_until(condition, what, deadline_s=None):
    """Calls condition until it is true and returns its value; fails with `what` at the deadline."""
    end = time.monotonic() + (deadline_s or DEADLINE_S)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.02)


class Redis:
    """A private redis-server on a unix socket."""

    def __init__(self, directory, *options):
        self.socket = str(pathlib.Path(directory) / "redis.sock")
        self.directory = directory
        self.options = options
        self.process = None

    @property
    def url(self):
        return f"redis+socket://{self.socket}?virtual_host=0"

    def start(self):
        if not shutil.which("redis-server"):
            raise SystemExit(77)
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no",
             "--dir", self.directory, *self.options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.cli("PING") == "PONG", "redis-server")
        return self

    def cli(self, *args):
        done = subprocess.run(["redis-cli", "-s", self.socket, *args], capture_output=True, text=True)
        return done.stdout.strip()

    def stop(self, sig=signal.SIGTERM):
        if self.process:
            self.process.send_signal(sig)
            self.process.wait()
            self.process = None


def shared_rabbitmq_url():
    """A URL with a fresh virtual host of the server that with_rabbitmq.py offers, else None. For tests that leave the server alone."""
    fresh = os.environ.get("CELERIAC_TEST_AMQP_FRESH")
    return subprocess.check_output(shlex.split(fresh), text=True).strip() if fresh else None


@contextlib.contextmanager
def broker(kind):
    """Yields (url, directory) of a fresh broker: "sqlite", "redis", "amqp" or "split": a file whose results are in Redis."""
    directory = tempfile.mkdtemp(prefix="celeriac-test-")
    server, shared = None, shared_rabbitmq_url() if kind == "amqp" else None
    try:
        if kind == "split":
            server = Redis(directory).start()
            os.environ["CELERIAC_RESULT_BACKEND"] = server.url
            yield f"sqlite:{directory}/queue.db", directory
        elif kind == "redis":
            server = Redis(directory).start()
            yield server.url, directory
        elif kind == "amqp" and not shared:
            server = RabbitMQ(directory).start()
            yield server.fresh_url(), directory
        else:
            yield shared or f"sqlite:{directory}/queue.db", directory
    finally:
        os.environ.pop("CELERIAC_RESULT_BACKEND", None)
        if server:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def celeriac(url, *args, stdin=None, check=None, timeout=None, env=None):
    """Runs one command; check: the exit status it must have (None: any). Returns the CompletedProcess."""
    words = command(url, *args)
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout or DEADLINE_S,
                          env={**os.environ, **(env or {})})
    if check is not None and done.returncode != check:
        raise AssertionError(f"{words}: exit {done.returncode}, wanted {check}\n{done.stdout}{done.stderr}")
    return done


def call(url, task, *args, **options):
    """Enqueues and returns the id."""
    words = [task, "-a", json.dumps(args)]
    kwargs = options.pop("kwargs", None)
    if kwargs is not None:
        words += ["-k", json.dumps(kwargs)]
    for name, value in options.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return celeriac(url, "call", *words, check=0).stdout.strip()


def call_many(url, lines):
    """Enqueues JSON lines (dicts) through `call -` and returns the ids."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return celeriac(url, "call", "-", stdin=text, check=0).stdout.split()


def result(url, task_id, wait_s=None):
    """The stored document; with wait_s once the task is ready."""
    words = ["result", task_id, "-o", "json"]
    if wait_s is not None:
        words += ["--wait", str(wait_s * SCALE)]
    return json.loads(celeriac(url, *words, timeout=(wait_s or 0) * SCALE + DEADLINE_S).stdout)


def totals(url):
    return json.loads(celeriac(url, "status", "-o", "json", check=0).stdout)["totals"]


def unaccounted(t):
    """0 when every published job is somewhere."""
    return t["published"] - sum(t[k] for k in ("succeeded", "failed", "dead", "waiting", "delayed", "leased"))


def process_tree(pid):
    """{pid: title} of the descendants of pid, by /proc; processes that end meanwhile are left out."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = pathlib.Path("/proc", entry, "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = {}, [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            with contextlib.suppress(OSError):
                title = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                found[child] = title
                todo.append(child)
    return found


def has_event_loop(pid):
    with contextlib.suppress(OSError):
        return any("eventpoll" in os.readlink(entry) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    return False


class Worker:
    """A celeriac worker; its processes by role."""

    def __init__(self, url, *args, log=None, env=None):
        self.url, self.args, self.env = url, args, env
        self.log_path = log
        self.process = None

    def start(self, ready=True):
        log = open(self.log_path, "ab") if self.log_path else subprocess.DEVNULL
        self.process = subprocess.Popen(command(self.url, "worker", *self.args), stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log, env={**os.environ, **(self.env or {})})
        if self.log_path:
            log.close()
        if ready:
            wait_until(lambda: self.dispatcher() and self.runners(), "the worker's processes")
        return self

    def role(self, word):
        if self.process is None or self.process.poll() is not None:
            return []
        tree = process_tree(self.process.pid)
        if VALGRIND:
            # It keeps the titles to itself; only a dispatcher has an event loop.
            return sorted(pid for pid in tree if has_event_loop(pid) == (word == "dispatcher"))
        return sorted(pid for pid, title in tree.items() if title.startswith(f"celeriac: {word}"))

    def dispatcher(self):
        return (self.role("dispatcher") or [None])[0]

    def runners(self):
        return self.role("runner")

    def title(self, pid):
        return process_tree(self.process.pid).get(pid, "")

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors="replace") if self.log_path else ""

    def stop(self, sig=signal.SIGTERM, deadline_s=None):
        """Signals the supervisor and returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(deadline_s or DEADLINE_S)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if self.process and self.process.poll() is None:
            try:
                self.stop(signal.SIGQUIT, deadline_s=20 * SCALE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
