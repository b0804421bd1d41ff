#!/usr/bin/python3
"""Our command line and a Celery worker, over RabbitMQ; and what each side leaves to the other when it is killed.

usage: amqp_worker_test.py [unittest arguments]
"""
import json
import os
import time
import unittest

from amqp_case import AmqpCase  # first: it skips the program where Celery is missing
import celery
import celery.result
from celery.worker.request import Request
import celery_app

from harness import celeriac, wait_until

KINDS = ("classic", "quorum")


class Command(AmqpCase):
    def start_peer(self, kind, **options):
        """The options of call for its queue."""
        if kind == "classic":
            self.peer(**options)
            return ()
        self.peer(quorum="qq", **options)
        return ("-Q", "qq")

    def test_results(self):
        for kind in KINDS:
            with self.subTest(kind):
                to = self.start_peer(kind, name=kind)
                self.assertEqual(json.loads(self.call("peer.add", [40, 2], *to).stdout), 42)
                options = ("--headers", '{"x-custom": [1]}', "--time-limit", "20", "--soft-time-limit", "10")
                task_id = "one-" + kind
                seen = json.loads(self.call("peer.request", [1, "é"], "-k", '{"a": {"b": null}}', "--id", task_id, *options, *to).stdout)
                self.assertRegex(seen.pop("origin"), r"^gen\d+@")
                self.assertTrue(seen.pop("reply_to"))
                self.assertFalse(seen.pop("ignore_result"))
                seen.pop("priority")
                self.assertEqual(seen, {"args": [1, "é"], "kwargs": {"a": {"b": None}}, "id": task_id, "root": task_id, "parent": None,
                                        "retries": 0, "timelimit": [20, 10], "custom": [1]})

    def test_failure_and_retry(self):
        to = self.start_peer("classic")
        done = self.call("peer.boom", ["no é"], *to, check=1)
        self.assertIn("ValueError", done.stderr)
        unknown = self.call("nope.nope", [], *to, check=1)
        self.assertIn("NotRegistered", unknown.stderr)
        self.assertEqual(json.loads(self.call("peer.flaky", [2], *to).stdout), 2)
        limited = self.call("sleep", [60], "--soft-time-limit", "1", *to, check=1)
        self.assertIn("SoftTimeLimitExceeded", limited.stderr)

    def test_countdown_is_never_early(self):
        """By the ladder, which a Celery worker knows nothing of: it finds the job in its queue when it is due."""
        for kind in KINDS:
            with self.subTest(kind):
                to = self.start_peer(kind, name=kind)
                began = time.monotonic()
                self.assertEqual(json.loads(self.call("peer.add", [1, 2], "--countdown", "3", *to).stdout), 3)
                self.assertGreaterEqual(time.monotonic() - began, 2.99)

    def test_results_in_redis(self):
        backend = self.start_redis()
        self.peer(backend=backend)
        done = celeriac(self.url, "--result-backend", backend, "call", "peer.add", "-a", "[40, 2]", "--wait", "30", check=0)
        self.assertEqual(json.loads(done.stdout), 42)

    def test_message_is_one_that_a_worker_runs(self):
        app = self.client()
        options = {"expires": 600, "priority": 0, "countdown": 0}
        app.send_task("peer.request", (2, 3), {"a": "é"}, queue="theirs", **options)
        task_id = self.sent("peer.request", [2, 3], "-k", '{"a": "é"}', "--expires", "600", "--priority", "0", "-Q", "ours")
        ours, theirs = self.get("ours"), self.get("theirs")
        self.assertEqual(ours.body, theirs.body)
        newer = {"replaced_task_nesting", "stamped_headers", "stamps"}  # Celery 5.3 and later
        self.assertEqual({name for name in ours.headers if not name.startswith("celeriac_")}, set(theirs.headers) - newer)
        for name in ("content_type", "content_encoding", "delivery_mode", "priority"):
            self.assertEqual(ours.properties.get(name), theirs.properties.get(name), name)
        self.assertEqual(ours.properties["correlation_id"], task_id)
        self.assertEqual(ours.delivery_info["routing_key"], "ours")
        request = Request(ours, app=app, task=app.tasks["peer.request"], decoded=False, utc=True)
        self.assertEqual((request.id, request.name), (task_id, "peer.request"))

    def test_a_queue_that_we_declare_is_celerys(self):
        """Whoever comes first declares it; the other must find it right."""
        self.worker("-Q", "celery,other")
        self.peer("-Q", "celery,other")
        self.assertEqual(json.loads(self.call("sleep", [0], "-Q", "other").stdout), 0)

    def test_a_queue_that_nobody_declared_keeps_the_job(self):
        """Celery's client declares a queue before it sends; so does ours."""
        self.sent("math.add", [1, 2], "-Q", "fresh")
        self.assertEqual(self.count("fresh"), 1)
        self.peer("-Q", "fresh")
        wait_until(lambda: self.count("fresh") == 0, "the job to be taken")


