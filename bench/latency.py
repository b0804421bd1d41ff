"""Cases of how long one job takes: to be sent, its round trip, and the start of a worker up to its first."""
import json
import os
import time

from figures import Value
from load import place

TRIPS = 2000


def placements():
    """Where server and clients run: a request between two cores takes three times as long as on one, so both are told."""
    cores = sorted(os.sched_getaffinity(0))
    yield "one core", {"ours": {cores[0]}, "server": {cores[0]}}
    if len(cores) > 1:
        yield "two cores", {"ours": {cores[0]}, "server": {cores[1]}}


def enqueue_single(load, kind):
    """Sent one at a time, each confirmed, through the library."""
    jobs = max(1, load.args.jobs // 20)
    for name, pin in placements():
        limit = load.limit(kind, "confirm", jobs, pin=pin, trips=jobs).get("limit_confirm")
        with load.brokers.fresh(kind) as broker:
            place(broker, pin)
            took, served = load.through_library(broker.url, jobs, "send", pin=pin["ours"]), bool(broker.pids)
        yield Value("enqueue_single", "jobs/s", jobs / took, limit, by="celeriac_send", size=load.size, jobs=jobs,
                    **({"placement": name} if served else {}))
        if not served:
            return


def round_trip(load, kind):
    """send and wait through the library, one job at a time; worker and client are on one core, the server on the same or another."""
    for name, pin in placements():
        limit = load.limit(kind, "round_trip", 1, pin=pin, trips=TRIPS)
        # Without a record of who has the job since when, the bare worker can wait in the server.
        least = load.limit(kind, "round_trip", 1, pin=pin, trips=TRIPS, way="list") if kind.startswith("redis") else {}
        with load.brokers.fresh(kind) as broker:
            place(broker, pin)
            # Without a server it is the worker that is on the other core.
            with load.worker(broker, 1, pin=pin["ours"] if broker.pids else pin["server"]):
                load.warm(broker)
                us = sorted(load.tool("roundtrip", broker.url, TRIPS, "trips", json.dumps(load.line.get("args", [])), pin=pin["ours"])[0]["us"])
        for quantile, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
            figure, value = f"limit_round_trip_{quantile}", us[int(len(us) * share)]
            yield Value(f"round_trip_{quantile}", "us", value, limit.get(figure), placement=name, trips=TRIPS)
            if least:
                yield Value(f"round_trip_list_{quantile}", "us", value, least[figure], placement=name, trips=TRIPS)


def start(load, kind):
    """From the start of `celeriac worker` to the first job done, which was waiting."""
    with load.brokers.fresh(kind) as broker:
        load.enqueue(broker.url, 1)
        # Its own start is not to be counted, so it waits already.
        waiting = load.begin("settled", broker.url, 1, *(["left"] if broker.rabbitmq else []))
        time.sleep(0.1)
        began = time.monotonic()
        with load.worker(broker, 2):
            at = load.end(waiting)
    yield Value("start", "ms", (at["to"] - began) * 1000, digits=1)


CASES = {case.__name__: case for case in (enqueue_single, round_trip, start)}
