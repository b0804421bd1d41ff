#!/usr/bin/python3
"""Bodies of many frames over RabbitMQ, and those that are too long for a job.

usage: amqp_large_test.py [unittest arguments]
"""
import json
import pathlib
import sys
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from amqp_raw import CONFIRMED, Raw  # noqa: E402
from harness import Worker, broker, call, celeriac, result, totals, wait_until  # noqa: E402
from rabbitmq import major  # noqa: E402

MIB = 1 << 20
MODULE = pathlib.Path.cwd() / "tests/support/modules/probe.so"


class Large(unittest.TestCase):
    def setUp(self):
        context = broker("amqp")
        self.url, self.dir = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def worker(self):
        worker = Worker(self.url, "-A", str(MODULE), "-c", "1", log=f"{self.dir}/worker.log")
        self.addCleanup(worker.__exit__)
        return worker.start()

    def test_a_body_of_many_frames(self):
        self.worker()
        for size in (131064, 131072, 3 * MIB):
            line = json.dumps({"task": "probe.inspect", "args": ["x" * size]}) + "\n"
            job = celeriac(self.url, "call", "-", stdin=line, check=0).stdout.strip()
            self.assertTrue(result(self.url, job, wait_s=60)["result"]["args"] == ["x" * size], size)

    def test_more_than_a_job_may_have(self):
        line = json.dumps({"task": "probe.inspect", "args": ["x" * (64 * MIB)]}) + "\n"
        done = celeriac(self.url, "call", "-", stdin=line)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, f"need [0-9]+ bytes, the limit is {64 * MIB}")
        self.assertEqual(totals(self.url)["waiting"], 0)

    @unittest.skipIf(major() > 3, "RabbitMQ 4 takes no message of more than 16 MiB")
    def test_more_than_a_job_may_have_from_others(self):
        url = urllib.parse.urlsplit(self.url)
        other = Raw(url.port, url.path[1:])
        call(self.url, "math.add", 1, 2)
        self.assertEqual(other.publish("celery", b"", b"x" * (80 * MIB)), CONFIRMED)
        other.sock.close()
        worker = self.worker()
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=240)["result"], 3)
        wait_until(lambda: totals(self.url)["dead"] == 1, "it to be buried")
        dead, = json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)
        self.assertIn("too large", dead["cause"])
        t = totals(self.url)
        self.assertEqual((t["succeeded"], t["waiting"], t["leased"]), (2, 0, 0), t)
        self.assertEqual(worker.log().count("broker lost"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
