#!/usr/bin/python3
"""2,000 jobs are enqueued while a random process of the worker is killed every 50-300 ms: none lost, none recorded twice.

usage: soak.py sqlite|redis [--rounds N] [--seconds S] [--jobs N] [--seed N]

Victims are the runners, the dispatcher and, more rarely, the supervisor; a worker without a supervisor is started anew. After
the killing the queue is drained: the totals must say that every job succeeded exactly once, and every id must have its
own result. The seed is printed, so a round can be tried again. One JSON line per round.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import (Worker, broker, call_many, celeriac, process_tree, totals, unaccounted, wait_until)  # noqa: E402

BATCH = 40
DRAIN_S = 120


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


def line(n):
    return {"task": "math.add", "args": [n, 1]} if n % 10 else {"task": "sleep", "args": [0.02]}


def enqueue(url, jobs, seconds, ids, errors):
    """Spreads the jobs over the time of the killing, in batches of the command line."""
    began = time.monotonic()
    try:
        for first in range(0, jobs, BATCH):
            due = began + seconds * 0.9 * first / jobs
            time.sleep(max(0.0, due - time.monotonic()))
            ids += call_many(url, [line(n) for n in range(first, min(first + BATCH, jobs))])
    except BaseException as error:  # told by the main thread
        errors.append(error)


def kill_for(seconds, killer, rng):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.05, 0.3))
        killer.strike()


def drain(url, jobs, killer):
    def done():
        killer.revive()
        t = totals(url)
        return t["succeeded"] + t["failed"] + t["dead"] >= jobs and t["leased"] == 0
    wait_until(done, "the queue to be drained", DRAIN_S)


def verdict(url, ids, jobs):
    """What is wrong, as a list of texts."""
    wrong = []
    t = totals(url)
    if len(set(ids)) != jobs:
        wrong.append(f"{len(set(ids))} different ids instead of {jobs}")
    if unaccounted(t) != 0 or t["published"] != jobs or t["succeeded"] != jobs:
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


def one_round(kind, options, seed):
    rng, ids, errors = random.Random(seed), [], []
    with broker(kind) as (url, directory):
        worker = Worker(url, "-c", "2", "--lease", "3", "--lost-max", "1000", log=f"{directory}/worker.log")
        killer = Killer(worker, rng)
        with worker:
            feeder = threading.Thread(target=enqueue, args=(url, options.jobs, options.seconds, ids, errors))
            feeder.start()
            began = time.monotonic()
            kill_for(options.seconds, killer, rng)
            feeder.join()
            wrong = [f"enqueue: {error}" for error in errors]
            t = {}
            try:
                if not wrong:
                    drain(url, options.jobs, killer)
                    wrong, t = verdict(url, ids, options.jobs)
            except AssertionError as error:
                wrong.append(f"{error}: {totals(url)}")
            took = time.monotonic() - began
        log = worker.log()
    ended = sum(t.get(k, 0) for k in ("succeeded", "failed", "dead"))
    print(json.dumps({"case": "soak", "broker": kind, "seed": seed, "jobs": options.jobs,
                      "lost": max(0, options.jobs - ended), "doubled": max(0, ended - options.jobs),
                      "kills": killer.kills, "restarts": killer.restarts, "seconds": round(took, 1), "totals": t,
                      "wrong": wrong[:5]}),
          flush=True)
    if wrong:
        sys.stderr.write(log[-8000:])
    return not wrong


def main():
    parser = argparse.ArgumentParser(description="kills the worker's processes while jobs run")
    parser.add_argument("kind", choices=("sqlite", "redis"))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("CELERIAC_SOAK_ROUNDS", "1")))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.randrange(1 << 30)
    bad = [n for n in range(options.rounds) if not one_round(options.kind, options, first + n)]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
