"""Celery with prefork workers on Redis, as Debian ships it; its defaults."""
from peer import HERE, RedisPeer, package_version
import measure

PYTHON = "/usr/bin/python3"  # Debian's own: another one has no Debian packages


class Celery(RedisPeer):
    name = "celery"
    packages = ("redis-server", "redis-tools", "python3-celery", "python3-redis")
    jobs = 3000
    setup = "prefork, defaults (acknowledged before they run), results in Redis"
    queue_key = "celery"

    def version(self):
        return package_version("python3-celery")

    def program(self):
        return [PYTHON, str(HERE / "celery_app.py")]

    def environment(self):
        return {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}

    def worker_words(self, runners, task):
        return [[PYTHON, "-m", "celery", "-A", "celery_app", "worker", "-c", str(runners), "-l", "error"]]

    def done(self):
        # Results are alone in a database of their own.
        return measure.Redis(self.server, 1).ask("DBSIZE")
