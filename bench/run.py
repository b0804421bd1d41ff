#!/usr/bin/python3
"""Measures Celeriac on this machine and prints one JSON line per case.

    bench/run.py --build build/release [--broker sqlite|redis|amqp ...] [--jobs 20000] [--repeat 5] [--case NAME ...]

Rates are jobs per second; each case runs --repeat times and gives minimum, median and maximum. Every server and worker that is
started lives in a temporary directory and is stopped by its pid. Use a release build.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "support"))
import harness  # noqa: E402

NOOP = json.dumps({"task": "noop"}) + "\n"


def spread(values, digits=0):
    return {"min": round(min(values), digits), "median": round(statistics.median(values), digits),
            "max": round(max(values), digits), "runs": len(values)}


def enqueue(url, jobs, task=None):
    """Seconds that `celeriac call -` takes to enqueue and confirm the jobs."""
    line = json.dumps(task) + "\n" if task else NOOP
    with tempfile.TemporaryFile("w+") as lines:
        lines.write(line * jobs)
        lines.seek(0)
        start = time.monotonic()
        subprocess.run([harness.program(), "-b", url, "call", "-"], stdin=lines, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - start


def nothing_left(url):
    """RabbitMQ: the totals are read from a stream, which would be measured as well; the queue's depth is cheap."""
    row = [q for q in json.loads(harness.celeriac(url, "queue", "ls", "-o", "json", check=0).stdout) if q["queue"] == "celery"]
    return row and row[0]["waiting"] + row[0]["leased"] == 0


def wait_done(url, jobs):
    if url.startswith("amqp"):
        harness.wait_until(lambda: nothing_left(url), "an empty queue", 300)
        return
    harness.wait_until(lambda: harness.totals(url)["succeeded"] >= jobs, f"{jobs} results", 300)


def worker(url, concurrency):
    w = harness.Worker(url, "-c", str(concurrency), "-l", "warning")
    return w


def warm(url):
    """One job through the worker, so that its start is not measured."""
    task_id = harness.call(url, "noop")
    harness.result(url, task_id, wait_s=30)


def case_enqueue(kind, args):
    rates = []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir):
            rates.append(args.jobs / enqueue(url, args.jobs))
    return {"unit": "jobs/s", **spread(rates)}


def case_drain(kind, args):
    """From the start of the worker to the last result."""
    rates = []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir):
            enqueue(url, args.jobs)
            start = time.monotonic()
            with worker(url, 2):
                wait_done(url, args.jobs)
                rates.append(args.jobs / (time.monotonic() - start))
    return {"unit": "jobs/s", "runners": 2, **spread(rates)}


def case_end_to_end(kind, args):
    """One producer and one worker at the same time."""
    rates = []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir), worker(url, 2):
            warm(url)
            start = time.monotonic()
            enqueue(url, args.jobs)
            wait_done(url, args.jobs + 1)
            rates.append(args.jobs / (time.monotonic() - start))
    return {"unit": "jobs/s", "runners": 2, **spread(rates)}


def case_limit(kind, args):
    """End to end beside a plain program on librabbitmq with the same promises (bench_amqp.c), in one run."""
    if kind != "amqp":
        return None
    ours, bare = [], []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir):
            out = subprocess.run([args.build / "bench" / "bench_amqp", url, str(args.jobs)], capture_output=True, check=True, text=True)
            bare.append(json.loads(out.stdout.splitlines()[0])["per_s"])
            with worker(url, 2):
                warm(url)
                start = time.monotonic()
                enqueue(url, args.jobs)
                wait_done(url, args.jobs + 1)
                ours.append(args.jobs / (time.monotonic() - start))
    return {"unit": "jobs/s", "bare": spread(bare), "ours": spread(ours),
            "ratio": spread([o / b for o, b in zip(ours, bare)], 2)}


def case_round_trip(kind, args):
    trips = []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir), worker(url, 1):
            warm(url)
            out = subprocess.run([args.build / "bench" / "roundtrip", url, "1000"], capture_output=True, check=True)
            trips.append(json.loads(out.stdout))
    return {"unit": "us", "p50": spread([t["p50_us"] for t in trips]), "p99": spread([t["p99_us"] for t in trips])}


def burn_time(url, concurrency, tasks, rounds):
    with worker(url, concurrency):
        warm(url)
        start = time.monotonic()
        done = harness.totals(url)["succeeded"]
        enqueue(url, tasks, {"task": "hash.sha256", "args": ["x"], "kwargs": {"rounds": rounds}})
        wait_done(url, done + tasks)
        return time.monotonic() - start


def calibrate(url):
    """Rounds of hash.sha256 that take 5 ms here."""
    with worker(url, 1):
        warm(url)
        task_id = harness.call(url, "hash.sha256", "x", kwargs={"rounds": 200000})
        run_us = harness.result(url, task_id, wait_s=60)["celeriac"]["run_us"]
    return max(1, int(200000 * 5000 / run_us))


def case_speed_up(kind, args):
    """400 CPU-bound tasks of 5 ms with one and with two runners."""
    tasks, ratios, overhead = 400, [], []
    for _ in range(args.repeat):
        with harness.broker(kind) as (url, _dir):
            rounds = calibrate(url)
            one, two = burn_time(url, 1, tasks, rounds), burn_time(url, 2, tasks, rounds)
            ratios.append(one / two)
            overhead.append(one / (tasks * 0.005) - 1)
    return {"unit": "ratio", "tasks": tasks, "s2": spread(ratios, 3), "overhead_1": spread(overhead, 3)}


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))


def case_memory(kind, args):
    with harness.broker(kind) as (url, _dir), worker(url, 2) as w:
        enqueue(url, args.jobs)
        wait_done(url, args.jobs)
        return {"unit": "KiB PSS", "after_jobs": args.jobs, "supervisor": pss_kib(w.process.pid),
                "dispatcher": pss_kib(w.dispatcher()), "runners": [pss_kib(p) for p in w.runners()]}


def case_system_calls(kind, args):
    """strace -c over the whole worker while it drains a backlog; its start and stop are counted too."""
    with harness.broker(kind) as (url, directory):
        enqueue(url, args.jobs)
        out = f"{directory}/strace"
        p = subprocess.Popen(["strace", "-f", "-c", "-o", out, harness.program(), "-b", url, "worker", "-c", "2", "-l", "warning"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_done(url, args.jobs)
        for pid, title in harness.process_tree(p.pid).items():
            if title.startswith("celeriac: supervisor"):
                os.kill(pid, 15)
        p.wait()
        total = [line for line in pathlib.Path(out).read_text().splitlines() if line.endswith("total")][0]
        return {"unit": "calls/job", "jobs": args.jobs, "median": round(int(total.split()[-2 if len(total.split()) < 6 else 3]) / args.jobs, 2)}


CASES = {name[5:]: function for name, function in list(globals().items()) if name.startswith("case_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--broker", action="append", choices=["sqlite", "redis", "amqp"])
    parser.add_argument("--case", action="append", choices=sorted(CASES))
    parser.add_argument("--jobs", type=int, default=20000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    args.build = args.build.resolve()
    os.environ["CELERIAC"] = str(args.build / "app" / "celeriac")
    for name in args.case or CASES:
        for kind in args.broker or ["sqlite", "redis", "amqp"]:
            figure = CASES[name](kind, args)
            if figure is None:
                continue
            print(json.dumps({"case": name, "broker": kind, "jobs": args.jobs, **figure}), flush=True)


if __name__ == "__main__":
    main()
