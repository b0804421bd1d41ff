"""Cases of jobs per second, and what the CPU and the connection did meanwhile. Each yields Values of one repetition."""
import brokers
import measure
from figures import Value
from load import done_count
from measure import harness

BURN_US = 5000
BURNS = 400


def enqueue(load, kind):
    """In bulk, through `celeriac call -` and through the library."""
    jobs = load.args.jobs
    limit = load.limit(kind, "push", jobs, batch=256).get("limit_push")
    with load.brokers.fresh(kind) as broker:
        server = broker.cpu_s()
        yield Value("enqueue_bulk", "jobs/s", jobs / load.enqueue(broker.url, jobs), limit, by="call -", size=load.size, jobs=jobs)
        server, wire = broker.cpu_s() - server, broker.wire_bytes()
        if server:
            yield Value("enqueue_server_cpu", "us/job", server / jobs * 1e6, digits=2)
        if wire:
            yield Value("enqueue_wire", "bytes/job", wire / jobs)
    with load.brokers.fresh(kind) as broker:
        yield Value("enqueue_many", "jobs/s", jobs / load.through_library(broker.url, jobs, "many"), limit, by="celeriac_send_many",
                    size=load.size, jobs=jobs)


def drain(load, kind):
    """Two runners on a backlog; the rate is of the jobs after the first, for the start has a figure of its own."""
    jobs = load.args.jobs
    limit = load.limit(kind, "drain", jobs).get("limit_drain")
    with load.brokers.fresh(kind) as broker:
        load.enqueue(broker.url, jobs)
        server, wire = broker.cpu_s(), broker.wire_bytes()
        with load.worker(broker, 2) as worker:
            at = load.settled(broker, jobs)
            server, ours = broker.cpu_s() - server, measure.cpu_s([worker.process.pid])
            wire = wire and broker.wire_bytes() - wire
    rest = max(1, jobs - at["first"])
    yield Value("drain", "jobs/s", rest / (at["to"] - at["from"]), limit, runners=2, size=load.size, jobs=jobs,
                limit_batch=brokers.batch_of(kind))
    yield Value("drain_cpu", "s/10,000 jobs", ours / jobs * 10000, digits=3, runners=2)
    if server:
        yield Value("drain_server_cpu", "us/job", server / jobs * 1e6, digits=2)
    if wire:
        yield Value("drain_wire", "bytes/job", wire / jobs)


def end_to_end(load, kind):
    """One producer and one worker with two runners at the same time."""
    jobs = load.args.jobs
    limit = load.limit(kind, "cycle", jobs).get("limit_cycle")
    with load.brokers.fresh(kind) as broker, load.worker(broker, 2):
        load.warm(broker)
        took = -measure.time.monotonic()
        load.enqueue(broker.url, jobs)
        took += load.settled(broker, done_count(broker, jobs))["to"]
    yield Value("end_to_end", "jobs/s", jobs / took, limit, runners=2, size=load.size, jobs=jobs,
                limit_batch=brokers.batch_of(kind))


def burn_queued(load, kind, runners):
    """Seconds for the tasks, which wait already: by the time of all after the first, for the start has a figure of its own."""
    with load.brokers.fresh(kind) as broker:
        load.enqueue(broker.url, BURNS, {"task": "work.burn", "args": [BURN_US]})
        waiting = load.begin("settled", broker.url, BURNS, *(["left"] if broker.rabbitmq else []))
        with load.worker(broker, runners):
            at = load.end(waiting)
    return (at["to"] - at["from"]) * BURNS / max(1, BURNS - at["first"])


def burn_bare(load, processes):
    """The same work done by processes without a queue."""
    return load.tool("burner", BURN_US, BURNS, processes)[0]["s"]


def burn(load, kind):
    """Tasks of 5 ms of CPU time, as those of bench/peers, with one and with two runners: the speed-up, and the time over the ideal. The
    bare work comes just before each: what it takes over the ideal is the machine's, and only the rest is ours."""
    bare, took = {}, {}
    for n in (1, 2):
        bare[n], took[n] = burn_bare(load, n), burn_queued(load, kind, n)
    yield Value("speed_up", "ratio", took[1] / took[2], bare[1] / bare[2], digits=3, tasks=BURNS)
    for n in (1, 2):
        ideal = BURNS * BURN_US / 1e6 / n
        yield Value(f"overhead_{n}", "share", took[n] / ideal - 1, digits=3, tasks=BURNS)
        yield Value(f"overhead_bare_{n}", "share", bare[n] / ideal - 1, digits=3, tasks=BURNS)
        yield Value(f"overhead_over_bare_{n}", "share", took[n] / bare[n] - 1, digits=3, tasks=BURNS)


CASES = {case.__name__: case for case in (enqueue, drain, end_to_end, burn)}
