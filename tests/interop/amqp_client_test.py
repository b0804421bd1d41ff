#!/usr/bin/python3
"""A Celery client and our worker, over RabbitMQ. usage: amqp_client_test.py [unittest arguments]"""
import json
import os
import pathlib
import time
import unittest
import uuid

from amqp_case import AmqpCase  # first: it skips the program where Celery is missing
import celery
import celery.exceptions
import kombu
from celery.exceptions import NotRegistered, TaskRevokedError

from celery_app import quorum_queue
from harness import celeriac, result, wait_until

GET = {"timeout": 30, "interval": 0.05}


class Client(AmqpCase):
    """Results through rpc://, classic queues as Celery declares them."""

    def setUp(self):
        super().setUp()
        probe = pathlib.Path(os.getcwd(), "tests", "support", "modules", "probe.so")
        self.worker("--track-started", "-A", str(probe))
        self.app = self.client()
        self.add = self.app.tasks["math.add"]

    def get_of(self, *args, **options):
        return self.app.send_task(*args, **options).get(**GET)

    def test_send_task_and_stubs(self):
        results = [self.app.send_task("math.add", (n, 1)) for n in range(50)]
        self.assertEqual([r.get(**GET) for r in results], [n + 1 for n in range(50)])
        self.assertEqual(self.get_of("math.add", kwargs={"x": 40, "y": 2}), 42)
        self.assertEqual(self.add.delay(1, 2).get(**GET), 3)

    def test_every_option_at_once(self):
        task_id = str(uuid.uuid4())
        sent = self.add.apply_async((1, 2), task_id=task_id, countdown=0.5, expires=600, priority=3, time_limit=20,
                                    soft_time_limit=10, compression="zlib", headers={"x-custom": {"a": [1, None, 2.5, True]}},
                                    shadow="sum", retry=False, argsrepr="(1, 2)")
        self.assertEqual((sent.id, sent.get(**GET)), (task_id, 3))

    def test_any_process_may_ask_for_the_result(self):
        sent = self.add.delay(20, 22)
        self.assertEqual(sent.get(**GET), 42)
        document = result(self.url, sent.id, wait_s=30)
        self.assertEqual((document["status"], document["result"]), ("SUCCESS", 42))

    def test_a_result_without_its_queue_is_no_trouble(self):
        """Nobody waits for the first: its reply queue is gone, the stream has it, the worker goes on."""
        sent = self.app.send_task("math.add", (1, 2), reply_to="gone." + str(uuid.uuid4()))
        self.assertEqual(result(self.url, sent.id, wait_s=30)["result"], 3)
        self.assertEqual(self.get_of("math.add", (2, 2)), 4)

    def test_countdown_is_never_early(self):
        began = time.monotonic()
        sent = {seconds: self.app.send_task("probe.inspect", (seconds,), countdown=seconds) for seconds in (3, 1)}
        for seconds in (1, 3):
            sent[seconds].get(**GET)
            self.assertGreaterEqual(time.monotonic() - began, seconds - 0.01)

    def test_protocol_1(self):
        app = self.client(task_protocol=1)
        add = app.tasks["math.add"]
        self.assertEqual(add.apply_async((1, 2), countdown=0.2, expires=60).get(**GET), 3)
        self.assertEqual(add.apply_async((1, 2), compression="zlib").get(**GET), 3)

    def test_links_and_chains(self):
        link = self.app.signature("math.mul", (10,)).set(task_id=str(uuid.uuid4()))
        self.assertEqual(self.add.apply_async((1, 2), link=link).get(**GET), 3)
        self.assertEqual(result(self.url, link.options["task_id"], wait_s=30)["result"], 30)
        mul = self.app.tasks["math.mul"]
        last = celery.chain(self.add.s(1, 2), mul.s(10), self.add.s(12)).apply_async()
        self.assertEqual(last.get(**GET), 42)

    def test_group(self):
        values = celery.group(self.add.s(n, n) for n in range(20)).apply_async()
        self.assertEqual(values.get(**GET), [2 * n for n in range(20)])

    def test_ignore_result(self):
        sent = self.add.apply_async((1, 2), ignore_result=True)
        self.assertEqual(self.get_of("math.add", (3, 4)), 7)
        self.assertEqual(celeriac(self.url, "result", sent.id).returncode, 4)

    def test_failures_are_rebuilt(self):
        sent = self.app.send_task("fail", ("boom", "ValueError"))
        with self.assertRaisesRegex(ValueError, "^boom$"):
            sent.get(**GET)
        self.assertEqual(sent.state, "FAILURE")
        with self.assertRaisesRegex(TypeError, "missing 1 required positional argument: 'y'"):
            self.get_of("math.add", (1,))
        with self.assertRaisesRegex(NotRegistered, "nope.nope"):
            self.get_of("nope.nope", (1,))
        self.assertEqual(self.count("celery.unknown"), 1)

    def test_retry(self):
        sent = self.app.send_task("fail", ("again", "KeyError", "retry"), {"countdown": 0.3})
        with self.assertRaisesRegex(KeyError, "again"):
            sent.get(**GET)

    def test_states_on_the_way(self):
        seen = []
        sent = self.app.send_task("sleep", (1,))
        self.assertEqual(sent.get(on_message=lambda meta: seen.append(meta["status"]), **GET), 1)
        self.assertEqual(seen, ["STARTED", "SUCCESS"])

    def test_expired(self):
        """The header only: of what has expired Celery 5.3 makes a time to live of 0, and RabbitMQ may drop that."""
        past = "2026-01-02T03:04:05+00:00"
        with self.assertRaisesRegex(TaskRevokedError, "expired"):
            self.add.apply_async((1, 2), headers={"expires": past}).get(**GET)

    def test_values(self):
        values = [[1, 2.5, None, True], ["é", "\u20ac", "\U0001f600"], [{"a": {"b": []}}, -2**63, 2**63 - 1]]
        for value in values:
            self.assertEqual(self.get_of("probe.inspect", value)["args"][:len(value)], value)

    def test_a_body_larger_than_a_frame(self):
        text = "ab " * 300000
        self.assertEqual(self.get_of("text.wordcount", (text,))["words"], 300000)


