"""Load on a broker: jobs that are enqueued, a worker that takes them, and the limit program beside it."""
import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import tempfile
import time

import brokers
import measure
from measure import harness

NO_LIMIT = {("limit_sqlite", "round_trip")}  # nobody can be woken by a file


class Load:
    """What a case needs: programs of the build, sizes, and how to put them to work. args: those of bench/run; served: a Brokers."""

    def __init__(self, args, served):
        self.args, self.brokers = args, served
        self.build = args.build
        self.line = {"task": "noop"}
        self.size = self.message_bytes()
        if args.size > self.size:
            self.line["args"] = ["x" * self.filler(args.size - self.size)]
            self.size = self.message_bytes()

    @staticmethod
    def filler(more):
        """Characters of an argument that make a message longer: once more in base64, and in the header argsrepr up to 1,024."""
        return max(1, int((more - 8) / (7 / 3)))

    def message_bytes(self):
        """Of one message as it is published, by the file of a SQLite broker."""
        with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory:
            subprocess.run([harness.program(), "-b", f"sqlite:{directory}/q.db", "call", "-"], input=json.dumps(self.line), text=True,
                           stdout=subprocess.DEVNULL, check=True)
            with contextlib.closing(sqlite3.connect(f"{directory}/q.db")) as db:
                return db.execute("SELECT length(envelope) FROM messages").fetchone()[0]

    def tool(self, name, *words, pin=None):
        """The JSON line of one of our own programs."""
        words = [*pinned(pin), self.build / "bench" / name, *map(str, words)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr.strip()}")
        return [json.loads(text) for text in done.stdout.splitlines()]

    def begin(self, name, *words):
        """As tool(), but does not wait: end() does."""
        return subprocess.Popen([self.build / "bench" / name, *map(str, words)], stdout=subprocess.PIPE, text=True)

    @staticmethod
    def end(process):
        out = process.communicate()[0]
        if process.returncode != 0:
            raise RuntimeError(f"{process.args[0]} failed")
        return json.loads(out)

    def limit(self, kind, case, jobs, pin=None, trips=None, way=None, batch=None):
        """{figure: value} of the limit program on a broker of its own; {} where there is none."""
        with self.brokers.fresh(kind) as broker:
            program, where, usual = broker.limit
            ways = {"push": broker.pushing, "round_trip": "script"} if broker.redis else {}
            way = way or ways.get(case, usual)
            batch = batch or brokers.batch_of(kind)
            if (program, case) in NO_LIMIT:
                return {}
            place(broker, pin)
            words = ["--case", case, "--batch", batch, "--jobs", jobs, "--size", self.size, *(["--trips", trips] if trips else [])]
            return {row["case"]: row["median"] for row in self.tool(program, *words, "--way", way, where, pin=pin and pin["ours"])}

    def enqueue(self, url, jobs, line=None):
        """Enqueues and confirms through `celeriac call -`; the seconds that took."""
        with tempfile.TemporaryFile("w+") as lines:
            lines.write((json.dumps(line or self.line) + "\n") * jobs)
            lines.seek(0)
            start = time.monotonic()
            subprocess.run([harness.program(), "-b", url, "call", "-"], stdin=lines, stdout=subprocess.DEVNULL, check=True)
            return time.monotonic() - start

    def through_library(self, url, jobs, how, pin=None):
        """The same through libceleriac: `send` one at a time, `many` in calls of 1,000."""
        at = self.tool("roundtrip", url, jobs, how, json.dumps(self.line.get("args", [])), pin=pin)[0]
        return at["to"] - at["from"]

    def settled(self, broker, jobs):
        """Waits until so many jobs have succeeded; {"from", "first", "to"} of settled.c."""
        return self.tool("settled", broker.url, jobs, *(["left"] if broker.rabbitmq else []))[0]

    def warm(self, broker):
        """One job through a worker that has just been started."""
        harness.result(broker.url, harness.call(broker.url, "noop"), wait_s=30)

    @contextlib.contextmanager
    def worker(self, broker, runners, *options, pin=None):
        ours = harness.Worker(broker.url, "-c", str(runners), "-l", "warning", *options)
        before = os.sched_getaffinity(0)
        if pin:
            os.sched_setaffinity(0, pin)
        try:
            ours.start()
        finally:
            os.sched_setaffinity(0, before)
        with contextlib.ExitStack() as stack:
            stack.push(ours.__exit__)
            yield ours

    @contextlib.contextmanager
    def watched(self, broker, watcher, runners=2, *options):
        """A worker as the child, or the body, of strace or valgrind; stopped warmly, so that all is written."""
        process = subprocess.Popen([*watcher, harness.program(), "-b", broker.url, "worker", "-c", str(runners), "-l", "warning", *options],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            top = [pid for pid, title in harness.process_tree(process.pid).items() if title.startswith("celeriac: supervisor")]
            os.kill(top[0] if top else process.pid, signal.SIGTERM)
            process.wait(60)


def enqueue_lines(broker, lines):
    """Enqueues dicts, made one by one, so that a million of them needs no memory."""
    with tempfile.TemporaryFile("w+") as text:
        text.writelines(json.dumps(line) + "\n" for line in lines)
        text.seek(0)
        subprocess.run([harness.program(), "-b", broker.url, "call", "-"], stdin=text, stdout=subprocess.DEVNULL, check=True)


def done_count(broker, jobs):
    """What settled must wait for when a warm job went before: RabbitMQ's is counted by what is left."""
    return jobs if broker.rabbitmq else jobs + 1


def pids_of(worker):
    """Supervisor, dispatcher, runners: {role: [pid]}."""
    return {"supervisor": [worker.process.pid], "dispatcher": [worker.dispatcher()], "runner": worker.runners()}


def pinned(cpus):
    return ["taskset", "-c", ",".join(map(str, sorted(cpus)))] if cpus else []


def place(broker, pin):
    """Puts the server's threads on the cores of a placement."""
    if not pin:
        return
    for pid in measure.family(broker.pids):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), pin["server"])
