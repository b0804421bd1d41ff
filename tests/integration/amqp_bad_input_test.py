#!/usr/bin/python3
"""What a user or another program can do wrong around RabbitMQ: one clear line, the right exit status, nothing lost.

usage: amqp_bad_input_test.py [unittest arguments]
"""
import contextlib
import json
import pathlib
import shutil
import socket
import struct
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Worker, call, celeriac, result, totals, wait_until  # noqa: E402
from rabbitmq import RabbitMQ  # noqa: E402
from rabbitmq4 import frame, read_frame  # noqa: E402

ADD = ("call", "math.add", "-a", "[1, 2]")
UNREACHABLE, REFUSED = 3, 5
MESSAGE_MAX = 100000


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


class Raw:
    """A connection that may say anything on channel 1."""

    def __init__(self, vhost):
        self.sock = socket.create_connection(("127.0.0.1", SERVER.facts["port"]), timeout=30)
        self.sock.sendall(b"AMQP\0\0\x09\x01")
        read_frame(self.sock)
        plain = b"\0guest\0guest"
        self.say(0, struct.pack(">HHI", 10, 11, 0) + b"\x05PLAIN" + struct.pack(">I", len(plain)) + plain + b"\x05en_US")
        read_frame(self.sock)
        self.say(0, struct.pack(">HHHIH", 10, 31, 2047, 131072, 0))
        self.call(0, struct.pack(">HH", 10, 40) + bytes([len(vhost)]) + vhost.encode() + b"\0\0")
        self.call(1, struct.pack(">HH", 20, 10) + b"\0")
        self.call(1, struct.pack(">HH", 85, 10) + b"\0")

    def say(self, channel, payload):
        self.sock.sendall(frame(1, channel, payload))

    def call(self, channel, payload):
        self.say(channel, payload)
        return read_frame(self.sock)[2]

    def declare(self, queue, bits, arguments=b""):
        """bits: 2 durable, 4 exclusive"""
        return self.call(1, struct.pack(">HHH", 50, 10, 0) + bytes([len(queue)]) + queue.encode() + bytes([bits])
                         + struct.pack(">I", len(arguments)) + arguments)

    def publish(self, queue, headers, body=b"body"):
        """headers: the bytes of the table, without its length. Returns once confirmed."""
        self.say(1, struct.pack(">HHHB", 60, 40, 0, 0) + bytes([len(queue)]) + queue.encode() + b"\0")
        self.sock.sendall(frame(2, 1, struct.pack(">HHQHI", 60, 0, len(body), 0x2000, len(headers)) + headers))
        self.sock.sendall(frame(3, 1, body))
        return read_frame(self.sock)[2][:4]


def nested(depth):
    """A header "deep" that is a table in a table in a table."""
    value = b"V"
    for _ in range(depth):
        table = b"\x01x" + value
        value = b"F" + struct.pack(">I", len(table)) + table
    return b"\x04deep" + value


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
        wait_until(lambda: "ACCESS_REFUSED - access to" in worker.log(), "the worker to say so")
        self.refused(url, "ACCESS_REFUSED", "celery", words=("queue", "peek", "celery"))
        self.assertEqual(totals(self.url)["waiting"], 1)

    def test_queues_of_other_types_are_used(self):
        other = Raw(self.vhost)
        text = b"\x0cx-queue-typeS"
        other.declare("celery", 2, text + struct.pack(">I", 6) + b"quorum")
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log"):
            self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=60)["result"], 3)
        other.sock.close()

    def test_a_stream_is_no_queue_of_jobs(self):
        celeriac(self.url, *ADD, "--queue", "other", check=0)
        other = Raw(self.vhost)
        other.declare("celery", 2, b"\x0cx-queue-typeS" + struct.pack(">I", 6) + b"stream")
        other.sock.close()
        done = celeriac(self.url, "worker", "-c", "1", "-Q", "celery,other")
        self.assertEqual(done.returncode, REFUSED, done.stderr)
        line, = (line for line in done.stderr.splitlines() if " error " in line.lower() or "level=error" in line)
        self.assertIn("queue 'celery': it is a stream", line)
        self.assertEqual(totals(self.url)["succeeded"], 0)

    def test_a_queue_that_is_anothers_own(self):
        other = Raw(self.vhost)
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
        other = Raw(self.vhost)
        self.assertEqual(struct.unpack(">HH", other.publish("celery", nested(200))), (60, 80))
        self.assertEqual(struct.unpack(">HH", other.publish("celery", nested(40))), (60, 80))
        other.sock.close()
        with Worker(self.url, "-c", "1", log=f"{self.dir}/log") as worker:
            self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=60)["result"], 3)
            wait_until(lambda: totals(self.url)["dead"] == 2, "both to be buried")
            self.assertEqual(worker.log().count("broker lost"), 0)
        dead = json.loads(celeriac(self.url, "dead", "ls", "-o", "json", check=0).stdout)
        self.assertIn("nested", json.dumps(dead))
        t = totals(self.url)
        self.assertEqual((t["waiting"], t["leased"], t["succeeded"]), (0, 0, 2), t)

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
        other = Raw(self.vhost)
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
