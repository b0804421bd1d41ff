#!/usr/bin/python3
"""Kills the process that passes each named crash point and checks that nothing is lost or recorded twice.

usage: crash_points.py SOURCE_DIR sqlite|redis|amqp|split [NAME...]

The names are read from the source (FAULT_POINT); a point of one backend is tried on that backend only. A fresh queue gets
50 jobs, the first process of the worker that passes the point dies there, and all jobs must end in SUCCESS exactly once;
of the three jobs of one dedup key one counts as run. RabbitMQ records a result before it takes the acknowledgement: a run that was
recorded a second time is counted as a duplicate, told here, and counts for nothing else.
A point that this work does not pass is tried at the publishing command; one that nobody passes is a failure unless
ELSEWHERE names the test that has it.
"""
import contextlib
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import (Worker, broker, call, call_many, celeriac, result, totals, unaccounted, wait_until)  # noqa: E402

JOBS = 50
MANY = 1200  # more than RabbitMQ's totals read again each time
KEYS = 3  # dedup keys, each of three jobs
BACKENDS = ("sqlite", "redis", "amqp", "memory", "split")

# Points that need a special situation, and the test that makes it.
ELSEWHERE = {"redis.before-restore": "tests/interop/celery_test.py"}


def points(source, kind):
    """Every name in the source that can be passed with this backend."""
    found = set()
    for folder in ("base", "broker", "worker", "client", "app"):
        for path in (source / folder).glob("*.c"):
            found.update(re.findall(r'FAULT_POINT\("([^"]+)"\)', path.read_text()))
    return sorted(name for name in found if name.split(".")[0] not in BACKENDS or name.split(".")[0] == kind)


def jobs():
    """Short jobs, some a little later, some that take a while, so that every path of the worker is passed."""
    lines = [{"task": "math.add", "args": [n, 1]} for n in range(JOBS - 10 - 3 * KEYS)]
    lines += [{"task": "sleep", "args": [0.15], "dedup": f"key {n % KEYS}"} for n in range(3 * KEYS)]
    lines += [{"task": "math.add", "args": [n, 1], "countdown": 0.3} for n in range(5)]
    lines += [{"task": "sleep", "args": [0.15]} for n in range(5)]
    return lines


def fault(name, directory):
    """The environment in which one process dies at the point, and the file that goes away when it did."""
    flag = pathlib.Path(directory, "fault")
    flag.touch()
    return flag, {"CELERIAC_FAULT": name, "CELERIAC_FAULT_FILE": str(flag)}


class Alive:
    """Keeps a worker running: starts another when its supervisor is gone, as an init system would."""

    def __init__(self, url, directory, env):
        self.worker = Worker(url, "-c", "2", "--lease", "2", log=f"{directory}/worker.log", env=env)
        self.restarts = 0

    def __enter__(self):
        self.worker.start(ready=False)
        return self

    def __exit__(self, *exc):
        self.worker.__exit__(*exc)

    def look(self):
        if self.worker.process.poll() is not None:
            self.restarts += 1
            self.worker.start(ready=False)


def recorded_again(t, kind):
    """Second records of one run; a repeated dedup key is a duplicate too."""
    return max(0, t["duplicates"] - 2 * KEYS) if kind == "amqp" else 0


def left(url):
    """How many messages are still to come."""
    return sum(totals(url)[where] for where in ("waiting", "leased", "delayed"))


def at_worker(name, kind):
    """True when a process of the worker died at the point; fails when a job was lost or recorded twice."""
    with broker(kind) as (url, directory):
        ids = call_many(url, jobs())
        assert len(set(ids)) == JOBS, f"{len(ids)} ids"
        flag, env = fault(name, directory)
        with Alive(url, directory, env) as alive:
            def drained():
                alive.look()
                t = totals(url)
                return t["succeeded"] - recorded_again(t, kind) >= JOBS
            try:
                wait_until(drained, f"{JOBS} results after a death at {name}")
                # Whatever was resent must be refused, so look once more when the leases and the copies had time to return: who
                # dies between the confirmed copy of a put-off job and its acknowledgement leaves both.
                wait_until(lambda: left(url) == 0, "the last lease and the last copy")
                check(url, ids, kind)
            except AssertionError:
                sys.stderr.write(f"{totals(url)}\n{alive.worker.log()[-6000:]}")
                raise
        check(url, ids, kind)
        if recorded_again(totals(url), kind):
            print(f"{name}: {recorded_again(totals(url), kind)} recorded again", flush=True)
        if name == "split.after-result":
            # The job ran again and found its SUCCESS: one duplicate more than the repeated keys make.
            assert totals(url)["duplicates"] > 2 * KEYS, totals(url)
        return not flag.exists()


