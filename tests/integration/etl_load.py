#!/usr/bin/python3
"""`celeriac etl` as a person uses it: real workers, real exit codes.

    etl_load.py CELERIAC
"""

import gzip
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

CELERIAC = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLE = os.path.join(ROOT, "samples", "access.log.gz")
PATIENCE = 120
LINE = '192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "GET /%s HTTP/1.0" 200 5 "-" "-"'


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="celeriac-etl-")
        self.broker = "sqlite:" + self.path("queue.db")
        self.db = self.path("events.db")
        self.workers = []

    def tearDown(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                try:
                    worker.wait(30)
                except subprocess.TimeoutExpired:
                    worker.kill()
                    worker.wait()
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode="wb"):
        with open(self.path(name), mode) as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        return self.path(name)

    def run_celeriac(self, *args, timeout=PATIENCE, cwd=None):
        return subprocess.run([CELERIAC, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout, cwd=cwd or self.folder, check=False)

    def start_worker(self, runners="2"):
        with open(self.path("worker.log"), "ab") as log:
            worker = subprocess.Popen([CELERIAC, "worker", "-b", self.broker, "-c", runners, "-l", "warning"],
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        self.workers.append(worker)
        return worker

    def load_raw(self, *args):
        return self.run_celeriac("etl", "load", "-b", self.broker, "--db", self.db, "--wait", str(PATIENCE - 20), *args)

    def load(self, *args):
        done = self.load_raw("-o", "json", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["inserted"] + report["quarantined"] + report["duplicates"], report["lines"])
        self.assertEqual(sum(report["reasons"].values()), report["quarantined"])
        return report

    def verify(self, *args, status=0):
        done = self.run_celeriac("etl", "verify", "--db", self.db, "-o", "json", *args)
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        return json.loads(done.stdout)

    def ask(self, sql):
        with sqlite3.connect(self.db) as db:
            return db.execute(sql).fetchall()

    def refused(self, args, status, *pieces):
        done = self.run_celeriac(*args)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for piece in pieces:
            self.assertIn(piece, done.stderr)


class Loading(Case):
    def test_the_sample_once_and_again(self):
        with gzip.open(SAMPLE) as packed:
            lines = sum(1 for _ in packed)
        self.start_worker()
        first = self.load(SAMPLE)
        self.assertEqual(first["lines"], lines)
        self.assertEqual(first["inserted"], first["rows"])
        self.assertEqual(first["rows"] + first["quarantined"], lines)
        self.assertGreater(first["jobs"], 1)
        self.assertEqual(sum(runner["jobs"] for runner in first["runners"]), first["jobs"])
        again = self.load(SAMPLE)
        self.assertEqual((again["inserted"], again["rows"]), (0, first["rows"]))
        self.assertEqual(again["reasons"], first["reasons"])
        other_bounds = self.load("--chunk-size", "300001", SAMPLE)
        self.assertEqual((other_bounds["inserted"], other_bounds["rows"]), (0, first["rows"]))
        checked = self.verify()
        self.assertEqual((checked["lines"], checked["rows"]), (lines, first["rows"]))
        self.assertEqual(os.listdir(self.path("queue.db-spool")), [])

    def test_the_report_is_for_people_too(self):
        self.start_worker()
        log = self.write("a.log", LINE % "one" + "\n\n" + LINE % "\\x1b[31m" + "\n")
        done = self.load_raw(log)
        self.assertEqual(done.returncode, 0, done.stderr)
        for piece in ("lines", "inserted", "quarantined", "empty", "duplicates", "/one", "2xx", "lines per second"):
            self.assertIn(piece, done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertIn("chunks", done.stderr)
        self.assertIn("nothing new", self.load_raw(log).stdout)

    def test_an_appended_log_and_many_logs(self):
        self.start_worker()
        one = self.write("one.log", (LINE % "1" + "\n") * 3)
        two = self.write("two.log", (LINE % "2" + "\n") * 4)
        empty = self.write("empty.log", "")
        report = self.load(one, two, empty)
        self.assertEqual((report["lines"], report["inserted"]), (7, 7))
        self.write("one.log", LINE % "3", "ab")
        report = self.load(one, two)
        self.assertEqual((report["lines"], report["inserted"], report["rows"]), (8, 1, 8))
        os.rename(one, one + ".1")
        self.assertEqual(self.load(one + ".1")["inserted"], 0)
        self.assertTrue(self.verify(one + ".1", two, empty)["clean"])

    def test_an_unfinished_last_line_is_finished_later(self):
        self.start_worker()
        whole = LINE % "whole"
        log = self.write("live.log", LINE % "1" + "\n" + whole[:60])
        self.assertEqual(self.load(log)["quarantined"], 1)
        self.write("live.log", whole[60:] + "\n" + LINE % "2" + "\n", "ab")
        report = self.load(log)
        self.assertEqual((report["lines"], report["inserted"], report["quarantined"], report["rows"]), (3, 2, 0, 3))
        self.assertTrue(self.verify(log)["clean"])
        self.assertEqual(self.ask("SELECT count(*) FROM quarantine"), [(0,)])
        self.assertEqual(self.ask("SELECT sum(inserted) FROM ledger"), [(3,)])

    def test_verify_finds_what_is_wrong(self):
        self.start_worker()
        log = self.write("a.log", (LINE % "1" + "\n") * 5)
        self.load(log)
        with sqlite3.connect(self.db) as db:
            db.execute("DELETE FROM event WHERE byte_offset = 0")
        self.assertEqual(self.verify(status=1)["missing"], 1)
        os.unlink(log)
        done = self.run_celeriac("etl", "verify", "--db", self.db)
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_doubled_jobs_load_once(self):
        """Each chunk is in the queue three times, and both runners take them at once."""
        for _ in range(3):
            self.assertEqual(self.load_raw("--wait", "0.1", "--chunk-size", "500000", SAMPLE).returncode, 6)
        self.start_worker()
        report = self.load("--chunk-size", "500000", SAMPLE)
        # The worker may have stored some chunks before this load began; they count as duplicates then.
        self.assertLessEqual(report["inserted"], report["rows"])
        self.assertEqual(report["rows"], report["lines"] - report["quarantined"])
        self.assertEqual(self.ask("SELECT count(*), sum(inserted) FROM ledger"), [(report["jobs"], report["rows"])])
        self.assertTrue(self.verify(SAMPLE)["clean"])

    def test_a_locked_database_is_waited_for(self):
        """Somebody holds the lock when the jobs come, longer than SQLite's own patience of nothing."""
        self.start_worker()
        log = self.write("a.log", (LINE % "1" + "\n") * 5)
        self.load(log)
        self.write("a.log", LINE % "2" + "\n", "ab")
        holder = sqlite3.connect(self.db, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        load = subprocess.Popen([CELERIAC, "etl", "load", "-b", self.broker, "--db", self.db, "-o", "json", log],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with self.assertRaises(subprocess.TimeoutExpired):
            load.wait(1.0)
        holder.execute("COMMIT")
        holder.close()
        out, err = load.communicate(timeout=PATIENCE)
        self.assertEqual(load.returncode, 0, err)
        self.assertEqual(json.loads(out)["inserted"], 1)

    def ledger_grows(self, load):
        """Waits for the next commit of a chunk; its runner has hardly had time to tell of it."""
        with sqlite3.connect(self.db, timeout=10) as db:
            before = db.execute("SELECT count(*) FROM ledger").fetchone()
            while load.poll() is None and db.execute("SELECT count(*) FROM ledger").fetchone() == before:
                time.sleep(0.0005)

    def test_killed_runners_double_and_lose_nothing(self):
        """Runners die by SIGKILL while they load, at random and right after a commit."""
        rng = random.Random(os.environ.get("ETL_KILL_SEED", "7"))
        worker = self.start_worker()
        command = [CELERIAC, "etl", "load", "-b", self.broker, "--db", self.db, "--chunk-size", "60000",
                   "--wait", str(PATIENCE - 20), "-o", "json", SAMPLE]
        with open(self.path("out"), "wb") as out, open(self.path("err"), "wb") as err:
            load = subprocess.Popen(command, stdout=out, stderr=err)
            wait_for(lambda: load.poll() is not None or has_ledger(self.db))
            killed = 0
            while load.poll() is None:
                if killed % 2 == 0:
                    self.ledger_grows(load)
                runners = [pid for pid in children(worker.pid) if b"runner" in title(pid)]
                # A job that loses its runner five times is given up: four kills cannot reach that.
                for pid in runners if killed < 4 else ():
                    os.kill(pid, signal.SIGKILL)
                killed += bool(runners)
                time.sleep(rng.uniform(0.02, 0.2))
        with open(self.path("out")) as out, open(self.path("err")) as err:
            self.assertEqual(load.returncode, 0, err.read())
            report = json.load(out)
        self.assertGreater(killed, 0)
        self.assertEqual(report["inserted"], report["rows"])
        self.assertEqual(self.ask("SELECT sum(lines), sum(inserted) FROM ledger"), [(report["lines"], report["rows"])])
        self.assertTrue(self.verify(SAMPLE)["clean"])


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited too long")
        time.sleep(0.005)


def has_ledger(path):
    if not os.path.exists(path):
        return False
    with sqlite3.connect(path, timeout=10) as db:
        return db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone() == (1,)


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as listed:
        return [int(child) for child in listed.read().split()]


def title(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as cmdline:
            return cmdline.read()
    except OSError:
        return b""


class Refusals(Case):
    def test_logs_that_cannot_be_read(self):
        base = ("etl", "load", "-b", self.broker, "--db", self.db)
        self.refused(base + ("no.log",), 4, "no.log", "No such file")
        self.refused(base + (self.folder,), 2, self.folder, "is a directory")
        self.refused(base + ("/dev/null",), 2, "/dev/null", "not a regular file")
        self.refused(base + (self.write("bad.gz", b"\x1f\x8b\x08\x00 this is no gzip data"),), 5, "bad.gz", "damaged")
        self.refused(base, 2, "LOG")

    def test_databases_that_cannot_be_used(self):
        log = self.write("a.log", LINE % "1" + "\n")
        base = ("etl", "load", "-b", self.broker, log, "--db")
        self.refused(base + (self.path("no/events.db"),), 5, "no/events.db", "No such file")
        self.refused(base + (self.write("text.db", b"not a database at all, but a text " * 9),), 5, "text.db", "not a database")
        self.refused(base + (self.folder,), 5, self.folder)
        sqlite3.connect(self.path("mine.db")).execute("CREATE TABLE mine (x)")
        self.refused(base + (self.path("mine.db"),), 5, "mine.db", "some other program")
        self.refused(("etl", "verify", "--db", self.path("none.db"), log), 4, "none.db", "no such database")
        self.assertFalse(os.path.exists(self.path("none.db")))

    def test_a_corrupt_database(self):
        self.start_worker()
        log = self.write("a.log", (LINE % "1" + "\n") * 3000)
        self.load(log)
        self.workers[0].terminate()
        self.workers[0].wait(30)
        with sqlite3.connect(self.db) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            page_len = db.execute("PRAGMA page_size").fetchone()[0]
            pages = db.execute("PRAGMA page_count").fetchone()[0]
        self.start_worker()
        with open(self.db, "r+b") as file:
            file.seek(page_len)
            file.write(os.urandom((pages - 1) * page_len))
        done = self.load_raw(self.write("b.log", LINE % "2" + "\n"))
        self.assertIn(done.returncode, (1, 5), done.stderr)
        self.assertIn(self.db, done.stderr)
        self.assertIn("malformed", done.stderr)

    def test_a_log_that_was_not_loaded(self):
        self.start_worker()
        self.load(self.write("a.log", LINE % "1" + "\n"))
        self.refused(("etl", "verify", "--db", self.db, self.write("b.log", LINE % "2" + "\n")), 4, "b.log", "not loaded")

    def test_nobody_works(self):
        log = self.write("a.log", LINE % "1" + "\n")
        done = self.run_celeriac("etl", "load", "-b", self.broker, "--db", self.db, "--wait", "0.2", log)
        self.assertEqual(done.returncode, 6, done.stderr)
        self.assertIn("is a worker running", done.stderr)
        self.refused(("etl", "load", "--db", self.db, log), 2, "no broker")
        self.refused(("etl", "load", "-b", self.broker, "--chunk-sise", "5", log), 2, "chunk-size")

    def test_a_log_that_changes_under_the_jobs(self):
        """The chunks were cut, then the log was replaced: the jobs fail and load nothing wrong."""
        log = self.write("a.log", (LINE % "1" + "\n") * 10)
        self.assertEqual(self.load_raw("--wait", "0.1", log).returncode, 6)
        self.write("a.log", (LINE % "2" + "\n") * 10)
        self.start_worker()
        self.assertEqual(self.load(log)["inserted"], 10)
        self.assertEqual(self.ask("SELECT DISTINCT path FROM event"), [("/2",)])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
