#!/usr/bin/python3
"""bench/real loads a log, hashes and counts files, checks what came of it and compares; the table is made of it. usage: bench_real_test.py BUILD_DIR"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES, FILES = 20000, 20
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.dont_write_bytecode = True
import harness  # noqa: E402


def run(*words):
    done = subprocess.run([ROOT / "bench" / "real", "--build", sys.argv[1], "--repeat", "1", *words], capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines[0]["case"] == "machine", (lines, done.stderr)
    return {(line["broker"], line["case"]): line for line in lines[1:]}


def check_etl(directory, kinds):
    found = run("--case", "etl", "--lines", str(LINES), "--dir", directory, "--out", f"{directory}/figures", *kinds)
    assert {"real_parse", "real_loader", "real_parse_share"} == {case for broker, case in found if broker == "no queue"}, found
    assert 0 < found["no queue", "real_parse_share"]["median"] < 1, found
    for broker in kinds[1::2]:
        for n in (1, 2):
            assert found[broker, f"real_load_{n}"]["median"] > 0 and "ratio" in found[broker, f"real_load_{n}"], found
            assert found[broker, f"real_memory_end_{n}"]["median"] > 0, found
    assert not list(pathlib.Path(directory).glob("celeriac-real-*"))


def check_files(directory, kinds):
    tree = pathlib.Path(directory) / "tree"
    tree.mkdir()
    for i in range(FILES):
        (tree / f"file {i}").write_text("one two\n" * (i + 1))
    (tree / "small").write_text("x")
    (tree / "link").symlink_to("file 1")
    for case in ("sha", "words"):
        found = run("--case", case, "--tree", str(tree), "--smallest", "2", "--times", "4", *kinds)
        for broker in kinds[1::2]:
            line = found[broker, f"real_{case}_2"]
            assert (line["files"], line["times"]) == (FILES, 4) and line["median"] > 0, found
    with harness.Worker(f"sqlite:{directory}/q.db", "-c", "1") as worker:
        path = tree / "file 7"
        answers = [harness.result(worker.url, harness.call(worker.url, task, str(path)), wait_s=30)["result"]
                   for task in ("hash.sha256_file", "text.wordcount_file")]
    assert answers == [hashlib.sha256(path.read_bytes()).hexdigest(), {"lines": 8, "words": 16, "chars": 64, "bytes": 64}], answers


def check_page(directory):
    docs = pathlib.Path(directory) / "docs"
    docs.mkdir()
    (docs / "performance.md").write_text("<!-- figures: real -->\n<!-- end of figures -->\n")
    subprocess.run([ROOT / "bench" / "plot", f"{directory}/figures", "--docs", docs], check=True)
    assert "| load it in one process, lines/s |" in (docs / "performance.md").read_text()


def main():
    if os.environ.get("CELERIAC_VALGRIND"):
        sys.exit(77)
    os.environ["CELERIAC"] = str(pathlib.Path(sys.argv[1]) / "app" / "celeriac")
    kinds = ["--broker", "sqlite", *(["--broker", "redis"] if shutil.which("redis-server") else [])]
    with tempfile.TemporaryDirectory() as directory:
        check_etl(directory, kinds)
        check_files(directory, kinds)
        check_page(directory)


main()
