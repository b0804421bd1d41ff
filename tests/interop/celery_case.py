"""What the tests with Celery at the other end share: a private Redis, our worker, Celery workers, a Celery client.

Skips the whole program (77) without Celery or a Redis server. Every process is stopped by its pid.
"""
import gc
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "support"))
from frozen import freeze  # noqa: E402
from harness import Redis, Worker, wait_until  # noqa: E402

for module in ("celery", "redis"):
    if importlib.util.find_spec(module) is None:
        print(f"no Python module {module}: install python3-celery and python3-redis")
        sys.exit(77)

import celery_app  # noqa: E402
import redis  # noqa: E402


class Peer:
    """A Celery worker with one child process, which acknowledges late."""

    def __init__(self, directory, url, *args, name="peer", visibility_s=3600.0, env=None):
        self.log_path = pathlib.Path(directory, name + ".log")
        env = {**os.environ, **(env or {}), "PEER_URL": url, "PEER_VISIBILITY_S": str(visibility_s), "PYTHONPATH": str(HERE),
               "PYTHONDONTWRITEBYTECODE": "1", "C_FORCE_ROOT": "1"}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", "-m", "celery", "-A", "celery_app", "worker", "-c", "1", "-P", "prefork",
                 "-n", f"{name}@here", "-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat", *args],
                cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or " ready." in self.log(), "the Celery worker")
        if self.process.poll() is not None:
            raise AssertionError("the Celery worker ended: " + self.log())

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self):
        """Warmly, as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def kill(self):
        """Main process and children at once: its session is its own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class CeleryCase(unittest.TestCase):
    """A fresh server for each test."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.server = Redis(self.dir).start()
        self.addCleanup(self.server.stop)
        self.url = self.server.url
        self.redis = redis.Redis(unix_socket_path=self.server.socket)
        self.addCleanup(self.redis.close)

    def worker(self, *args, url=None, **options):
        """Ours."""
        worker = Worker(url or self.url, "-c", "1", *args, log=f"{self.dir}/worker.log", **options)
        self.addCleanup(worker.stop, signal.SIGQUIT, 30)
        return worker.start()

    def peer(self, *args, **options):
        """Theirs."""
        peer = Peer(self.dir, self.url, *args, **options)
        self.addCleanup(peer.kill)
        return peer

    def client(self, **conf):
        """A Celery application in this process."""
        app = celery_app.create(self.url, **conf)
        self.addCleanup(app.close)
        self.addCleanup(gc.collect)  # a pending AsyncResult unsubscribes when it goes: while the server lives
        return app

    def leases(self):
        return self.redis.hlen("unacked")

    def wait_for_acknowledgements(self):
        wait_until(lambda: self.leases() == 0 and self.redis.zcard("unacked_index") == 0, "the acknowledgements")

    def kill_at_once(self, worker):
        """Everything of ours: a dispatcher that sees its supervisor die would hand its leases back."""
        pids = [worker.dispatcher(), *worker.runners()]
        freeze(pids[0])
        worker.process.kill()
        worker.process.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: all(is_gone(pid) for pid in pids), "the death of our processes")


def is_gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
