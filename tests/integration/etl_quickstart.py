#!/usr/bin/python3
"""scripts/quickstart from an empty folder that is not the clone, with paths relative to it."""

import json
import os
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICKSTART = os.path.join(ROOT, "scripts", "quickstart")
LINE = '192.0.2.7 - - [10/Oct/2000:13:55:%02d -0700] "GET /%d HTTP/1.0" 200 5 "-" "-"\n'


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="celeriac quickstart ")
        self.addCleanup(self.scratch.cleanup)
        self.folder = self.scratch.name
        self.tmp = os.path.join(self.folder, "tmp")
        os.mkdir(self.tmp)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="ascii") as out:
            out.write(text)

    def quickstart(self, *args, status=0):
        done = subprocess.run([QUICKSTART, "--no-install", *args], cwd=self.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=280, check=False,
                              env=dict(os.environ, TMPDIR=self.tmp))
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(os.listdir(self.tmp), [], "something is left behind")
        return done

    def test_the_main_job(self):
        self.write("a b.log", "".join(LINE % (i % 60, i) for i in range(500)) + "\n")
        self.write("-c.log", LINE % (0, 0))
        first = json.loads(self.quickstart("--no-calibrate", "-o", "json", "a b.log", "./-c.log").stdout)
        wanted = {"lines": 502, "rows": 501, "inserted": 501, "quarantined": 1, "duplicates": 0, "reasons": {"empty": 1}}
        self.assertEqual({key: first[key] for key in wanted}, wanted)
        self.assertEqual(first["jobs"], 2)
        self.assertGreater(first["lines_per_s"], 0)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "quickstart.db")))
        again = self.quickstart("--no-calibrate", "--db=quickstart.db", "a b.log").stdout
        self.assertIn("nothing new", again)
        other = self.quickstart("-c", "2", "--db", "other.db", "--chunk-size", "5000", "a b.log")
        self.assertIn("S(N)", other.stdout)
        self.assertIn("parse + insert", other.stdout)

    def test_the_sample_is_the_default(self):
        report = json.loads(self.quickstart("--no-calibrate", "-o", "json").stdout)
        self.assertGreater(report["lines"], 50000)
        self.assertEqual(report["inserted"] + report["quarantined"] + report["duplicates"], report["lines"])

    def test_refusals(self):
        self.write("a.log", LINE % (0, 0))
        for args, status, piece in ((("no.log",), 4, "no.log"), ((".",), 2, "directory"),
                                    (("--dbb", "x", "a.log"), 2, "--dbb"), (("--db",), 2, "needs a value"),
                                    (("--db", "no/x.db", "a.log"), 4, "no: no such folder"),
                                    (("-o", "xml", "a.log"), 2, "xml"), (("-c", "x", "a.log"), 2, "'x'")):
            done = self.quickstart(*args, status=status)
            self.assertEqual(done.stdout, "")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(piece, done.stderr)
        self.write("text.db", "this is a text and not a database\n" * 9)
        self.assertIn("not a database", self.quickstart("--db", "text.db", "a.log", status=5).stderr)
        self.assertIn("usage:", self.quickstart("--help").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
