#!/usr/bin/python3
"""What a user or another program can do wrong around RabbitMQ: one clear line, the right exit status, nothing lost.

usage: amqp_bad_input_test.py [unittest arguments]
"""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from amqp_raw import CONFIRMED, Raw, nested  # noqa: E402
from harness import Worker, call, celeriac, result, totals, wait_until  # noqa: E402
from rabbitmq import RabbitMQ  # noqa: E402

ADD = ("call", "math.add", "-a", "[1, 2]")
UNREACHABLE, REFUSED = 3, 5
MESSAGE_MAX = 100000
CLOSED = ((10, 50), (20, 40))  # the connection, the channel


def setUpModule():
    global DIRECTORY, SERVER
    DIRECTORY = tempfile.mkdtemp(prefix="celeriac-test-")
    SERVER = RabbitMQ(DIRECTORY, config=f"max_message_size = {MESSAGE_MAX}").start()


def tearDownModule():
    SERVER.stop()
    shutil.rmtree(DIRECTORY, ignore_errors=True)


class Other:
    """A server that speaks something else: says `reply` to whatever comes, and nothing when it is empty."""

    def __init__(self, reply):
        self.reply, self.open = reply, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://127.0.0.1:{self.listener.getsockname()[1]}/?connection_timeout=2"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.open.append(client)
                client.recv(100)
                if self.reply:
                    client.sendall(self.reply)
                    client.close()

    def stop(self):
        self.listener.close()
        for client in self.open:
            client.close()


