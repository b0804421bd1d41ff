#!/usr/bin/python3
"""2,000 jobs are enqueued while a random process of the worker is killed every 50-300 ms: none lost, none recorded twice.

usage: soak.py sqlite|redis|amqp [--kill-broker] [--rounds N] [--seconds S] [--jobs N] [--seed N]

Victims are the runners, the dispatcher and, more rarely, the supervisor; a worker without a supervisor is started anew. After
the killing the queue is drained: the totals must say that every job succeeded exactly once, and every id must have its
own result. The seed is printed, so a round can be tried again. One JSON line per round.

RabbitMQ has no step that both records a result and ends the delivery, so there a second record of one run may be written: it counts
for nothing, and `duplicates` says how many there were. With --kill-broker the server itself is killed too, BROKER_KILLS times in a
round, and started again on what it had written; producers wait for it.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import (Worker, broker, celeriac, process_tree, totals, unaccounted, wait_until)  # noqa: E402
from rabbitmq import RabbitMQ  # noqa: E402

BATCH = 40
DRAIN_S = 120
PATIENCE_S = 100  # of a producer while the server starts again
BROKER_KILLS = 2


class Killer:
    """Kills one process of the worker after the other, and counts by role."""

    def __init__(self, worker, rng):
        self.worker, self.rng = worker, rng
        self.kills = {"supervisor": 0, "dispatcher": 0, "runner": 0}
        self.restarts = 0

    def revive(self):
        if self.worker.process.poll() is not None:
            self.restarts += 1
            self.worker.start(ready=False)

    def victim(self):
        """(role, pid): a runner twice as often as the dispatcher, the supervisor once in twenty."""
        if self.rng.random() < 0.05:
            return "supervisor", self.worker.process.pid
        children = process_tree(self.worker.process.pid)
        for role in self.rng.choice((("dispatcher", "runner"), ("runner", "dispatcher"), ("runner", "dispatcher"))):
            pids = [pid for pid, title in children.items() if title.startswith(f"celeriac: {role}")]
            if pids:
                return role, self.rng.choice(pids)
        return None, None

    def strike(self):
        self.revive()
        role, pid = self.victim()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills[role] += 1


def kill_broker(server, seconds, rng):
    """Kills the server now and then and starts it again on the same data. Returns how often. For the main thread: the server ends
    with the thread that started it."""
    for _ in range(BROKER_KILLS):
        time.sleep(rng.uniform(0.15, 0.35) * seconds)
        server.kill9()
        server.start()
    return BROKER_KILLS


def line(n):
    return {"task": "math.add", "args": [n, 1]} if n % 10 else {"task": "sleep", "args": [0.02]}


def enqueue(url, jobs, seconds, ids, errors):
    """Spreads the jobs over the time of the killing, in batches of the command line."""
    began = time.monotonic()
    try:
        for first in range(0, jobs, BATCH):
            due = began + seconds * 0.9 * first / jobs
            time.sleep(max(0.0, due - time.monotonic()))
            text = "".join(json.dumps(line(n)) + "\n" for n in range(first, min(first + BATCH, jobs)))
            ids += celeriac(url, "call", "-", "--timeout", str(PATIENCE_S), stdin=text, check=0, timeout=2 * PATIENCE_S).stdout.split()
    except BaseException as error:  # told by the main thread
        errors.append(error)


def kill_for(seconds, killer, rng):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.05, 0.3))
        killer.strike()


def ended(t):
    """Jobs with a record that counts."""
    return t["succeeded"] - t["duplicates"] + t["failed"] + t["dead"]


def drain(url, jobs, killer, server):
    def done():
        killer.revive()
        try:
            t = totals(url)
        except AssertionError:
            if server:  # a killed RabbitMQ takes its time until every stream is there again
                return False
            raise
        return ended(t) >= jobs and t["leased"] == t["waiting"] == t["delayed"] == 0
    wait_until(done, "the queue to be drained", DRAIN_S)


def verdict(kind, url, ids, jobs):
    """What is wrong, as a list of texts."""
    wrong = []
    t = totals(url)
    if len(set(ids)) != jobs:
        wrong.append(f"{len(set(ids))} different ids instead of {jobs}")
    told = jobs + (t["duplicates"] if kind == "amqp" else 0)
    if unaccounted(t) != 0 or t["published"] != told or t["succeeded"] != told:
        wrong.append(f"totals {t}")
    text = celeriac(url, "result", "-", "-o", "json", stdin="".join(i + "\n" for i in ids)).stdout
    documents = [json.loads(one) for one in text.splitlines()]
    for n, (task_id, document) in enumerate(zip(ids, documents)):
        want = n + 1 if n % 10 else None
        if document["task_id"] != task_id or document["status"] != "SUCCESS":
            wrong.append(f"{task_id}: {document}")
        elif want is not None and document["result"] != want:
            wrong.append(f"{task_id}: result {document['result']}, wanted {want}")
    if len(documents) != len(ids):
        wrong.append(f"{len(documents)} results for {len(ids)} ids")
    return wrong, t


def run_round(kind, url, directory, options, rng):
    """What is wrong, the totals, and the rest of what is told."""
    ids, errors, t = [], [], {}
    worker = Worker(url, "-c", "2", "--lease", "3", "--lost-max", "1000", log=f"{directory}/worker.log")
    killer = Killer(worker, rng)
    with worker:
        threads = [threading.Thread(target=enqueue, args=(url, options.jobs, options.seconds, ids, errors)),
                   threading.Thread(target=kill_for, args=(options.seconds, killer, rng))]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        if options.server:
            killer.kills["broker"] = kill_broker(options.server, options.seconds, random.Random(rng.random()))
        for thread in threads:
            thread.join()
        wrong = [f"enqueue: {error}" for error in errors]
        try:
            if not wrong:
                drain(url, options.jobs, killer, options.server)
                wrong, t = verdict(kind, url, ids, options.jobs)
        except AssertionError as error:
            t = totals(url)
            wrong.append(f"{error}: {t}")
        told = {"kills": killer.kills, "restarts": killer.restarts, "seconds": round(time.monotonic() - began, 1)}
    return wrong, t, told, worker.log()


@contextlib.contextmanager
def place(kind, options):
    """(url, directory) for one round."""
    if not options.server:
        with broker(kind) as found:
            yield found
        return
    with tempfile.TemporaryDirectory(prefix="celeriac-test-") as directory:
        yield options.server.fresh_url(), directory


def one_round(kind, options, seed):
    with place(kind, options) as (url, directory):
        wrong, t, told, log = run_round(kind, url, directory, options, random.Random(seed))
    found = ended(t) if t else 0
    print(json.dumps({"case": "soak", "broker": kind, "seed": seed, "jobs": options.jobs,
                      "lost": max(0, options.jobs - found), "doubled": max(0, found - options.jobs),
                      "duplicates": t.get("duplicates"), **told, "totals": t, "wrong": wrong[:5]}), flush=True)
    if wrong:
        sys.stderr.write(log[-8000:])
    return not wrong


def run_all(options):
    first = options.seed if options.seed is not None else random.randrange(1 << 30)
    bad = [n for n in range(options.rounds) if not one_round(options.kind, options, first + n)]
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description="kills the worker's processes while jobs run")
    parser.add_argument("kind", choices=("sqlite", "redis", "amqp"))
    parser.add_argument("--kill-broker", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    if options.rounds is None:
        name = "CELERIAC_SOAK_BROKER_ROUNDS" if options.kill_broker else "CELERIAC_SOAK_ROUNDS"
        options.rounds = int(os.environ.get(name, "1"))
    options.server = None
    if not options.kill_broker:
        sys.exit(run_all(options))
    if options.kind != "amqp":
        parser.error("only a rabbitmq-server can be killed here")
    with tempfile.TemporaryDirectory(prefix="celeriac-soak-") as directory, RabbitMQ(directory) as options.server:
        sys.exit(run_all(options))


if __name__ == "__main__":
    main()
