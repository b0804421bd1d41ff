#!/usr/bin/python3
"""Our command line and a Celery worker, over Redis. usage: celery_worker_test.py [unittest arguments]"""
import json
import re
import signal
import unittest

from celery_case import CeleryCase  # first: it skips the program where Celery is missing
import celery
import kombu
from celery.worker.request import Request

from harness import call, celeriac, result, wait_until

LISTS = {0: "celery", 3: "celery\x06\x163", 6: "celery\x06\x166", 9: "celery\x06\x169"}


class Command(CeleryCase):
    def wait(self, task, args, *options, check=0):
        return celeriac(self.url, "call", task, "-a", json.dumps(args), "--wait", "30", *options, check=check)

    def test_results(self):
        self.peer()
        self.assertEqual(json.loads(self.wait("peer.add", [40, 2]).stdout), 42)
        options = ("--headers", '{"x-custom": [1]}', "--priority", "6", "--time-limit", "20", "--soft-time-limit", "10")
        seen = json.loads(self.wait("peer.request", [1, "é"], "-k", '{"a": {"b": null}}', "--id", "one", *options).stdout)
        self.assertRegex(seen.pop("origin"), r"^gen\d+@")
        self.assertFalse(seen.pop("reply_to"))
        self.assertFalse(seen.pop("ignore_result"))
        self.assertEqual(seen, {"args": [1, "é"], "kwargs": {"a": {"b": None}}, "id": "one", "root": "one", "parent": None,
                                "retries": 0, "timelimit": [20, 10], "custom": [1], "priority": 6})
        limited = self.wait("sleep", [60], "--soft-time-limit", "1", check=1)
        self.assertIn("SoftTimeLimitExceeded", limited.stderr)
        quiet = celeriac(self.url, "call", "peer.add", "-a", "[1, 2]", "--ignore-result", check=0).stdout.strip()
        self.wait("peer.add", [1, 2])
        self.wait_for_acknowledgements()
        self.assertEqual(celeriac(self.url, "result", quiet).returncode, 4)

    def test_failure(self):
        self.peer()
        done = self.wait("peer.boom", ["no é"], check=1)
        self.assertIn("ValueError", done.stderr)
        task_id = call(self.url, "peer.boom", "no")
        document = result(self.url, task_id, wait_s=30)
        self.assertEqual((document["status"], document["result"]["exc_type"], document["result"]["exc_message"]),
                         ("FAILURE", "ValueError", ["no"]))
        text = celeriac(self.url, "result", task_id, "--traceback", check=1)
        self.assertIn("Traceback (most recent call last)", text.stdout + text.stderr)
        self.assertIn("raise ValueError(text)", text.stdout + text.stderr)
        unknown = call(self.url, "nope.nope")
        self.assertEqual(result(self.url, unknown, wait_s=30)["result"]["exc_type"], "NotRegistered")

    def test_retries(self):
        self.peer()
        self.assertEqual(json.loads(self.wait("peer.flaky", [2]).stdout), 2)
        done = self.wait("peer.flaky", [9], check=1)
        self.assertIn("KeyError", done.stderr)

    def test_expired(self):
        task_id = call(self.url, "peer.add", 1, 2, expires="2020-01-01T00:00:00Z")
        self.peer()
        document = result(self.url, task_id, wait_s=30)
        self.assertEqual((document["status"], document["result"]["exc_type"]), ("REVOKED", "TaskRevokedError"))

    def test_priorities_share_lists(self):
        path = f"{self.dir}/order"
        for priority in (9, 8, 5, 0):
            call(self.url, "peer.append", path, str(priority), priority=priority)
        app = self.client()
        for priority in (9, 6, 3, 2):
            app.send_task("peer.append", (path, f"py{priority}"), priority=priority)
        self.assertEqual([self.redis.llen(key) for key in LISTS.values()], [2, 2, 2, 2])
        with app.connection_for_read() as connection:
            self.assertEqual(connection.default_channel.queue_declare("celery", passive=True).message_count, 8)
        self.peer()
        wait_until(lambda: not any(self.redis.exists(key) for key in LISTS.values()), "empty queues")
        self.wait_for_acknowledgements()
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["0", "py2", "5", "py3", "8", "py6", "9", "py9"])

    def test_our_worker_moves_what_is_due(self):
        """A delayed job waits with us; a worker of ours on any queue hands it to Celery's when it is due."""
        task_id = call(self.url, "peer.add", 40, 2, countdown=0.5)
        self.peer()
        self.worker("-Q", "other")
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 42)

    def test_envelope_is_one_that_a_worker_runs(self):
        task_id = call(self.url, "peer.request", 2, 3, kwargs={"a": "é"}, expires=600, priority=0)
        elements = self.redis.lrange("celery", 0, -1)
        self.assertEqual(len(elements), 1)
        app = self.client()
        app.send_task("peer.request", (2, 3), {"a": "é"}, expires=600, queue="theirs")
        theirs = json.loads(self.redis.lindex("theirs", 0))
        ours = json.loads(elements[0])
        self.assertEqual(set(ours), set(theirs))
        self.assertEqual(set(ours["properties"]), set(theirs["properties"]))
        newer = {"replaced_task_nesting", "stamped_headers", "stamps"}  # Celery 5.3 and later
        self.assertEqual(set(ours["headers"]) - {"celeriac_sent_ms"}, set(theirs["headers"]) - newer)
        self.assertEqual(ours["body"], theirs["body"])
        with app.connection_for_read() as connection:
            message = connection.default_channel.basic_get("celery", no_ack=True)
        request = Request(message, app=app, task=app.tasks["peer.request"], decoded=False, utc=True)
        self.assertEqual((request.id, request.name), (task_id, "peer.request"))
        self.assertEqual(message.payload[:2], [[2, 3], {"a": "é"}])

    def test_keys(self):
        worker = self.worker("--track-started", "-Q", "celery,other")
        app = self.client()
        call(self.url, "sleep", 600)
        wait_until(lambda: self.leases() == 1, "a lease")
        call(self.url, "fail", "x", "KeyError", "retry", countdown=600)
        call(self.url, "math.add", 1, 2, priority=5, queue="other")
        app.send_task("math.add", (1, 2))
        self.redis.lpush("celery", "poison")
        allowed = re.compile(rb"celery(\x06\x16[369])?|other(\x06\x16[369])?|(celery|other)\.(dead|unknown)|_kombu\.binding\..*|"
                             rb"unacked|unacked_index|unacked_mutex|celery-task-meta-.*|celeriac:.*")
        strange = [key for key in self.redis.keys() if not allowed.fullmatch(key)]
        self.assertEqual(strange, [])
        worker.stop(signal.SIGQUIT)
        call(self.url, "nope.nope")
        self.assertEqual([key for key in self.redis.keys() if not allowed.fullmatch(key)], [])


