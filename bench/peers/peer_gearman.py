"""Gearman: gearmand of Debian, and a worker and a producer with libgearman."""
import peer
from peer import HERE, OwnServerPeer, package_version


class Gearman(OwnServerPeer):
    name = "gearman"
    packages = ("gearman-job-server", "libgearman-dev", "gcc", "libc6-dev")
    setup = "jobs in gearmand's memory, no results but for round trips, one process per runner"
    results = False

    def program(self):
        return [str(self.scratch / "gearman_jobs")]

    def build(self):
        peer.compile_c(HERE / "gearman_jobs.c", self.scratch / "gearman_jobs", "-lgearman")

    def version(self):
        return package_version("gearman-job-server")

    def server_words(self, port):
        return ["gearmand", "--listen=127.0.0.1", f"--port={port}", f"--log-file={self.directory}/gearmand.log"]

    def worker_words(self, runners, task):
        return [[*self.program(), "worker"] for _ in range(runners)]
