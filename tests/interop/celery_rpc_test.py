#!/usr/bin/python3
"""Results over RabbitMQ alone, with Celery at one end: rpc://. usage: celery_rpc_test.py [unittest arguments]"""
import gc
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "support"))
from harness import Redis, Worker, call, celeriac, result, shared_rabbitmq_url, wait_until  # noqa: E402

if importlib.util.find_spec("celery") is None:
    print("no Python module celery: install python3-celery")
    sys.exit(77)

import celery  # noqa: E402
import celery.exceptions  # noqa: E402
import kombu  # noqa: E402

GET = {"timeout": 30}


class Rpc(unittest.TestCase):
    def setUp(self):
        self.url = shared_rabbitmq_url()
        if not self.url:
            self.skipTest("no rabbitmq-server: run below tests/support/with_rabbitmq.py")
        self.dir = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def worker(self, *args):
        worker = Worker(self.url, "-c", "1", *args, log=f"{self.dir}/worker.log")
        self.addCleanup(worker.__exit__)
        return worker.start()

    def client(self, backend="rpc://", **conf):
        app = celery.Celery("rpc", broker=self.url, backend=backend, set_as_current=False)
        app.conf.update(**conf)
        self.addCleanup(app.close)
        self.addCleanup(gc.collect)
        return app

    def peer(self, backend="rpc://"):
        """A Celery worker."""
        source = pathlib.Path(self.dir, "peer_app.py")
        source.write_text(f"""
import celery
app = celery.Celery("peer_app", broker={self.url!r}, backend={backend!r}, set_as_current=False)
app.conf.update(worker_hijack_root_logger=False, task_track_started=True)
@app.task(name="math.add")
def add(x, y):
    return x + y
@app.task(name="peer.boom")
def boom(text):
    raise ValueError(text)
""")
        log_path = pathlib.Path(self.dir, "peer.log")
        with open(log_path, "ab") as log:
            process = subprocess.Popen(
                ["/usr/bin/python3", "-m", "celery", "-A", "peer_app", "worker", "-c", "1", "-P", "solo", "-n", "peer@here",
                 "-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat"],
                cwd=self.dir, env={**os.environ, "C_FORCE_ROOT": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def stop():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.addCleanup(stop)
        wait_until(lambda: process.poll() is not None or " ready." in log_path.read_text(errors="replace"), "the Celery worker")
        self.assertIsNone(process.poll(), log_path.read_text(errors="replace"))

    # -- a Celery client, our worker --

    def test_success_and_failure_reach_a_celery_client(self):
        self.worker()
        app = self.client()
        self.assertEqual(app.send_task("math.add", (40, 2)).get(**GET), 42)
        self.assertEqual([r.get(**GET) for r in [app.send_task("math.add", (i, 1)) for i in range(20)]], list(range(1, 21)))
        failed = app.send_task("fail", ("boom", "KeyError"))
        with self.assertRaisesRegex(KeyError, "boom"):
            failed.get(**GET)
        self.assertEqual(failed.state, "FAILURE")
        with self.assertRaises(celery.exceptions.NotRegistered):
            app.send_task("no.such.task").get(**GET)

    def test_what_a_celery_client_sent_is_known_to_everybody(self):
        self.worker()
        sent = self.client().send_task("math.add", (1, 2))
        self.assertEqual(sent.get(**GET), 3)
        self.assertEqual(result(self.url, sent.id)["result"], 3)

    def test_ignored_results_are_not_sent(self):
        worker = self.worker()
        with kombu.Connection(self.url) as connection, connection.SimpleQueue("answers-" + uuid.uuid4().hex) as answers:
            app = self.client()
            for ignore in (True, False):
                app.send_task("math.add", (1, 2), ignore_result=ignore, reply_to=answers.queue.name)
            self.assertEqual(answers.get(timeout=30).payload["result"], 3)
            worker.stop()
            self.assertEqual(answers.qsize(), 0)

    def test_one_message_for_each_state(self):
        """What rpc:// of Celery would see, property by property."""
        self.worker("--track-started")
        app, task_id = self.client(), str(uuid.uuid4())
        with kombu.Connection(self.url) as connection, connection.SimpleQueue("answers-" + uuid.uuid4().hex) as answers:
            app.send_task("fail", ("boom", "KeyError", "retry"), {"countdown": 0.2}, task_id=task_id,
                          reply_to=answers.queue.name)
            messages = [answers.get(timeout=30) for _ in range(8)]
            for message in messages:
                message.ack()
        self.assertEqual([m.payload["status"] for m in messages], ["STARTED", "RETRY"] * 3 + ["STARTED", "FAILURE"])
        for m in messages:
            self.assertEqual((m.payload["task_id"], m.properties["correlation_id"]), (task_id, task_id))
            self.assertEqual((m.content_type, m.content_encoding, m.properties["delivery_mode"]), ("application/json", "utf-8", 1))
            self.assertEqual(m.delivery_info["exchange"], "")
        self.assertEqual(messages[-1].payload["result"]["exc_type"], "KeyError")

    def test_the_sender_may_be_gone(self):
        self.worker()
        app = self.client()
        sent = app.send_task("math.add", (1, 2), reply_to=str(uuid.uuid4()))
        self.assertEqual(result(self.url, sent.id, wait_s=30)["result"], 3)
        self.assertEqual(app.send_task("math.add", (2, 2)).get(**GET), 4)

    # -- our client, a Celery worker: it writes no records, so only the reply tells --

    def test_a_celery_worker_answers_our_client(self):
        self.peer()
        self.assertEqual(celeriac(self.url, "call", "math.add", "-a", "[4, 5]", "--wait", "30", check=0).stdout.strip(), "9")
        failed = celeriac(self.url, "call", "peer.boom", "-a", '["boom"]', "--wait", "30")
        self.assertEqual(failed.returncode, 1)
        self.assertIn("ValueError", failed.stderr)
        unknown = celeriac(self.url, "result", call(self.url, "math.add", 1, 1), "--wait", "1")
        self.assertNotEqual(unknown.returncode, 0)

    # -- results in Redis, the commonest set-up --

    def test_redis_for_results(self):
        redis = Redis(self.dir).start()
        self.addCleanup(redis.stop)
        self.worker("--result-backend", redis.url, "--track-started")
        app = self.client(backend=redis.url)
        self.assertEqual(app.send_task("math.add", (40, 2)).get(**GET), 42)
        with self.assertRaisesRegex(KeyError, "boom"):
            app.send_task("fail", ("boom", "KeyError")).get(**GET)
        words = ["--result-backend", redis.url]
        done = celeriac(self.url, "call", "math.add", "-a", "[1, 2]", "--wait", "30", *words, check=0)
        self.assertEqual(done.stdout.strip(), "3")
        task_id = celeriac(self.url, "call", "math.mul", "-a", "[3, 4]", *words, check=0).stdout.strip()
        shown = celeriac(self.url, "result", task_id, "--wait", "30", "-o", "json", *words, check=0).stdout
        self.assertEqual(json.loads(shown)["result"], 12)
        self.assertEqual(app.AsyncResult(task_id).get(**GET), 12)
        # Nothing of it is in the broker.
        self.assertEqual(celeriac(self.url, "result", task_id).returncode, 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