class Bad(unittest.TestCase):
    def setUp(self):
        self.vhost = SERVER.fresh_vhost()
        self.url = SERVER.url_of(self.vhost)
        place = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(place.cleanup)
        self.dir = place.name

    def refused(self, url, *says, words=ADD, status=REFUSED):
        done = celeriac(url, *words)
        line = done.stderr.strip()
        self.assertEqual(done.returncode, status, line)
        self.assertEqual(line.count("\n"), 0, line)
        for text in says:
            self.assertIn(text, line)
        return line

    def user(self, configure, write, read):
        name = f"u{self.vhost}"
        SERVER.ctl("add_user", name, "secret-word")
        SERVER.ctl("set_permissions", "-p", self.vhost, name, configure, write, read)
        return SERVER.url_of(self.vhost, user=name, password="secret-word")

    def test_wrong_password(self):
        url = SERVER.url_of(self.vhost, password="secret-word")
        for words in (ADD, ("status",)):
            self.assertNotIn("secret-word", self.refused(url, "wrong password for \"guest\"", words=words))
        done = celeriac(url, "worker", "-c", "1")
        self.assertEqual(done.returncode, REFUSED)
        self.assertIn("wrong password", done.stderr)

    def test_a_virtual_host_that_is_not_there(self):
        self.refused(SERVER.url_of("nowhere"), "virtual host \"nowhere\"")

    def test_no_permission_to_configure(self):
        url = self.user("^$", ".*", ".*")
        self.refused(url, "ACCESS_REFUSED", "celeriac.results")
        # Where everything was made before, none is needed.
        celeriac(self.url, *ADD, check=0)
        celeriac(url, *ADD, check=0)

    def test_no_permission_to_write(self):
        celeriac(self.url, *ADD, check=0)
        self.refused(self.user(".*", "^$", ".*"), "ACCESS_REFUSED", "amq.default")
        self.assertEqual(totals(self.url)["waiting"], 1)

    def test_no_permission_to_read(self):
        celeriac(self.url, *ADD, check=0)
        url = self.user(".*", ".*", "^$")
        worker = Worker(url, "-c", "1", log=f"{self.dir}/log")
        self.addCleanup(worker.__exit__)
        worker.start(ready=False)
        # Which of its queues it is refused first is the server's choice.
        wait_until(lambda: re.search("ACCESS_REFUSED - (read )?access to", worker.log()), "the worker to say so")
        self.refused(url, "ACCESS_REFUSED", "celery", words=("queue", "peek", "celery"))
        self.assertEqual(totals(self.url)["waiting"], 1)

    def test_no_permission_to_read_results(self):
        task_id = celeriac(self.url, *ADD, check=0).stdout.strip()
        url = self.user(".*", ".*", "^(?!celeriac[.]results).*")
        for words in (("result", task_id), ("result", task_id, "--wait", "30"), ("status",)):
            self.refused(url, "ACCESS_REFUSED", "celeriac.results", words=words)
        # Who has a queue of replies of his own needs no more, and neither has a worker what is new to it.
        with Worker(url, "-c", "1", log=f"{self.dir}/log"):
            done = celeriac(url, *ADD, "--wait", "30", check=0)
        self.assertEqual(done.stdout.strip(), "3")

    def test_queues_of_other_types_are_used(self):
        other = Raw(SERVER.facts["port"], self.vhost)
        text = b"\x0cx-queue-typeS"
        other.declare("celery", 2, text + struct.pack(">I", 6) + b"quorum")
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log"):
            self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=60)["result"], 3)
        other.sock.close()

    def test_a_stream_is_no_queue_of_jobs(self):
        celeriac(self.url, *ADD, "--queue", "other", check=0)
        other = Raw(SERVER.facts["port"], self.vhost)
        other.declare("celery", 2, b"\x0cx-queue-typeS" + struct.pack(">I", 6) + b"stream")
        other.sock.close()
        done = celeriac(self.url, "worker", "-c", "1", "-Q", "celery,other")
        self.assertEqual(done.returncode, REFUSED, done.stderr)
        line, = (line for line in done.stderr.splitlines() if " error " in line.lower() or "level=error" in line)
        self.assertIn("queue 'celery': it is a stream", line)
        self.assertEqual(totals(self.url)["succeeded"], 0)

    def test_a_queue_that_is_anothers_own(self):
        other = Raw(SERVER.facts["port"], self.vhost)
        other.declare("celery", 4)
        worker = Worker(self.url, "-c", "1", log=f"{self.dir}/log")
        self.addCleanup(worker.__exit__)
        worker.start(ready=False)
        wait_until(lambda: "RESOURCE_LOCKED" in worker.log() or worker.process.poll() is not None, "the worker to say so")
        self.assertIn("RESOURCE_LOCKED", worker.log())
        self.assertIn("celery", worker.log())
        self.refused(self.url, "RESOURCE_LOCKED", "celery", words=("queue", "peek", "celery"))
        other.sock.close()

    def test_headers_that_cannot_be_read(self):
        celeriac(self.url, *ADD, check=0)
        other = Raw(SERVER.facts["port"], self.vhost)
        self.assertEqual(other.publish("celery", nested(200)), CONFIRMED)
        self.assertEqual(other.publish("celery", nested(40)), CONFIRMED)
        other.sock.close()
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log") as worker:
            self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=60)["result"], 3)
            wait_until(lambda: totals(self.url)["dead"] == 2, "both to be buried")
            self.assertEqual(worker.log().count("broker lost"), 0)
        dead = json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)
        self.assertIn("nested", json.dumps(dead))
        t = totals(self.url)
        self.assertEqual((t["waiting"], t["leased"], t["succeeded"]), (0, 0, 2), t)

    def test_headers_that_lie_about_their_size(self):
        """RabbitMQ reads a message's headers before it takes it: such a one ends its sender's connection and goes no further."""
        celeriac(self.url, *ADD, check=0)
        liars = {"a table longer than the headers": b"\x04deepF" + struct.pack(">I", 1000) + b"\x01xV",
                 "a table that ends inside of a value": b"\x04deepF" + struct.pack(">I", 3) + b"\x01xI\0\0\0\1",
                 "a text longer than the headers": b"\x04textS" + struct.pack(">I", 2 ** 31) + b"short",
                 "a name longer than the headers": b"\xffname",
                 "a kind that there is not": b"\x04kind?" + b"\0" * 8}
        for what, headers in liars.items():
            with self.subTest(what):
                other = Raw(SERVER.facts["port"], self.vhost)
                self.assertIn(other.publish("celery", headers), CLOSED)
                other.sock.close()
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log") as worker:
            wait_until(lambda: totals(self.url)["succeeded"] == 1, "the job that was there")
            self.assertEqual(worker.log().count("broker lost"), 0)
        t = totals(self.url)
        self.assertEqual((t["waiting"], t["leased"], t["dead"]), (0, 0, 0), t)

    def test_a_message_that_the_server_finds_too_large(self):
        line = json.dumps({"task": "math.add", "args": ["x" * (MESSAGE_MAX + 1000), 1]}) + "\n"
        done = celeriac(self.url, "call", "-", stdin=line)
        self.assertNotEqual(done.returncode, 0)
        # Who can say the line tells first: the server, or we who remember its limit.
        self.assertRegex(done.stderr, f"configured max size {MESSAGE_MAX}|the broker takes {MESSAGE_MAX} at most")
        celeriac(self.url, *ADD, check=0)
        self.assertEqual(totals(self.url)["waiting"], 1)

    def test_servers_that_speak_something_else(self):
        for reply, status in ((b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", None), (b"-ERR unknown command 'AMQP'\r\n", None),
                              (b"", UNREACHABLE)):
            server = Other(reply)
            done = celeriac(server.url, *ADD)
            server.stop()
            self.assertEqual(done.stderr.strip().count("\n"), 0, done.stderr)
            self.assertIn(done.returncode, (UNREACHABLE, REFUSED) if status is None else (status,), done.stderr)
            self.assertIn("127.0.0.1", done.stderr)

    def test_higher_priorities_go_first(self):
        other = Raw(SERVER.facts["port"], self.vhost)
        other.declare("celery", 2, b"\x0ex-max-priorityI" + struct.pack(">I", 10))
        other.sock.close()
        jobs = {n: call(self.url, "math.add", n, n, priority=n) for n in (1, 9, 5)}
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log"):
            done = {n: result(self.url, job, wait_s=60)["date_done"] for n, job in jobs.items()}
        self.assertEqual(sorted(done, key=done.get), [9, 5, 1])

    def test_one_dead_host_of_several(self):
        port = SERVER.facts["port"]
        url = self.url.replace(f"127.0.0.1:{port}", f"127.0.0.1:1,127.0.0.1:{port}")
        with Worker(url, "-c", "1", log=f"{self.dir}/log"):
            done = celeriac(url, *ADD, "--wait", "30", check=0)
            self.assertIn("3", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
