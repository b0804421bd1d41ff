#!/usr/bin/python3
"""bench/grow measures each axis, compares its ends and draws it. usage: bench_grow_test.py BUILD_DIR"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.dom.minidom

GROW = pathlib.Path(__file__).resolve().parents[2] / "bench" / "grow"
AXES = {"backlog": 1000, "queues": 100, "runners": 4, "workers": 2, "in_flight": 100, "delayed": 1000, "dedup": 1000, "payload": 10000}


def can_count():
    """callgrind runs no program with a sanitizer in it."""
    cache = pathlib.Path(sys.argv[1], "CMakeCache.txt").read_text()
    return shutil.which("callgrind_annotate") and "CELERIAC_SANITIZE:BOOL=ON" not in cache


def main():
    if not shutil.which("redis-server") or os.environ.get("CELERIAC_VALGRIND"):
        sys.exit(77)
    with tempfile.TemporaryDirectory() as directory:
        for axis, most in AXES.items():
            counted = axis == "workers" and can_count()
            done = subprocess.run([GROW, "--build", sys.argv[1], "--axis", axis, "--most", str(most), "--jobs", "200", "--repeat", "1",
                                   "--svg", directory, *([] if counted else ["--no-instructions"])],
                                  capture_output=True, text=True, timeout=240)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert done.returncode == 0 and lines[0]["case"] == "machine", (lines, done.stderr)
            costs = {"ours", "server", "enqueue", "both", "wire", *(["instructions"] if counted else [])}
            points = [line for line in lines if line["case"] == f"grow_{axis}"]
            ends = [line for line in lines if line["case"] == "grow"]
            assert {line["cost"] for line in points} == {line["cost"] for line in ends} == costs, lines
            assert max(line["at"] for line in points) == most, lines
            assert all(line["median"] > 0 and line["jobs"] >= 50 for line in points), lines
            xml.dom.minidom.parse(f"{directory}/grow-{axis.replace('_', '-')}.svg")


main()
