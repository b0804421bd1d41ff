#!/usr/bin/python3
"""Messages that are pushed to Redis in transactions: what is refused, what breaks, what is sent again. usage: redis_push_test.py"""
import contextlib
import json
import pathlib
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from harness import Redis, Worker, celeriac, command, totals, wait_until  # noqa: E402

LINES = 300  # more than one batch
LOADS = 30000  # takes longer than to look at
BUSY = "local s = redis.call('TIME'); repeat local t = redis.call('TIME') until (t[1] - s[1]) * 1e6 + t[2] - s[2] > 10000"
MANY = 3000  # the first batches go through a script, until the list is known to be one


def lines(n=LINES, queues=("celery",)):
    """In turn for each queue."""
    return "".join(json.dumps({"task": "noop", "args": [i], "queue": queues[i % len(queues)]}) + "\n" for i in range(n))


class Cutter:
    """Passes bytes on between clients and the server. Cuts the first connection that ends a transaction with an LPUSH in it, or one that
    calls a script with a token: before the server gets that, or after it answered, so that the client can not know."""
    ENDS = {"transaction": (rb"\r\nLPUSH\r\n.*\r\nEXEC\r\n", rb"\*\d+\r\n[:-]"), "script": (rb"EVAL.*celeriac:token:", rb"\*\d+\r\n")}

    def __init__(self, directory, server, after, how="transaction"):
        self.path, self.server, self.after = f"{directory}/cutter.sock", server, after
        self.asks, self.answers = (re.compile(text, re.DOTALL) for text in self.ENDS[how])
        self.cuts = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.carry, args=[self.listener.accept()[0]], daemon=True).start()

    def carry(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server)
        asked, ending = b"", False
        with client, server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    got = ready.recv(1 << 20)
                    if not got:
                        return
                    if ready is server:
                        if ending and self.answers.search(got):
                            self.cuts += 1
                            return
                        client.sendall(got)
                        continue
                    asked += got
                    if not self.cuts and not ending and self.asks.search(asked):
                        if not self.after:
                            self.cuts += 1
                            return
                        ending = True
                    server.sendall(got)


