#!/usr/bin/python3
"""The real worker's processes: roles, signals, limits, deaths. usage: worker_test.py sqlite|redis|amqp [unittest arguments]"""
import collections
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from frozen import freeze, frozen  # noqa: E402
from harness import (SCALE, VALGRIND, Worker, broker, call, call_many, celeriac, process_tree, result, totals,  # noqa: E402
                     unaccounted, valgrind_findings, wait_until)

KIND = "sqlite"


def tearDownModule():
    assert not valgrind_findings(), valgrind_findings()


class WorkerTest(unittest.TestCase):
    def setUp(self):
        context = broker(KIND)
        self.url, self.dir = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def worker(self, *args, started=True, **options):
        worker = Worker(self.url, *["--track-started"][:started], *args, log=f"{self.dir}/worker.log", **options)
        self.addCleanup(worker.__exit__)
        return worker.start()

    def started(self, task_id):
        """Waits until the task runs and returns the pid of its runner."""
        doc = wait_until(lambda: (lambda d: d["status"] == "STARTED" and d)(result(self.url, task_id)), "the job to run")
        return doc["result"]["pid"]

    def assert_accounted(self):
        t = totals(self.url)
        self.assertEqual(unaccounted(t), 0, t)
        return t

    # -- the main thread --

    def test_a_job_goes_round(self):
        self.worker("-c", "2")
        doc = result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)
        self.assertEqual((doc["status"], doc["result"]), ("SUCCESS", 5))
        self.assertEqual(list(doc)[:5], ["status", "result", "traceback", "children", "date_done"])
        self.assertEqual(list(doc)[-1], "task_id")

    def test_many_short_jobs_are_each_recorded_once(self):
        self.worker("-c", "2")
        ids = call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(500)])
        self.assertEqual(len(set(ids)), 500)
        for i, task_id in ((0, ids[0]), (250, ids[250]), (499, ids[499])):
            self.assertEqual(result(self.url, task_id, wait_s=30)["result"], i + 1)
        wait_until(lambda: totals(self.url)["succeeded"] == 500, "500 results")
        self.assertEqual(self.assert_accounted()["published"], 500)

    @unittest.skipIf(VALGRIND, "valgrind has a title and descriptors of its own")
    def test_roles_have_titles_groups_and_few_descriptors(self):
        w = self.worker("-c", "2", "-n", "titled@here")
        wait_until(lambda: len(w.runners()) == 2, "two runners")
        self.started(call(self.url, "sleep", 60))
        self.assertEqual(len([p for p in w.runners() if " sleep(" in w.title(p)]), 1)
        for pid in w.runners():
            self.assertIn("[titled@here]", w.title(pid))
            self.assertEqual(os.getpgid(pid), pid)
            # 0, 1, 2, the job channel and the link, nothing else
            fds = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
            self.assertLessEqual(len(os.listdir(f"/proc/{pid}/fd")), 5, fds)
        self.assertEqual(pathlib.Path(f"/proc/{w.dispatcher()}/task").is_dir(), True)
        for pid in [w.dispatcher(), *w.runners()]:
            self.assertEqual(len(os.listdir(f"/proc/{pid}/task")), 1)

    # -- stopping --

    def test_warm_stop_finishes_what_runs_and_hands_back_the_rest(self):
        w = self.worker("-c", "1")
        running = call(self.url, "sleep", 1.0 * SCALE)
        self.started(running)
        waiting = [call(self.url, "sleep", 0.01) for _ in range(5)]
        self.assertEqual(w.stop(signal.SIGTERM), 0)
        self.assertEqual(result(self.url, running)["status"], "SUCCESS")
        t = self.assert_accounted()
        self.assertEqual(t["leased"], 0)
        self.assertEqual(t["waiting"] + t["succeeded"], 1 + len(waiting))

    def test_warm_stop_leaves_a_backlog_that_is_still_arriving(self):
        call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(10000)])
        w = self.worker("-c", "2")
        wait_until(lambda: totals(self.url)["succeeded"] > 0, "the first job")
        self.assertEqual(w.stop(signal.SIGTERM), 0)
        self.assertEqual(self.assert_accounted()["leased"], 0)

    def test_warm_stop_hands_back_what_a_dying_runner_had(self):
        w = self.worker("-c", "1")
        short = call_many(self.url, [{"task": "sleep", "args": [0]} for _ in range(300)])
        result(self.url, short[-1], wait_s=30)
        batch = call_many(self.url, [{"task": "sleep", "args": [seconds]} for seconds in [60] + [0] * 20])
        runner = self.started(batch[0])
        w.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "warm stop" in w.log(), "the warm stop")
        os.kill(runner, signal.SIGKILL)
        self.assertEqual(w.stop(), 0)
        t = self.assert_accounted()
        self.assertEqual((t["succeeded"], t["leased"]), (300, 0))

    def test_cold_stop_hands_back_what_runs(self):
        w = self.worker("-c", "1")
        self.started(call(self.url, "sleep", 60))
        started = time.monotonic()
        self.assertEqual(w.stop(signal.SIGQUIT), 0)
        self.assertLess(time.monotonic() - started, 30 * SCALE)
        t = self.assert_accounted()
        self.assertEqual((t["waiting"], t["leased"]), (1, 0))

    def test_second_term_is_a_cold_stop(self):
        w = self.worker("-c", "1")
        self.started(call(self.url, "sleep", 60))
        w.process.send_signal(signal.SIGINT)
        wait_until(lambda: "warm stop" in w.log(), "the warm stop")
        self.assertEqual(w.stop(signal.SIGINT), 0)
        self.assertEqual(self.assert_accounted()["waiting"], 1)

    def test_everybody_leaves_when_the_supervisor_dies(self):
        w = self.worker("-c", "2")
        self.started(call(self.url, "sleep", 60))
        family = list(process_tree(w.process.pid))
        w.process.kill()
        w.process.wait()
        wait_until(lambda: not any(pathlib.Path(f"/proc/{p}").exists() for p in family), "all processes to leave")
        wait_until(lambda: totals(self.url)["waiting"] == 1, "the job to be handed back")

    # -- deaths --

    def test_a_killed_runner_is_replaced_and_its_job_runs_again(self):
        w = self.worker("-c", "1")
        task_id = call(self.url, "sleep", 2 * SCALE)
        victim = self.started(task_id)
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(result(self.url, task_id, wait_s=40)["status"], "SUCCESS")
        self.assertNotIn(victim, w.runners())
        self.assertEqual(self.assert_accounted()["succeeded"], 1)

    def test_a_killed_dispatcher_comes_back_and_takes_its_jobs_over(self):
        w = self.worker("-c", "2", "--lease", "60")
        task_id = call(self.url, "sleep", 1 * SCALE)
        self.started(task_id)
        first = w.dispatcher()
        os.kill(first, signal.SIGKILL)
        # Long before the lease of 60 s has lapsed.
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        self.assertNotEqual(w.dispatcher(), first)
        self.assertEqual(self.assert_accounted()["succeeded"], 1)

    def test_a_hanging_dispatcher_is_replaced(self):
        w = self.worker("-c", "1")
        hung = w.dispatcher()
        freeze(hung)
        wait_until(lambda: w.dispatcher() not in (hung, None), "another dispatcher")
        self.assertIn("dispatcher hangs", w.log())
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)["result"], 2)

    def test_a_dispatcher_that_is_slow_for_a_while_stays(self):
        """A message of 80 MB on a busy machine took six seconds, and the next dispatcher began it anew."""
        w = self.worker("-c", "1")
        slow = w.dispatcher()
        with frozen(slow):
            time.sleep(6)
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)["result"], 2)
        self.assertEqual(w.dispatcher(), slow)
        self.assertNotIn("dispatcher hangs", w.log())

    def test_a_time_limit_blames_the_job_that_ran(self):
        """Short jobs tell their ends together: one that had ended was taken for the one that then took long."""
        lines = [{"task": "sleep", "args": [0 if i != 200 else 600]} for i in range(220)]
        ids = call_many(self.url, lines)
        self.worker("-c", "1", "--time-limit", "1", started=False)
        failed = [i for i, task_id in enumerate(ids) if result(self.url, task_id, wait_s=60)["status"] != "SUCCESS"]
        self.assertEqual(failed, [200])
        self.assertEqual(result(self.url, ids[200])["result"]["exc_type"], "TimeLimitExceeded")

    def test_a_job_that_kills_its_runner_is_buried_at_the_fifth(self):
        self.worker("-c", "1")
        task_id = call(self.url, "fail", kwargs={"mode": "kill"})
        doc = result(self.url, task_id, wait_s=40)
        self.assertEqual(doc["status"], "FAILURE")
        self.assertEqual(doc["result"]["exc_type"], "WorkerLostError")
        self.assertRegex(doc["result"]["exc_message"][0], r"^Worker exited prematurely: signal 9 \(SIGKILL\) Job: \d+\.$")
        t = self.assert_accounted()
        self.assertEqual((t["dead"], t["succeeded"]), (1, 0))
        dead = json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)
        self.assertEqual(len(dead), 1)

    # -- what status shows --

    def workers(self):
        return json.loads(celeriac(self.url, "status", "-o", "json", check=0).stdout)["workers"]

    def runner_states(self):
        return [[runner["state"] for runner in worker["runners"]] for worker in self.workers()]

    def test_status_shows_the_worker_until_it_stops(self):
        w = self.worker("-c", "2", "-n", "shown@here", "-Q", "celery,mail")
        wait_until(lambda: self.runner_states() == [["up", "up"]], "both runners in status")
        result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)
        stages = {"queued_us", "fetched_us", "dispatched_us", "run_us", "recorded_us"}
        wait_until(lambda: self.workers()[0]["jobs"] == 1 and set(self.workers()[0]["stages"]) == stages, "the job in status")
        worker = self.workers()[0]
        self.assertEqual((worker["node"], worker["pid"], worker["concurrency"]), ("shown@here", w.process.pid, 2))
        self.assertEqual((worker["state"], worker["queues"], worker["running"]), ("running", ["celery", "mail"], 0))
        self.assertAlmostEqual(worker["since_ms"] / 1000, time.time(), delta=120)
        table = celeriac(self.url, "status", check=0).stdout
        self.assertRegex(table, rf"(?m)^shown@here +{w.process.pid} +2/2 +0 +1 +running$")
        self.assertRegex(table, r"(?m)^shown@here( +\d+\.\d{3}){5}$")
        self.assertEqual(w.stop(), 0)
        self.assertEqual(self.workers(), [])

    def test_status_shows_two_workers_and_one_that_stops(self):
        first, second = self.worker("-c", "1", "-n", "b@here"), self.worker("-c", "1", "-n", "a@here")
        wait_until(lambda: self.runner_states() == [["up"], ["up"]], "both workers in status")
        self.assertEqual([worker["node"] for worker in self.workers()], ["a@here", "b@here"])
        runner = self.started(call(self.url, "sleep", 3 * SCALE))
        busy = first if runner in first.runners() else second
        busy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: [worker["pid"] for worker in self.workers() if worker["state"] == "stopping"]
                   == [busy.process.pid], "the stop in status")
        self.assertEqual(busy.process.wait(60 * SCALE), 0)
        self.assertEqual(len(self.workers()), 1)

    @unittest.skipIf("redis" in sys.argv or "amqp" in sys.argv, "ten restarts take their time; nothing in them knows the broker")
    def test_a_slot_whose_process_never_gets_ready_is_failed_and_shown(self):
        alive = pathlib.Path(self.dir) / "alive"
        module = pathlib.Path.cwd() / "tests/support/modules/only_one_lives.so"
        w = self.worker("-c", "2", "-A", str(module), env={"ONLY_ONE_LIVES": str(alive)})
        wait_until(lambda: [sorted(states) for states in self.runner_states()] == [["failed", "up"]],
                   "the failed slot in status", 120)
        slot = self.runner_states()[0].index("failed") + 1
        self.assertIn(f"runner slot failed slot={slot} deaths=10", w.log())
        self.assertRegex(celeriac(self.url, "status", check=0).stdout, rf" 1/2 +0 +0 +running, failed slots: {slot}\n")
        # The other one goes on, and another dispatcher is told.
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        since = self.workers()[0]["since_ms"]
        os.kill(w.dispatcher(), signal.SIGKILL)

        def told_anew():
            for worker in self.workers():
                states = [runner["state"] for runner in worker["runners"]]
                if worker["since_ms"] > since and sorted(states) == ["failed", "up"]:
                    return states
            return None

        states = wait_until(told_anew, "the failed slot in status again")
        self.assertEqual(states.index("failed") + 1, slot)
        self.assertEqual(w.stop(), 0)

    # -- limits --

    def test_hard_limit(self):
        w = self.worker("-c", "1")
        task_id = call(self.url, "fail", kwargs={"mode": "hang"}, time_limit=1)
        doc = result(self.url, task_id, wait_s=30)
        self.assertEqual(doc["result"], {"exc_type": "TimeLimitExceeded", "exc_message": [1],
                                         "exc_module": "billiard.exceptions"})
        self.assertIsNone(doc["traceback"])
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)["result"], 2)
        self.assertIn("hard time limit", w.log())
        self.assertEqual(self.assert_accounted()["failed"], 1)

    def test_soft_limit(self):
        self.worker("-c", "1", "--soft-time-limit", "0.5")
        doc = result(self.url, call(self.url, "sleep", 30), wait_s=20)
        self.assertEqual(doc["result"], {"exc_type": "SoftTimeLimitExceeded", "exc_message": [],
                                         "exc_module": "billiard.exceptions"})

    def test_max_tasks_per_child(self):
        # They wait already, and are short: as many as possible would be lent at once.
        ids = [call(self.url, "math.add", i, 0) for i in range(12)]
        w = self.worker("-c", "1", "--max-tasks-per-child", "2")
        pids = collections.Counter(result(self.url, i, wait_s=30)["celeriac"]["pid"] for i in ids)
        self.assertLessEqual(max(pids.values()), 2)
        self.assertNotIn("runner gone slot=1 cause=\"signal", w.log())

    def test_max_memory_per_child(self):
        self.worker("-c", "1", "--max-memory-per-child", "1")
        ids = [call(self.url, "math.add", i, 0) for i in range(3)]
        pids = {result(self.url, i, wait_s=30)["celeriac"]["pid"] for i in ids}
        self.assertEqual(len(pids), 3)

    # -- time --

    def test_countdown_is_kept_in_the_broker(self):
        self.worker("-c", "1")
        started = time.time()
        task_id = call(self.url, "math.add", 1, 2, countdown=1.5)
        # RabbitMQ's queues are asked one after another: what moves meanwhile may be seen in none of them.
        wait_until(lambda: (lambda t: t["delayed"] + t["waiting"] + t["leased"] + t["succeeded"] == 1)(totals(self.url)), "the job to be seen")
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 3)
        self.assertGreaterEqual(time.time() - started, 1.5)

    def test_retries_end_with_the_original_exception(self):
        self.worker("-c", "1")
        task_id = call(self.url, "fail", kwargs={"mode": "retry", "countdown": 0.05, "message": "again"})
        doc = result(self.url, task_id, wait_s=40)
        self.assertEqual(doc["status"], "FAILURE")
        t = self.assert_accounted()
        self.assertEqual((t["published"], t["failed"]), (1, 1))

    def test_expired(self):
        # As Celery asks it to, RabbitMQ drops what runs out in its queue; what is delayed it hands on and leaves it to the worker.
        delay = {"countdown": 0.5} if KIND == "amqp" else {}
        task_id = call(self.url, "math.add", 1, 2, expires=0.1, **delay)
        time.sleep(0.3)
        self.worker("-c", "1")
        doc = result(self.url, task_id, wait_s=30)
        self.assertEqual((doc["status"], doc["result"]["exc_message"]), ("REVOKED", ["expired"]))

    # -- what nobody can run --

    def test_unknown_task_is_kept_aside(self):
        self.worker("-c", "1")
        task_id = call(self.url, "no.such.task", 1)
        doc = result(self.url, task_id, wait_s=30)
        self.assertEqual((doc["status"], doc["result"]["exc_type"]), ("FAILURE", "NotRegistered"))
        self.assertEqual(self.assert_accounted()["dead"], 1)

    def test_a_missing_module_is_said_at_once(self):
        done = celeriac(self.url, "worker", "-A", "/nonexistent/module.so")
        self.assertEqual(done.returncode, 4)
        self.assertIn("/nonexistent/module.so", done.stderr)

    def test_a_module_that_is_none_ends_the_worker(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(b"not a shared object")
            file.flush()
            done = celeriac(self.url, "worker", "-c", "1", "-A", file.name)
        self.assertEqual(done.returncode, 2)
        self.assertIn(file.name, done.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("sqlite", "redis", "amqp"):
        KIND = sys.argv.pop(1)
    unittest.main(verbosity=2)
