"""What the tests with Celery at the other end of RabbitMQ share: a fresh virtual host each, our worker, Celery workers and clients.

Results go through rpc:// unless a test says otherwise; `results` is the URL of a private Redis for those that do. Skips the whole
program (77) without Celery or a rabbitmq-server.
"""
import gc
import json
import os
import shutil
import signal
import tempfile
import unittest

from celery_case import Peer  # first: it skips the program where Celery is missing
import celery_app
import kombu

from harness import Redis, Worker, celeriac, shared_rabbitmq_url
from rabbitmq import RabbitMQ


class AmqpCase(unittest.TestCase):
    """A virtual host of its own for each test; the server is shared when with_rabbitmq.py offers one."""

    @classmethod
    def setUpClass(cls):
        cls.server = None
        if not os.environ.get("CELERIAC_TEST_AMQP_FRESH"):
            place = tempfile.mkdtemp(prefix="celeriac-test-")
            cls.addClassCleanup(shutil.rmtree, place, ignore_errors=True)
            cls.server = RabbitMQ(place).start()
            cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.url = self.server.fresh_url() if self.server else shared_rabbitmq_url()

    def start_redis(self):
        """For results; its URL as Celery and as we write it."""
        server = Redis(self.dir).start()
        self.addCleanup(server.stop)
        return server.url

    def worker(self, *args, **options):
        """Ours."""
        worker = Worker(self.url, "-c", "1", *args, log=f"{self.dir}/worker.log", **options)
        self.addCleanup(worker.stop, signal.SIGQUIT, 30)
        return worker.start()

    def peer(self, *args, backend="rpc://", quorum="", **options):
        """Theirs. quorum: names of its queues, separated by commas."""
        peer = Peer(self.dir, self.url, *args, env={"PEER_BACKEND": backend, "PEER_QUORUM": quorum}, **options)
        self.addCleanup(peer.kill)
        return peer

    def client(self, backend="rpc://", **conf):
        """A Celery application in this process."""
        app = celery_app.create(self.url, backend=backend, **conf)
        self.addCleanup(app.close)
        self.addCleanup(gc.collect)
        return app

    def call(self, task, args, *options, check=0, **kwargs):
        """Our call that waits: the CompletedProcess."""
        return celeriac(self.url, "call", task, "-a", json.dumps(args), "--wait", "30", *options, check=check, **kwargs)

    def sent(self, task, args, *options):
        """Our call that does not wait: the id."""
        return celeriac(self.url, "call", task, "-a", json.dumps(args), *options, check=0).stdout.strip()

    def get(self, queue):
        """Takes the first message of a queue, as kombu reads it; None when it is empty."""
        with kombu.Connection(self.url) as connection:
            return kombu.Queue(queue).bind(connection.default_channel).get(no_ack=True)

    def count(self, queue):
        """Messages that wait in a queue; None when there is no such queue."""
        with kombu.Connection(self.url) as connection:
            try:
                return connection.default_channel.queue_declare(queue, passive=True).message_count
            except connection.channel_errors:
                return None