class Push(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = place.name
        self.redis = Redis(self.directory).start()
        self.addCleanup(self.redis.stop)

    def url_of(self, user):
        return self.redis.url.replace("redis+socket://", f"redis+socket://{user}:secret@")

    def commands(self, name):
        """How often the server has run a command."""
        for row in self.redis.cli("INFO", "commandstats").splitlines():
            if row.startswith(f"cmdstat_{name}:"):
                return int(row.split("calls=")[1].split(",")[0])
        return 0

    def assert_in(self, queue, wanted, ordered=True):
        found = [json.loads(text)["headers"]["argsrepr"] for text in reversed(self.redis.cli("LRANGE", queue, "0", "-1").splitlines())]
        wanted = [f"({i},)" for i in wanted]
        self.assertEqual(found if ordered else sorted(found), wanted if ordered else sorted(wanted))

    def assert_there(self, n=LINES, ordered=True):
        """Each message once, in the order of the lines, and counted."""
        self.assert_in("celery", range(n), ordered)
        self.assertEqual(self.published(), n)

    def assert_spread(self, n, queues, refused=()):
        """As assert_there, of those that took turns."""
        for i, queue in enumerate(queues):
            if queue not in refused:
                self.assert_in(queue, range(i, n, len(queues)))
        self.assertEqual(self.published(), sum(queues[i % len(queues)] not in refused for i in range(n)))

    def published(self):
        """The counter, and what producers that are still there have counted themselves."""
        return int(self.redis.cli("HGET", "celeriac:totals", "published") or 0) + sum(map(int, self.redis.cli("HVALS", "celeriac:sent").split()))

    def tokens(self):
        return len(self.redis.cli("KEYS", "celeriac:token:*").split())

    def test_batches_are_transactions(self):
        celeriac(self.redis.url, "call", "-", stdin=lines(MANY), check=0)
        self.assert_there(MANY)
        self.assertGreater(self.commands("exec"), 1)
        self.assertLess(self.commands("lpush"), MANY / 20)

    def test_messages_for_queues_in_turn_share_transactions(self):
        for n in (10, 100):  # some, and more than one request has lists
            with self.subTest(n):
                self.redis.cli("FLUSHALL")
                self.redis.cli("CONFIG", "RESETSTAT")
                queues = [f"q{i}" for i in range(n)]
                celeriac(self.redis.url, "call", "-", stdin=lines(MANY, queues), check=0)
                self.assert_spread(MANY, queues)
                self.assertGreater(self.commands("exec"), 10)
                self.assertLess(self.tokens(), MANY / 20)

    def test_a_queue_that_is_no_list_refuses_its_own(self):
        queues = ["a", "wrong", "b"]
        self.redis.cli("SET", "wrong", "text")
        done = celeriac(self.redis.url, "call", "-", stdin=lines(90, queues), check=7)
        self.assertEqual((done.stderr.count("WRONGTYPE"), len(done.stdout.split())), (30, 60), done.stderr)
        self.assert_spread(90, queues, refused=["wrong"])

    def test_a_queue_that_becomes_something_else_refuses_its_own(self):
        queues = ["a", "wrong", "b"]
        process = subprocess.Popen(command(self.redis.url, "call", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        sent = lines(180, queues).splitlines(keepends=True)
        process.stdin.write("".join(sent[:90]))
        process.stdin.flush()
        ids = [process.stdout.readline().strip() for _ in range(90)]
        self.redis.cli("DEL", "wrong")
        self.redis.cli("SET", "wrong", "text")
        before = self.commands("exec")
        out, errors = process.communicate("".join(sent[90:]))
        self.assertEqual((process.returncode, len(out.split()), errors.count("WRONGTYPE")), (7, 60, 30), errors)
        self.assertGreater(self.commands("exec"), before)
        self.assertEqual(len(set(ids + out.split())), 150)
        self.assert_in("a", range(0, 180, 3))
        self.assert_in("b", range(2, 180, 3))
        self.assertEqual(self.published(), 150)
        told = {self.redis.cli("GET", key) for key in self.redis.cli("KEYS", "celeriac:token:*").split()} - {"1"}
        self.assertTrue(told)
        for text in told:
            self.assertRegex(text, r"^\d WRONGTYPE [^\n]*$")

    def test_what_was_refused_is_refused_when_the_answer_got_lost(self):
        queues = ["a", "wrong", "b"]
        for how, after in (("script", False), ("script", True)):
            with self.subTest(after=after), tempfile.TemporaryDirectory() as directory:
                self.redis.cli("FLUSHALL")
                self.redis.cli("SET", "wrong", "text")
                cutter = Cutter(directory, self.redis.socket, after, how)
                self.addCleanup(cutter.listener.close)
                done = celeriac(f"redis+socket://{cutter.path}?virtual_host=0", "call", "-", stdin=lines(90, queues), check=7)
                self.assertEqual(cutter.cuts, 1)
                self.assertEqual((done.stderr.count("WRONGTYPE"), len(done.stdout.split())), (30, 60), done.stderr)
                self.assert_spread(90, queues, refused=["wrong"])

    def test_a_busy_server_gets_each_message_once(self):
        """It may refuse MULTI and take some of what follows by itself."""
        queues = [f"q{i}" for i in range(10)]
        self.redis.cli("CONFIG", "SET", "busy-reply-threshold", "1")
        texts = "".join(json.dumps({**json.loads(line), "kwargs": {"pad": "x" * 2000}}) + "\n" for line in lines(LOADS, queues).splitlines())
        process = subprocess.Popen(command(self.redis.url, "call", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        busy = threading.Thread(target=lambda: [self.redis.cli("EVAL", BUSY, "0") for _ in range(60)])
        busy.start()
        out, errors = process.communicate(texts)
        busy.join()
        self.assertEqual((process.returncode, len(set(out.split()))), (0, LOADS), errors)
        for i, queue in enumerate(queues):
            self.assert_in(queue, range(i, LOADS, len(queues)), ordered=False)
        self.assertEqual(self.published(), LOADS)

    def test_a_broken_connection_pushes_messages_for_queues_in_turn_once(self):
        queues = [f"q{i}" for i in range(40)]
        for after in (False, True):
            with self.subTest(after=after), tempfile.TemporaryDirectory() as directory:
                self.redis.cli("FLUSHALL")
                cutter = Cutter(directory, self.redis.socket, after)
                self.addCleanup(cutter.listener.close)
                done = celeriac(f"redis+socket://{cutter.path}?virtual_host=0", "call", "-", stdin=lines(MANY, queues), check=0)
                self.assertEqual((cutter.cuts, len(set(done.stdout.split()))), (1, MANY))
                for i, queue in enumerate(queues):
                    self.assert_in(queue, range(i, MANY, len(queues)), ordered=False)
                self.assertEqual(self.published(), MANY)

    def test_the_first_message_for_a_list_goes_through_a_script(self):
        celeriac(self.redis.url, "call", "-", stdin=lines(1), check=0)
        self.assert_there(1)
        self.assertLessEqual(self.commands("exec"), 1)  # the question whether there are transactions

    def sender(self, url=None):
        """A process that sends each line before it reads the next one."""
        process = subprocess.Popen(command(url or self.redis.url, "call", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(process.communicate)

        def send(**line):
            print(json.dumps({"task": "noop", **line}), file=process.stdin, flush=True)
            return process.stdout.readline().strip()
        return process, send

    def test_a_message_by_itself_is_a_transaction_once_the_list_is_known(self):
        process, send = self.sender()
        ids = [send(args=[i]) for i in range(5)]
        self.assertEqual(len(set(ids)), 5)
        self.assert_there(5)
        self.assertEqual(self.commands("exec"), 4)  # the question and all but the first two, which had to wait or to try
        self.assertEqual(self.tokens(), 2)
        self.assertEqual(self.redis.cli("HVALS", "celeriac:sent"), "3")
        self.assertEqual(totals(self.redis.url)["published"], 5)
        process.communicate()
        wait_until(lambda: self.redis.cli("EXISTS", "celeriac:sent") == "0", "the end of its count")
        self.assert_there(5)

    def test_a_worker_counts_what_dead_producers_sent_and_leaves_the_living_theirs(self):
        hour = int(time.time()) // 3600
        self.redis.cli("HSET", "celeriac:totals", "published", "1")
        self.redis.cli("HSET", "celeriac:sent", f"{hour - 26:010}/0123456789abcdef", "7", f"{hour:010}/0123456789abcdef", "5")
        with Worker(self.redis.url):
            wait_until(lambda: self.redis.cli("HLEN", "celeriac:sent") == "1", "the worker's look")
        self.assertEqual(self.redis.cli("HVALS", "celeriac:sent"), "5")
        self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), "8")

    def test_an_id_that_was_used_before_pushes_nothing(self):
        _, send = self.sender()
        for _ in range(3):
            self.assertEqual(send(args=[0], id="mine"), "mine")
        self.assert_there(1)

    def test_a_list_that_becomes_something_else_is_refused_and_not_counted(self):
        process, send = self.sender()
        for _ in range(2):
            send(args=[0])
        self.redis.cli("SET", "celery", "text")
        out, errors = process.communicate(json.dumps({"task": "noop"}) + "\n")
        self.assertEqual((process.returncode, out), (7, ""), errors)
        self.assertIn("WRONGTYPE", errors)
        self.assertEqual(self.commands("exec"), 2)
        self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), "2")
        self.assertEqual(self.redis.cli("EXISTS", "celeriac:sent"), "0")
        self.assertEqual(self.tokens(), 2)

    def test_a_user_without_transactions_pushes_in_scripts(self):
        for user, refused in (("nomulti", "-multi"), ("noexec", "-exec"), ("neither", "-@transaction")):
            with self.subTest(user):
                self.redis.cli("FLUSHALL")
                self.redis.cli("CONFIG", "RESETSTAT")
                self.redis.cli("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", refused)
                celeriac(self.url_of(user), "call", "-", stdin=lines(MANY), check=0)
                self.assert_there(MANY)
                self.assertLessEqual(self.commands("exec"), 1)  # the question whether there are transactions

    def test_a_queue_that_is_no_list_refuses_all_and_counts_none(self):
        self.redis.cli("SET", "celery", "text")
        done = celeriac(self.redis.url, "call", "-", stdin=lines(), check=5)
        self.assertIn("WRONGTYPE", done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), "")
        self.assertEqual(self.redis.cli("KEYS", "celeriac:token:*"), "")
        self.redis.cli("DEL", "celery")
        celeriac(self.redis.url, "call", "-", stdin=lines(), check=0)
        self.assert_there()

    def test_a_user_who_may_not_push_gets_told(self):
        self.redis.cli("ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-lpush")
        done = celeriac(self.url_of("poor"), "call", "-", stdin=lines(), check=5)
        self.assertRegex(done.stderr, "can't run this command|no permissions to run the 'lpush' command")
        self.assertNotIn("EXECABORT", done.stderr)
        self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), "")

    def test_a_server_without_memory_is_asked_again_until_it_has_some(self):
        self.redis.cli("CONFIG", "SET", "maxmemory", "1")
        done = celeriac(self.redis.url, "call", "-", "--timeout", "1", stdin=lines(), check=3)
        self.assertIn("OOM", done.stderr)
        self.assertEqual(self.redis.cli("EXISTS", "celery"), "0")
        self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), "")
        later = threading.Timer(0.5, self.redis.cli, ["CONFIG", "SET", "maxmemory", "0"])
        later.start()
        self.addCleanup(later.join)
        celeriac(self.redis.url, "call", "-", stdin=lines(), check=0)
        self.assert_there(ordered=False)  # who is put off is overtaken

    def test_a_connection_that_breaks_pushes_each_message_once(self):
        for after in (False, True):
            with self.subTest(after=after), tempfile.TemporaryDirectory() as directory:
                self.redis.cli("FLUSHALL")
                cutter = Cutter(directory, self.redis.socket, after)
                self.addCleanup(cutter.listener.close)
                done = celeriac(f"redis+socket://{cutter.path}?virtual_host=0", "call", "-", stdin=lines(MANY), check=0)
                self.assertEqual(cutter.cuts, 1)
                self.assertEqual(len(done.stdout.split()), MANY)
                found = self.redis.cli("LRANGE", "celery", "0", "-1").splitlines()
                self.assertEqual(sorted(json.loads(text)["headers"]["id"] for text in found), sorted(done.stdout.split()))
                self.assertEqual(self.redis.cli("HGET", "celeriac:totals", "published"), str(MANY))

    def test_a_connection_that_breaks_pushes_a_message_by_itself_once(self):
        for after in (False, True):
            with self.subTest(after=after), tempfile.TemporaryDirectory() as directory:
                self.redis.cli("FLUSHALL")
                cutter = Cutter(directory, self.redis.socket, after)
                self.addCleanup(cutter.listener.close)
                process, send = self.sender(f"redis+socket://{cutter.path}?virtual_host=0")
                for i in range(6):
                    send(args=[i])
                self.assertEqual(cutter.cuts, 1)
                self.assert_there(6)
                self.assertEqual(self.tokens(), 4)  # the first two, what was sent again, and one more until the list is known again
                process.communicate()
                wait_until(lambda: self.redis.cli("EXISTS", "celeriac:sent") == "0", "the end of its count")
                self.assert_there(6)


if __name__ == "__main__":
    unittest.main()
