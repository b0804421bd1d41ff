"""The cases: each takes a peer and a number of jobs, and yields (name, figure) of one fresh server; bench/peers/run repeats them."""
import contextlib
import tempfile
import time

import measure
from peer import BURN_S

BURNS = 400
TRIPS = 1000


@contextlib.contextmanager
def fresh(peer):
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        peer.start(directory)
        try:
            yield peer
        finally:
            peer.stop()


def warm(peer):
    """One job through a worker that has just been started; the count from which the next ones are counted."""
    before = peer.done()
    peer.produce(1, "single")
    measure.until(lambda: peer.done() > before, f"{peer.name}'s first job")
    return peer.done()


def produced(peer, jobs, how):
    at = peer.produce(jobs, how)
    return jobs / (at["to"] - at["from"])


def enqueue(peer, jobs):
    for how in ("single", "bulk"):
        with fresh(peer):
            yield f"enqueue_{how}", {"unit": "jobs/s", "value": produced(peer, jobs, how)}


def drain(peer, jobs):
    """Two runners on a backlog. The rate is of the jobs after the first: a slow start has a figure of its own."""
    with fresh(peer):
        peer.produce(jobs)
        start = time.monotonic()
        with peer.worker(2) as worker:
            first = measure.until(lambda: peer.done() > 0, "the first job", step_s=0.0005)
            gone, cpu = peer.done(), measure.cpu_s(worker.pids() + peer.server_pids())
            broker = measure.cpu_s(peer.broker_pids())
            end = measure.until_count(peer.done, jobs)
            cpu = measure.cpu_s(worker.pids() + peer.server_pids()) - cpu
            broker = measure.cpu_s(peer.broker_pids()) - broker
            pss = measure.pss_kib(worker.pids() + peer.server_pids())
            broker_pss = measure.pss_kib(peer.broker_pids())
    rest = max(1, jobs - gone)
    yield "drain", {"unit": "jobs/s", "value": rest / (end - first), "runners": 2}
    yield "drain_with_start", {"unit": "jobs/s", "value": jobs / (end - start), "runners": 2}
    yield "cpu_per_10000", {"unit": "s", "value": cpu / rest * 10000, "digits": 3}
    yield "memory", {"unit": "KiB PSS", "value": pss, "after_jobs": jobs, "runners": 2}
    if broker:
        yield "broker_cpu_per_10000", {"unit": "s", "value": broker / rest * 10000, "digits": 3}
        yield "broker_memory", {"unit": "KiB PSS", "value": broker_pss, "after_jobs": jobs}


def end_to_end(peer, jobs):
    with fresh(peer), peer.worker(2):
        before = warm(peer)
        at = peer.produce(jobs)
        end = measure.until_count(peer.done, before + jobs)
        yield "end_to_end", {"unit": "jobs/s", "value": jobs / (end - at["from"]), "runners": 2}


def round_trip(peer, jobs):
    with fresh(peer), peer.worker(1):
        warm(peer)
        us = sorted(peer.trips(min(TRIPS, jobs)))
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            yield f"round_trip_{name}", {"unit": "us", "value": us[int(len(us) * share)], "trips": len(us)}


def burn(peer, jobs):
    """CPU-bound tasks of 5 ms with one and with two runners, and what they took beyond the tasks themselves."""
    count, seconds = min(BURNS, jobs), {}
    for runners in (1, 2):
        with fresh(peer), peer.worker(runners, "burn"):
            before = warm(peer)
            at = peer.produce(count, "bulk", "burn")
            seconds[runners] = measure.until_count(peer.done, before + count) - at["from"]
    yield "s2", {"unit": "ratio", "value": seconds[1] / seconds[2], "digits": 3, "tasks": count}
    for runners, took in seconds.items():
        yield f"overhead_{runners}", {"unit": "share", "value": took / (count * BURN_S / runners) - 1, "digits": 3, "tasks": count}


def system_calls(peer, jobs):
    """Of a busy worker: it is traced from before the jobs come, idle, until they are done."""
    with fresh(peer), peer.worker(2) as worker:
        before = warm(peer)
        with contextlib.ExitStack() as traced:
            ours = traced.enter_context(measure.CallCounter(worker.pids(), peer.directory))
            server = traced.enter_context(measure.CallCounter(peer.server_pids(), peer.directory)) if peer.server_pids() else None
            peer.produce(jobs)
            measure.until_count(peer.done, before + jobs)
        yield "system_calls", {"unit": "calls/job", "value": ours.calls / jobs, "digits": 2}
        if server:
            yield "server_system_calls", {"unit": "calls/job", "value": server.calls / jobs, "digits": 2, "producer": "included"}


def start(peer, jobs):
    with fresh(peer):
        peer.produce(1, "single")
        at = time.monotonic()
        with peer.worker(2):
            first = measure.until(lambda: peer.done() > 0, "the first job", step_s=0.0005)
        yield "start", {"unit": "ms", "value": (first - at) * 1000, "digits": 1}


CASES = {function.__name__: function for function in (enqueue, drain, end_to_end, round_trip, burn, system_calls, start)}
