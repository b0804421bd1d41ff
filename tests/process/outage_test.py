#!/usr/bin/python3
"""What goes wrong around a worker: a broker that is locked, broken, full, restarted; messages that nobody can read.

usage: outage_test.py sqlite|redis|amqp [unittest arguments]
"""
import base64
import json
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from frozen import frozen  # noqa: E402
from harness import (SCALE, VALGRIND, Redis, Worker, broker, call, call_many, celeriac, command, result, totals, unaccounted,  # noqa: E402
                     valgrind_findings, wait_until)
from rabbitmq import RabbitMQ, major  # noqa: E402


def tearDownModule():
    assert not valgrind_findings(), valgrind_findings()


def add_worker(test, url, directory, *args):
    worker = Worker(url, *args, log=f"{directory}/worker.log")
    test.addCleanup(worker.__exit__)
    return worker.start()


class Sqlite(unittest.TestCase):
    def setUp(self):
        context = broker("sqlite")
        self.url, self.dir = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def test_a_locked_file_is_waited_for(self):
        worker = add_worker(self, self.url, self.dir, "-c", "2")
        result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)
        other = sqlite3.connect(f"{self.dir}/queue.db", isolation_level=None, timeout=30)
        other.execute("BEGIN EXCLUSIVE")
        producer = subprocess.Popen(command(self.url, "call", "math.add", "-a", "[2, 2]"), text=True,
                                    stdout=subprocess.PIPE)
        with self.assertRaises(subprocess.TimeoutExpired):
            producer.wait(1.5)
        other.execute("COMMIT")
        other.close()
        self.assertEqual(producer.wait(30), 0)
        self.assertEqual(result(self.url, producer.stdout.read().strip(), wait_s=30)["result"], 4)
        producer.stdout.close()
        self.assertIsNone(worker.process.poll())
        self.assertEqual(unaccounted(totals(self.url)), 0)

    def test_a_file_that_is_no_queue_is_named(self):
        path = f"{self.dir}/broken.db"
        pathlib.Path(path).write_bytes(b"this is not a database, and it is longer than a header of one hundred bytes" * 9)
        for words in (["call", "math.add"], ["status"], ["worker", "-c", "1"]):
            done = celeriac(f"sqlite:{path}", *words)
            self.assertIn(done.returncode, (3, 5), words)
            self.assertIn(path, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_a_directory_that_does_not_exist_is_named(self):
        for words in (["call", "math.add"], ["worker", "-c", "1"]):
            done = celeriac("sqlite:/nonexistent/directory/queue.db", *words)
            self.assertIn(done.returncode, (3, 4, 5), words)
            self.assertIn("/nonexistent/directory", done.stderr)


class FullDisk(unittest.TestCase):
    """The queue file lives on a file system of 8 MB; a ballast file takes what is left of it."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        self.disk = pathlib.Path(self.dir, "disk")
        self.disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", self.disk], capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"no small file system can be mounted here: {mounted.stderr.splitlines()[0]}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.disk], check=True)
        self.url = f"sqlite:{self.disk}/queue.db"

    def fill(self):
        with open(self.disk / "ballast", "ab", buffering=0) as ballast, self.assertRaises(OSError):
            while True:
                ballast.write(b"x" * 4096)

    def free(self):
        (self.disk / "ballast").unlink()

    def test_jobs_are_kept_and_go_on_when_there_is_space_again(self):
        worker = add_worker(self, self.url, self.dir, "-c", "1", "--track-started", "-l", "info")
        running = call(self.url, "sleep", 2 * SCALE)
        wait_until(lambda: result(self.url, running)["status"] == "STARTED", "the job to run")
        waiting = call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(20)])
        delayed = call(self.url, "math.add", 5, 5, countdown=1)
        self.fill()
        refused = celeriac(self.url, "call", "text.wordcount", "-a", json.dumps(["word " * 20000]))
        self.assertNotIn(refused.returncode, (0, 1), refused)
        self.assertIn("full", refused.stderr)
        wait_until(lambda: "full" in worker.log(), "the worker to say it")
        # Several attempts later it has said each outage once (a small write may still have fitted), and everybody lives.
        time.sleep(3)
        self.assertIsNone(worker.process.poll())
        lost, back = worker.log().count("broker lost"), worker.log().count("broker is back")
        self.assertIn(lost - back, (0, 1), worker.log())
        self.assertLessEqual(lost, 4, worker.log())
        self.free()
        for n, task_id in enumerate(waiting):
            self.assertEqual(result(self.url, task_id, wait_s=30)["result"], n + 1)
        self.assertEqual(result(self.url, running, wait_s=30)["status"], "SUCCESS")
        self.assertEqual(result(self.url, delayed, wait_s=30)["result"], 10)
        t = wait_until(lambda: (lambda t: t["leased"] == 0 and t)(totals(self.url)), "the last lease")
        self.assertEqual((t["published"], t["succeeded"], unaccounted(t)), (22, 22, 0), t)

    def test_a_queue_that_cannot_be_made_is_named(self):
        self.fill()
        done = celeriac(self.url, "call", "math.add", "-a", "[1, 1]")
        self.assertIn(done.returncode, (3, 5), done)
        self.assertIn("queue.db", done.stderr)
        self.assertIn("full", done.stderr)
        self.free()
        self.assertEqual(celeriac(self.url, "call", "math.add", "-a", "[1, 1]").returncode, 0)
        self.assertEqual(totals(self.url)["waiting"], 1)


def envelope(text='[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]', headers=None, **changes):
    """A message as Celery sends it, with changes; None removes a key."""
    message = {
        "body": base64.b64encode(text.encode()).decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"lang": "py", "task": "math.add", "id": "11111111-2222-4333-8444-555555555555", "retries": 0,
                    "timelimit": [None, None], "argsrepr": "(2, 3)", "kwargsrepr": "{}", **(headers or {})},
        "properties": {"correlation_id": "11111111-2222-4333-8444-555555555555", "delivery_mode": 2, "priority": 0,
                       "delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64",
                       "delivery_tag": "aaaaaaaa-2222-4333-8444-555555555555"},
    }
    message.update(changes)
    return json.dumps({k: v for k, v in message.items() if v is not None})


POISON = {
    "not JSON": "hello",
    "an empty element": "",
    "half an object": '{"body": "W1syLC',
    "a JSON array": "[1, 2, 3]",
    "a body that is not base64": envelope(**{"body": "%%%not base64%%%"}),
    "a body of two elements": envelope(text="[[2, 3], {}]"),
    "a body that is not JSON": envelope(text="nonsense"),
    "kwargs that are an array": envelope(text="[[2, 3], [], {}]"),
    "args that are a number": envelope(text="[7, {}, {}]"),
    "no headers and a body of protocol 2": json.dumps({**json.loads(envelope()), "headers": None}),
    "a task that is a number": envelope(headers={"task": 7}),
    "a time limit of one element": envelope(headers={"timelimit": [1]}),
    "an eta that is no time": envelope(headers={"eta": "tomorrow"}),
    "retries as text": envelope(headers={"retries": "many"}),
    "a pickled body": envelope(**{"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
    "deep nesting": envelope(text="[" * 100000 + "]" * 100000),
    "deep nesting outside": "[" * 200000,
    "a compressed body that is none": envelope(headers={"compression": "application/x-gzip"}),
    "an unknown compression": envelope(headers={"compression": "application/x-brotli"}),
}


class RedisServer(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        self.redis = Redis(self.dir, "--appendonly", "yes", "--appendfsync", "always").start()
        self.addCleanup(self.redis.stop)
        self.url = self.redis.url

    def test_a_restart_loses_nothing(self):
        worker = add_worker(self, self.url, self.dir, "-c", "2")
        ids = call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(200)])
        late = call(self.url, "math.add", 5, 5, countdown=3)
        self.redis.stop()
        producer = subprocess.Popen(command(self.url, "call", "math.add", "-a", "[2, 2]"), text=True,
                                    stdout=subprocess.PIPE)
        self.redis.start()
        self.assertEqual(producer.wait(30), 0)
        self.assertEqual(result(self.url, producer.stdout.read().strip(), wait_s=30)["result"], 4)
        producer.stdout.close()
        self.assertEqual(result(self.url, late, wait_s=30)["result"], 10)
        wait_until(lambda: totals(self.url)["succeeded"] == 202, "all results")
        self.assertEqual(result(self.url, ids[-1])["result"], 200)
        self.assertEqual(unaccounted(totals(self.url)), 0)
        self.assertIn("broker is back", worker.log())

    def test_a_kill_of_the_server_loses_nothing(self):
        add_worker(self, self.url, self.dir, "-c", "2")
        for _ in range(3):
            call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(100)])
            self.redis.stop(signal.SIGKILL)
            self.redis.start()
        wait_until(lambda: totals(self.url)["succeeded"] == 300, "all results")
        self.assertEqual(unaccounted(totals(self.url)), 0)

    def test_out_of_memory_is_retried(self):
        add_worker(self, self.url, self.dir, "-c", "1", "--track-started")
        task_id = call(self.url, "sleep", 2 * SCALE)
        wait_until(lambda: result(self.url, task_id)["status"] == "STARTED", "the job to run")
        self.redis.cli("CONFIG", "SET", "maxmemory", "1")
        done = subprocess.run(command(self.url, "call", "math.add", "-a", "[1, 1]"), capture_output=True, text=True,
                              timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("memory", done.stderr.lower())
        self.redis.cli("CONFIG", "SET", "maxmemory", "0")
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        self.assertEqual(unaccounted(totals(self.url)), 0)

    def test_a_read_only_server_is_waited_for(self):
        add_worker(self, self.url, self.dir, "-c", "1")
        result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)
        self.redis.cli("CONFIG", "SET", "min-replicas-to-write", "1")
        producer = subprocess.Popen(command(self.url, "call", "math.add", "-a", "[2, 2]"), text=True,
                                    stdout=subprocess.PIPE)
        with self.assertRaises(subprocess.TimeoutExpired):
            producer.wait(1)
        self.redis.cli("CONFIG", "SET", "min-replicas-to-write", "0")
        self.assertEqual(producer.wait(30), 0)
        self.assertEqual(result(self.url, producer.stdout.read().strip(), wait_s=30)["result"], 4)
        producer.stdout.close()

    def test_a_hanging_server_is_survived(self):
        worker = add_worker(self, self.url, self.dir, "-c", "1")
        result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)
        dispatcher = worker.dispatcher()
        with frozen(self.redis.process.pid):
            wait_until(lambda: worker.process.poll() is None, "the worker")
            with self.assertRaises(subprocess.TimeoutExpired):
                worker.process.wait(4.5)
        # The dispatcher answered the supervisor's pings all the time.
        self.assertEqual(worker.dispatcher(), dispatcher)
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 1), wait_s=30)["result"], 3)

    def test_a_wrong_password_is_refused_at_once(self):
        self.redis.cli("CONFIG", "SET", "requirepass", "right")
        url = self.url.replace("redis+socket://", "redis+socket://:wrong-secret@")
        for words in (["call", "math.add"], ["status"], ["worker", "-c", "1"]):
            done = celeriac(url, *words)
            self.assertEqual(done.returncode, 5, (words, done.stderr))
            self.assertNotIn("wrong-secret", done.stderr + done.stdout)

    def test_a_server_that_is_not_there_is_named(self):
        for words in (["call", "math.add"], ["status"], ["worker", "-c", "1", "--connect-timeout", "1"]):
            done = celeriac("redis://127.0.0.1:1/0", *words)
            self.assertEqual(done.returncode, 3, (words, done.stderr))
            self.assertIn("127.0.0.1:1", done.stderr)

    def test_poison_is_buried_with_its_reason_and_the_worker_goes_on(self):
        worker = add_worker(self, self.url, self.dir, "-c", "1")
        supervisor_children = (worker.dispatcher(), *worker.runners())
        for element in POISON.values():
            subprocess.run(["redis-cli", "-s", self.redis.socket, "-x", "LPUSH", "celery"], input=element.encode(), check=True,
                           stdout=subprocess.DEVNULL)
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        wait_until(lambda: int(self.redis.cli("LLEN", "celery.dead")) >= len(POISON), "the dead letters")
        dead = json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)
        self.assertEqual(len(dead), len(POISON))
        for letter in dead:
            self.assertTrue(letter["cause"].strip(), letter)
        self.assertEqual((worker.dispatcher(), *worker.runners()), supervisor_children)
        kept = {self.redis.cli("LINDEX", "celery.dead", str(i)) for i in range(len(POISON))}
        self.assertIn(POISON["not JSON"], kept)

    def stat(self, name):
        lines = self.redis.cli("INFO", "stats").splitlines()
        return next(int(line.split(":")[1]) for line in lines if line.startswith(name + ":"))

    def test_the_bell_rings_for_lists_only(self):
        add_worker(self, self.url, self.dir, "-c", "1")
        for _ in range(2):
            # A queue, its priorities and the set of delayed jobs; not the leases of others.
            wait_until(lambda: self.stat("tracking_total_keys") >= 5, "a worker that listens")
            self.assertEqual(self.stat("tracking_total_keys"), 5)
            self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)

    def test_what_can_not_be_recorded_stays_in_its_place(self):
        worker = add_worker(self, self.url, self.dir, "-c", "1")
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        for key in ("unacked", "unacked_index", "celeriac:fence"):
            with self.subTest(key):
                kept = self.redis.cli("GET", key) if key == "celeriac:fence" else None
                wait_until(lambda: self.redis.cli("HLEN", "unacked") == "0", "the last lease")
                self.redis.cli("DEL", key)
                self.redis.cli("LPUSH" if kept else "SET", key, "wrong")
                said = worker.log().count("WRONGTYPE")
                ids = call_many(self.url, [{"task": "math.add", "args": [i, 0]} for i in range(3)])
                wait_until(lambda: worker.log().count("WRONGTYPE") > said, "the refusal")
                order = [json.loads(text)["headers"]["id"] for text in reversed(self.redis.cli("LRANGE", "celery", "0", "-1").splitlines())]
                self.assertEqual(order, ids)
                time.sleep(1)
                self.assertLess(worker.log().count("WRONGTYPE") - said, 5)  # said once, and asked again by the tick only
                self.redis.cli("DEL", key)
                if kept:
                    self.redis.cli("SET", key, kept)
                for i, task_id in enumerate(ids):
                    self.assertEqual(result(self.url, task_id, wait_s=30)["result"], i)

    def test_an_idle_worker_asks_seldom(self):
        add_worker(self, self.url, self.dir, "-c", "1")
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        time.sleep(2)  # the looks of a worker that came a moment ago
        before, began = self.stat("total_commands_processed"), time.monotonic()
        time.sleep(6)
        # A look at the queues and the delayed in ten seconds, at the leases in thirty, its news in four; and the counting.
        self.assertLess(self.stat("total_commands_processed") - before, 1.5 * (time.monotonic() - began) + 15)

    def test_a_worker_of_many_queues_names_those_that_hold_something(self):
        add_worker(self, self.url, self.dir, "-c", "1", "-Q", ",".join(f"queue-{i}" for i in range(1000)))

        def job(i):
            task_id = call(self.url, "math.add", i, 1, queue=f"queue-{i}")
            self.assertEqual(result(self.url, task_id, wait_s=30)["result"], i + 1)
        job(0)
        before, began = self.stat("total_net_input_bytes"), time.monotonic()
        for i in (1, 500, 999, 7, 7, 7):
            job(i)
        # All lists are a quarter of a megabyte: they are named by the tick, every ten seconds or so. A client loads its scripts.
        self.assertLess(self.stat("total_net_input_bytes") - before, 1_000_000 + 60_000 * (time.monotonic() - began))

    def test_a_job_without_a_bell_starts_all_the_same(self):
        add_worker(self, self.url, self.dir, "-c", "1")
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        for name in ("celeriac-bell", "celeriac"):
            for line in self.redis.cli("CLIENT", "LIST").splitlines():
                if f" name={name} " in line:
                    self.redis.cli("CLIENT", "KILL", "ID", line.split()[0].removeprefix("id="))
            self.assertEqual(result(self.url, call(self.url, "math.add", 3, 4), wait_s=30)["result"], 7)
        # The server swaps databases without a word to those who listen: here only the tick finds the job.
        self.redis.cli("SWAPDB", "0", "5")
        task_id = call(self.url.replace("virtual_host=0", "virtual_host=5"), "math.add", 4, 5)
        self.redis.cli("SWAPDB", "0", "5")
        self.assertEqual(result(self.url, task_id, wait_s=60)["result"], 9)

    @unittest.skipIf(VALGRIND, "takes minutes there; the sanitizers' build has it")
    def test_a_huge_message_is_buried(self):
        worker = add_worker(self, self.url, self.dir, "-c", "1")
        dispatcher = worker.dispatcher()
        body = base64.b64encode(b'[["' + b"x" * 100_000_000 + b'"], {}, {}]').decode()
        subprocess.run(["redis-cli", "-s", self.redis.socket, "-x", "LPUSH", "celery"], check=True, stdout=subprocess.DEVNULL,
                       input=envelope(**{"body": body}).encode())
        wait_until(lambda: self.redis.cli("LLEN", "celery.dead") == "1", "the dead letter", 180 * SCALE)
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        self.assertEqual(worker.dispatcher(), dispatcher)


class RabbitMQServer(unittest.TestCase):
    """One server for all cases, each in a virtual host of its own."""

    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        cls.addClassCleanup(cls.place.cleanup)
        cls.server = RabbitMQ(cls.place.name).start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        self.vhost = self.server.fresh_vhost()
        self.url = self.server.url_of(self.vhost)

    def worker(self, *args):
        worker = add_worker(self, self.url, self.dir, "--track-started", *args)
        self.assertEqual(result(self.url, call(self.url, "math.add", 1, 1), wait_s=30)["result"], 2)
        return worker

    def running(self, seconds):
        """The id of a job that runs now, and for so many seconds; its state must be asked for before they are over."""
        task_id = call(self.url, "sleep", seconds * SCALE)
        wait_until(lambda: result(self.url, task_id)["status"] == "STARTED", "the job to run")
        return task_id

    def producer(self, a, b, *words):
        return subprocess.Popen(command(self.url, "call", "math.add", "-a", f"[{a}, {b}]", *words), text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def sent(self, producer):
        """The id that a producer got in the end."""
        out, errors = producer.communicate(timeout=60)
        self.assertEqual(producer.returncode, 0, errors)
        return out.strip()

    def assert_all_done(self, jobs):
        """Every job is recorded once; what was recorded again does not count."""
        def done():
            t = totals(self.url)
            return t["succeeded"] - t["duplicates"] >= jobs and t["waiting"] == t["leased"] == 0 and t
        t = wait_until(done, f"{jobs} results")
        self.assertEqual((t["succeeded"] - t["duplicates"], t["failed"], t["dead"]), (jobs, 0, 0), t)

    def assert_said_once(self, worker, text):
        self.assertEqual(worker.log().count(text), 1, worker.log())

    def publish(self, task="math.add", task_id="11111111-2222-4333-8444-555555555555", body="[[2, 3], {}, {}]", kind="application/json", **headers):
        """A message made by the server itself, with whatever is wanted in it."""
        if major() > 3:
            self.skipTest("RabbitMQ 4 has no rabbit_basic:publish")

        def text(value):
            return "<<" + ",".join(str(byte) for byte in value.encode()) + ">>"
        values = {"task": task, "id": task_id, **headers}
        table = ",".join("{%s,%s}" % (text(k), f"bool,{str(v).lower()}" if isinstance(v, bool) else f"signedint,{v}" if isinstance(v, int)
                                      else f"longstr,{text(v)}") for k, v in values.items() if v is not None)
        self.server.evaluate(f"rabbit_basic:publish(rabbit_misc:r({text(self.vhost)}, exchange, <<>>), <<\"celery\">>, {{'P_basic', {text(kind)}, "
                             f"<<\"utf-8\">>, [{table}], 2, 0, {text(task_id)}, {', '.join(['undefined'] * 8)}}}, {text(body)})")

    # -- the server --

    def test_a_restart_loses_nothing(self):
        worker = self.worker("-c", "2")
        call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(200)])
        late = call(self.url, "math.add", 5, 5, countdown=8)
        waiter = subprocess.Popen(command(self.url, "result", late, "-o", "json", "--wait", "60"), text=True, stdout=subprocess.PIPE)
        self.server.stop_server()
        producer = self.producer(2, 2, "--timeout", "60")
        self.server.start()
        self.assertEqual(result(self.url, self.sent(producer), wait_s=30)["result"], 4)
        self.assertEqual(json.loads(waiter.communicate(timeout=90)[0])["result"], 10)
        self.assert_all_done(203)
        self.assertIn("broker is back", worker.log())

    def test_a_kill_of_the_server_loses_nothing(self):
        worker = self.worker("-c", "2")
        dispatcher = worker.dispatcher()
        for _ in range(2):
            call_many(self.url, [{"task": "math.add", "args": [i, 1]} for i in range(100)])
            self.server.kill9()
            self.server.start()
            wait_until(lambda: result(self.url, call(self.url, "math.add", 1, 1, timeout=60), wait_s=30)["result"] == 2, "the worker")
        self.assert_all_done(203)
        self.assertEqual(worker.dispatcher(), dispatcher)

    def test_a_frozen_server_is_survived(self):
        worker = self.worker("-c", "2")
        dispatcher, task_id = worker.dispatcher(), self.running(3)
        call_many(self.url, [{"task": "sleep", "args": [0.1]} for _ in range(30)])
        with frozen(self.server.pid):
            refused = celeriac(self.url, "call", "math.add", "-a", "[1, 1]", "--timeout", str(2 * SCALE))
            with self.assertRaises(subprocess.TimeoutExpired):
                worker.process.wait(5)
        self.assertEqual((refused.returncode, refused.stdout), (3, ""), refused)
        self.assertIn("127.0.0.1", refused.stderr)
        # It answered the supervisor's pings all the time.
        self.assertEqual(worker.dispatcher(), dispatcher)
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        self.assert_all_done(32)

    def test_a_memory_alarm_is_waited_for(self):
        worker = self.worker("-c", "2")
        dispatcher, task_id = worker.dispatcher(), self.running(2)
        # A connection is told when it sends: the job may not end before the alarm.
        with frozen(*worker.runners()):
            self.server.memory_alarm(True)
        try:
            refused = celeriac(self.url, "call", "math.add", "-a", "[1, 1]", "--timeout", str(2 * SCALE))
            producer = self.producer(2, 2, "--timeout", "60")
            wait_until(lambda: "memory or disk alarm" in worker.log(), "the worker to say it")
            with self.assertRaises(subprocess.TimeoutExpired):
                worker.process.wait(3)
        finally:
            self.server.memory_alarm(False)
        got = self.sent(producer)
        self.assertEqual((refused.returncode, refused.stdout), (3, ""), refused)
        self.assertIn("alarm", refused.stderr)
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        self.assertEqual(result(self.url, got, wait_s=30)["result"], 4)
        self.assert_said_once(worker, "memory or disk alarm")
        self.assert_said_once(worker, "broker is back")
        self.assertEqual(worker.dispatcher(), dispatcher)

    # -- its operator --

    def test_closed_connections_are_opened_again(self):
        worker = self.worker("-c", "2")
        call_many(self.url, [{"task": "sleep", "args": [0.05]} for _ in range(100)])
        for _ in range(3):
            self.server.ctl("close_all_connections", "--vhost", self.vhost, "maintenance")
        self.assert_all_done(101)
        self.assertIn("maintenance", worker.log())
        self.assertIn("broker is back", worker.log())

    def test_a_deleted_queue_is_declared_again(self):
        """On a busy machine the server may say that the queue is there and then that it is not: a new connection mends that."""
        worker = self.worker("-c", "1")
        for times in range(1, 4):
            task_id = self.running(1)
            self.server.ctl("delete_queue", "-p", self.vhost, "celery")
            self.assertEqual(result(self.url, call(self.url, "math.add", 2, 2), wait_s=30)["result"], 4)
            self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
            self.assertIsNone(worker.process.poll())
            self.assert_all_done(1 + 2 * times)
            lost = worker.log().count("broker lost")
            self.assertEqual(worker.log().count("NOT_FOUND"), lost, worker.log())
            if lost < times:
                return
        self.fail(f"a new connection each time: {worker.log()}")

    def test_revoked_permissions_are_said_once(self):
        worker = self.worker("-c", "1")
        dispatcher, task_id = worker.dispatcher(), self.running(1)
        self.server.ctl("clear_permissions", "-p", self.vhost, "guest")
        self.server.ctl("close_all_connections", "--vhost", self.vhost, "rights were taken")
        for words in (["call", "math.add"], ["status"], ["worker", "-c", "1"]):
            done = celeriac(self.url, *words)
            self.assertEqual(done.returncode, 5, (words, done.stderr))
            self.assertIn(self.vhost, done.stderr)
        with self.assertRaises(subprocess.TimeoutExpired):
            worker.process.wait(2)
        self.server.ctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        self.assert_all_done(2)
        self.assert_said_once(worker, "broker lost")
        self.assertEqual(worker.dispatcher(), dispatcher)

    def test_no_right_to_write_is_said(self):
        self.server.ctl("set_permissions", "-p", self.vhost, "guest", "", "", ".*")
        for words in (["call", "math.add"], ["worker", "-c", "1"]):
            done = celeriac(self.url, *words)
            self.assertEqual(done.returncode, 5, (words, done.stderr))
            self.assertIn("access", done.stderr.lower())

    # -- messages --

    def test_a_second_copy_waits_for_the_first(self):
        worker = self.worker("-c", "2")
        task_id = self.running(1.5)
        self.publish("sleep", task_id, "[[0.01], {}, {}]", celeriac_again=True)
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 1.5 * SCALE)
        wait_until(lambda: "came again and is dropped" in worker.log(), "the second copy")
        self.assert_all_done(2)
        self.assertEqual(totals(self.url)["duplicates"], 0)

    def test_a_second_copy_waits_until_the_results_may_be_read(self):
        worker = self.worker("-c", "1")
        self.server.ctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", "^(?!celeriac[.]results).*")
        self.publish(celeriac_again=True)
        wait_until(lambda: "jobs that were delivered before wait" in worker.log(), "the worker to say so")
        self.server.ctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")
        self.assert_all_done(2)
        self.assert_said_once(worker, "jobs that were delivered before wait")

    def test_poison_is_buried_with_its_reason_and_the_worker_goes_on(self):
        worker = self.worker("-c", "1")
        processes = (worker.dispatcher(), *worker.runners())
        poison = [{"body": "hello"}, {"body": ""}, {"body": "[1, 2, 3]"}, {"body": "[[2, 3], {}]"}, {"body": "[[2, 3], [], {}]"},
                  {"body": "[7, {}, {}]"}, {"body": "[" * 20000 + "]" * 20000}, {"task": 7}, {"retries": "many"}, {"eta": "tomorrow"},
                  {"timelimit": "soon"}, {"kind": "application/x-python-serialize"}, {"compression": "application/x-gzip"},
                  {"compression": "application/x-brotli"}]
        for message in poison:
            self.publish(**message)
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)
        dead = wait_until(lambda: (lambda found: len(found) == len(poison) and found)(
            json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)), "the dead letters")
        for letter in dead:
            self.assertTrue(letter["cause"].strip(), letter)
        self.assertEqual((worker.dispatcher(), *worker.runners()), processes)

    # -- what was never right --

    def test_a_wrong_password_or_virtual_host_is_refused_at_once(self):
        for url in (self.server.url_of(self.vhost, password="wrong-secret"), self.server.url_of("no-such-host")):
            for words in (["call", "math.add"], ["status"], ["worker", "-c", "1"]):
                done = celeriac(url, *words)
                self.assertEqual(done.returncode, 5, (words, done.stderr))
                self.assertNotIn("wrong-secret", done.stderr + done.stdout)

    def test_a_server_that_is_not_there_is_named(self):
        for words in (["call", "math.add", "--timeout", "1"], ["status", "--timeout", "1"], ["worker", "-c", "1", "--connect-timeout", "1"]):
            done = celeriac("amqp://guest:guest@127.0.0.1:1/", *words)
            self.assertEqual(done.returncode, 3, (words, done.stderr))
            self.assertIn("127.0.0.1:1", done.stderr)

    def test_an_idle_worker_sends_nothing_but_heartbeats(self):
        worker = self.worker("-c", "1")
        self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3), wait_s=30)["result"], 5)

        def switches():
            text = pathlib.Path(f"/proc/{worker.dispatcher()}/status").read_text()
            return int(next(line.split()[1] for line in text.splitlines() if line.startswith("voluntary")))
        before, began = switches(), time.monotonic()
        time.sleep(2)
        # The supervisor's pings, the news of the worker, and a tick each second.
        self.assertLess(switches() - before, 40 * (time.monotonic() - began) + 20)


if __name__ == "__main__":
    chosen = {"sqlite": ["Sqlite", "FullDisk"], "redis": ["RedisServer"], "amqp": ["RabbitMQServer"]}[sys.argv.pop(1)]
    unittest.main(defaultTest=None if len(sys.argv) > 1 else chosen, verbosity=2)
