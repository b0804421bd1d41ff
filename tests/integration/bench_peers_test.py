#!/usr/bin/python3
"""bench/peers/run measures Celeriac in every case, and says of a peer without packages that it is left out. usage: bench_peers_test.py BUILD_DIR"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

RUN = pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers" / "run"
WANTED = {"enqueue_single", "enqueue_bulk", "drain", "drain_with_start", "cpu_per_10000", "memory", "broker_memory", "end_to_end",
          "round_trip_p50", "round_trip_p99", "s2", "overhead_1", "overhead_2", "start"}
MAY_BE_NOTHING = {"overhead_1", "overhead_2", "cpu_per_10000"}  # so few jobs may all be done when the first is seen


def run(*words, env=None):
    done = subprocess.run([RUN, *words], capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=250)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def main():
    if not shutil.which("redis-server") or os.environ.get("CELERIAC_VALGRIND"):
        sys.exit(77)
    with tempfile.TemporaryDirectory() as scratch:
        cases = [word for name in ("enqueue", "drain", "end_to_end", "round_trip", "burn", "start") for word in ("--case", name)]
        status, lines, errors = run("celeriac", "--build", sys.argv[1], "--scratch", scratch, "--no-install", "--repeat", "1",
                                    "--jobs", "40", *cases)
        assert status == 0, errors
        assert lines[0]["case"] == "install" and lines[0]["peer"] == "celeriac", lines[0]
        found = {line["case"]: line for line in lines[1:]}
        assert WANTED <= set(found), (WANTED - set(found), lines)
        assert all(found[name]["median"] > 0 and found[name]["runs"] == 1 for name in WANTED - MAY_BE_NOTHING), lines
        # No dpkg knows anything here: nothing can be installed, and that is no failure of the others.
        bare = pathlib.Path(scratch) / "dpkg-query"
        bare.write_text("#!/bin/sh\nexit 1\n")
        bare.chmod(0o755)
        status, lines, errors = run("beanstalkd", "--no-install", "--scratch", scratch, env={"PATH": f"{scratch}:{os.environ['PATH']}"})
        assert status == 1 and len(lines) == 1 and "scripts/apt-install beanstalkd" in lines[0]["unavailable"], (lines, errors)


main()
