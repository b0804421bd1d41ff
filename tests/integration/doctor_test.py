#!/usr/bin/python3
"""celeriac doctor on servers and files that are set up well, badly, or not at all. usage: doctor_test.py"""
import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Redis, celeriac  # noqa: E402


def examine(url, *args, check=None, env=None):
    """(exit status, verdict of all, {check: row}, standard error)"""
    done = celeriac(url, "doctor", "-o", "json", *args, check=check, env=env)
    answer = json.loads(done.stdout)
    return done.returncode, answer["verdict"], {row["check"]: row for row in answer["checks"]}, done.stderr


class Doctor(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = place.name

    def start_redis(self, *options):
        redis = Redis(self.directory, *options).start()
        self.addCleanup(redis.stop)
        return redis

    def test_a_queue_file_is_ok(self):
        url = f"sqlite:{self.directory}/queue.db"
        status, verdict, rows, _ = examine(url)
        # A temporary directory may lie on a file system that forgets.
        rows.pop("file system")
        self.assertEqual({row["verdict"] for row in rows.values()}, {"ok"}, rows)
        self.assertIn(status, (0, 7))
        self.assertEqual(rows["journal"]["value"], "wal")
        self.assertIn("atomic", rows["end of a job"]["value"])
        self.assertIn("FULL", rows["synchronous"]["advice"])
        self.assertIsNone(examine(url + "?synchronous=FULL")[2]["synchronous"]["advice"])
        os.chmod(f"{self.directory}/queue.db-bell", 0o400)
        if os.geteuid() != 0:
            self.assertEqual(examine(url)[2]["bell"]["verdict"], "warn")

    def test_memory_is_for_tests(self):
        status, verdict, rows, _ = examine("memory:")
        self.assertEqual((status, verdict), (7, "warn"))
        self.assertEqual(rows["storage"]["verdict"], "warn")

    def test_redis_that_writes_nothing_is_warned_of(self):
        rows = examine(self.start_redis().url)[2]
        self.assertEqual(rows["server"]["verdict"], "ok")
        self.assertEqual((rows["persistence"]["value"], rows["persistence"]["verdict"]), ("none", "warn"))
        self.assertEqual(rows["maxmemory-policy"]["verdict"], "ok")
        self.assertEqual(rows["client tracking"]["verdict"], "ok")

    def test_redis_as_it_should_be(self):
        redis = self.start_redis("--appendonly", "yes", "--appendfsync", "always")
        rows = examine(redis.url)[2]
        for check in ("server", "role", "memory", "maxmemory-policy", "persistence", "client tracking"):
            self.assertEqual(rows[check]["verdict"], "ok", rows[check])
        self.assertIn("appendfsync always", rows["persistence"]["value"])

    def test_redis_that_drops_keys_is_bad(self):
        redis = self.start_redis("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
        status, verdict, rows, _ = examine(redis.url)
        self.assertEqual((status, verdict), (7, "bad"))
        self.assertEqual(rows["maxmemory-policy"]["verdict"], "bad")
        self.assertIn("noeviction", rows["maxmemory-policy"]["advice"])
        redis.cli("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        self.assertEqual(examine(redis.url)[2]["maxmemory-policy"]["verdict"], "warn")
        redis.cli("CONFIG", "SET", "save", "3600 1")
        self.assertIn("save 3600 1", examine(redis.url)[2]["persistence"]["value"])

    def test_a_user_who_may_not_ask_for_all_gets_the_rest(self):
        redis = self.start_redis()
        redis.cli("ACL", "SETUSER", "worker", "on", ">pass word", "~*", "&*", "+@all", "-config", "-client|tracking")
        url = redis.url.replace("redis+socket://", "redis+socket://worker:pass%20word@")
        _, _, rows, _ = examine(url)
        self.assertEqual(rows["client tracking"]["verdict"], "warn")
        self.assertEqual(rows["server"]["verdict"], "ok")
        self.assertNotIn("pass word", json.dumps(rows))
        self.assertIn("***", rows["broker"]["value"])

    def test_a_broker_that_is_not_there(self):
        status, verdict, rows, said = examine(f"redis+socket://{self.directory}/none.sock")
        self.assertEqual((status, verdict), (3, "bad"))
        self.assertEqual(rows["broker"]["verdict"], "bad")
        self.assertIn("none.sock", said)

    def test_a_password_that_is_wrong(self):
        redis = self.start_redis()
        redis.cli("CONFIG", "SET", "requirepass", "right")
        status, _, rows, said = examine(redis.url.replace("redis+socket://", "redis+socket://:wrong1@"))
        self.assertEqual(status, 5)
        self.assertNotIn("wrong1", said + json.dumps(rows))

    def test_results_elsewhere_are_examined_too(self):
        redis = self.start_redis("--maxmemory-policy", "allkeys-random")
        url = f"sqlite:{self.directory}/queue.db"
        rows = examine(url, "--result-backend", redis.url)[2]
        self.assertNotIn("atomic", rows["end of a job"]["value"])
        self.assertEqual(rows["results: maxmemory-policy"]["verdict"], "warn")
        self.assertEqual(rows["journal"]["verdict"], "ok")
        rows = examine(url, "--result-backend", "disabled://")[2]
        self.assertEqual(rows["results"]["value"], "stored nowhere")

    def test_the_table_has_a_line_per_check(self):
        lines = celeriac("memory:", "doctor", check=7).stdout.splitlines()
        self.assertEqual(lines[0].split(), ["CHECK", "VALUE", "VERDICT", "ADVICE"])
        self.assertGreater(len(lines), 3)


if __name__ == "__main__":
    unittest.main()
