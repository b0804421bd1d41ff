"""The accepted cost of a job: what the gate holds a change against, and how it is measured.

Only what is repeatable is gated: instructions of our own program (callgrind) and system calls (strace) per no-op job, each as what a
longer run needed more than a shorter one, with server and worker on one core. Measured five times on a machine that was busy with
other work (load 6 to 11), instructions of client and runner differ by 0.1 % and those of the dispatcher by 1 %. System calls are those of
one runner: of two, some end together and some do not, and a transaction carries the ends of one or of both (1.80 to 2.15 calls a job on
SQLite). With one, eight measurements gave 0.231 to 0.241 on Redis and 2.647 to 2.657 on SQLite, and beside three busy processes 0.224 to
0.246 and 2.50 to 2.53. So the least of some tries is taken.
They depend on the compiler and on the system's libraries, and how many calls a batch carries on how fast the cores are, so figures
are accepted for one toolchain on one kind of machine; for another there is no gate.
"""
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess

import costs

PATH = pathlib.Path(__file__).resolve().parent / "accepted.json"
KINDS = ("redis", "sqlite")
TOLERANCE = 0.05
TRIES = 7  # the best of some is held against the median of as many, so that no lucky try is accepted
TOOLS = ("valgrind", "strace", "redis-server", "redis-cli")


def toolchain(build):
    """Whose figures these are: "debian 12, GNU 12.2.0, x86_64, 2 cores of AMD EPYC"."""
    system = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(), re.M))
    made = next((build / "CMakeFiles").glob("*/CMakeCCompiler.cmake")).read_text()
    compiler = re.search(r'^set\(CMAKE_C_COMPILER_ID "([^"]*)"\)', made, re.M)[1]
    version = re.search(r'^set\(CMAKE_C_COMPILER_VERSION "([^"]*)"\)', made, re.M)[1]
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    machine = f"{platform.machine()}, {os.cpu_count()} cores of {cpu[1] if cpu else 'unknown'}"
    return f"{system.get('ID', 'unknown')} {system.get('VERSION_ID', '')}, {compiler} {version}, {machine}"


def read():
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def write(figures):
    PATH.write_text(json.dumps(figures, indent=4, sort_keys=True) + "\n")


def hindrance():
    """Why nothing can be measured here; None when it can."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)} not found"
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode != 0:
        return "strace may not trace here"
    return None


def best(measured, pick=min):
    """The least of each figure, or the one that pick takes."""
    return {name: pick([found[name] for found in measured]) for name in measured[0]}


def instructions_of(load, kind):
    return {f"instructions_{role}": round(count) for role, count in costs.instructions_per_job(load, kind).items()}


def calls_of(load, kind):
    with costs.one_core():
        return {"system_calls": round(costs.calls_per_job(load, kind, runners=1), 3)}


MEASURES = (instructions_of, calls_of)


def too_much(figures, limits):
    return [name for name, value in figures.items() if name in limits and value > limits[name] * (1 + TOLERANCE)]


def measure(load, kind, limits=None):
    """{figure: cost of a job}; with limits the least, tried again while it exceeds one; without, the median of TRIES."""
    found = {}
    for of in MEASURES:
        tries = []
        while len(tries) < TRIES and (not tries or not limits or too_much(best(tries), limits)):
            tries.append(of(load, kind))
        found.update(best(tries, min if limits else statistics.median))
    return found
