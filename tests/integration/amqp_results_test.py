#!/usr/bin/python3
"""Results through RabbitMQ alone, as people get at them. usage: amqp_results_test.py [unittest arguments]"""
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import DEADLINE_S, Worker, broker, call, call_many, celeriac, command, result, wait_until  # noqa: E402

NOT_FOUND = 4


class Results(unittest.TestCase):
    def setUp(self):
        context = broker("amqp")
        self.url, self.dir = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def worker(self, *args):
        worker = Worker(self.url, "-c", "1", *args, log=f"{self.dir}/worker.log")
        self.addCleanup(worker.__exit__)
        return worker.start()

    def start(self, *args):
        process = subprocess.Popen(command(self.url, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def test_who_sends_gets_the_reply(self):
        self.worker()
        done = celeriac(self.url, "call", "math.add", "-a", "[2, 3]", "--wait", "30", check=0)
        self.assertEqual(done.stdout.strip(), "5")
        failed = celeriac(self.url, "call", "fail", "-a", '["boom", "KeyError"]', "--wait", "30", check=1)
        self.assertIn("KeyError", failed.stderr)

    def test_another_process_finds_it_with_the_worker_alive_and_gone(self):
        worker = self.worker()
        task_id = call(self.url, "math.add", 4, 3)
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 7)
        self.assertEqual(result(self.url, task_id)["result"], 7)
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        self.assertEqual(result(self.url, task_id)["result"], 7)
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 7)
        self.assertEqual(celeriac(self.url, "result", "nobody-sent-this", check=NOT_FOUND).returncode, NOT_FOUND)

    def test_ids_of_any_form(self):
        self.worker()
        ids = ["order-4711", "919108f7-52d1-4320-9bac-f847db4148a8", "C232AB00-9414-11EC-B3C8-9F6BDECED846"]
        for i, task_id in enumerate(ids):
            call(self.url, "math.add", i, 1, id=task_id)
        for i, task_id in enumerate(ids):
            # A version 1 id of 2022: its job ran now, so the search begins long before.
            self.assertEqual(result(self.url, task_id, wait_s=30)["result"], i + 1)

    def test_many_ids_are_one_reading(self):
        self.worker()
        ids = call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(300)])
        done = celeriac(self.url, "result", "-", "--wait", "60", "-o", "json", stdin="\n".join(ids), check=0)
        self.assertEqual([json.loads(line)["result"] for line in done.stdout.splitlines()], list(range(1, 301)))
        done = celeriac(self.url, "result", "-", "-o", "json", stdin="\n".join(ids), check=0)
        self.assertEqual([json.loads(line)["result"] for line in done.stdout.splitlines()], list(range(1, 301)))

    def test_two_wait_for_one_job(self):
        task_id = "waited-for"
        waiting = [self.start("result", task_id, "--wait", "60", "-o", "json") for _ in range(2)]
        self.worker("--track-started")
        call(self.url, "math.add", 1, 1, id=task_id)
        for process in waiting:
            text, _ = process.communicate(timeout=DEADLINE_S)
            self.assertEqual(json.loads(text)["result"], 2)

    def test_states_on_the_way_are_seen(self):
        self.worker("--track-started")
        task_id = call(self.url, "sleep", 60)
        doc = wait_until(lambda: (lambda d: d["status"] == "STARTED" and d)(result(self.url, task_id)), "the job to run")
        self.assertIn("pid", doc["result"])

    def ctl(self, *args):
        fresh = os.environ.get("CELERIAC_TEST_AMQP_FRESH")
        if not fresh:
            self.skipTest("no rabbitmqctl: run below tests/support/with_rabbitmq.py")
        return subprocess.run([*shlex.split(fresh)[:-1], "--ctl", *args], capture_output=True, text=True, check=True).stdout

    @property
    def vhost(self):
        return self.url.rpartition("/")[2]

    def reply_queue_has_consumer(self):
        rows = (line.split() for line in self.ctl("list_queues", "-p", self.vhost, "name", "consumers").splitlines())
        return any(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name) and n == "1" for name, n in rows)

    def test_a_waiter_over_a_lost_connection(self):
        """The server cuts the waiter's connections: its queue is gone, and replies with it. It reads what it missed."""
        waiters = [self.start("call", "math.add", "-a", f"[{i}, 1]", "--wait", "60") for i in range(2)]
        waiters.append(self.start("result", "other", "--wait", "60", "-o", "json"))
        wait_until(self.reply_queue_has_consumer, "the reply queue")
        self.ctl("close_all_connections", "-p", self.vhost, "a test")
        self.worker()
        call(self.url, "math.add", 40, 2, id="other")
        for waiter, expected in zip(waiters, ("1", "2", None)):
            text, error = waiter.communicate(timeout=DEADLINE_S)
            self.assertEqual(waiter.returncode, 0, error)
            self.assertEqual(text.strip() if expected else json.loads(text)["result"], expected or 42)

    def test_who_may_not_have_a_queue_of_his_own_reads_the_stream(self):
        user = "u" + self.vhost
        self.ctl("add_user", user, "secret")
        self.addCleanup(self.ctl, "delete_user", user)
        self.ctl("set_permissions", "-p", self.vhost, user, "^celer", ".*", ".*")
        self.worker()
        call(self.url, "math.add", 0, 0)  # the queue is there
        limited = re.sub("//[^@]*@", f"//{user}:secret@", self.url)
        done = celeriac(limited, "call", "math.add", "-a", "[2, 3]", "--wait", "30", check=0)
        self.assertEqual(done.stdout.strip(), "5")


if __name__ == "__main__":
    unittest.main(verbosity=2)
