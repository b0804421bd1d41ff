"""Sidekiq on Redis, as Debian ships it."""
from peer import HERE, RedisPeer, package_version


class Sidekiq(RedisPeer):
    name = "sidekiq"
    packages = ("redis-server", "redis-tools", "ruby-sidekiq")
    setup = "one process per runner, 5 threads for no-ops and 1 for CPU-bound tasks; no results, a job is lost when its process dies"
    results = False
    queue_key = "queue:default"

    def version(self):
        return package_version("ruby-sidekiq")

    def program(self):
        return ["ruby", str(HERE / "sidekiq_jobs.rb")]

    def worker_words(self, runners, task):
        return [["sidekiq", "-r", str(HERE / "sidekiq_jobs.rb"), "-c", "1" if task == "burn" else "5", "-q", "default", "-t", "5"]
                for _ in range(runners)]
