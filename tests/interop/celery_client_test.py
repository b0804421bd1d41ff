#!/usr/bin/python3
"""A Celery client and our worker, over Redis. usage: celery_client_test.py [unittest arguments]"""
import datetime
import json
import os
import pathlib
import unittest
import uuid

from celery_case import CeleryCase  # first: it skips the program where Celery is missing
import celery
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.exceptions import NotRegistered, TaskRevokedError

from harness import totals, unaccounted, wait_until

GET = {"timeout": 30, "interval": 0.05}


class Client(CeleryCase):
    def setUp(self):
        super().setUp()
        probe = pathlib.Path(os.getcwd(), "tests", "support", "modules", "probe.so")
        self.worker("--track-started", "-A", str(probe))
        self.app = self.client()
        self.add = self.app.tasks["math.add"]

    def get(self, *args, **options):
        return self.app.send_task(*args, **options).get(**GET)

    def end_balanced(self, published):
        self.wait_for_acknowledgements()
        t = totals(self.url)
        self.assertEqual((t["published"], unaccounted(t)), (published, 0))
        return t

    def test_send_task_and_stubs(self):
        self.assertEqual(self.get("math.add", (40, 2)), 42)
        self.assertEqual(self.get("math.add", kwargs={"x": 40, "y": 2}), 42)
        self.assertEqual(self.add.delay(1, 2).get(**GET), 3)
        self.assertEqual(self.end_balanced(3)["succeeded"], 3)

    def test_every_option_at_once(self):
        task_id = str(uuid.uuid4())
        result = self.add.apply_async((1, 2), task_id=task_id, countdown=0.5, expires=600, priority=3, time_limit=20,
                                      soft_time_limit=10, compression="zlib", headers={"x-custom": {"a": [1]}},
                                      shadow="sum", retry=False, argsrepr="(1, 2)")
        self.assertEqual((result.id, result.get(**GET)), (task_id, 3))
        self.end_balanced(1)

    def test_compression(self):
        for name in ("zlib", "gzip"):
            counts = self.get("text.wordcount", ("ab " * 50000,), compression=name)
            self.assertEqual((counts["words"], counts["chars"]), (50000, 150000))
        with self.assertRaises(Exception):
            self.get("math.add", (1, 2), compression="bzip2")
        self.assertEqual(self.redis.llen("celery.dead"), 1)
        self.end_balanced(3)

    def test_protocol_1(self):
        app = self.client(task_protocol=1)
        add = app.tasks["math.add"]
        self.assertEqual(add.apply_async((1, 2), countdown=0.2, expires=60).get(**GET), 3)
        self.assertEqual(add.apply_async((1, 2), compression="zlib").get(**GET), 3)
        with self.assertRaisesRegex(ValueError, "boom"):
            app.send_task("fail", ("boom", "ValueError")).get(**GET)
        link = self.app.signature("math.mul", (10,)).set(task_id=str(uuid.uuid4()))
        add.apply_async((1, 2), link=link)
        self.assertEqual(self.app.AsyncResult(link.options["task_id"]).get(**GET), 30)
        self.end_balanced(5)

    def test_what_our_task_sees(self):
        options = {"soft_time_limit": 10, "time_limit": 20}
        seen = self.get("probe.inspect", (1,), {"y": 5}, **options)
        self.assertEqual((seen["task"], seen["args"], seen["kwargs"], seen["retries"], seen["soft"]),
                         ("probe.inspect", [1], {"y": 5, "z": 2}, 0, 10.0))

    def test_links(self):
        ids = [str(uuid.uuid4()) for _ in range(2)]
        links = [self.app.signature("math.mul", (n,)).set(task_id=task_id) for n, task_id in zip((10, 100), ids)]
        result = self.add.apply_async((1, 2), link=links)
        self.assertEqual(result.get(**GET), 3)
        self.assertEqual([self.app.AsyncResult(task_id).get(**GET) for task_id in ids], [30, 300])
        self.assertEqual(sorted(child.id for child in result.children), sorted(ids))
        self.assertEqual({child.get(**GET) for child in result.children}, {30, 300})
        self.assertEqual(sorted(v for _, v in result.collect(timeout=30) if isinstance(v, int)), [3, 30, 300])

    def test_link_error(self):
        errback = self.app.signature("noop").set(task_id=str(uuid.uuid4()))
        result = self.app.send_task("fail", ("boom", "ValueError"), link_error=errback)
        with self.assertRaisesRegex(ValueError, "boom"):
            result.get(**GET)
        self.assertIsNone(self.app.AsyncResult(errback.options["task_id"]).get(**GET))

    def test_chain_and_group(self):
        mul = self.app.tasks["math.mul"]
        last = celery.chain(self.add.s(1, 2), mul.s(10), self.add.s(12)).apply_async()
        self.assertEqual(last.get(**GET), 42)
        self.assertEqual((last.parent.get(**GET), last.parent.parent.get(**GET)), (30, 3))
        values = celery.group(self.add.s(n, n) for n in range(20)).apply_async()
        self.assertEqual(values.get(**GET), [2 * n for n in range(20)])
        broken = celery.chain(self.add.s(1, "x"), mul.s(10)).apply_async()
        with self.assertRaises(TypeError):
            broken.get(**GET)

    def test_dedup(self):
        once = {"headers": {"celeriac_dedup": {"key": "report 7", "window": 60}}}
        first = self.app.send_task("sleep", (0.6,), **once)
        wait_until(lambda: first.state == "STARTED", "the first to run")
        link = self.app.signature("math.mul", (10,)).set(task_id=str(uuid.uuid4()))
        linked = self.app.send_task("sleep", (0.6,), link=link, **once)
        chained = celery.chain(self.app.signature("sleep", (0.6,)).set(**once), self.app.signature("math.add", (1,))).apply_async()
        self.assertEqual((first.get(**GET), linked.get(**GET), chained.get(**GET)), (0.6, 0.6, 1.6))
        self.assertEqual(self.app.AsyncResult(link.options["task_id"]).get(**GET), 6)
        self.assertEqual([child.id for child in linked.children], [link.options["task_id"]])
        told = json.loads(self.redis.get(f"celery-task-meta-{linked.id}"))
        self.assertEqual((told["celeriac"], told["task_id"]), ({"duplicate_of": first.id}, linked.id))
        self.assertEqual(self.end_balanced(5)["duplicates"], 2)

    def test_dedup_of_one_message_sent_twice(self):
        task_id = str(uuid.uuid4())
        for _ in range(2):
            self.app.send_task("sleep", (0.6,), task_id=task_id, headers={"celeriac_dedup": {"key": task_id, "window": 60}})
        self.assertEqual(self.app.AsyncResult(task_id).get(**GET), 0.6)
        wait_until(lambda: totals(self.url)["succeeded"] == 2, "the second message")
        self.assertNotIn("duplicate_of", json.loads(self.redis.get(f"celery-task-meta-{task_id}"))["celeriac"])
        self.assertEqual(self.end_balanced(2)["duplicates"], 1)

    def test_ignore_result(self):
        result = self.add.apply_async((1, 2), ignore_result=True)
        self.assertEqual(self.get("math.add", (3, 4)), 7)
        self.end_balanced(2)
        self.assertFalse(self.redis.exists(f"celery-task-meta-{result.id}"))

    def test_failures_are_rebuilt(self):
        result = self.app.send_task("fail", ("boom", "ValueError"))
        with self.assertRaisesRegex(ValueError, "^boom$"):
            result.get(**GET)
        self.assertEqual((result.state, result.result.args), ("FAILURE", ("boom",)))
        with self.assertRaisesRegex(TypeError, "missing 1 required positional argument: 'y'"):
            self.get("math.add", (1,))
        with self.assertRaises(Exception) as caught:
            self.get("fail", ("rain", "WeatherError"))
        self.assertEqual(type(caught.exception).__name__, "WeatherError")
        self.assertEqual(self.end_balanced(3)["failed"], 3)

    def test_retry(self):
        result = self.app.send_task("fail", ("again", "KeyError", "retry"), {"countdown": 600})
        wait_until(lambda: result.state == "RETRY", "the state RETRY")
        self.assertEqual((type(result.result), result.result.args), (KeyError, ("again",)))
        self.assertFalse(result.ready())
        result = self.app.send_task("fail", ("again", "KeyError", "retry"), {"countdown": 0.01})
        with self.assertRaisesRegex(KeyError, "again"):
            result.get(**GET)

    def test_expired(self):
        late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
        result = self.add.apply_async((1, 2), expires=late)
        with self.assertRaisesRegex(TaskRevokedError, "expired"):
            result.get(**GET)
        self.assertEqual(result.state, "REVOKED")
        self.end_balanced(1)

    def test_unknown_task(self):
        result = self.app.send_task("nope.nope", (1,))
        with self.assertRaisesRegex(NotRegistered, "nope.nope"):
            result.get(**GET)
        self.assertEqual(self.redis.llen("celery.unknown"), 1)

    def test_started(self):
        result = self.app.send_task("sleep", (2,))
        wait_until(lambda: result.state == "STARTED", "the state STARTED")
        self.assertEqual(set(result.info), {"pid", "hostname"})
        self.assertEqual(result.get(**GET), 2)

    def test_time_limits(self):
        with self.assertRaises(SoftTimeLimitExceeded):
            self.get("sleep", (60,), soft_time_limit=1)
        with self.assertRaises(TimeLimitExceeded):
            self.get("fail", ("x", "y", "hang"), time_limit=1)

    def test_forget(self):
        result = self.add.delay(1, 2)
        self.assertEqual(result.get(**GET), 3)
        result.forget()
        self.assertEqual(self.app.AsyncResult(result.id).state, "PENDING")
        self.assertFalse(self.redis.exists(f"celery-task-meta-{result.id}"))

    def test_values(self):
        values = [[1, 2.5, None, True], ["é", "\u20ac", "\U0001f600"], [{"a": {"b": []}}, -2**63, 2**63 - 1]]
        for value in values:
            self.assertEqual(self.get("probe.inspect", value)["args"][:len(value)], value)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
