"""Cases of what a job costs: memory, system calls, instructions."""
import contextlib
import os
import time

import callgrind
import measure
from figures import Value
from load import pids_of

# What a longer run needed more than a shorter one: start and stop cancel out.
CALLS_OF = 1000, 21000
INSTRUCTIONS_OF = 500, 3000


@contextlib.contextmanager
def one_core():
    """Everything that is started inside shares one core, server too: then how processes wake each other, and with it what a job
    costs, hardly depends on what else the machine does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pss_of(worker):
    return {role: [measure.pss_of(pid) for pid in pids] for role, pids in pids_of(worker).items()}


REST_S = 0.5  # within which a worker has given back what a burst needed


def memory(load, kind):
    """PSS of each process of a worker with two runners, at rest: before the first job, after the first slice of them, after all."""
    jobs, slice_of_jobs = load.args.memory_jobs, 50000
    seen, done = {}, 0
    with load.brokers.fresh(kind) as broker, load.worker(broker, 2, "--result-expires", "20") as worker:
        seen["idle"] = pss_of(worker)
        while done < jobs:
            more = min(slice_of_jobs, jobs - done)
            load.enqueue(broker.url, more)
            done += more
            load.settled(broker, more if broker.rabbitmq else done)
            if done == more or done == jobs:
                time.sleep(REST_S)
                seen["first" if done == more else "all"] = pss_of(worker)
    last = seen.get("all", seen["first"])
    total = sum(map(sum, last.values()))
    yield Value("memory", "KiB PSS", total, after_jobs=jobs, runners=2, idle=seen["idle"], after_first=seen["first"], after_all=last)
    yield Value("memory_growth", "KiB PSS", total - sum(map(sum, seen["first"].values())), since_jobs=min(slice_of_jobs, jobs), after_jobs=jobs)


def calls_of(load, kind, jobs, runners):
    """System calls of a worker's whole life on a backlog of so many jobs."""
    with load.brokers.fresh(kind) as broker:
        load.enqueue(broker.url, jobs)
        report = f"{broker.directory}/strace"
        with load.watched(broker, ["strace", "-f", "-c", "-o", report], runners):
            load.settled(broker, jobs)
        return measure.calls_in(report)


def calls_per_job(load, kind, runners=2):
    few, many = CALLS_OF
    return (calls_of(load, kind, many, runners) - calls_of(load, kind, few, runners)) / (many - few)


def system_calls(load, kind):
    """Of a busy worker, as it runs and on one core, where the figure is repeatable."""
    yield Value("system_calls", "calls/job", calls_per_job(load, kind), digits=2, runners=2)
    with one_core():
        yield Value("system_calls_one_core", "calls/job", calls_per_job(load, kind), digits=3, runners=2)


def instructions_of(load, kind, jobs):
    """{role: instructions of our own objects} of a client that enqueues so many jobs and a worker that runs them."""
    with load.brokers.fresh(kind) as broker:
        found = {"client": callgrind.client(load, broker, jobs)}
        with load.watched(broker, callgrind.words(broker.directory)) as worker:
            load.settled(broker, jobs)
            roles = callgrind.roles(worker)
        return {**found, **callgrind.by_role(broker, roles)}


def instructions_per_job(load, kind):
    """{role: instructions}, on one core."""
    with one_core():
        few, many = (instructions_of(load, kind, jobs) for jobs in INSTRUCTIONS_OF)
    return {role: (count - few[role]) / (INSTRUCTIONS_OF[1] - INSTRUCTIONS_OF[0]) for role, count in many.items()}


def instructions(load, kind):
    for role, count in instructions_per_job(load, kind).items():
        yield Value(f"instructions_{role}", "instructions/job", count, size=load.size)


CASES = {case.__name__: case for case in (memory, system_calls, instructions)}
