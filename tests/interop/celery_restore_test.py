#!/usr/bin/python3
"""Celery workers and ours on one queue: deaths on either side, and a mixed fleet. usage: celery_restore_test.py [unittest arguments]"""
import collections
import json
import threading
import time
import unittest

from celery_case import CeleryCase  # first: it skips the program where Celery is missing

from harness import call, call_many, result, totals, wait_until


class Publications:
    """Counts what is published as a final result, by task id: a job recorded twice is published twice."""

    def __init__(self, case):
        self.final = collections.Counter()
        self.pubsub = case.redis.pubsub(ignore_subscribe_messages=True)
        self.pubsub.psubscribe("celery-task-meta-*")
        self.thread = threading.Thread(target=self.listen)
        self.running = True
        self.thread.start()
        case.addCleanup(self.stop)

    def listen(self):
        while self.running:
            message = self.pubsub.get_message(timeout=0.1)
            if message:
                document = json.loads(message["data"])
                if document["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
                    self.final[document["task_id"]] += 1

    def stop(self):
        if self.running:
            self.running = False
            self.thread.join()
            self.pubsub.close()


class Restore(CeleryCase):
    def score(self):
        return self.redis.zrange("unacked_index", 0, -1, withscores=True)[0][1]

    def test_celery_runs_what_we_left(self):
        """Supervisor, dispatcher and runner die at once; a Celery worker takes the job after its own timeout."""
        final = Publications(self)
        worker = self.worker()
        task_id = call(self.url, "fail", "x", "y", "hang")
        wait_until(lambda: self.leases() == 1, "our delivery")
        self.kill_at_once(worker)
        self.assertEqual(self.leases(), 1)
        wait_until(lambda: time.time() > self.score() + 1.5, "the visibility timeout")
        self.peer(visibility_s=1)
        document = result(self.url, task_id, wait_s=30)
        self.assertEqual((document["status"], document["result"]), ("SUCCESS", {"ran": "celery", "redelivered": True}))
        self.wait_for_acknowledgements()
        self.assertEqual(final.final, {task_id: 1})

    def test_we_run_what_celery_left(self):
        """A Celery worker that acknowledges late dies with its child; ours takes the job after visibility_timeout."""
        final = Publications(self)
        peer = self.peer()
        task_id = call(self.url, "math.tsum", [40, 2])
        wait_until(lambda: self.leases() == 1, "Celery's delivery")
        field = self.redis.hkeys("unacked")[0]
        peer.kill()
        worker = self.worker("-l", "debug", url=self.url + "&visibility_timeout=1")
        document = result(self.url, task_id, wait_s=30)
        self.assertEqual((document["status"], document["result"]), ("SUCCESS", 42))
        self.wait_for_acknowledgements()
        self.assertIn("lease restored", worker.log())
        self.assertIn(field.decode(), worker.log())
        t = totals(self.url)
        self.assertEqual((t["succeeded"], t["dead"], t["leased"], t["waiting"]), (1, 0, 0, 0))
        self.assertEqual(final.final, {task_id: 1})

    def test_flag_of_what_we_restore(self):
        """It stands in both places where kombu puts it."""
        peer = self.peer()
        call(self.url, "math.tsum", [40, 2])
        wait_until(lambda: self.leases() == 1, "Celery's delivery")
        peer.kill()
        # The restore without a consumer of the queue: our worker serves another one.
        self.worker("-Q", "other", url=self.url + "&visibility_timeout=1")
        wait_until(lambda: self.redis.llen("celery") == 1, "the restore")
        envelope = json.loads(self.redis.lindex("celery", 0))
        self.assertIs(envelope["headers"]["redelivered"], True)
        self.assertIs(envelope["properties"]["delivery_info"]["redelivered"], True)
        self.assertEqual(self.leases(), 0)

    def test_warm_stop_of_celery_hands_over(self):
        """What a stopping Celery worker gives back is ours at once, no timeout needed."""
        peer = self.peer()
        blocker = call(self.url, "sleep", 4)
        rest = [call(self.url, "math.add", n, n) for n in range(5)]
        # What Redis has popped for a Celery worker that stops before it recorded the delivery is lost.
        wait_until(lambda: self.leases() == 6, "Celery's deliveries")
        peer.stop()
        self.worker()
        self.assertEqual([result(self.url, task_id, wait_s=90)["result"] for task_id in [blocker, *rest]], [4, 0, 2, 4, 6, 8])
        self.wait_for_acknowledgements()

    def test_renewed_lease_is_not_restored(self):
        """A job of ours runs longer than a Python peer's timeout while that peer scans all the time."""
        final = Publications(self)
        self.worker("--lease", "3")
        task_id = call(self.url, "sleep", 7)
        wait_until(lambda: self.leases() == 1, "our delivery")
        field, begun = self.redis.hkeys("unacked"), self.score()
        app = self.client(visibility_timeout_s=3.0)
        with app.connection_for_read() as connection:
            qos = connection.default_channel.qos
            while time.time() < begun + 4:
                qos.restore_visible(num=None)
                self.assertEqual(self.redis.hkeys("unacked"), field)
                self.assertEqual(self.redis.llen("celery"), 0)
                time.sleep(0.1)
            self.assertGreater(self.score(), begun)
            # The scan of a real worker at its start. CPU-starved or not, the lease is younger than 3 s.
            peer = self.peer(visibility_s=3)
            self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 7)
        self.wait_for_acknowledgements()
        self.assertNotIn(task_id, peer.log())
        self.assertEqual(final.final, {task_id: 1})

    def test_peer_would_restore_a_lease_that_is_not_renewed(self):
        """The scan of the test before does take what nobody renews."""
        worker = self.worker("--lease", "30")
        call(self.url, "sleep", 600)
        wait_until(lambda: self.leases() == 1, "our delivery")
        self.kill_at_once(worker)
        wait_until(lambda: time.time() > self.score() + 1.2, "the visibility timeout")
        app = self.client(visibility_timeout_s=1.0)
        with app.connection_for_read() as connection:
            connection.default_channel.qos.restore_visible(num=None)
        self.assertEqual((self.leases(), self.redis.llen("celery")), (0, 1))

    def test_mixed_fleet(self):
        """200 jobs from both kinds of client, on one queue served by both kinds of worker."""
        final = Publications(self)
        app = self.client()
        self.peer("--prefetch-multiplier", "4")
        self.worker()
        # Slow ones in between: whoever is faster, the other has its turn.
        slow = call_many(self.url, [{"task": "sleep", "args": [0.2]} for n in range(10)])
        ids = call_many(self.url, [{"task": "math.add", "args": [n, n]} for n in range(100)])
        ids += [app.send_task("math.add", (n, n)).id for n in range(100, 190)]
        done = {task_id: result(self.url, task_id, wait_s=60) for task_id in ids + slow}
        self.wait_for_acknowledgements()
        self.assertEqual([done[task_id]["result"] for task_id in ids], [2 * n for n in range(190)])
        wait_until(lambda: len(final.final) == 200, "the publications")
        self.assertEqual(set(final.final.values()), {1})
        ours = sum("celeriac" in document for document in done.values())
        self.assertTrue(0 < ours < 200, ours)
        self.assertEqual(totals(self.url)["succeeded"], ours)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
