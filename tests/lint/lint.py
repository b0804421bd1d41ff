#!/usr/bin/python3
"""Holds the rules of the house that no compiler holds. usage: lint.py SOURCE_DIR COMPILER

Who may include whom, headers that compile alone and open with an essay, no variable with external linkage but const tables,
crash points listed in docs/faults.md, nothing left for later. One line per offence: file:line: what to do.
"""
import concurrent.futures
import pathlib
import re
import subprocess
import sys

FOLDERS = ("base", "broker", "client", "worker", "tasks", "app")
# folder: the folders of ours that it may include
MAY_INCLUDE = {
    "base": {"base"},
    "broker": {"base", "broker"},
    "client": {"base", "broker", "client"},
    "worker": {"base", "broker", "worker", "tasks"},
    "tasks": {"tasks"},
    "app": {"base", "broker", "client", "worker", "tasks", "app"},
}
# What the worker may know of tasks/: the ABI and the table of built-in tasks.
WORKER_OF_TASKS = {"tasks/task.h", "tasks/builtin.h"}
# A library's header: the files that may include it, as a pattern of the path.
BELONGS_TO = {
    "hiredis": r"broker/redis",
    "amqp": r"broker/amqp_lib\.h",
    "amqp_framing": r"broker/amqp_lib\.h",
    "amqp_ssl_socket": r"broker/amqp_lib\.h",
    "amqp_tcp_socket": r"broker/amqp_lib\.h",
    "rabbitmq-c": r"broker/amqp_lib\.h",
    "curl": r"broker/amqp_api\.c",
    "sqlite3.h": r"broker/sqlite|tasks/etl_",
    "event2": r"worker/|broker/redis|broker/amqp",
}
TASK_LIBRARIES = {"jansson.h", "sqlite3.h", "zlib.h", "xxhash.h", "nettle"}
MODULES = ("jansson", "hiredis", "librabbitmq", "sqlite3", "libevent_core", "zlib", "libxxhash", "nettle", "cmocka")

offences = []


def offend(path, number, text):
    offences.append(f"{path}:{number}: {text}")


def includes(lines):
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if found:
            yield number, found[1] == '"', found[2]


def check_includes(path, lines):
    folder = path.split("/")[0]
    for number, ours, name in includes(lines):
        if ours:
            target = name.split("/")[0]
            if target not in MAY_INCLUDE[folder]:
                offend(path, number, f"{folder}/ may not include {name}")
            elif folder == "worker" and target == "tasks" and name not in WORKER_OF_TASKS:
                offend(path, number, f"worker/ may include only {' and '.join(sorted(WORKER_OF_TASKS))} of tasks/")
        for library, owner in BELONGS_TO.items():
            if (name == library or name.startswith(library + "/") or name == library + ".h") \
                    and not re.match(owner, path):
                offend(path, number, f"<{name}> belongs to files that match {owner}")
        if folder == "tasks" and not ours and is_library(name) and name.split("/")[0] not in TASK_LIBRARIES:
            offend(path, number, f"a task may not include <{name}>")


def is_library(name):
    """Of some package of ours, not of libc or the kernel."""
    return name.split("/")[0] in {"jansson.h", "sqlite3.h", "zlib.h", "xxhash.h", "nettle", "hiredis", "event2", "cmocka.h",
                                  "amqp.h", "rabbitmq-c"}


def check_essay(path, text):
    if not text.startswith("/*\n * " + path.split("/")[-1] + " - "):
        offend(path, 1, "open the header with an essay: '/*', ' * NAME.h - what it is'")
        return
    essay = text[:text.index("*/")]
    if "ork" not in essay:
        offend(path, 1, "the essay does not say the fork rule")


def check_variables(path, lines):
    """A variable with external linkage: `extern` in a header, or a definition at file scope without static."""
    for number, line in enumerate(lines, 1):
        if re.match(r"extern\b(?! \"C\"| const\b)", line) and "char **environ" not in line:
            offend(path, number, "no extern variables but const tables")
        elif path.endswith(".c") and re.match(r"(?!static|const|extern|typedef|struct \w+;)"
                                              r"[a-z]\w*( \w+)* \**\w+(\[[^]]*\])*( = .*|;)$", line):
            offend(path, number, "a variable at file scope: make it static const, or a member of a struct")


def check_later(path, lines):
    for number, line in enumerate(lines, 1):
        if re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", line):
            offend(path, number, "do it now or open an issue")


def check_faults(root, sources):
    """The crash points of the source and those of the page are the same."""
    page = (root / "docs/faults.md").read_text()
    listed = set(re.findall(r"^\| `([a-z0-9.-]+)`", page, re.M))
    named = {}
    for path, text in sources.items():
        for found in re.finditer(r'FAULT_POINT\("([^"]+)"\)', text):
            if not path.endswith(".h"):
                named.setdefault(found[1], path)
    for name in sorted(set(named) - listed):
        offend(named[name], 0, f"crash point {name} is not in docs/faults.md")
    for name in sorted(listed - set(named)):
        offend("docs/faults.md", 0, f"{name} is in no source file")


def check_alone(root, compiler, paths):
    """Every header compiles without another in front of it."""
    flags = subprocess.run(["pkg-config", "--cflags", *MODULES], capture_output=True, text=True, check=True).stdout.split()

    def compile_one(path):
        done = subprocess.run([compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror", "-Wno-unused-function",
                               "-fsyntax-only", "-I", str(root), *flags, "-include", path, "-x", "c", "/dev/null"],
                              cwd=root, capture_output=True, text=True)
        return path, done.returncode, done.stderr
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, status, text in pool.map(compile_one, paths):
            if status:
                offend(path, 1, f"does not compile alone: {text.strip().splitlines()[0]}")


def main():
    root, compiler = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    sources = {str(path.relative_to(root)): path.read_text()
               for folder in FOLDERS for path in sorted((root / folder).glob("*.[ch]"))}
    if len(sources) < 50:
        raise SystemExit(f"only {len(sources)} source files under {root}")
    for path, text in sources.items():
        lines = text.splitlines()
        check_includes(path, lines)
        check_variables(path, lines)
        check_later(path, lines)
        if path.endswith(".h"):
            check_essay(path, text)
    check_faults(root, sources)
    check_alone(root, compiler, [path for path in sources if path.endswith(".h")])
    print("\n".join(offences) or f"{len(sources)} files keep the rules")
    sys.exit(1 if offences else 0)


if __name__ == "__main__":
    main()
