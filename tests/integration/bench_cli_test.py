#!/usr/bin/python3
"""celeriac bench and advise: their figures on a file and on Redis, and what they leave behind. CELERIAC names the program."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

FIGURES = {"enqueue_single", "enqueue_bulk", "drain", "end_to_end", "round_trip_p50", "round_trip_p99"}


def run(*words, check=0, env=None):
    done = subprocess.run([harness.program(), *words], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})
    assert done.returncode == check, (words, done.returncode, done.stdout, done.stderr)
    return done


def results_left(url, directory):
    if url.startswith("sqlite"):
        import sqlite3
        with sqlite3.connect(f"{directory}/queue.db") as db:
            return db.execute("SELECT count(*) FROM results").fetchone()[0]
    server = harness.Redis(directory)
    return len(server.cli("KEYS", "celery-task-meta-*").split())


def check_bench(url, directory, temp):
    told = json.loads(run("bench", "-b", url, "-n", "300", "--repeat", "2", "-c", "2", "-o", "json").stdout)
    found = {f["case"]: f for f in told["figures"]}
    assert set(found) == FIGURES, found
    for figure in found.values():
        assert figure["runs"] == 2 and 0 < figure["min"] <= figure["median"] <= figure["max"], figure
    totals = harness.totals(url)
    assert totals["succeeded"] == totals["published"] == 2 * (300 + 300 + 300 + 300), totals
    assert totals["waiting"] == totals["leased"] == 0, totals
    assert results_left(url, directory) == 0
    assert not [q for q in json.loads(run("queue", "ls", "-b", url, "-o", "json").stdout) if q["queue"].startswith("celeriac-")]
    assert not list(pathlib.Path(temp).iterdir()), "a scratch folder is left"
    table = run("bench", "-b", url, "-n", "20", "--repeat", "1").stdout
    assert "round trip, p99" in table and "drain" in table, table


def check_running_worker(url):
    """The worker that is there; and none is there."""
    with harness.Worker(url, "-c", "1", "-Q", "others", "-l", "warning"):
        told = json.loads(run("bench", "-b", url, "-n", "50", "--repeat", "1", "--no-worker", "-Q", "others", "-o", "json").stdout)
        assert {f["case"] for f in told["figures"]} == FIGURES - {"drain"}, told
        assert "runners" not in told
        live = json.loads(run("advise", "-b", url, "--live", "--seconds", "1", "--rate", "5", "-o", "json").stdout)
        assert live["workers"] == 1 and live["runners"] == 1, live
    refused = run("bench", "-b", url, "-n", "50", "--no-worker", "-Q", "nobody", "--timeout", "1", check=6).stderr
    assert "nobody ran a job on queue 'nobody'" in refused, refused


def check_advise(url):
    waited = harness.totals(url)["waiting"]
    told = json.loads(run("advise", "-b", url, "--wait", "--task-time", "0.01", "--serial", "0.3", "--runners", "4", "--seconds",
                          "0.4", "--rate", "1000", "-o", "json").stdout)
    assert [step["runners"] for step in told["steps"]] == [1, 2, 3, 4], told
    assert all(step["rate"] > 0 and step["jobs"] >= 20 * step["runners"] for step in told["steps"]), told
    assert told["fit"]["law"] in ("amdahl", "usl") and 0 <= told["fit"]["serial"] <= 1, told
    assert told["plan"]["hosts"] >= 1 and told["plan"]["runners_per_host"] >= 1, told
    if url.startswith("redis"):
        assert all(step["broker_cpu"] >= 0 for step in told["steps"]) and told["plan"]["brokers"] >= 1, told
    assert harness.totals(url)["waiting"] == waited


def check_words():
    assert "no broker is given" in run("bench", check=2, env={"CELERIAC_BROKER": "", "CELERY_BROKER_URL": ""}).stderr
    assert "memory lives in one process" in run("bench", "-b", "memory:", "-n", "5", check=70).stderr
    assert "waits for results" in run("bench", "-b", "sqlite:nowhere.db", "--result-backend", "disabled://", check=2).stderr
    table = run("advise", "--seconds", "0.1", "--task-time", "0.002", "--runners", "2", "--rate", "100000").stdout
    assert "serial share" in table and "saturated" in table and "a file serves one host" in table, table


def main():
    if harness.VALGRIND:
        sys.exit(77)
    with tempfile.TemporaryDirectory() as temp:
        for kind in ("sqlite", "redis"):
            with harness.broker(kind) as (url, directory):
                os.environ["TMPDIR"] = temp
                check_bench(url, directory, temp)
                check_running_worker(url)
                check_advise(url)
                del os.environ["TMPDIR"]
    check_words()


main()
