#!/usr/bin/python3
"""Checks what bench/ makes of the things it reads: callgrind's files, figures, accepted costs. No server, nothing is measured."""
import json
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import accepted  # noqa: E402
import callgrind  # noqa: E402
import chart  # noqa: E402
import figures  # noqa: E402
import page  # noqa: E402

# 5 and 7 are ours, 100 is a library's, 1000 is what a call of ours cost inside.
PROFILE = """events: Ir

ob=(1) /usr/lib/libc.so.6
fn=(1) memcpy
0 100

ob=(2) /opt/celeriac
fn=(2) main
3 5
cob=(1)
cfn=(1)
calls=1 0
3 1000
+2 7

ob=(1)
fn=(1)
0 100
"""


def check(found, wanted, what):
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, wanted {wanted!r}")


def check_callgrind():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(PROFILE)
        file.flush()
        check(callgrind.own_instructions(file.name, "/opt/celeriac"), 12, "instructions of our own")


def check_accepted():
    check(accepted.best([{"a": 3, "b": 1}, {"a": 2, "b": 4}]), {"a": 2, "b": 1}, "the best of some tries")
    check(accepted.too_much({"a": 105, "b": 106, "c": 50, "new": 9}, {"a": 100, "b": 100, "c": 100}), ["b"], "what costs too much")
    for toolchain, kinds in accepted.read().items():
        check(sorted(kinds), sorted(accepted.KINDS), f"brokers of {toolchain}")
        check([name for kind in kinds.values() for name, value in kind.items() if not value > 0], [], f"empty figures of {toolchain}")


def rate(value, limit):
    return figures.Value("drain", "jobs/s", value, limit, runners=2)


def check_page():
    found = figures.line("redis", [rate(60, 100), rate(50, 50), rate(90, 180)])
    check([found[key] for key in ("min", "median", "max", "runs")], [50, 60, 90, 3], "spread")
    check([found["ratio"][key] for key in ("min", "median", "max")], [0.5, 0.6, 1.0], "ratios of one repetition each")
    text = "before\n<!-- figures: limit -->\nold\n<!-- end of figures -->\n<!-- figures: peers -->\nkept\n<!-- end of figures -->\nafter\n"
    once = page.fill(text, [json.loads(json.dumps(found))])
    check("old" in once, False, "the old table is there")
    check("| 0.5 / 0.6 / 1 of 100 |" in once, True, f"the new table is there: {once}")
    check("kept" in once and once.startswith("before\n") and once.endswith("after\n"), True, "the rest is left alone")
    check(page.fill(once, [found]), once, "the same figures once more")
    svg = chart.bars("title", "y", {"redis": {"drain": (0.5, 0.6, 1.0)}}, 0.6)
    check(svg.count("<rect"), 2, "bars and the ground they stand on")


for body in (check_callgrind, check_accepted, check_page):
    body()
print("bench reads its figures right")
