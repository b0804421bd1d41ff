#!/usr/bin/python3
"""Worker, client, results and operators against what RabbitMQ 4 allows. usage: rabbitmq4_test.py [unittest arguments]"""
import pathlib
import shutil
import socket
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Worker, call, celeriac, result, totals, wait_until  # noqa: E402
from rabbitmq import RabbitMQ  # noqa: E402
from rabbitmq4 import QOS, QUEUE_DECLARE, RabbitMQ4, frame, read_exactly, read_frame  # noqa: E402


def setUpModule():
    global DIRECTORY, SERVER
    DIRECTORY = tempfile.mkdtemp(prefix="celeriac-test-")
    SERVER = RabbitMQ(DIRECTORY).start()


def tearDownModule():
    SERVER.stop()
    shutil.rmtree(DIRECTORY, ignore_errors=True)


class Four(unittest.TestCase):
    def setUp(self):
        self.proxy = RabbitMQ4(SERVER.facts["port"])
        self.addCleanup(self.proxy.stop)
        self.url = SERVER.fresh_url().replace(f":{SERVER.facts['port']}/", f":{self.proxy.port}/")

    def login(self):
        """A raw connection, logged in, with one channel open."""
        sock = socket.create_connection(("127.0.0.1", self.proxy.port))
        self.addCleanup(sock.close)
        sock.sendall(b"AMQP\0\0\x09\x01")
        started = read_frame(sock)[2]
        plain = b"\0guest\0guest"
        sock.sendall(frame(1, 0, struct.pack(">HHI", 10, 11, 0) + b"\x05PLAIN" + struct.pack(">I", len(plain)) + plain + b"\x05en_US"))
        read_frame(sock)
        sock.sendall(frame(1, 0, struct.pack(">HHHIH", 10, 31, 2047, 131072, 0)))
        sock.sendall(frame(1, 0, struct.pack(">HH", 10, 40) + b"\x01/" + b"\0\0"))
        read_frame(sock)
        sock.sendall(frame(1, 1, struct.pack(">HH", 20, 10) + b"\0"))
        read_frame(sock)
        return sock, started

    def refused_with(self, payload):
        sock, _ = self.login()
        sock.sendall(frame(1, 1, payload))
        answer = read_frame(sock)[2]
        self.assertEqual(struct.unpack(">HH", answer[:4]), (10, 50))
        return struct.unpack(">H", answer[4:6])[0]

    def test_the_proxy_refuses_what_it_should(self):
        sock, started = self.login()
        self.assertIn(b"versionS\0\0\0\x054.1.0", started)
        sock.sendall(frame(1, 1, struct.pack(">HHIHB", *QOS, 0, 10, 0)))
        self.assertEqual(struct.unpack(">HH", read_frame(sock)[2][:4]), (60, 11))
        self.assertEqual(self.refused_with(struct.pack(">HHIHB", *QOS, 0, 10, 1)), 540)
        self.assertEqual(self.refused_with(struct.pack(">HHH", *QUEUE_DECLARE, 0) + b"\x01q\0" + struct.pack(">I", 0)), 541)
        self.assertEqual(len(self.proxy.refused), 2)
        self.proxy.refused.clear()
        fresh = socket.create_connection(("127.0.0.1", self.proxy.port))
        fresh.sendall(b"AMQP\0\0\x09\x01")
        self.assertEqual(read_exactly(fresh, 1), b"\x01")
        fresh.close()

    def test_all_of_celeriac_passes(self):
        with tempfile.TemporaryDirectory(prefix="celeriac-test-") as place:
            with Worker(self.url, "-c", "2", "-Q", "celery,other", log=f"{place}/log") as worker:
                self.assertEqual(result(self.url, call(self.url, "math.add", 1, 2), wait_s=30)["result"], 3)
                done = celeriac(self.url, "call", "math.add", "-a", "[20, 22]", "--wait", "30", check=0)
                self.assertIn("42", done.stdout)
                # A step of the backoff, the ladder, a dead letter.
                self.assertEqual(result(self.url, call(self.url, "math.add", 2, 2, countdown=1), wait_s=30)["result"], 4)
                self.assertEqual(result(self.url, call(self.url, "math.add", 2, 3, countdown=2.7), wait_s=30)["result"], 5)
                call(self.url, "no.such.task")
                wait_until(lambda: totals(self.url)["dead"] == 1, "the unknown task to be parked")
                for words in (["status"], ["queue", "ls"], ["dead", "ls"], ["queue", "peek", "celery"]):
                    celeriac(self.url, *words, check=0)
                self.assertIn("4.1.0", celeriac(self.url, "doctor").stdout)
                self.assertEqual(worker.log().count("broker lost"), 0, worker.log())
        self.assertEqual(self.proxy.refused, [])
        self.assertGreater(self.proxy.seen[QOS], 0)
        self.assertGreater(self.proxy.seen[QUEUE_DECLARE], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
