"""Cases of what a job costs: memory, system calls, instructions."""
import callgrind
import measure
from figures import Value
from load import pids_of

# By what a second run of the same load needed more than a first, start and stop cancel out.
FEW, MANY = 2000, 12000


def pss_of(worker):
    return {role: [measure.pss_of(pid) for pid in pids] for role, pids in pids_of(worker).items()}


def memory(load, kind):
    """PSS of each process of a worker with two runners: idle, after a tenth of the jobs, after all."""
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
                seen["first" if done == more else "all"] = pss_of(worker)
    last = seen.get("all", seen["first"])
    total = sum(map(sum, last.values()))
    yield Value("memory", "KiB PSS", total, after_jobs=jobs, runners=2, idle=seen["idle"], after_first=seen["first"], after_all=last)
    yield Value("memory_growth", "KiB PSS", total - sum(map(sum, seen["first"].values())), since_jobs=min(slice_of_jobs, jobs), after_jobs=jobs)


def calls_of(load, kind, jobs):
    """System calls of a worker's whole life on a backlog of so many jobs."""
    with load.brokers.fresh(kind) as broker:
        load.enqueue(broker.url, jobs)
        report = f"{broker.directory}/strace"
        with load.watched(broker, ["strace", "-f", "-c", "-o", report]):
            load.settled(broker, jobs)
        return measure.calls_in(report)


def system_calls(load, kind):
    yield Value("system_calls", "calls/job", (calls_of(load, kind, MANY) - calls_of(load, kind, FEW)) / (MANY - FEW), digits=2,
                runners=2, jobs=MANY - FEW)


def instructions_of(load, kind, jobs):
    """{role: instructions of our own objects} of a client that enqueues so many jobs and a worker that runs them."""
    with load.brokers.fresh(kind) as broker:
        found = {"client": callgrind.client(load, broker, jobs)}
        with load.watched(broker, callgrind.words(broker.directory)) as worker:
            load.settled(broker, jobs)
            roles = callgrind.roles(worker)
        return {**found, **callgrind.by_role(broker, roles)}


def instructions(load, kind):
    few, many = (instructions_of(load, kind, jobs) for jobs in (FEW, MANY))
    for role, count in many.items():
        yield Value(f"instructions_{role}", "instructions/job", (count - few[role]) / (MANY - FEW), jobs=MANY - FEW)


CASES = {case.__name__: case for case in (memory, system_calls, instructions)}