def check(url, ids, kind):
    t = totals(url)
    told = JOBS + recorded_again(t, kind)
    assert t["published"] == told and t["succeeded"] == told and unaccounted(t) == 0, t
    states = [result(url, task_id)["status"] for task_id in ids[:3] + ids[-3:]]
    assert set(states) == {"SUCCESS"}, states
    keyed = [result(url, task_id) for task_id in ids[JOBS - 10 - 3 * KEYS:JOBS - 10]]
    runs = [doc["task_id"] for doc in keyed if "duplicate_of" not in doc["celeriac"]]
    assert len(runs) == KEYS and len({doc["celeriac"].get("duplicate_of") for doc in keyed} - {None}) == KEYS, keyed


def at_call(name, kind):
    """True when `call` died at the point; the same call again must leave exactly one job. RabbitMQ does not know the second message by
    its id: it may run as well, and its record is a duplicate."""
    with broker(kind) as (url, directory):
        flag, env = fault(name, directory)
        done = celeriac(url, "call", "math.add", "-a", "[2, 3]", "--id", "call-at-" + name[:28], env=env)
        if flag.exists():
            return False
        assert done.returncode == -9, done
        call(url, "math.add", 2, 3, id="call-at-" + name[:28])
        with Worker(url, "-c", "1") as worker:
            assert result(url, "call-at-" + name[:28], wait_s=30)["status"] == "SUCCESS"
            wait_until(lambda: totals(url)["leased"] == 0, "the last lease")
            assert worker.process.poll() is None
        t = totals(url)
        told = 1 + (t["duplicates"] if kind == "amqp" else 0)
        assert t["published"] == t["succeeded"] == told <= 2 and unaccounted(t) == 0, t
        return True


def die(url, name, directory, *words):
    """A command of an operator dies at the point."""
    flag, env = fault(name, directory)
    done = celeriac(url, *words, env=env)
    assert done.returncode == -9 and not flag.exists(), done


def at_status(name, kind):
    """There was so much to read since the last sum that the one who asks keeps a new one, and dies before he takes the old one out."""
    with broker(kind) as (url, directory), Worker(url, "-c", "2"):
        for n in (1, 2):
            ids = call_many(url, [{"task": "math.add", "args": [i, 1]} for i in range(MANY)])
            assert result(url, ids[-1], wait_s=60)["status"] == "SUCCESS"
            if n == 1:
                wait_until(lambda: totals(url)["succeeded"] == MANY, "the first sum")
        die(url, name, directory, "status")
        for _ in range(3):  # the first of them puts the two sums together
            t = totals(url)
            assert t["published"] == t["succeeded"] == 2 * MANY and t["duplicates"] == 0, t
    return True


def at_retry(name, kind):
    """Who sends a dead letter again dies before he takes it out of its grave, and does it once more."""
    with broker(kind) as (url, directory):
        with Worker(url, "-c", "1"):
            task_id = call(url, "future.one")
            wait_until(lambda: totals(url)["dead"] == 1, "the dead letter")
        die(url, name, directory, "dead", "retry", "--all")
        celeriac(url, "dead", "retry", "--all", check=0)
        with Worker(url, "-c", "1", "-A", str(pathlib.Path.cwd() / "tests/support/modules/future.so"), log=f"{directory}/worker.log"):
            assert result(url, task_id, wait_s=30)["result"] == "from the future", result(url, task_id)
            wait_until(lambda: totals(url)["waiting"] + totals(url)["leased"] == 0, "the second copy")
            t = totals(url)
            assert t["dead"] == t["failed"] == 0 and t["succeeded"] - t["duplicates"] == 1, t
    return True


def at_bulk(name, kind):
    """The process that has just leased many short jobs at once dies before it has read them."""
    with broker(kind) as (url, directory):
        call_many(url, [{"task": "math.add", "args": [n, 1]} for n in range(MANY)])
        flag, env = fault(name, directory)
        with Alive(url, directory, env) as alive:
            wait_until(lambda: alive.look() or totals(url)["succeeded"] >= MANY, f"{MANY} results after a death at {name}")
            wait_until(lambda: left(url) == 0, "the last lease")
        t = totals(url)
        assert t["published"] == t["succeeded"] == MANY and t["duplicates"] == unaccounted(t) == 0, t
        return not flag.exists()


SPECIAL = {"amqp.before-totals-ack": ("an operator's command", at_status), "amqp.before-grave-ack": ("an operator's command", at_retry),
           "redis.after-bulk": ("worker", at_bulk)}


def try_point(name, kind):
    began = time.monotonic()
    attempts = (SPECIAL[name],) if name in SPECIAL else (("worker", at_worker), ("call", at_call))
    where = [role for role, attempt in attempts if attempt(name, kind)]
    if not where and name not in ELSEWHERE:
        raise AssertionError("no process passed it")
    print(f"ok      {name}: died in {' and in '.join(where) or ELSEWHERE[name]}, {time.monotonic() - began:.1f} s",
          flush=True)


def main():
    source, kind, names = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    failed = 0
    for name in names or points(source, kind):
        try:
            try_point(name, kind)
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
