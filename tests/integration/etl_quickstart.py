#!/usr/bin/python3
"""scripts/quickstart from an empty folder that is not the clone, with paths relative to it."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Redis, process_tree  # noqa: E402
from rabbitmq import RabbitMQ, available  # noqa: E402

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

    def watched(self, *args, env=None):
        """Runs it, and returns (CompletedProcess, what its processes were called while any of ours ran)."""
        titles = set()
        process = subprocess.Popen([QUICKSTART, "--no-install", *args], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=dict(os.environ, TMPDIR=self.tmp, **(env or {})))
        while process.poll() is None:
            tree = process_tree(os.getpid())
            if any(title.startswith("celeriac:") or title.split("\0")[0].endswith("/app/celeriac") for title in tree.values()):
                titles.update(tree.values())
        out, err = process.communicate()
        return subprocess.CompletedProcess(args, process.returncode, out, err), titles

    def check_server(self, url, secret):
        """The main job through a server, the URL given in each way; nobody sees its password."""
        self.write("a.log", "".join(LINE % (i % 60, i) for i in range(20000)))
        args = ("--no-calibrate", "-o", "json", "--chunk-size", "5000", "a.log")
        for way in (("-b", url, *args), (f"--broker={url}", *args), args):
            done, titles = self.watched(*way, env={} if len(way) > len(args) else {"CELERIAC_QUICKSTART_BROKER": url})
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual(report["inserted"] + report["duplicates"], 20000)
            self.assertTrue(titles)
            self.assertNotIn(secret, "".join(titles) + done.stdout + done.stderr)
            self.assertEqual(os.listdir(self.tmp), [], "something is left behind")

    def place(self):
        path = os.path.join(self.folder, "server")
        os.mkdir(path)
        return path

    def test_a_redis_that_is_already_there(self):
        redis = Redis(self.place()).start()
        self.addCleanup(redis.stop)
        redis.cli("CONFIG", "SET", "requirepass", "hush77")
        self.check_server(redis.url.replace("redis+socket://", "redis+socket://:hush77@"), "hush77")
        said = redis.cli("-a", "hush77", "--no-auth-warning", "HGET", "celeriac:totals", "succeeded")
        self.assertGreater(int(said), 100)

    @unittest.skipUnless(available(), "no rabbitmq-server")
    def test_a_rabbitmq_that_is_already_there(self):
        server = RabbitMQ(self.place()).start()
        self.addCleanup(server.stop)
        vhost = server.fresh_vhost()
        server.ctl("add_user", "loader", "hush77")
        server.ctl("set_permissions", "-p", vhost, "loader", ".*", ".*", ".*")
        self.check_server(server.url_of(vhost, "loader", "hush77"), "hush77")
        left = dict(line.split("\t") for line in server.ctl("list_queues", "-p", vhost, "name", "messages").splitlines()[1:])
        self.assertEqual([count for name, count in left.items() if name.startswith("quickstart.")], ["0"])
        self.assertNotIn("celery", left, "the usual queue is not touched")

    def test_a_server_that_can_not_be_used(self):
        self.write("a.log", LINE % (0, 0))
        done = self.quickstart("-b", f"redis+socket://:hush77@{self.folder}/no.sock", "a.log", status=3)
        self.assertEqual(len(done.stderr.splitlines()[1:]), 1, done.stderr)
        self.assertIn("no.sock", done.stderr)
        self.assertNotIn("hush77", done.stderr + done.stdout)
        done = self.quickstart("-b", "gopher://:hush77@host", "a.log", status=2)
        self.assertNotIn("hush77", done.stderr + done.stdout)

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
