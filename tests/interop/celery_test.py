#!/usr/bin/python3
"""Celery itself at the other end of a Redis queue. usage: celery_test.py [unittest arguments]

A Python client sends to our worker and gets the result; our `call` sends to a real Celery worker and gets its result; each
side hands back what the other left unacknowledged. Skipped (77) without Celery or a Redis server.
"""
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from frozen import freeze  # noqa: E402
from harness import Redis, Worker, call, result, totals, unaccounted, wait_until  # noqa: E402

for module in ("celery", "redis"):
    if importlib.util.find_spec(module) is None:
        print(f"no Python module {module}: install python3-celery and python3-redis")
        sys.exit(77)

# The application of the other side: the task bodies run only in a Celery worker.
APP = textwrap.dedent("""
    import os, time
    from celery import Celery
    app = Celery("peer", broker=os.environ["PEER_URL"], backend=os.environ["PEER_BACKEND"])
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True,
                    broker_transport_options={"visibility_timeout": float(os.environ.get("PEER_VT", "3600"))})

    @app.task(name="peer.add")
    def add(x, y):
        return x + y

    @app.task(name="math.add")
    def math_add(x, y):
        return x + y

    @app.task(name="sleep")
    def sleep(seconds):
        time.sleep(seconds)
        return seconds
""")


class Peer:
    """A Celery worker with one process of its own (pool solo)."""

    def __init__(self, case, name="peer", **env):
        self.log = pathlib.Path(case.dir, name + ".log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", "-m", "celery", "-A", "peer", "worker", "-P", "solo", "-n", f"{name}@here",
                 "-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat"],
                cwd=case.dir, env={**os.environ, **case.env, **env, "C_FORCE_ROOT": "1"}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        case.addCleanup(self.stop, signal.SIGKILL)
        wait_until(lambda: " ready." in self.log.read_text(), "the Celery worker")

    def stop(self, sig):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait()


class CeleryTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.redis = Redis(self.dir).start()
        self.addCleanup(self.redis.stop)
        self.url = self.redis.url
        pathlib.Path(self.dir, "peer.py").write_text(APP)
        self.env = {"PEER_URL": f"redis+socket://{self.redis.socket}", "PEER_BACKEND": f"redis+socket://{self.redis.socket}"}

    def python(self, code, **env):
        """Runs a client script that has `app`; returns the JSON it prints."""
        done = subprocess.run(["/usr/bin/python3", "-c", "import json\nfrom peer import app\n" + code], cwd=self.dir,
                              env={**os.environ, **self.env, **env}, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def leases(self):
        return int(self.redis.cli("HLEN", "unacked"))

    def worker(self, *args, **options):
        worker = Worker(self.url, "-c", "1", *args, log=f"{self.dir}/worker.log", **options)
        self.addCleanup(worker.stop, signal.SIGQUIT, 30)
        return worker.start()

    def test_python_client_gets_result_of_our_worker(self):
        worker = self.worker()
        code = """
r = [app.send_task("math.add", (n, 1)) for n in range(20)]
late = app.send_task("math.add", (40, 2), countdown=1, priority=9)
values = [x.get(timeout=30) for x in r] + [late.get(timeout=30)]
bad = app.send_task("math.add", (1, "x"))
try:
    bad.get(timeout=30)
except Exception as error:
    values.append(type(error).__name__)
values.append(bad.status)
print(json.dumps(values))
"""
        self.assertEqual(self.python(code), [n + 1 for n in range(20)] + [42, "TypeError", "FAILURE"])
        wait_until(lambda: self.leases() == 0, "the acknowledgements")
        t = totals(self.url)
        self.assertEqual((t["published"], t["succeeded"], t["failed"], unaccounted(t)), (22, 21, 1, 0))
        self.assertIsNone(worker.process.poll())

    def test_our_call_gets_result_of_a_celery_worker(self):
        Peer(self)
        task_id = call(self.url, "peer.add", 40, 2)
        self.assertEqual(result(self.url, task_id, wait_s=30)["result"], 42)
        task_id = call(self.url, "peer.add", 1, 2, priority=5)
        self.assertEqual(result(self.url, task_id, wait_s=30)["status"], "SUCCESS")
        wait_until(lambda: self.leases() == 0, "the acknowledgements")

    def test_celery_restores_what_we_left(self):
        worker = self.worker()
        task_id = call(self.url, "sleep", 600)
        wait_until(lambda: self.leases() == 1, "our delivery")
        value = json.loads(self.redis.cli("HVALS", "unacked"))
        self.assertEqual(value[1:], ["", "celery"])
        self.kill(worker)
        self.assertEqual(self.leases(), 1)
        # Time passes: the score is the wall clock's, which kombu compares with its visibility timeout.
        field = self.redis.cli("HKEYS", "unacked")
        self.redis.cli("ZADD", "unacked_index", "XX", str(time.time() - 7200), field)
        Peer(self, PEER_VT="3600")
        wait_until(lambda: self.redis.cli("HKEYS", "unacked") not in ("", field), "Celery's own delivery")
        restored = json.loads(self.redis.cli("HVALS", "unacked"))[0]
        self.assertEqual(restored["headers"]["id"], task_id)
        self.assertTrue(restored["headers"]["redelivered"])

    def leave_with_celery(self):
        """The id of a message, and its field, that a killed Celery worker never acknowledged."""
        peer = Peer(self)
        task_id = call(self.url, "sleep", 600)
        wait_until(lambda: self.leases() == 1, "Celery's delivery")
        peer.stop(signal.SIGKILL)
        return task_id, self.redis.cli("HKEYS", "unacked")

    def restore_left(self, **options):
        task_id, field = self.leave_with_celery()
        self.redis.cli("ZADD", "unacked_index", "XX", str(time.time() - 3599), field)
        worker = self.worker("--lease", "2", **options)
        wait_until(lambda: self.redis.cli("HKEYS", "unacked") not in ("", field), "our delivery")
        value = json.loads(self.redis.cli("HVALS", "unacked"))
        self.assertEqual(value[0]["headers"]["id"], task_id)
        self.assertTrue(value[0]["headers"]["redelivered"])
        self.assertTrue(value[0]["properties"]["delivery_info"]["redelivered"])
        self.assertTrue(self.redis.cli("HKEYS", "unacked").startswith("celery"))

    def test_we_restore_what_celery_left(self):
        self.restore_left()

    def test_crash_before_restore(self):
        flag = pathlib.Path(self.dir, "fault")
        flag.touch()
        self.restore_left(env={"CELERIAC_FAULT": "redis.before-restore", "CELERIAC_FAULT_FILE": str(flag)})
        self.assertFalse(flag.exists(), "nobody died")

    def kill(self, worker):
        """All at once: a dispatcher that sees its supervisor die would hand its leases back."""
        dispatcher = worker.dispatcher()
        freeze(dispatcher)
        worker.stop(signal.SIGKILL)
        try:
            os.kill(dispatcher, signal.SIGKILL)
        except ProcessLookupError:
            pass
        wait_until(lambda: not pathlib.Path(f"/proc/{dispatcher}/stat").exists()
                   or " Z " in pathlib.Path(f"/proc/{dispatcher}/stat").read_text(), "the death of the dispatcher")


if __name__ == "__main__":
    unittest.main()
