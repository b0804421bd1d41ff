"""The kinds of broker that are measured, each served afresh for every measurement.

redis has no persistence, redis-aof is appendonly with everysec, redis-always with always; amqp keeps classic queues and amqp-quorum
quorum queues; sqlite is synchronous=NORMAL and sqlite-full FULL. Redis is a new server each time, RabbitMQ a new virtual host of one
server that is started when it is first needed.
"""
import contextlib
import pathlib
import shutil
import tempfile

import measure
from measure import harness

AOF = ("--appendonly", "yes", "--appendfsync")
REDIS = {"redis": (), "redis-aof": (*AOF, "everysec"), "redis-always": (*AOF, "always")}
SQLITE = {"sqlite": "", "sqlite-full": "?synchronous=FULL"}
AMQP = {"amqp": "classic", "amqp-quorum": "quorum"}
KINDS = (*REDIS, *AMQP, *SQLITE)
SYNCED = ("redis-always", *SQLITE)  # what is written together is synced together, so a limit has large batches


def batch_of(kind):
    """Of the limit program: what a worker with two runners typically has in flight, or what the limit is best with."""
    return 256 if kind in SYNCED else 64


class Broker:
    """One that is ready. program, words: the limit program and the options that make it do the same."""

    def __init__(self, kind, url, directory, pids=(), redis=None, rabbitmq=None):
        self.kind, self.url, self.directory, self.pids, self.redis, self.rabbitmq = kind, url, directory, list(pids), redis, rabbitmq

    @property
    def limit(self):
        if self.redis:
            return "limit_redis", self.url, "bulk"
        if self.rabbitmq:
            return "limit_amqp", self.url, AMQP[self.kind]
        return "limit_sqlite", self.directory, "full" if self.kind == "sqlite-full" else "normal"

    @property
    def pushing(self):
        """The limit's way to push in bulk: Redis syncs once for each time that it has read."""
        return "variadic" if self.kind in SYNCED else "pipeline"

    def cpu_s(self):
        return measure.cpu_s(self.pids)

    def wire_bytes(self):
        """What went over connections so far; None where there are none, or it is not known."""
        if not self.redis:
            return None
        facts = dict(row.split(":", 1) for row in self.redis.cli("INFO", "stats").splitlines() if ":" in row)
        return int(facts["total_net_input_bytes"]) + int(facts["total_net_output_bytes"])


class Brokers:
    """Serves brokers; keeps RabbitMQ until the end of the run."""

    def __init__(self):
        self.rabbitmq = self.home = None

    @contextlib.contextmanager
    def fresh(self, kind):
        directory = tempfile.mkdtemp(prefix="celeriac-bench-")
        try:
            with self.serve(kind, directory) as broker:
                yield broker
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextlib.contextmanager
    def serve(self, kind, directory):
        if kind in REDIS:
            server = harness.Redis(directory, *REDIS[kind]).start()
            try:
                yield Broker(kind, server.url, directory, [server.process.pid], redis=server)
            finally:
                server.stop()
        elif kind in SQLITE:
            yield Broker(kind, f"sqlite:{directory}/queue.db{SQLITE[kind]}", directory)
        else:
            yield self.virtual_host(kind, directory)

    def virtual_host(self, kind, directory):
        if not self.rabbitmq:
            self.home = tempfile.mkdtemp(prefix="celeriac-bench-")
            self.rabbitmq = harness.RabbitMQ(self.home).start()
        name = self.rabbitmq.fresh_vhost()
        if AMQP[kind] == "quorum":
            self.rabbitmq.evaluate(
                f'{{new, _}} = rabbit_amqqueue:declare(rabbit_misc:r(<<"{name}">>, queue, <<"celery">>), true, false, '
                '[{<<"x-queue-type">>, longstr, <<"quorum">>}], none, <<"bench">>)')
        return Broker(kind, self.rabbitmq.url_of(name), directory, [self.rabbitmq.pid], rabbitmq=self.rabbitmq)

    def close(self):
        if self.rabbitmq:
            self.rabbitmq.stop()
        if self.home:
            shutil.rmtree(pathlib.Path(self.home), ignore_errors=True)