class Queues(AmqpCase):
    """Queues that the Celery side declared, with its own arguments."""

    def test_priorities(self):
        queue = kombu.Queue("prio", kombu.Exchange("prio"), routing_key="prio", queue_arguments={"x-max-priority": 10})
        app = self.client(task_queues=[queue])
        sent = [app.send_task("math.add", (n, 0), queue="prio", priority=n) for n in (1, 9, 5)]
        self.worker("-Q", "prio")
        self.assertEqual([r.get(**GET) for r in sent], [1, 9, 5])

    def test_quorum(self):
        app = self.client(task_queues=[quorum_queue("qq")])
        first = app.send_task("math.add", (1, 2), queue="qq")  # declares it
        self.worker("-Q", "qq")
        self.assertEqual(first.get(**GET), 3)
        results = [app.send_task("math.add", (n, 1), queue="qq") for n in range(50)]
        self.assertEqual([r.get(**GET) for r in results], [n + 1 for n in range(50)])

        def delayed():
            """Celery 5.5 sends it into the ladder, which leads nowhere before the worker has bound the queue to its end."""
            began = time.monotonic()
            try:
                self.assertEqual(app.send_task("math.add", (1, 1), queue="qq", countdown=2).get(timeout=8), 2)
            except celery.exceptions.TimeoutError:
                return False
            self.assertGreaterEqual(time.monotonic() - began, 1.99)
            return True

        wait_until(delayed, "a delayed job")
        retried = app.send_task("fail", ("again", "KeyError", "retry"), {"countdown": 0.3}, queue="qq")
        with self.assertRaisesRegex(KeyError, "again"):
            retried.get(**GET)
        wait_until(lambda: self.count("qq") == 0, "an empty queue")

    def test_native_delayed_delivery(self):
        """As Celery 5.5 sends a countdown to a quorum queue, whose workers have to declare the ladder."""
        app = self.client(task_queues=[quorum_queue("qq")])
        self.assertIsNone(app.send_task("math.add", (0, 0), queue="qq", ignore_result=True).result)  # declares it
        self.worker("-Q", "celery,qq")
        wait_until(lambda: self.has_exchange("celery_delayed_delivery"), "the ladder")
        exchange = kombu.Exchange("celery_delayed_27", type="topic", passive=True)
        key = ".".join(f"{3:028b}") + ".qq"

        def delivered():
            """What is sent before the last binding of the ladder is there goes nowhere: then once more."""
            began = time.monotonic()
            late = app.send_task("math.add", (1, 2), exchange=exchange, routing_key=key, countdown=3)
            try:
                self.assertEqual(late.get(timeout=5), 3)
            except celery.exceptions.TimeoutError:
                return False
            self.assertGreaterEqual(time.monotonic() - began, 2.99)
            return True

        wait_until(delivered, "a job that came down the ladder")

    def has_exchange(self, name):
        with kombu.Connection(self.url) as connection:
            try:
                connection.default_channel.exchange_declare(name, "topic", passive=True)
                return True
            except connection.channel_errors:
                return False

    def test_results_in_redis(self):
        backend = self.start_redis()
        worker = self.worker("--result-backend", backend)
        app = self.client(backend=backend)
        sent = [app.send_task("math.add", (n, 1)) for n in range(20)]
        self.assertEqual([r.get(**GET) for r in sent], [n + 1 for n in range(20)])
        self.assertEqual({r.state for r in sent}, {"SUCCESS"})
        with self.assertRaisesRegex(ValueError, "boom"):
            app.send_task("fail", ("boom", "ValueError")).get(**GET)
        link = app.signature("math.mul", (10,)).set(task_id=str(uuid.uuid4()))
        self.assertEqual(app.send_task("math.add", (1, 2), link=link).get(**GET), 3)
        self.assertEqual(app.AsyncResult(link.options["task_id"]).get(**GET), 30)
        asked = celeriac(self.url, "--result-backend", backend, "result", sent[3].id, "-o", "json", check=0)
        self.assertEqual(json.loads(asked.stdout)["result"], 4)
        self.assertIsNone(worker.process.poll())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
