#!/usr/bin/python3
"""Many short jobs that Redis leases in bulk: what may not be done, what breaks, who has the rest. usage: redis_bulk_test.py"""
import json
import os
import pathlib
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from frozen import frozen  # noqa: E402
from harness import SCALE, Redis, Worker, call_many, celeriac, result, totals, unaccounted, wait_until  # noqa: E402

MANY = 3000
LOADS = 20000  # takes longer than to look at
SLOW_S = 3 * SCALE  # longer than messages stay leased in bulk
QUEUES = [f"queue-{i}" for i in range(60)]
BUSY = "local s = redis.call('TIME'); repeat local t = redis.call('TIME') until (t[1] - s[1]) * 1e6 + t[2] - s[2] > 30000"


def noops(n=MANY):
    return [{"task": "noop", "args": [i]} for i in range(n)]


def spread_noops(n):
    return [{**line, "queue": QUEUES[i % len(QUEUES)]} for i, line in enumerate(noops(n))]


class Bulk(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        self.redis = Redis(self.dir).start()
        self.addCleanup(self.redis.stop)
        self.url = self.redis.url

    def add_worker(self, *args, url=None, env=None):
        worker = Worker(url or self.url, "-c", "2", *args, log=f"{self.dir}/worker.log", env=env)
        self.addCleanup(worker.__exit__)
        return worker.start()

    def calls(self, command):
        """How often it was run, and refused."""
        for line in self.redis.cli("INFO", "commandstats").splitlines():
            if line.startswith(f"cmdstat_{command}:"):
                values = dict(part.split("=") for part in line.split(":")[1].split(","))
                return int(values["calls"]), int(values["rejected_calls"]) + int(values["failed_calls"])
        return 0, 0

    def moved(self):
        """How many lists became leases as they were."""
        calls, refused = self.calls("rename")
        return calls - refused

    def until_done(self, n=MANY):
        wait_until(lambda: totals(self.url)["succeeded"] >= n, f"{n} results", deadline_s=90 * SCALE)
        wait_until(lambda: totals(self.url)["leased"] == 0, "the last lease")
        t = totals(self.url)
        self.assertEqual((t["published"], t["succeeded"], t["duplicates"], unaccounted(t)), (n, n, 0, 0), t)
        self.assertEqual(self.redis.cli("HLEN", "celeriac:bulk"), "0")
        self.assertEqual(self.redis.cli("KEYS", "celeriac:bulk:*"), "")
        self.assertEqual((self.redis.cli("HLEN", "unacked"), self.redis.cli("ZCARD", "unacked_index")), ("0", "0"))

    def while_it_drains(self, do, n=MANY, times=3):
        """Does it in the middle, some times."""
        for i in range(times):
            wait_until(lambda i=i: totals(self.url)["succeeded"] >= (i + 1) * n // (times + 2), "some results")
            do()

    def url_of(self, user, *refused):
        self.redis.cli("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", *refused)
        return self.url.replace("://", f"://{user}:secret@", 1)

    def test_a_backlog_of_short_jobs_is_leased_in_bulk(self):
        ids = call_many(self.url, noops())
        self.add_worker()
        self.until_done()
        self.assertGreater(self.calls("sort")[0], 5)
        self.assertEqual(result(self.url, ids[-1])["status"], "SUCCESS")

    def test_jobs_of_many_queues_are_leased_together(self):
        call_many(self.url, spread_noops(2 * MANY))
        self.add_worker("-Q", ",".join(QUEUES))
        self.until_done(2 * MANY)
        self.assertGreater(self.calls("sort")[0] + self.moved(), 60)
        self.assertGreater(self.moved(), 20)

    def test_the_first_of_many_are_leased_in_bulk_by_an_idle_worker(self):
        self.add_worker()
        call_many(self.url, noops(1))
        wait_until(lambda: totals(self.url)["succeeded"] == 1, "a worker that waits")
        call_many(self.url, noops(100))
        wait_until(lambda: totals(self.url)["succeeded"] == 101, "the results")
        self.assertGreater(self.moved(), 0)

    def test_a_list_that_moved_comes_back_in_its_order(self):
        call_many(self.url, noops())
        first = self.add_worker("-c", "1", "--lease", "2", "-n", "first")
        self.until_done()
        ids = call_many(self.url, [{"task": "sleep", "args": [10 * SLOW_S]}] + noops(99))
        wait_until(lambda: totals(self.url)["leased"] == 100 and self.redis.cli("HLEN", "celeriac:bulk") == "0", "leases of their own")
        [os.kill(pid, signal.SIGKILL) for pid in (first.process.pid, first.dispatcher(), *first.runners())]
        first.process.wait()
        fields = sorted(self.redis.cli("HKEYS", "unacked").splitlines())
        held = [json.loads(self.redis.cli("HGET", "unacked", field))[0]["headers"]["id"] for field in fields]
        self.assertEqual(held, ids)

    def test_many_queues_survive_what_happens_to_the_server(self):
        self.redis.cli("CONFIG", "SET", "busy-reply-threshold", "1")
        call_many(self.url, spread_noops(LOADS))
        self.add_worker("-Q", ",".join(QUEUES), "--lease", "5")
        happens = [("EVAL", BUSY, "0"), ("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")] * 3
        self.while_it_drains(lambda: self.redis.cli(*happens.pop()), LOADS, times=9)
        self.until_done(LOADS)

    def test_a_queue_that_is_no_list_is_passed_by(self):
        self.redis.cli("SET", "wrong", "text")
        call_many(self.url, noops())
        self.add_worker("-Q", "wrong,celery")
        wait_until(lambda: totals(self.url)["succeeded"] == MANY, "the results")
        self.assertGreater(self.calls("sort")[0], 5)

    def test_a_few_jobs_are_not(self):
        self.add_worker()
        for n in range(10):
            call_many(self.url, noops(3))
            wait_until(lambda n=n: totals(self.url)["succeeded"] == 3 * (n + 1), "the results")
        self.assertEqual((self.moved(), self.calls("ltrim")[0]), (0, 0))

    def test_a_user_who_may_not_gets_them_one_by_one(self):
        for user, refused in (("nosort", "sort"), ("nomemory", "memory"), ("nolrange", "lrange")):
            with self.subTest(user):
                self.redis.cli("FLUSHALL")
                self.redis.cli("CONFIG", "RESETSTAT")
                call_many(self.url, noops())
                worker = self.add_worker("--lease", "5", url=self.url_of(user, f"-{refused}"))
                self.until_done()
                worker.stop()
                self.assertEqual(sum(self.calls("sort")), 1)  # asked once

    def test_a_user_who_may_not_rename_gets_copies(self):
        call_many(self.url, noops(MANY + 100))
        self.add_worker(url=self.url_of("norename", "-rename"))
        self.until_done(MANY + 100)
        self.assertGreater(self.calls("sort")[0], 5)
        self.assertLessEqual(self.moved(), 0)

    def test_large_messages_are_not(self):
        call_many(self.url, noops())
        call_many(self.url, [{"task": "noop", "args": ["x" * 200_000]} for _ in range(150)])
        call_many(self.url, noops(MANY // 2))
        self.add_worker()
        self.until_done(MANY + 150 + MANY // 2)

    def test_a_broken_connection_loses_nothing(self):
        call_many(self.url, noops(LOADS))
        self.add_worker("--lease", "5")
        self.while_it_drains(lambda: self.redis.cli("CLIENT", "KILL", "TYPE", "normal"), LOADS)
        self.until_done(LOADS)

    def test_scripts_that_are_gone_are_loaded_again(self):
        call_many(self.url, noops(LOADS))
        self.add_worker()
        self.while_it_drains(lambda: self.redis.cli("SCRIPT", "FLUSH"), LOADS, times=5)
        self.until_done(LOADS)

    def test_a_server_out_of_memory_lets_jobs_end(self):
        call_many(self.url, noops(LOADS))
        self.add_worker()
        self.while_it_drains(lambda: self.redis.cli("CONFIG", "SET", "maxmemory", "1"), LOADS, times=1)
        self.until_done(LOADS)
        self.assertGreater(self.calls("sort")[0], 5)

    def test_a_wrong_type_is_told_and_nothing_is_taken(self):
        worker = self.add_worker()
        call_many(self.url, noops(30))
        wait_until(lambda: totals(self.url)["succeeded"] == 30, "the results")
        self.redis.cli("SET", "celeriac:bulk", "wrong")
        call_many(self.url, noops())
        wait_until(lambda: "WRONGTYPE" in worker.log(), "the refusal")
        self.redis.cli("DEL", "celeriac:bulk")
        self.until_done(MANY + 30)

    def test_the_rest_of_a_dead_worker_comes_back(self):
        call_many(self.url, noops(LOADS))
        first = self.add_worker("--lease", "2", "-n", "first")
        self.while_it_drains(lambda: [os.kill(pid, signal.SIGKILL) for pid in (first.process.pid, first.dispatcher(), *first.runners())],
                             LOADS, times=1)
        first.process.wait()
        t = totals(self.url)
        self.assertEqual(unaccounted(t), 0, t)
        self.assertLess(t["succeeded"], LOADS)
        self.add_worker("--lease", "2", "-n", "second")
        self.until_done(LOADS)

    def test_a_slow_job_among_short_ones_is_recorded_as_kombu_does(self):
        call_many(self.url, noops(400) + [{"task": "sleep", "args": [SLOW_S]}] + noops(40))
        self.add_worker()
        wait_until(lambda: totals(self.url)["succeeded"] >= 300, "some results")
        wait_until(lambda: int(self.redis.cli("HLEN", "unacked")) > 0 and self.redis.cli("HLEN", "celeriac:bulk") == "0", "the record")
        values = self.redis.cli("HVALS", "unacked").splitlines()
        envelopes = [json.loads(value) for value in values]
        self.assertIn("sleep", [envelope["headers"]["task"] for envelope, _, _ in envelopes])
        self.assertEqual({(exchange, key) for _, exchange, key in envelopes}, {("", "celery")})
        self.assertEqual(int(self.redis.cli("ZCARD", "unacked_index")), len(values))
        self.until_done(441)

    def test_what_fails_among_short_jobs(self):
        lines = noops()
        for i in range(7, MANY, 100):
            lines[i] = {"task": "math.add", "args": ["no number", 1]}
        call_many(self.url, lines)
        self.add_worker()
        failed = len(range(7, MANY, 100))
        wait_until(lambda: totals(self.url)["succeeded"] == MANY - failed and totals(self.url)["failed"] == failed, "all ends")
        wait_until(lambda: totals(self.url)["leased"] == 0, "the last lease")
        self.assertEqual(unaccounted(totals(self.url)), 0)
        self.assertEqual(self.redis.cli("HLEN", "celeriac:bulk"), "0")
        self.assertGreater(self.calls("sort")[0], 5)

    def test_operators_see_them(self):
        call_many(self.url, noops(LOADS))
        worker = self.add_worker()
        dispatcher = worker.dispatcher()

        def look():
            with frozen(dispatcher):
                t = totals(self.url)
                self.assertEqual(unaccounted(t), 0, t)
                queue = json.loads(celeriac(self.url, "queue", "ls", "-o", "json", check=0).stdout)[0]
                self.assertEqual([queue[name] for name in ("waiting", "leased")], [t["waiting"], t["leased"]])
                seen.append(int(self.redis.cli("HLEN", "celeriac:bulk")))
        seen = []
        self.while_it_drains(look, LOADS)
        self.assertGreater(sum(seen), 0)
        self.until_done(LOADS)


if __name__ == "__main__":
    unittest.main()