class Canvas(AmqpCase):
    """One workflow, its steps on either side by their queues."""

    def test_chains_and_links(self):
        self.worker("-Q", "ours")
        self.peer("-Q", "theirs")
        app = self.client()

        def step(task, *args, queue):
            return app.signature(task, args, queue=queue)

        for first, second in (("theirs", "ours"), ("ours", "theirs")):
            last = celery.chain(step("math.add", 1, 2, queue=first), step("math.mul", 10, queue=second),
                                step("math.add", 12, queue=first)).apply_async()
            self.assertEqual(last.get(timeout=30), 42)
            broken = celery.chain(step("math.add", 1, "x", queue=first), step("math.mul", 10, queue=second)).apply_async()
            with self.assertRaises(TypeError):
                broken.parent.get(timeout=30)


class Both(AmqpCase):
    def test_one_queue_for_both_kinds_of_worker(self):
        for kind in KINDS:
            with self.subTest(kind):
                queue, quorum = ("celery", "") if kind == "classic" else ("qq", "qq")
                options = {"task_queues": [celery_app.quorum_queue("qq")]} if quorum else {}
                app = self.client(**options)
                sent = [app.send_task("math.add", (n, 1), queue=queue) for n in range(100)]
                peer = self.peer(quorum=quorum, name=kind)
                worker = self.worker("-Q", queue)
                sent += [app.send_task("math.add", (n, 1), queue=queue) for n in range(100, 300)]
                # get() of a result that has come already costs a second each; this does not.
                values = celery.result.ResultSet(sent, app=app).join_native(timeout=30)
                self.assertEqual(values, [n + 1 for n in range(300)])
                wait_until(lambda: self.count(queue) == 0, "an empty queue")
                self.assertGreater(peer.log().count("math.add"), 0)
                self.assertIsNone(worker.process.poll())
                peer.stop()
                self.assertEqual(worker.stop(), 0)


class Killed(AmqpCase):
    """What one side held when it was killed is run by the other."""

    def test_celery_takes_what_we_left(self):
        path = f"{self.dir}/done"
        worker = self.worker()
        self.sent("sleep", [600])
        wait_until(lambda: self.count("celery") == 0, "our delivery")
        self.sent("peer.append", [path, "x"])
        pids = [worker.process.pid, worker.dispatcher(), *worker.runners()]
        for pid in pids:
            os.kill(pid, 9)
        worker.process.wait()
        wait_until(lambda: self.count("celery"), "the message to be back")
        message = self.get("celery")
        while message and message.headers["task"] != "sleep":
            message = self.get("celery")
        self.assertTrue(message.delivery_info["redelivered"])
        self.assertIn("[600]", message.body if isinstance(message.body, str) else message.body.decode())

    def test_we_take_what_celery_left(self):
        peer = self.peer()
        app = self.client()
        sent = app.send_task("fail", ("boom", "ValueError"))
        self.assertEqual(sent.get(timeout=30)["ran"], "celery")
        held = app.send_task("math.tsum", ([1, 2],))  # theirs hangs
        wait_until(lambda: "math.tsum" in peer.log(), "Celery's delivery")
        peer.kill()
        self.worker()
        self.assertEqual(held.get(timeout=30), 3)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
