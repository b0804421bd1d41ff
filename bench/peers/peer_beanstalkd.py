"""beanstalkd of Debian, and a worker and a producer that speak its protocol."""
import peer
from peer import HERE, OwnServerPeer, package_version


class Beanstalkd(OwnServerPeer):
    name = "beanstalkd"
    packages = ("beanstalkd", "gcc", "libc6-dev")
    setup = "jobs in beanstalkd's memory, no results, one process per runner; a delete and the next reserve go out together"
    results = False

    def program(self):
        return [str(self.scratch / "beanstalkd_jobs")]

    def build(self):
        peer.compile_c(HERE / "beanstalkd_jobs.c", self.scratch / "beanstalkd_jobs")

    def version(self):
        return package_version("beanstalkd")

    def server_words(self, port):
        return ["beanstalkd", "-l", "127.0.0.1", "-p", str(port)]

    def worker_words(self, runners, task):
        return [[*self.program(), "worker"] for _ in range(runners)]
