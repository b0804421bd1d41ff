#!/usr/bin/python3
"""celeriac doctor on servers and files that are set up well, badly, or not at all. usage: doctor_test.py"""
import base64
import json
import os
import pathlib
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Redis, celeriac, wait_until  # noqa: E402
from rabbitmq import RabbitMQ, available  # noqa: E402


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
        for check in ("server", "role", "memory", "maxmemory-policy", "persistence", "jobs of dead workers", "client tracking"):
            self.assertEqual(rows[check]["verdict"], "ok", rows[check])
        self.assertIn("appendfsync always", rows["persistence"]["value"])

    def test_jobs_that_only_a_worker_of_ours_puts_back_are_told(self):
        redis = self.start_redis()
        name = "celery@gone/00000000000000000001/00000000000000000001/0000030000/0badcafe"
        redis.cli("HSET", "celeriac:bulk", name, '-x 1 1700000000.000 ,"","celery"]')
        row = examine(redis.url)[2]["jobs of dead workers"]
        self.assertEqual(row["verdict"], "warn")
        self.assertIn("start a Celeriac worker", row["advice"])

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


@unittest.skipUnless(available(), "no rabbitmq-server")
class RabbitMq(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(place.cleanup)
        cls.server = RabbitMQ(place.name, tls=True, management=True).start()
        cls.addClassCleanup(cls.server.stop)
        cls.vhost = cls.server.fresh_vhost()
        cls.url = cls.server.url_of(cls.vhost)
        cls.put("queues", "quorum", durable=True, arguments={"x-queue-type": "quorum"})
        cls.put("queues", "classic", durable=True)
        cls.put("queues", "short", durable=True, arguments={"x-max-length": 10})
        cls.put("queues", "brief", durable=False)
        cls.put("queues", "log", durable=True, arguments={"x-queue-type": "stream"})
        cls.put("policies", "forget", pattern="^classic$", definition={"message-ttl": 60000})

    @classmethod
    def put(cls, kind, name, **what):
        request = urllib.request.Request(f"http://127.0.0.1:{cls.server.facts['api_port']}/api/{kind}/{cls.vhost}/{name}",
                                         json.dumps(what).encode(), method="PUT")
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        urllib.request.urlopen(request).close()

    def test_what_amqp_tells(self):
        _, _, rows, _ = examine(self.url, "-Q", "quorum,classic,brief,log,new")
        self.assertEqual(rows["server"]["verdict"], "ok")
        self.assertIn("RabbitMQ", rows["server"]["value"])
        self.assertIn("confirmed first", rows["end of a job"]["value"])
        kinds = {name: (rows[f"queue {name}"]["value"].split(",")[0], rows[f"queue {name}"]["verdict"])
                 for name in ("quorum", "classic", "brief", "log", "new")}
        self.assertEqual(kinds, {"quorum": ("quorum", "ok"), "classic": ("classic", "ok"), "brief": ("type not told", "bad"),
                                 "log": ("stream", "bad"), "new": ("not declared", "ok")})
        self.assertIn("--api", rows["management API"]["advice"])
        self.assertNotIn("new", self.server.ctl("list_queues", "-p", self.vhost, "name").split())

    def test_what_the_api_tells_besides(self):
        status, verdict, rows, _ = examine(self.url, "-Q", "quorum,short,classic,brief", "--api", self.server.api_url)
        self.assertEqual((status, verdict), (7, "bad"))
        self.assertEqual(rows["streams"]["value"], "enabled")
        self.assertEqual(rows["policies"]["value"], "forget on ^classic$")
        self.assertEqual(rows["queue quorum"]["verdict"], "ok")
        self.assertIn("leased", rows["queue quorum"]["value"])
        self.assertEqual((rows["queue short"]["value"], rows["queue short"]["verdict"]), ("max-length 10", "bad"))
        self.assertIn("message-ttl", rows["queue classic"]["value"])
        self.assertEqual(rows["queue brief"]["verdict"], "bad")
        rows = examine(self.url, env={"CELERIAC_AMQP_API": f"http://127.0.0.1:{self.server.facts['api_port']}"})[2]
        self.assertEqual(rows["management API"]["verdict"], "ok", "the broker's own login is used on its host")

    def test_an_api_that_is_not_there_is_told_without_its_password(self):
        status, _, rows, _ = examine(self.url, "--api", "http://guest:hush77@127.0.0.1:1")
        self.assertEqual((status, rows["management API"]["verdict"]), (7, "warn"))
        self.assertNotIn("hush77", json.dumps(rows))

    def test_an_alarm(self):
        self.server.memory_alarm(True)
        try:
            wait_until(lambda: examine(self.url, "--api", self.server.api_url)[2].get("memory", {}).get("verdict") == "bad",
                       "the alarm to be told")
        finally:
            self.server.memory_alarm(False)

    def test_tls(self):
        url = self.server.url_of(self.vhost, scheme="amqps")
        rows = examine(f"{url}?cacertfile={self.server.facts['ca']}")[2]
        self.assertEqual(("TLS, verified" in rows["connection"]["value"], rows["connection"]["verdict"]), (True, "ok"))
        self.assertEqual(examine(url + "?verify=verify_none")[2]["connection"]["verdict"], "warn")
        status, _, rows, said = examine(url)
        self.assertNotEqual(status, 0)
        self.assertIn("certificate", said)

    def test_a_login_that_is_wrong(self):
        for url in (self.server.url_of(self.vhost, password="hush77"), self.server.url_of("nowhere")):
            status, verdict, rows, said = examine(url)
            self.assertEqual((status, verdict), (5, "bad"))
            self.assertNotIn("hush77", said + json.dumps(rows))


if __name__ == "__main__":
    unittest.main()
