"""The application of the Python side: what a Celery worker runs, and the stubs of a Celery client.

A worker imports `app`, made from the environment; a client in a test calls create() with the URL of its server.
Some names exist on both sides on purpose and behave differently: that is how a test sees who ran a job.
"""
import os
import time

import celery
import kombu
from kombu.transport import pyamqp


def create(url, visibility_timeout_s=3600.0, backend=None, **conf):
    app = celery.Celery("celery_app", broker=url, backend=backend or url, set_as_current=False)
    # With a prefetch of one kombu 5.2 may look at its queue only every 10 s once it was full.
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=32, worker_hijack_root_logger=False,
                    broker_transport_options={"visibility_timeout": visibility_timeout_s},
                    result_backend_transport_options={"retry_policy": {"max_retries": 1}}, **conf)
    add_shared_tasks(app)
    add_own_tasks(app)
    return app


def add_shared_tasks(app):
    """Names that our worker knows as well."""
    @app.task(name="math.add", shared=False)
    def add(x, y):
        return x + y

    @app.task(name="math.mul", shared=False)
    def mul(x, y):
        return x * y

    @app.task(name="sleep", shared=False)
    def sleep(seconds):
        time.sleep(seconds)
        return seconds

    @app.task(name="fail", bind=True, shared=False)
    def fail(self, *args, **kwargs):
        """Ours hangs or fails as told; this one says what it was given."""
        return {"ran": "celery", "redelivered": bool(self.request.delivery_info.get("redelivered"))}

    @app.task(name="math.tsum", shared=False)
    def tsum(numbers):
        """Ours answers at once; this one hangs."""
        time.sleep(600)


def add_own_tasks(app):
    """Names that only a Celery worker knows."""
    @app.task(name="peer.add", shared=False)
    def peer_add(x, y):
        return x + y

    @app.task(name="peer.boom", shared=False)
    def boom(text):
        raise ValueError(text)

    @app.task(name="peer.flaky", bind=True, shared=False)
    def flaky(self, failures):
        if self.request.retries < failures:
            raise self.retry(exc=KeyError("not yet"), countdown=0.1, max_retries=5)
        return self.request.retries

    @app.task(name="peer.request", bind=True, shared=False)
    def request(self, *args, **kwargs):
        r = self.request
        return {"args": list(args), "kwargs": kwargs, "id": r.id, "root": r.root_id, "parent": r.parent_id,
                "retries": r.retries, "timelimit": r.timelimit, "custom": r.get("x-custom"), "origin": r.origin,
                "priority": r.delivery_info["priority"], "reply_to": r.reply_to, "ignore_result": r.ignore_result}

    @app.task(name="peer.append", shared=False)
    def append(path, text):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def quorum_queue(name):
    """As Celery wants one: a topic exchange of its own, so that native delayed delivery finds it."""
    return kombu.Queue(name, kombu.Exchange(name, type="topic"), routing_key=name, queue_arguments={"x-queue-type": "quorum"})


def use_prefetch_per_consumer():
    """Celery before 5.4 sets the prefetch for the whole channel, which quorum queues refuse."""
    pyamqp.Transport.qos_semantics_matches_spec = lambda self, connection: True


def queues_of_the_environment():
    names = [name for name in os.environ.get("PEER_QUORUM", "").split(",") if name]
    if not names:
        return {}
    use_prefetch_per_consumer()
    return {"task_queues": [quorum_queue(name) for name in names]}


app = create(os.environ.get("PEER_URL", "memory://"), float(os.environ.get("PEER_VISIBILITY_S", "3600")),
             os.environ.get("PEER_BACKEND"), **queues_of_the_environment())