class Canvas(CeleryCase):
    """One workflow, its steps on either side by their queues."""

    def setUp(self):
        super().setUp()
        self.worker("-Q", "ours")
        self.peer("-Q", "theirs")
        self.app = self.client()

    def step(self, task, *args, queue, **options):
        return self.app.signature(task, args, queue=queue, **options)

    def test_chains(self):
        for first, second in (("theirs", "ours"), ("ours", "theirs")):
            last = celery.chain(self.step("math.add", 1, 2, queue=first), self.step("math.mul", 10, queue=second),
                                self.step("math.add", 12, queue=first)).apply_async()
            self.assertEqual(last.get(timeout=30), 42)
            self.assertEqual((last.parent.get(timeout=30), last.parent.parent.get(timeout=30)), (30, 3))
            root = json.loads(self.redis.get(f"celery-task-meta-{last.parent.parent.id}"))
            middle = json.loads(self.redis.get(f"celery-task-meta-{last.parent.id}"))
            self.assertEqual(("celeriac" in root, "celeriac" in middle), (first == "ours", second == "ours"))
            self.assertEqual(middle["parent_id"], root["task_id"])

    def test_failing_step_ends_the_chain(self):
        for first, second in (("theirs", "ours"), ("ours", "theirs")):
            last = celery.chain(self.step("math.add", 1, "x", queue=first),
                                self.step("math.mul", 10, queue=second)).apply_async()
            with self.assertRaises(TypeError):
                last.get(timeout=30)
        self.wait_for_acknowledgements()

    def test_links(self):
        for first, second in (("theirs", "ours"), ("ours", "theirs")):
            link = self.step("math.mul", 10, queue=second)
            result = self.step("math.add", 1, 2, queue=first).apply_async(link=link)
            self.assertEqual(result.get(timeout=30), 3)
            wait_until(lambda: result.children, "the child")
            self.assertEqual(result.children[0].get(timeout=30), 30)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
