"""A figure: what repetitions of a case found, ours and the limit's and how they compare; one JSON line each.

A case yields Value objects, one for each thing it measured in one repetition. Ratios are taken within a repetition and then spread,
because figures of different minutes on one machine are not comparable.
"""
import json
import os
import pathlib
import platform
import subprocess

from measure import spread


class Value:
    """One thing that one repetition measured; limit: the same by the limit program, just before. facts: go into the line as they are."""

    def __init__(self, case, unit, value, limit=None, digits=0, **facts):
        self.case, self.unit, self.value, self.limit, self.digits, self.facts = case, unit, value, limit, digits, facts


def line(kind, values):
    """The figure of a case's repetitions on one kind of broker."""
    first = values[0]
    found = {"case": first.case, "broker": kind, "unit": first.unit, **first.facts, **spread([v.value for v in values], first.digits)}
    if first.limit is not None:
        found["limit"] = spread([v.limit for v in values], first.digits)
        found["ratio"] = spread([v.value / v.limit for v in values], 2)
    found["load"] = round(os.getloadavg()[0], 1)
    return found


def version_of(*words):
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        return None
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else None


def machine(build):
    """What the figures were measured on; the first line of a run."""
    cpu = [text.split(":")[1].strip() for text in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
    return {"case": "machine", "cores": len(os.sched_getaffinity(0)), "cpu": cpu[0] if cpu else platform.machine(),
            "kernel": platform.release(), "celeriac": version_of(build / "app" / "celeriac", "--version"),
            "redis": version_of("redis-server", "--version"), "compiler": version_of("gcc", "--version")}


class Report:
    """Writes figures to standard output and, if wanted, to a file."""

    def __init__(self, path=None):
        self.file = open(path, "w") if path else None

    def write(self, figure):
        text = json.dumps(figure)
        print(text, flush=True)
        if self.file:
            print(text, file=self.file, flush=True)
