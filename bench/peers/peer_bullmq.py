"""BullMQ on Redis, from the npm registry."""
import json
import os
import shutil
import subprocess

from peer import HERE, RedisPeer, Unavailable, cause_in
import measure

MODULES = ("bullmq", "ioredis")  # since version 6 the client has to be asked for


class BullMQ(RedisPeer):
    name = "bullmq"
    packages = ("redis-server", "redis-tools")
    setup = "one Node process per runner, concurrency 50 for no-ops and 1 for CPU-bound tasks; results in Redis"

    def folder(self):
        return self.scratch / "bullmq"

    def build(self):
        if not shutil.which("node") or not shutil.which("npm"):
            raise Unavailable("no node and npm; install them, or apt-get install npm")
        self.folder().mkdir(parents=True, exist_ok=True)
        if not all((self.folder() / "node_modules" / module).is_dir() for module in MODULES):
            self.download()
        # Node looks for modules beside the program.
        shutil.copy(HERE / "bullmq_jobs.js", self.folder())

    def download(self):
        words = ["npm", "install", "--no-audit", "--no-fund", "--prefix", self.folder(), *MODULES]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise Unavailable("npm install had no answer in 300 s; is the registry reachable?") from None
        if done.returncode:
            raise Unavailable(f"npm install failed: {cause_in(done.stderr)}")

    def version(self):
        return json.loads((self.folder() / "node_modules" / "bullmq" / "package.json").read_text())["version"]

    def program(self):
        return ["node", str(self.folder() / "bullmq_jobs.js")]

    def worker_words(self, runners, task):
        return [[*self.program(), "worker", "1" if task == "burn" else "50"] for _ in range(runners)]

    def done(self):
        return measure.Redis(self.server).ask("ZCARD", "bull:bench:completed")

    def environment(self):
        return {"NODE_ENV": "production", "PATH": os.environ["PATH"]}
