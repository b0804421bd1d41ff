"""The parts of docs/performance.md that are made from figures: tables, each between two comments that name it.

<!-- figures: NAME --> and <!-- end of figures --> stand in the page; what is between them is replaced, all else is the author's. A table
of which the figures are not in the file stays as it is.
"""
import re

# case: (what the table says, unit as it is shown, factor)
ROWS = {
    "enqueue_bulk": ("enqueue with `call -`, jobs/s", 1), "enqueue_many": ("enqueue with `celeriac_send_many`, jobs/s", 1),
    "enqueue_single": ("enqueue one at a time, confirmed, jobs/s", 1), "drain": ("drain with 2 runners, jobs/s", 1),
    "end_to_end": ("end to end, producer and worker at once, jobs/s", 1),
    "round_trip_p50": ("round trip, p50, µs", 1), "round_trip_p99": ("round trip, p99, µs", 1),
    "round_trip_p999": ("round trip, p99.9, µs", 1), "speed_up": ("400 tasks of 5 ms: S(2)", 1),
    "overhead_1": ("the same, time over the ideal with 1 runner, %", 100), "overhead_2": ("and with 2 runners, %", 100),
    "overhead_bare_1": ("the same work without a queue: over the ideal with 1 process, %", 100),
    "overhead_bare_2": ("and with 2 processes, %", 100),
    "overhead_over_bare_1": ("so over what the machine can do with 1 runner, %", 100),
    "overhead_over_bare_2": ("and with 2 runners, %", 100),
    "drain_cpu": ("CPU of all our processes, s for 10,000 jobs", 1), "drain_server_cpu": ("CPU of the server to drain, µs/job", 1),
    "enqueue_server_cpu": ("CPU of the server to enqueue, µs/job", 1), "drain_wire": ("on the wire to drain, bytes/job", 1),
    "enqueue_wire": ("on the wire to enqueue, bytes/job", 1), "system_calls": ("system calls per job", 1),
    "system_calls_one_core": ("the same with everything on one core", 1), "instructions_client": ("instructions per job, client", 1),
    "instructions_dispatcher": ("instructions per job, dispatcher", 1), "instructions_runner": ("instructions per job, runner", 1),
    "memory": ("memory of all our processes, KiB PSS", 1), "memory_growth": ("its growth since the first 50,000 jobs, KiB", 1),
    "start": ("from the start of the worker to its first job done, ms", 1),
}
# The same value beside another limit: not in the table of values.
BESIDE = {f"round_trip_list_{name}": (f"round trip, {shown}, beside a list without leases", 1)
          for name, shown in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))}

REAL = {
    "real_parse": ("parse an access log, lines/s and core", 1), "real_loader": ("load it in one process, lines/s", 1),
    "real_parse_share": ("share of that which is reading and parsing", 1),
    **{f"real_{case}_{n}": (f"{what}, {n} runner{'s' if n > 1 else ''}", 1) for n in (1, 2) for case, what in (
        ("load", "load it, lines/s, beside that one process as Amdahl's law scales it"),
        ("load_reported", "the same with the report of `etl load`, lines/s"),
        ("memory_begin", "memory of all our processes after a tenth of the load, KiB PSS"), ("memory_middle", "in the middle"),
        ("memory_end", "at the end"), ("memory_growth", "its growth between the first and the last"))},
    **{f"real_{case}_{figure}": (f"{what}: {shown}", 1) for case, what in (
        ("sha", "SHA-256 of large files"), ("words", "words of large files"), ("tree", "words of a tree of small files"))
       for figure, shown in (("speed_up", "S(2), beside two bare processes"), ("1", "files/s with 1 runner, beside a bare process"),
                             ("2", "with 2 runners, beside two bare processes"))},
}


def number(value):
    """12345.6 as 12,346, 0.123 as 0.123."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def spread(found, factor=1):
    """minimum / median / maximum, or the one value of a single run."""
    values = [number(found[key] * factor) for key in ("min", "median", "max")]
    return values[1] if found["runs"] == 1 else " / ".join(values)


def by_row(figures, column, rows=None):
    """{(case, placement): {column's value: figure}} in the order of ROWS, or of others."""
    found = {}
    for case in rows or ROWS:
        for figure in figures:
            if figure["case"] == case and column in figure and "median" in figure:
                found.setdefault((case, figure.get("placement")), {})[figure[column]] = figure
    return found


def label(case, placement):
    return {**ROWS, **BESIDE}[case][0] + (f", on {placement}" if placement else "")


def table(head, rows):
    return "\n".join(["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]])


def columns(found):
    return list(dict.fromkeys(name for row in found.values() for name in row))


def of_ours(figures):
    found = by_row(figures, "broker")
    kinds = columns(found)
    return table(["", *kinds], [[label(*row), *(spread(cells[k], ROWS[row[0]][1]) if k in cells else "" for k in kinds)]
                                for row, cells in found.items()]) if found else None


def of_limits(figures):
    """Celeriac's share of the limit, with the limit's median."""
    found = by_row([figure for figure in figures if "ratio" in figure], "broker", {**ROWS, **BESIDE})
    kinds = columns(found)

    def cell(figure):
        return f"{spread(figure['ratio'])} of {number(figure['limit']['median'])}"
    return table(["", *kinds], [[label(*row), *(cell(cells[k]) if k in cells else "" for k in kinds)]
                                for row, cells in found.items()]) if found else None


def of_real(figures):
    """Each figure with its ratio, if it stands beside another: those of brokers, and what was done without one."""
    found = by_row(figures, "broker", REAL)
    kinds = columns(found)

    def cell(figure):
        beside = f"; {spread(figure['ratio'])} of {number(figure['limit']['median'])}" if "ratio" in figure else ""
        return spread(figure) + beside
    return table(["", *kinds], [[REAL[case][0], *(cell(cells[k]) if k in cells else "" for k in kinds)]
                                for (case, _), cells in found.items()]) if found else None


def of_peers(figures):
    """Medians; the cases that bench/peers measures are named by itself."""
    figures = [figure for figure in figures if "peer" in figure and "median" in figure]
    peers = list(dict.fromkeys(figure["peer"] for figure in figures))
    rows = {}
    for figure in figures:
        rows.setdefault(f"{figure['case']}, {figure['unit']}", {})[figure["peer"]] = number(figure["median"])
    return table(["", *peers], [[row, *(cells.get(peer, "") for peer in peers)] for row, cells in rows.items()]) if rows else None


# Pictures that bench/plot draws from the same figures, below their table.
PICTURES = {"limit": (("limit", "share of the limit, by case and broker"), ("round_trip", "round trips on Redis beside the bare ones")),
            "peers": (("peers", "jobs per second of other queues and of Celeriac"),)}
TABLES = {"ours": of_ours, "limit": of_limits, "peers": of_peers, "real": of_real}


def fill(page, figures):
    """The page with its tables made of the figures."""
    def replaced(found):
        text = TABLES[found[2]](figures)
        pictures = "".join(f"\n![{what}](performance/{name}.svg)\n" for name, what in PICTURES.get(found[2], ()) if text)
        return f"{found[1]}\n{text}\n{pictures}{found[3]}" if text else found[0]
    return re.sub(r"(<!-- figures: (\w+) -->)\n.*?\n?(<!-- end of figures -->)", replaced, page, flags=re.S)
