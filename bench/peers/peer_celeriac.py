"""Celeriac on Redis, measured as the others are."""
import json
import os
import subprocess
import tempfile
import time

import measure
from peer import BURN_S, RedisPeer, Unavailable


class Celeriac(RedisPeer):
    name = "celeriac"
    packages = ("redis-server", "redis-tools")
    jobs = 20000
    setup = "at least once, results in Redis and announced"
    queue_key = "celery"

    def build(self):
        if not os.access(os.environ["CELERIAC"], os.X_OK):
            raise Unavailable("no release build; cmake --preset release && cmake --build --preset release, or --build DIR")

    def version(self):
        return subprocess.run([os.environ["CELERIAC"], "--version"], capture_output=True, text=True).stdout.split()[-1]

    def url(self):
        return f"redis+socket://{self.server}?virtual_host=0"

    def worker_words(self, runners, task):
        return [[os.environ["CELERIAC"], "-b", self.url(), "worker", "-c", str(runners), "-l", "warning"]]

    def line(self, task):
        if task == "noop":
            return {"task": "noop", "args": ["x" * self.bytes]}
        return {"task": "work.burn", "args": [round(BURN_S * 1e6)]}

    def produce(self, count, how="bulk", task="noop"):
        """One at a time through the client library, or many through `call -`."""
        line = self.line(task)
        if how == "single":
            words = [f"{os.environ['CELERIAC_BUILD']}/bench/roundtrip", self.url(), str(count), "send", json.dumps(line["args"])]
            return json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
        with tempfile.TemporaryFile("w+") as lines:
            lines.write((json.dumps(line) + "\n") * count)
            lines.seek(0)
            start = time.monotonic()
            subprocess.run([os.environ["CELERIAC"], "-b", self.url(), "call", "-"], stdin=lines, stdout=subprocess.DEVNULL, check=True)
            return {"from": start, "to": time.monotonic()}

    def trips(self, count):
        words = [f"{os.environ['CELERIAC_BUILD']}/bench/roundtrip", self.url(), str(count), "trips", json.dumps(["x" * self.bytes])]
        return json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)["us"]

    def done(self):
        return int(measure.Redis(self.server).ask("HGET", "celeriac:totals", "succeeded") or 0)
