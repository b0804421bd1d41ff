"""What one measures about processes, whatever queue they belong to: CPU, memory, system calls, spread of repeated figures."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "support"))
import harness  # noqa: E402


def spread(values, digits=0):
    digits = digits or None  # round(x, 0) would be a float
    return {"min": round(min(values), digits), "median": round(statistics.median(values), digits),
            "max": round(max(values), digits), "runs": len(values)}


def family(pids):
    """The pids and all their descendants that live."""
    found = set()
    for pid in pids:
        found |= {pid, *harness.process_tree(pid)}
    return sorted(pid for pid in found if os.path.exists(f"/proc/{pid}/stat"))


def cpu_s(pids):
    """CPU seconds of these processes with all their descendants, to the nanosecond where threads live."""
    total = 0
    for pid in family(pids):
        with contextlib.suppress(OSError):
            for entry in pathlib.Path(f"/proc/{pid}/task").iterdir():
                total += int((entry / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_of(pid):
    """Proportional memory of one process in KiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return 0


def pss_kib(pids):
    """The same of these processes with all their descendants."""
    return sum(map(pss_of, family(pids)))


class CallCounter:
    """strace -c over processes that run already, until the block ends; .calls is the number then."""

    def __init__(self, pids, directory):
        self.pids, self.path, self.calls = family(pids), pathlib.Path(directory) / f"strace-{pids[0]}", 0

    def __enter__(self):
        words = [word for pid in self.pids for word in ("-p", str(pid))]
        self.process = subprocess.Popen(["strace", "-f", "-c", "-o", self.path, *words],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: all(map(self.is_traced, self.pids)), "strace to attach")
        return self

    @staticmethod
    def is_traced(pid):
        with contextlib.suppress(OSError):
            return "TracerPid:\t0" not in pathlib.Path(f"/proc/{pid}/status").read_text()
        return True

    def __exit__(self, *exc):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.calls = calls_in(self.path)


def calls_in(path):
    """The calls of the last line of a report of strace -c."""
    total = [line.split() for line in pathlib.Path(path).read_text().splitlines() if line.endswith("total")]
    return int(total[0][3]) if total else 0


class Redis:
    """Questions to a private Redis, cheap enough to be asked while it is being measured."""

    def __init__(self, path, db=0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.reader = self.socket.makefile("rb")
        self.ask("SELECT", str(db))

    def ask(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words)))
        head = self.reader.readline()
        if head[:1] == b"-":
            raise RuntimeError(head.decode())
        if head[:1] == b"$":
            length = int(head[1:])
            return self.reader.read(length + 2)[:-2] if length >= 0 else None
        return int(head[1:]) if head[:1] == b":" else head[1:].strip()


def until(condition, what, deadline_s=300, step_s=0.002):
    """As harness.wait_until, but looks often enough to time what it waits for."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(step_s)
    return time.monotonic()


def until_count(count, target, deadline_s=300, step_s=0.002):
    """Waits until count() is target, and looks only when a quarter of the time that is left by the pace so far has gone: a look takes a
    part of a millisecond of the two cores that are measured."""
    begin, at_begin = time.monotonic(), count()
    while (now := time.monotonic()) < begin + deadline_s:
        found = count()
        if found >= target:
            return time.monotonic()
        each_s = (now - begin) / (found - at_begin) if found > at_begin else 0
        time.sleep(min(1, max(step_s, each_s * (target - found) / 4)))
    raise AssertionError(f"timed out waiting for {target} jobs: {found} are done")


def report(case, peer, figure):
    print(json.dumps({"case": case, "peer": peer, **figure}), flush=True)
