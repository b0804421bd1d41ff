#!/usr/bin/python3
"""Jobs with a dedup key and the real worker. usage: dedup_test.py sqlite|redis|amqp [unittest arguments]

The tasks of the module keyed append a line to a file for each run, so that effects can be counted.
"""
import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from frozen import freeze  # noqa: E402
from harness import SCALE, Worker, broker, call, call_many, celeriac, result, totals, unaccounted, valgrind_findings, wait_until  # noqa: E402

KIND = "sqlite"
MODULE = pathlib.Path.cwd() / "tests/support/modules/keyed.so"


def tearDownModule():
    assert not valgrind_findings(), valgrind_findings()


class DedupTest(unittest.TestCase):
    def setUp(self):
        context = broker(KIND)
        self.url, self.dir = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.file = pathlib.Path(self.dir, "lines")

    def worker(self, *args, **options):
        worker = Worker(self.url, "-A", str(MODULE), "--track-started", *args, log=f"{self.dir}/worker.log", **options)
        self.addCleanup(worker.__exit__)
        return worker.start()

    def work(self, *args, task="keyed.work", **options):
        return call(self.url, task, str(self.file), *args, **options)

    def done(self, task_id, status="SUCCESS"):
        doc = result(self.url, task_id, wait_s=60)
        self.assertEqual(doc["status"], status, doc)
        return doc

    def started(self):
        """Waits for the first run; its process. The file tells at once: asking for the state takes longer than some jobs."""
        wait_until(self.runs, "the job to run")
        return int(pathlib.Path(f"{self.file}.pid").read_text())

    def runs(self):
        return self.file.read_text().split() if self.file.exists() else []

    def end(self, **wanted):
        t = wait_until(lambda: (lambda t: t["leased"] == 0 and t)(totals(self.url)), "the last lease to end")
        self.assertEqual(unaccounted(t), 0, t)
        self.assertEqual({name: t[name] for name in wanted}, wanted)

    # -- what a key does --

    def test_duplicates_wait_for_the_first_and_get_its_result(self):
        self.worker("-c", "3")
        first = self.work("a", 8 * SCALE, dedup="k", window=60 * SCALE)
        self.started()
        others = [self.work("a", 1, dedup="k", window=60 * SCALE) for _ in range(3)]
        wait_until(lambda: totals(self.url)["delayed"] == 3, "all three to wait in the broker")
        for task_id in others:
            doc = self.done(task_id)
            self.assertEqual(doc["result"], "a")
            self.assertEqual(doc["task_id"], task_id)
            self.assertEqual(doc["celeriac"], {"duplicate_of": first})
        self.assertEqual(self.runs(), ["a"])
        self.end(published=4, succeeded=4, duplicates=3, delayed=0)

    def test_the_fence_grows_over_the_runs_of_a_key(self):
        fences = []
        for name in ("old", "young"):
            self.worker("-A", str(MODULE.with_name("probe.so")), "-c", "1", "-n", f"{name}@here", "-Q", name)
        for name in ("young", "old"):  # the process that began first has the later run
            job = call(self.url, "probe.inspect", 1, dedup="k", window=0.1, queue=name)
            fences.append(self.done(job)["result"]["fence"])
            time.sleep(0.2)
        self.assertLess(fences[0], fences[1])
        if KIND == "amqp":  # an offset of the ledger
            self.assertLess(fences[1], 1000)

    def test_other_keys_run(self):
        self.worker("-c", "2")
        ids = [self.work("a", dedup=f"k{n}") for n in range(3)] + [self.work("a")]
        for task_id in ids:
            self.assertNotIn("duplicate_of", self.done(task_id)["celeriac"])
        self.assertEqual(len(self.runs()), 4)

    def test_a_window_ends(self):
        self.worker("-c", "1")
        first = self.work("a", dedup="k", window=0.5)
        self.done(first)
        time.sleep(0.6)
        self.assertNotIn("duplicate_of", self.done(self.work("a", dedup="k", window=0.5))["celeriac"])
        self.assertEqual(len(self.runs()), 2)

    def test_without_a_stored_result_a_duplicate_gets_null(self):
        self.worker("-c", "1")
        words = ["call", "keyed.work", "-a", json.dumps([str(self.file), "a"]), "--dedup", "k", "--ignore-result"]
        first = celeriac(self.url, *words, check=0).stdout.strip()
        doc = self.done(self.work("a", dedup="k"))
        self.assertIsNone(doc["result"])
        self.assertEqual(doc["celeriac"], {"duplicate_of": first})
        self.assertEqual(self.runs(), ["a"])

    def test_the_key_of_a_row_counts_however_arguments_are_given(self):
        self.worker("-c", "1")
        first = self.work("a", task="keyed.once")
        self.done(first)
        again = call(self.url, "keyed.once", kwargs={"word": "a", "path": str(self.file), "seconds": 0})
        other = self.work("b", task="keyed.once")
        self.assertEqual(self.done(again)["celeriac"], {"duplicate_of": first})
        self.done(other)
        self.assertEqual(sorted(self.runs()), ["a", "b"])
        self.end(succeeded=3, duplicates=1)

    def test_the_headers_key_goes_before_the_rows(self):
        self.worker("-c", "1")
        ids = [self.work("a", task="keyed.once", dedup=f"own {n}") for n in range(2)]
        for task_id in ids:
            self.assertNotIn("duplicate_of", self.done(task_id)["celeriac"])
        self.end(duplicates=0)

    def test_lines_of_call_take_keys(self):
        self.worker("-c", "2")
        ids = call_many(self.url, [{"task": "keyed.work", "args": [str(self.file), "a"], "dedup": f"k{n % 10}", "window": 60}
                                   for n in range(200)])
        docs = [self.done(task_id) for task_id in ids]
        self.assertEqual(sum("duplicate_of" not in doc["celeriac"] for doc in docs), 10)
        self.assertEqual(len(self.runs()), 10)
        self.end(published=200, succeeded=200, duplicates=190)

    def test_a_wrong_header_is_a_dead_letter(self):
        self.worker("-c", "1")
        for value, reason in (("text", "wrong type"), ({"key": 5}, "must be a text"), ({"key": "k", "window": -1}, "above 0")):
            task_id = call(self.url, "keyed.work", str(self.file), "a", headers=json.dumps({"celeriac_dedup": value}))
            doc = self.done(task_id, "FAILURE")
            self.assertEqual(doc["result"]["exc_type"], "DecodeError")
            self.assertIn("celeriac_dedup", doc["result"]["exc_message"][0])
            self.assertIn(reason, doc["result"]["exc_message"][0])
        self.assertEqual(self.runs(), [])
        self.end(dead=3)

    # -- a first that does not succeed --

    def test_a_failed_first_lets_the_next_run(self):
        self.worker("-c", "2")
        first = self.work("a", 1, 0.5 * SCALE, task="keyed.flaky", dedup="k")
        self.started()
        others = [self.work("a", 1, 0, task="keyed.flaky", dedup="k") for _ in range(2)]
        self.done(first, "FAILURE")
        docs = [self.done(task_id) for task_id in others]
        ran = [doc["task_id"] for doc in docs if "duplicate_of" not in doc["celeriac"]]
        self.assertEqual(len(ran), 1)
        self.assertEqual([doc["celeriac"]["duplicate_of"] for doc in docs if doc["task_id"] != ran[0]], ran)
        self.assertEqual(self.runs(), ["a", "a"])
        self.end(succeeded=2, failed=1, duplicates=1)

    def test_a_first_over_its_time_limit_lets_the_next_run(self):
        self.worker("-c", "2")
        first = self.work("a", 60, dedup="k", time_limit=0.7)
        self.started()
        second = self.work("a", 0, dedup="k")
        self.done(first, "FAILURE")
        self.assertNotIn("duplicate_of", self.done(second)["celeriac"])
        self.end(succeeded=1, failed=1, duplicates=0)

    def test_a_retry_keeps_the_key(self):
        self.worker("-c", "2")
        first = self.work("a", 1.5 * SCALE, task="keyed.again", dedup="k")
        wait_until(lambda: len(self.runs()) == 1, "the first attempt")
        second = self.work("a", 0, task="keyed.again", dedup="k")
        self.assertNotIn("duplicate_of", self.done(first)["celeriac"])
        self.assertEqual(self.done(second)["celeriac"], {"duplicate_of": first})
        self.assertEqual(self.runs(), ["a", "a"])
        self.end(succeeded=2, retried=1, duplicates=1)

    # -- deaths --

    def assert_one_counts(self, ids):
        docs = [self.done(task_id) for task_id in ids]
        ran = [doc["task_id"] for doc in docs if "duplicate_of" not in doc["celeriac"]]
        self.assertEqual(len(ran), 1, docs)
        self.assertEqual({doc["celeriac"]["duplicate_of"] for doc in docs if doc["task_id"] != ran[0]}, set(ran))
        self.end(published=len(ids), succeeded=len(ids), duplicates=len(ids) - 1)

    def test_a_killed_runner(self):
        self.worker("-c", "2")
        ids = [self.work("a", 2 * SCALE, dedup="k")]
        victim = self.started()
        ids += [self.work("a", 0.1, dedup="k") for _ in range(2)]
        os.kill(victim, signal.SIGKILL)
        self.assert_one_counts(ids)
        self.assertEqual(len(self.runs()), 2)

    def test_a_killed_dispatcher(self):
        w = self.worker("-c", "2")
        ids = [self.work("a", 2 * SCALE, dedup="k")]
        self.started()
        ids += [self.work("a", 0.1, dedup="k") for _ in range(2)]
        os.kill(w.dispatcher(), signal.SIGKILL)
        self.assert_one_counts(ids)

    def test_another_worker_takes_over_from_one_that_is_gone(self):
        gone = self.worker("-c", "1", "-n", "gone@here", "--lease", "2")
        ids = [self.work("a", 6 * SCALE, dedup="k")]
        self.started()
        family = [gone.process.pid, gone.dispatcher(), *gone.runners()]
        for pid in family:  # the supervisor first, so that nobody hands anything back
            freeze(pid)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):  # a child may go with its parent
                os.kill(pid, signal.SIGKILL)
        gone.process.wait()
        self.worker("-c", "2", "-n", "next@here", "--lease", "2")
        ids += [self.work("b", 0, dedup="k") for _ in range(2)]
        self.assert_one_counts(ids)

    def test_a_key_forbids_the_early_acknowledgement(self):
        self.worker("-c", "1")
        task_id = self.work("a", 1 * SCALE, task="keyed.early", dedup="k")
        os.kill(self.started(), signal.SIGKILL)
        self.done(task_id)
        self.assertEqual(self.runs(), ["a", "a"])
        self.end(succeeded=1)

    def test_what_was_acknowledged_early_runs_once_at_most(self):
        short, long = {"task": "keyed.early", "args": [str(self.file), "a"]}, {"task": "keyed.early", "args": [str(self.file), "b", 600]}
        ids = call_many(self.url, [short] * 200 + [long] + [short] * 20)
        self.worker("-c", "1")
        wait_until(lambda: "b" in self.runs(), "the long job to run")
        os.kill(self.started(), signal.SIGKILL)
        self.assertEqual([self.done(i, "SUCCESS" if i != ids[200] else "FAILURE")["task_id"] for i in ids], ids)
        self.assertEqual(self.runs(), ["a"] * 200 + ["b"] + ["a"] * 20)

    def test_an_early_acknowledgement_without_a_result_stores_none(self):
        self.worker("-c", "1")
        words = ["call", "keyed.early", "-a", json.dumps([str(self.file), "a"]), "--ignore-result"]
        task_id = celeriac(self.url, *words, check=0).stdout.strip()
        self.done(self.work("b", 0, task="keyed.early"))  # behind it in the one runner
        self.assertEqual(self.runs(), ["a", "b"])
        self.assertEqual(result(self.url, task_id), {"status": "PENDING", "result": None, "task_id": task_id})
        self.end(succeeded=2)

    def test_a_warm_stop_hands_back_what_waits(self):
        w = self.worker("-c", "1")
        first = self.work("a", 1, dedup="k")
        self.started()
        for _ in range(3):
            self.work("a", 0, dedup="k")
        self.assertEqual(w.stop(signal.SIGTERM), 0)
        t = totals(self.url)
        self.assertEqual((t["succeeded"] + t["waiting"] + t["delayed"], t["leased"], unaccounted(t)), (4, 0, 0), t)
        self.worker("-c", "1")
        wait_until(lambda: totals(self.url)["succeeded"] == 4, "the duplicates")
        self.assertEqual(self.runs(), ["a"])
        self.end(succeeded=4, duplicates=3)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("sqlite", "redis", "amqp"):
        KIND = sys.argv.pop(1)
    unittest.main()
