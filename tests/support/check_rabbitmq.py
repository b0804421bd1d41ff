#!/usr/bin/python3
"""The private rabbitmq-server itself: what it keeps over a kill, what it offers, and that nothing of it stays behind."""
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from frozen import frozen  # noqa: E402
from harness import DEADLINE_S, process_tree, wait_until  # noqa: E402
from rabbitmq import Attached, RabbitMQ, available, speaks_amqp  # noqa: E402

WITH_RABBITMQ = str(pathlib.Path(__file__).resolve().parent / "with_rabbitmq.py")


def loopback_only(pid):
    """Whether every TCP socket that the process listens on has a loopback address."""
    inodes = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            link = os.readlink(entry)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    found = []
    for table, loopback in (("tcp", ("0100007F",)), ("tcp6", ("00000000000000000000000001000000", "0000000000000000FFFF00000100007F"))):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.append(words[1].split(":")[0] in loopback)
    return bool(found) and all(found)


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.server = RabbitMQ(cls.place.name, tls=True, management=True, consumer_timeout_ms=4000).start()

    @classmethod
    def tearDownClass(cls):
        pids = [cls.server.pid, cls.server.epmd.pid]
        cls.server.stop()
        cls.place.cleanup()
        left = [pid for pid in (*pids, *process_tree(os.getpid())) if os.path.exists(f"/proc/{pid}")]
        assert not left, f"still there: {left}"

    def test_data_outlives_a_kill_and_a_restart(self):
        vhost = self.server.fresh_vhost()
        self.assertIn(f"/{vhost}", self.server.url_of(vhost))
        self.server.kill9()
        self.assertFalse(speaks_amqp(self.server.facts["port"]))
        self.server.start()
        self.assertIn(vhost, self.server.ctl("list_vhosts").split())
        self.server.restart()
        self.assertIn(vhost, self.server.ctl("list_vhosts").split())

    def test_it_is_frozen_and_goes_on(self):
        with frozen(self.server.pid):
            self.assertFalse(speaks_amqp(self.server.facts["port"]))
        wait_until(lambda: speaks_amqp(self.server.facts["port"]), "the server to answer again")

    def test_it_listens_on_loopback_only(self):
        self.assertTrue(loopback_only(self.server.pid))
        self.assertTrue(loopback_only(self.server.epmd.pid))

    def test_another_process_controls_it(self):
        self.server.save(f"{self.place.name}/server.json")
        other = Attached(f"{self.place.name}/server.json")
        self.assertIn(other.fresh_vhost(), self.server.ctl("list_vhosts").split())
        other.memory_alarm(True)
        self.assertIn("memory", self.server.evaluate("rabbit_alarm:get_local_alarms()"))
        other.memory_alarm(False)
        self.assertNotIn("memory", self.server.evaluate("rabbit_alarm:get_local_alarms()"))
        self.assertIn("4000", self.server.evaluate("application:get_env(rabbit, consumer_timeout)"))

    def test_tls_is_verified_against_its_own_authority(self):
        port = self.server.facts["tls_port"]
        good = ssl.create_default_context(cafile=self.server.facts["ca"])
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as plain, good.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            self.assertTrue(secured.getpeercert())
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as plain, self.assertRaises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")

    def test_management_answers(self):
        opener = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        url = f"http://127.0.0.1:{self.server.facts['api_port']}/api/overview"
        opener.add_password(None, url, "guest", "guest")
        with urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(opener)).open(url, timeout=DEADLINE_S) as answer:
            self.assertIn(b"rabbitmq_version", answer.read())


class Keeper(unittest.TestCase):
    def run_it(self, *words):
        done = subprocess.run([sys.executable, WITH_RABBITMQ, *words], capture_output=True, text=True,
                              env={k: v for k, v in os.environ.items() if not k.startswith("CELERIAC_TEST_AMQP")})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_many_commands_share_one_server(self):
        with tempfile.TemporaryDirectory() as state:
            self.run_it("--state", state, "--start")
            pid = Attached(f"{state}/server.json").facts["server"]
            try:
                show = ["--state", state, "--", "sh", "-c", "echo $CELERIAC_TEST_AMQP_URL; $CELERIAC_TEST_AMQP_FRESH"]
                urls = (self.run_it(*show) + "\n" + self.run_it(*show)).split()
                self.assertEqual(len(set(urls)), 4)
                self.assertEqual(len({url.rpartition("/")[0] for url in urls}), 1)
            finally:
                self.run_it("--state", state, "--stop")
            self.assertFalse(os.path.exists(f"/proc/{pid}"))
            self.assertFalse(os.listdir(state))


if __name__ == "__main__":
    if not available():
        sys.exit(77)
    unittest.main()
