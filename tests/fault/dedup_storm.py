#!/usr/bin/python3
"""Every event is sent three times by three producers to workers under kill -9: each key's effect is recorded once.

usage: dedup_storm.py sqlite|redis|amqp [--rounds N] [--seconds S] [--events N] [--workers N] [--seed N]

The producers send all events under one dedup key each, two in the same order and one in its own, while random processes of two workers are killed.
After the killing the queue is drained. Of the three results of each key exactly one may say that its job was run; the others must
name it and carry the same value; the totals must account for every job, where RabbitMQ counts a second record of one run among the
duplicates (as in soak.py). The seed is printed. One JSON line per round.
"""
import argparse
import json
import os
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Worker, broker, call_many, celeriac, totals, unaccounted, wait_until  # noqa: E402
from soak import Killer, kill_for  # noqa: E402

BATCH = 40
COPIES = 3
DRAIN_S = 120
SLOW, SLEEP_S = 5, 0.2  # every fifth event takes so long: its copies meet it while it runs
# Where result and acknowledgement are one step, nothing but the copies is ever counted as a duplicate.
ONE_STEP = ("sqlite", "redis")


class Killers:
    """Strikes one worker of several at a time."""

    def __init__(self, workers, rng):
        self.killers, self.rng = [Killer(worker, rng) for worker in workers], rng

    def strike(self):
        self.rng.choice(self.killers).strike()

    def revive(self):
        for killer in self.killers:
            killer.revive()

    def kills(self):
        return {role: sum(k.kills[role] for k in self.killers) for role in self.killers[0].kills}


def line(event):
    how = {"dedup": f"event {event}", "window": 600}
    return {"task": "math.add", "args": [event, 1], **how} if event % SLOW else {"task": "sleep", "args": [SLEEP_S], **how}


def produce(url, order, seconds, ids, errors):
    """Sends the events in this order over the time of the killing; ids: event -> ids."""
    began = time.monotonic()
    try:
        for first in range(0, len(order), BATCH):
            time.sleep(max(0.0, began + seconds * 0.9 * first / len(order) - time.monotonic()))
            batch = order[first:first + BATCH]
            for event, task_id in zip(batch, call_many(url, [line(event) for event in batch])):
                ids[event].append(task_id)
    except BaseException as error:  # told by the main thread
        errors.append(error)


def documents(url, ids):
    text = celeriac(url, "result", "-", "-o", "json", stdin="".join(i + "\n" for i in ids)).stdout
    return [json.loads(one) for one in text.splitlines()]


def judge(event, docs):
    """What is wrong with the results of one event, or None."""
    runs = [doc["task_id"] for doc in docs if "duplicate_of" not in doc.get("celeriac", {})]
    want = event + 1 if event % SLOW else SLEEP_S
    if len(docs) != COPIES or {doc["status"] for doc in docs} != {"SUCCESS"}:
        return f"event {event}: {docs}"
    if {doc["result"] for doc in docs} != {want}:
        return f"event {event}: results {[doc['result'] for doc in docs]}, wanted {want}"
    if len(runs) != 1 or any(doc["celeriac"].get("duplicate_of") != runs[0] for doc in docs if doc["task_id"] != runs[0]):
        return f"event {event}: {len(runs)} of {COPIES} count as run: {[doc.get('celeriac') for doc in docs]}"
    return None


def recorded_again(kind, t, events):
    """Second records of one run; the copies are duplicates too."""
    return 0 if kind in ONE_STEP else max(0, t["duplicates"] - events * (COPIES - 1))


def verdict(kind, url, ids):
    """What is wrong, as a list of texts, and the totals."""
    flat = [task_id for copies in ids for task_id in copies]
    docs = documents(url, flat)
    by_id = {doc["task_id"]: doc for doc in docs}
    wrong = [text for event, copies in enumerate(ids)
             if (text := judge(event, [by_id[i] for i in copies if i in by_id]))]
    t, jobs, doubles = totals(url), len(ids) * COPIES, len(ids) * (COPIES - 1)
    told = jobs + recorded_again(kind, t, len(ids))
    if unaccounted(t) != 0 or t["published"] != told or t["succeeded"] != told:
        wrong.append(f"totals {t}")
    if t["duplicates"] < doubles or (kind in ONE_STEP and t["duplicates"] != doubles):
        wrong.append(f"{t['duplicates']} duplicates, wanted {doubles}")
    return wrong, t


def drain(kind, url, events, killers):
    def done():
        killers.revive()
        t = totals(url)
        ended = t["succeeded"] + t["failed"] + t["dead"] - recorded_again(kind, t, events)
        return ended >= events * COPIES and t["waiting"] + t["leased"] + t["delayed"] == 0
    wait_until(done, "the queue to be drained", DRAIN_S)


def storm(kind, options, seed, url, workers):
    rng, ids, errors = random.Random(seed), [[] for _ in range(options.events)], []
    killers = Killers(workers, rng)
    order = rng.sample(range(options.events), options.events)
    orders = [order, order, rng.sample(order, len(order))]  # two side by side, one anyhow
    feeders = [threading.Thread(target=produce, args=(url, order, options.seconds, ids, errors)) for order in orders]
    for feeder in feeders:
        feeder.start()
    kill_for(options.seconds, killers, rng)
    for feeder in feeders:
        feeder.join()
    if errors:
        return [f"producer: {error}" for error in errors], {}, killers
    try:
        drain(kind, url, options.events, killers)
        return *verdict(kind, url, ids), killers
    except AssertionError as error:
        return [f"{error}: {totals(url)}"], {}, killers


def one_round(kind, options, seed):
    with broker(kind) as (url, directory):
        workers = [Worker(url, "-c", "2", "-n", f"w{n}@storm", "--lease", "3", "--lost-max", "1000",
                          log=f"{directory}/worker{n}.log") for n in range(options.workers)]
        began = time.monotonic()
        try:
            for worker in workers:
                worker.start()
            wrong, t, killers = storm(kind, options, seed, url, workers)
        finally:
            for worker in workers:
                worker.__exit__()
        took = time.monotonic() - began
        logs = "".join(worker.log()[-8000:] for worker in workers)
    print(json.dumps({"case": "dedup_storm", "broker": kind, "seed": seed, "events": options.events, "copies": COPIES,
                      "kills": killers.kills(), "seconds": round(took, 1), "totals": t, "wrong": wrong[:5], "wrongs": len(wrong)}),
          flush=True)
    if wrong:
        sys.stderr.write(logs)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description="sends every event three times while the workers' processes are killed")
    parser.add_argument("kind", choices=("sqlite", "redis", "amqp"))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("CELERIAC_STORM_ROUNDS", "1")))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--events", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.randrange(1 << 30)
    bad = [n for n in range(options.rounds) if not one_round(options.kind, options, first + n)]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
