#!/usr/bin/python3
"""Jobs that last longer than a RabbitMQ with a short consumer_timeout lets a delivery be unacknowledged.

The server looks for such deliveries twice a second instead of once a minute, so that seconds are enough.

usage: amqp_long_test.py [unittest arguments]
"""
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import SCALE, Worker, call, result, totals, unaccounted, valgrind_findings, wait_until  # noqa: E402
from rabbitmq import RabbitMQ  # noqa: E402

LIMIT_S = 4 * SCALE
EARLY = "acknowledged early"
SERVER = None


def setUpModule():
    global SERVER, DIRECTORY
    DIRECTORY = tempfile.mkdtemp(prefix="celeriac-test-")
    SERVER = RabbitMQ(DIRECTORY, consumer_timeout_ms=LIMIT_S * 1000).start()


def tearDownModule():
    SERVER.stop()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    assert not valgrind_findings(), valgrind_findings()


class Long(unittest.TestCase):
    def setUp(self):
        self.url = f"{SERVER.fresh_url()}?consumer_timeout={LIMIT_S}"
        self.dir = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def worker(self, name="a", *args, url=None):
        worker = Worker(url or self.url, *(args or ("-c", "1")), log=f"{self.dir}/{name}.log")
        self.addCleanup(worker.__exit__)
        return worker.start()

    def early(self, worker, times=1):
        wait_until(lambda: worker.log().count(EARLY) >= times, "an early acknowledgement")

    def assert_ended_once(self, jobs):
        """Nothing is left, not even copies, and each job was recorded once."""
        wait_until(lambda: unaccounted(totals(self.url)) == 0 and totals(self.url)["delayed"] == 0 and totals(self.url)["waiting"] == 0,
                   "the copies to come back")
        t = totals(self.url)
        self.assertEqual((t["succeeded"], t["failed"], t["dead"], t["duplicates"], t["leased"]), (jobs, 0, 0, 0, 0), t)

    def test_a_long_job_ends_once(self):
        worker = self.worker()
        job = call(self.url, "sleep", 3 * LIMIT_S)
        self.early(worker)
        t = totals(self.url)
        self.assertEqual((t["leased"], t["delayed"]), (1, 0), t)
        self.assertEqual(result(self.url, job, wait_s=60)["status"], "SUCCESS")
        self.assert_ended_once(1)
        log = worker.log()
        self.assertEqual(log.count(EARLY), 1, log)
        self.assertIn(job, log)
        self.assertNotIn("took its deliveries back", log)
        # It works as before.
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=30)["result"], 3)

    def test_another_worker_leaves_the_copy_alone(self):
        first = self.worker("a")
        job = call(self.url, "sleep", 3 * LIMIT_S)
        wait_until(lambda: totals(self.url)["leased"] == 1, "the job to begin")
        second = self.worker("b", "-c", "4")
        self.early(first)
        self.assertEqual(result(self.url, job, wait_s=60)["status"], "SUCCESS")
        self.assert_ended_once(1)
        self.assertNotIn(EARLY, second.log())

    def test_what_waits_here_is_no_longer_waiting_there(self):
        self.worker("a", "-c", "2")
        jobs = [call(self.url, "sleep", LIMIT_S) for _ in range(6)]
        for job in jobs:
            self.assertEqual(result(self.url, job, wait_s=90)["status"], "SUCCESS")
        self.assert_ended_once(6)

    def test_it_survives_its_dispatcher(self):
        worker = self.worker()
        job = call(self.url, "sleep", 2 * LIMIT_S)
        self.early(worker)
        os.kill(worker.dispatcher(), signal.SIGKILL)
        self.assertEqual(result(self.url, job, wait_s=90)["status"], "SUCCESS")
        self.assert_ended_once(1)

    def test_it_survives_its_worker(self):
        first = self.worker("a")
        job = call(self.url, "sleep", 2 * LIMIT_S)
        self.early(first)
        second = self.worker("b")
        first.process.kill()
        first.process.wait()
        self.assertEqual(result(self.url, job, wait_s=90)["status"], "SUCCESS")
        self.assert_ended_once(1)
        self.assertIn(job, second.log())

    def test_one_that_is_handed_back_runs_elsewhere_once(self):
        first = self.worker("a")
        job = call(self.url, "sleep", LIMIT_S)
        self.early(first)
        first.stop(signal.SIGQUIT)
        self.worker("b")
        self.assertEqual(result(self.url, job, wait_s=90)["status"], "SUCCESS")
        time.sleep(LIMIT_S)  # the copy of the first run is back by now
        self.assert_ended_once(1)

    def test_a_limit_that_nobody_told_is_learnt(self):
        url = self.url.partition("?")[0]
        worker = self.worker(url=url)
        job = call(url, "sleep", 2 * LIMIT_S)
        wait_until(lambda: "took its deliveries back" in worker.log(), "the server to close the channel")
        self.assertIn("?consumer_timeout=SECONDS", worker.log())
        self.assertEqual(result(url, job, wait_s=90)["status"], "SUCCESS")
        self.assertEqual(worker.log().count("took its deliveries back"), 1, worker.log())
        self.assert_ended_once(1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
