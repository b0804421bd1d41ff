#!/usr/bin/python3
"""The command line: output, exit codes, and a clear line for every bad input. argv[1]: sqlite or redis."""
import json
import os
import pathlib
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import harness  # noqa: E402
from frozen import frozen  # noqa: E402

KIND = "sqlite"
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
OUR_VARIABLES = ("CELERIAC_", "CELERY_", "NO_COLOR", "XDG_CONFIG_HOME")


def run(*args, stdin="", env=None, cwd=None):
    """celeriac ARGS in an environment without settings of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(OUR_VARIABLES)}
    clean["XDG_CONFIG_HOME"] = "/nonexistent"
    return subprocess.run([harness.program(), *args], input=stdin, capture_output=True, text=True,
                          timeout=harness.DEADLINE_S, env={**clean, **(env or {})}, cwd=cwd)


class Case(unittest.TestCase):
    def setUp(self):
        context = harness.broker(KIND)
        self.url, self.directory = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def ok(self, *args, **options):
        done = run("-b", self.url, *args, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{args}: {done.stdout}")
        return done.stdout

    def refused(self, status, pattern, *args, broker=True, lines=1, **options):
        """The command must end with that status, say one line that matches, and print nothing."""
        done = run(*(["-b", self.url] if broker else []), *args, **options)
        self.assertEqual(done.returncode, status, f"{args}: {done.stdout}{done.stderr}")
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(len(done.stderr.splitlines()), lines, done.stderr)
        self.assertTrue(all(line.startswith("celeriac: ") for line in done.stderr.splitlines()), done.stderr)
        return done

    def totals(self):
        return json.loads(self.ok("status", "-o", "json"))["totals"]


class Usage(Case):
    def test_help_and_version(self):
        self.assertRegex(run("--version").stdout, r"^celeriac \d+\.\d+\.\d+\n$")
        self.assertRegex(run("call", "--version").stdout, r"^celeriac \d")
        text = run("--help").stdout
        for name in ("worker", "call", "result", "status", "queue", "purge", "dead", "help"):
            self.assertRegex(text, rf"(?m)^  {name} ")
        self.assertEqual(run("help", "call").stdout, run("call", "--help").stdout)
        self.assertIn("--countdown SECONDS", run("help", "call").stdout)
        self.assertIn("celeriac queue peek", run("help", "queue", "peek").stdout)
        self.assertEqual(run().returncode, 2)
        self.assertEqual(run("queue").returncode, 2)

    def test_help_fits_the_terminal(self):
        for columns in (80, 100):
            text = run("help", "call", env={"COLUMNS": str(columns)}).stdout
            examples = text.index("Examples:")
            self.assertLessEqual(max(map(len, text[:examples].splitlines())), columns)

    def test_unknown_words(self):
        self.refused(2, r"unknown command 'cal'; did you mean 'call'\?", "cal", "x")
        self.refused(2, r"unknown command 'pek'; did you mean 'peek'\?", "queue", "pek", "q", "--whatever")
        self.refused(2, r"unknown command 'xyzzy'; see 'celeriac --help'", "xyzzy")
        self.refused(2, r"unknown option --brokr; did you mean --broker\?", "--brokr", "x", "status", broker=False)
        self.refused(2, r"--queues names no queue", "worker", "-Q", "")
        self.refused(2, r"the worker's name is not UTF-8 text", "worker", "-n", b"\xe9")
        self.refused(2, r"unknown option --coutdown; did you mean --countdown\?", "call", "t", "--coutdown", "1")
        self.refused(2, r"unknown option -z", "status", "-z")
        self.refused(2, r"--args needs an argument: JSON", "call", "t", "--args")
        self.refused(2, r"call: TASK is missing", "call")
        self.refused(2, r"call: unexpected argument 'b'", "call", "a", "b")
        self.refused(2, r"result: ID\.\.\. is missing", "result")
        self.refused(2, r"--loglevel: 'LOUD' is none of debug\|info", "--loglevel=LOUD", "status")
        self.refused(2, r"-o: 'xml' is none of table\|json", "status", "-o", "xml")

    def test_options_before_and_after(self):
        for args in (["-b", self.url, "-l", "ERROR", "queue", "ls"], ["queue", "-b", self.url, "ls"],
                     ["queue", "ls", "-b", self.url, "--loglevel=Debug"]):
            done = run(*args)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_precedence(self):
        conf = pathlib.Path(self.directory, "c.conf")
        conf.write_text(f"# our broker\nbroker = {self.url}\nconcurrency = 3\n")
        wrong = "sqlite:/nonexistent/wrong/q.db"
        self.assertEqual(run("--config", str(conf), "queue", "ls").returncode, 0)
        self.assertEqual(run("queue", "ls", env={"CELERIAC_CONFIG": str(conf)}).returncode, 0)
        self.assertEqual(run("--config", str(conf), "queue", "ls", env={"CELERIAC_BROKER": wrong}).returncode, 5)
        self.assertEqual(run("--config", str(conf), "queue", "ls", env={"CELERY_BROKER_URL": wrong}).returncode, 5)
        self.assertEqual(run("queue", "ls", env={"CELERY_BROKER_URL": wrong, "CELERIAC_BROKER": self.url}).returncode, 0)
        self.assertEqual(run("queue", "ls", "-b", self.url, env={"CELERIAC_BROKER": wrong}).returncode, 0)
        home = pathlib.Path(self.directory, "celeriac")
        home.mkdir()
        (home / "celeriac.conf").write_text(f"broker = {self.url}\n")
        self.assertEqual(run("queue", "ls", env={"XDG_CONFIG_HOME": self.directory}).returncode, 0)

    def test_bad_configuration(self):
        conf = pathlib.Path(self.directory, "c.conf")
        conf.write_text("broker = x\nbrokr = y\n")
        self.refused(2, r"c\.conf:2: unknown key 'brokr'; did you mean 'broker'\?", "--config", str(conf), "status",
                     broker=False)
        conf.write_text("just words\n")
        self.refused(2, r"c\.conf:1: not of the form", "--config", str(conf), "status", broker=False)
        self.refused(2, r"configuration file '/nonexistent/x': No such file", "--config", "/nonexistent/x", "status",
                     broker=False)
        self.refused(2, r"CELERIAC_OUTPUT: 'xml' is none of", "status", env={"CELERIAC_OUTPUT": "xml"})

    def test_bad_urls(self):
        self.refused(2, r"no broker is given: use -b URL", "status", broker=False)
        self.refused(2, r'unknown scheme "bogus"', "-b", "bogus://x", "status", broker=False)
        self.refused(2, r'did you mean "sqlite"\?', "-b", "sqlit:x", "status", broker=False)
        self.refused(2, r'the parameter "visibilty_timeout" is not known; known is visibility_timeout', "-b",
                     "redis://localhost:1/0?visibilty_timeout=9", "status", broker=False)
        self.refused(2, r'"db" is not known; known are visibility_timeout and virtual_host', "-b", "redis+socket:///nowhere?db=3",
                     "status", broker=False)
        self.refused(2, r"redis://host:port/0.*port is not a number", "-b", "redis://host:port/0", "status", broker=False)
        self.refused(5, r"/nonexistent/dir", "-b", "sqlite:/nonexistent/dir/q.db", "status", broker=False)
        self.assertEqual(run("-b", "sqlite:/nonexistent/dir/q.db", "worker", "-c", "1").returncode, 5)
        for url in ("redis://127.0.0.1:1", f"redis+socket://{self.directory}/nobody.sock", "amqp://127.0.0.1:1"):
            self.refused(3, r"; is the server running there\?", "-b", url, "status", broker=False)

    def test_secrets_stay_secret(self):
        done = run("-b", "redis://user:s3cret@127.0.0.1:1/0", "--timeout", "1", "status")
        self.assertEqual(done.returncode, 2)  # --timeout is an option of the commands
        done = run("-b", "redis://user:s3cret@127.0.0.1:1/0", "status", "--timeout", "1")
        self.assertNotIn("s3cret", done.stdout + done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def test_man_pages_and_completion(self):
        run("help", "--man", self.directory)
        page = pathlib.Path(self.directory, "celeriac-call.1").read_text()
        self.assertIn("\\-\\-countdown", page)
        self.assertTrue(pathlib.Path(self.directory, "celeriac-queue.1").exists())
        if shutil.which("man"):
            warnings = subprocess.run(["man", "--warnings", "-l", f"{self.directory}/celeriac.1"],
                                      capture_output=True, text=True, env={**os.environ, "MANPAGER": "cat"})
            self.assertEqual(warnings.stderr, "")
        script = pathlib.Path(self.directory, "c.bash")
        script.write_text(run("help", "--completion").stdout)

        def complete(*words):
            text = (f". {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _celeriac; "
                    'echo "${COMPREPLY[@]}"')
            return subprocess.run(["bash", "-c", text], capture_output=True, text=True).stdout.split()

        self.assertEqual(complete("celeriac", "queue", "p"), ["peek", "purge"])
        self.assertEqual(complete("celeriac", "call", "t", "--pri"), ["--priority"])
        self.assertEqual(complete("celeriac", "-l", "w"), ["warning"])

    def test_full_disk_is_no_success(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([harness.program(), "-b", self.url, "queue", "ls"], stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 5)
        self.assertIn("standard output", done.stderr)


class Call(Case):
    def test_prints_the_id(self):
        self.assertRegex(self.ok("call", "t").strip(), UUID)
        self.assertEqual(self.ok("call", "t", "--id", "mine"), "mine\n")
        self.assertEqual(json.loads(self.ok("call", "t", "--id", "mine-2", "-o", "json")), {"task_id": "mine-2"})
        self.assertEqual(self.totals()["published"], 3)

    def test_every_option_reaches_the_message(self):
        self.ok("call", "t", "-a", "[1, \"ä\"]", "-k", '{"k": null}', "-Q", "other", "--priority", "3", "--countdown",
                "60", "--expires", "120", "--headers", '{"x": 5}', "--time-limit", "9", "--soft-time-limit", "8",
                "--ignore-result", "--id", "i")
        [row] = json.loads(self.ok("queue", "peek", "other", "-o", "json"))
        self.assertEqual((row["state"], row["priority"]), ("delayed", 3))
        self.assertGreater(row["not_before_ms"], time.time() * 1000)
        headers = json.loads(row["envelope"])["headers"]
        self.assertEqual((headers["task"], headers["id"], headers["x"], headers["timelimit"], headers["ignore_result"]),
                         ("t", "i", 5, [9, 8], True))
        self.assertTrue(headers["eta"] and headers["expires"])
        table = self.ok("queue", "peek", "other")
        self.assertRegex(table.splitlines()[0], r"^STATE +PRIORITY")
        self.assertIn("[1, 'ä']".replace("[", "(").replace("]", ")"), table)

    def test_bad_values(self):
        bad = [(["-a", "[1"], r"--args is no valid JSON: .* at column"), (["-a", "{}"], r'"args" must be an array'),
               (["-k", "[]"], r'"kwargs" must be an object'), (["-k", "nonsense"], r"--kwargs is no valid JSON"),
               (["--headers", "1"], r'"headers" must be an object'), (["--eta", "noon"], r"'noon' is no ISO-8601 time"),
               (["--expires", "-5"], r'"expires" is out of range'), (["--priority", "11"], r"from 0 to 9"),
               (["--expires", "0"], r'"expires" must be above 0 seconds'),
               (["--expires", "nan"], r"'nan' is no ISO-8601 time"), (["--expires", "0x10"], r"'0x10' is no ISO-8601 time"),
               (["--expires", b"\xe9"], r"--expires is not UTF-8 text"), (["--eta", "2026-02-30"], r"is no ISO-8601 time"),
               (["--countdown", "soon"], r"--countdown: 'soon' is not a number"),
               (["--eta", "2030-01-01T00:00:00", "--countdown", "1"], r"exclude each other"),
               (["--id", "x" * 37], r"longer than 36 characters"), (["--wait", "1", "--ignore-result"], r"exclude"),
               (["--time-limit", "1", "--soft-time-limit", "2"], r"longer than")]
        for args, pattern in bad:
            self.refused(2, pattern, "call", "t", *args)
        self.refused(2, r'"task" is empty', "call", "")
        self.assertEqual(self.totals()["published"], 0)

    def test_wait(self):
        with harness.Worker(self.url, "-c", "1"):
            self.assertEqual(self.ok("call", "math.add", "-a", "[2, 3]", "--wait", "30"), "5\n")
            document = json.loads(self.ok("call", "math.add", "-a", "[2, 3]", "--wait", "0", "-o", "json"))
            self.assertEqual((document["status"], document["result"]), ("SUCCESS", 5))
            done = self.refused(1, r"FAILURE: TypeError", "call", "math.add", "-a", '[1, "x"]', "--wait", "30")
            self.assertEqual(done.stdout, "")
            self.refused(1, r"FAILURE: NotRegistered: no\.such", "call", "no.such", "--wait", "30")
        self.refused(6, r"task mine was sent but is not ready within 0\.2 s", "call", "t", "--id", "mine", "--wait", "0.2")


class Bulk(Case):
    def test_ids_in_order(self):
        lines = [{"task": "t", "args": [i], "id": f"id-{i}"} for i in range(1500)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.assertEqual(self.ok("call", "-", stdin=text).split(), [line["id"] for line in lines])
        self.assertEqual(self.totals()["published"], 1500)

    def test_defaults_and_members(self):
        text = '{"task": "a"}\n\n  \r\n{"task": "b", "queue": "own", "priority": 1}'
        self.assertEqual(len(self.ok("call", "-", "-Q", "bulk", "--priority", "5", stdin=text).split()), 2)
        queues = {q["queue"]: q["waiting"] for q in json.loads(self.ok("queue", "ls", "-o", "json"))}
        self.assertEqual((queues["bulk"], queues["own"]), (1, 1))

    def test_bad_lines_do_not_stop_the_others(self):
        text = '{"task": "a", "id": "1"}\nnonsense\n[1]\n{"task": "b", "agrs": []}\n{"args": []}\n{"task": "c", "id": "2"}\n'
        done = run("-b", self.url, "call", "-", stdin=text)
        self.assertEqual((done.returncode, done.stdout), (7, "1\n2\n"))
        self.assertEqual([line.split(":")[1].strip() for line in done.stderr.splitlines()[:4]],
                         ["line 2", "line 3", "line 4", "line 5"])
        self.assertIn('did you mean "args"?', done.stderr)
        self.assertEqual(self.totals()["published"], 2)

    def test_only_bad_lines(self):
        self.refused(2, r"line 1: not valid JSON", "call", "-", stdin="{\n", lines=2)
        self.assertEqual(self.ok("call", "-", stdin=""), "")
        self.refused(2, r"--wait and --id do not go with '-'", "call", "-", "--wait", "1")

    def test_progress_on_a_terminal(self):
        master, slave = pty.openpty()
        text = "".join(json.dumps({"task": "t"}) + "\n" for _ in range(1000))
        done = subprocess.run([harness.program(), "-b", self.url, "call", "-"], input=text, stdout=subprocess.PIPE,
                              stderr=slave, text=True)
        os.close(slave)
        shown = os.read(master, 65536).decode()
        os.close(master)
        self.assertEqual((done.returncode, len(done.stdout.split())), (0, 1000))
        self.assertIn("1000 sent", shown)

    def test_a_slow_producer_is_served_at_once(self):
        process = subprocess.Popen([harness.program(), "-b", self.url, "call", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, bufsize=1)
        for name in ("one", "two"):
            process.stdin.write(json.dumps({"task": "t", "id": name}) + "\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), name + "\n")
        process.stdin.close()
        self.assertEqual(process.wait(harness.DEADLINE_S), 0)
        process.stdout.close()


class Result(Case):
    def test_unknown(self):
        done = run("-b", self.url, "result", "nobody", "-o", "json")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (4, '{"status":"PENDING","result":null,"task_id":"nobody"}\n', ""))
        done = run("-b", self.url, "result", "a", "b", "-o", "json", "--wait", "0.2")
        self.assertEqual(done.returncode, 6)
        self.assertEqual([json.loads(line)["task_id"] for line in done.stdout.splitlines()], ["a", "b"])
        self.assertEqual(run("-b", self.url, "result", "nobody").returncode, 4)
        self.refused(2, r"--wait: 'x' is not a number", "result", "a", "--wait", "x")

    def test_documents_as_stored(self):
        with harness.Worker(self.url, "-c", "1"):
            good = self.ok("call", "math.add", "-a", "[1, 1]").strip()
            bad = self.ok("call", "math.add", "-a", '["x", 1]').strip()
            done = run("-b", self.url, "result", good, bad, good, "-o", "json", "--wait", "30")
        self.assertEqual(done.returncode, 1)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([d["task_id"] for d in documents], [good, bad, good])
        self.assertTrue(done.stdout.startswith('{"status": "SUCCESS", "result": 2,'))
        table = run("-b", self.url, "result", good, bad, "--traceback")
        self.assertEqual(table.returncode, 1)
        self.assertRegex(table.stdout, rf"(?m)^{bad} +FAILURE .*TypeError")
        self.assertEqual(run("-b", self.url, "result", good).returncode, 0)
        self.assertEqual(run("-b", self.url, "result", bad, "nobody").returncode, 4)
        self.assertEqual(len(self.ok("result", "-", "-o", "json", stdin=f"{good}\n{good}\n").splitlines()), 2)

    def test_waits_for_what_comes_later(self):
        task = self.ok("call", "math.add", "-a", "[20, 22]").strip()
        waiting = subprocess.Popen([harness.program(), "-b", self.url, "result", task, "--wait", "0", "-o", "json"],
                                   stdout=subprocess.PIPE, text=True)
        with harness.Worker(self.url, "-c", "1"):
            out, _ = waiting.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual((waiting.returncode, json.loads(out)["result"]), (0, 42))


class Operate(Case):
    def test_status(self):
        self.ok("call", "t")
        self.ok("call", "t", "--countdown", "60", "-Q", "later")
        status = json.loads(self.ok("status", "-o", "json"))
        self.assertLessEqual({"published": 2, "succeeded": 0, "failed": 0, "dead": 0, "waiting": 1, "leased": 0,
                              "delayed": 1}.items(), status["totals"].items())
        self.assertIn("broker", status)
        self.assertEqual(harness.unaccounted(status["totals"]), 0)
        table = self.ok("status")
        self.assertRegex(table, r"(?m)^published +2$")
        self.assertRegex(table, r"(?m)^later +0 +1 ")

    def test_names_that_are_not_utf8(self):
        self.assertEqual(json.loads(self.ok("queue", "purge", b"q\xe9", "--yes", "-o", "json")),
                         {"queue": "q\ufffd", "purged": 0})
        done = run("-b", self.url, "result", b"\xe9", "-o", "json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["task_id"]), (4, "\ufffd"))
        if KIND == "sqlite":
            url = os.fsencode(self.directory) + b"/q\xe9.db"
            text = run("-b", b"sqlite:" + url, "status", "-o", "json").stdout
            self.assertIn("q\ufffd.db", json.loads(text)["broker"])

    def test_purge(self):
        self.ok("call", "t", "-Q", "a")
        self.refused(2, r"purge the waiting and delayed messages of 'a': .* say --yes", "queue", "purge", "a")
        self.assertEqual(self.totals()["waiting"], 1)
        self.assertEqual(self.ok("queue", "purge", "a", "--yes"), "a: 1 messages purged\n")
        self.assertEqual(self.ok("queue", "purge", "a", "-f"), "a: 0 messages purged\n")
        self.ok("call", "t", "--countdown", "60")
        self.ok("call", "t")
        self.assertEqual(json.loads(self.ok("purge", "--force", "-o", "json")), {"queue": "celery", "purged": 2})
        self.ok("call", "t", "-Q", "a")
        self.ok("call", "t", "-Q", "b")
        self.assertEqual(len(self.ok("purge", "-f", "-Q", "a,b").splitlines()), 2)
        self.assertEqual(harness.unaccounted(self.totals()), 0)
        self.refused(2, r"queue purge: QUEUE\.\.\. is missing", "queue", "purge", "-f")

    def test_confirmation_on_a_terminal(self):
        for answer, left in (("n\n", 1), ("y\n", 0)):
            self.ok("purge", "-f", "-Q", "a")
            self.ok("call", "t", "-Q", "a")
            master, slave = pty.openpty()
            process = subprocess.Popen([harness.program(), "-b", self.url, "queue", "purge", "a"], stdin=slave,
                                       stdout=subprocess.PIPE, stderr=slave)
            os.close(slave)
            os.write(master, answer.encode())
            process.communicate(timeout=harness.DEADLINE_S)
            os.close(master)
            self.assertEqual(process.returncode, 5 if left else 0)
            self.assertEqual(self.totals()["waiting"], left)

    def test_dead_letters(self):
        with harness.Worker(self.url, "-c", "1"):
            for name in ("first", "second", "third"):
                self.ok("call", "no.such", "--id", name)
            harness.wait_until(lambda: self.totals()["dead"] == 3, "dead letters")
        letters = json.loads(self.ok("dead", "ls", "-o", "json"))
        self.assertEqual(sorted(letter["id"] for letter in letters), ["first", "second", "third"])
        self.assertEqual({letter["grave"] for letter in letters}, {"unknown"})
        self.assertEqual(len(json.loads(self.ok("dead", "ls", "celery", "-n", "2", "-o", "json"))), 2)
        self.assertRegex(self.ok("dead", "ls"), r"(?m)^HANDLE +QUEUE")
        handle = next(letter["handle"] for letter in letters if letter["id"] == "first")
        shown = json.loads(self.ok("dead", "show", handle, "-o", "json"))
        self.assertEqual(shown, json.loads(self.ok("dead", "show", "first", "-o", "json")))
        self.assertEqual(json.loads(shown["envelope"])["headers"]["task"], "no.such")
        self.assertRegex(self.ok("dead", "show", "first"), r"(?m)^cause +\S")
        self.refused(4, r"no dead letter with the handle or task id 'nobody'", "dead", "show", "nobody")
        self.refused(2, r"say --yes", "dead", "rm", "first")
        self.refused(2, r"dead retry: name a HANDLE or say --all", "dead", "retry")
        self.refused(2, r"exclude each other", "dead", "retry", "--all", "x")
        self.assertEqual(self.ok("dead", "rm", "first", "--yes"), "1 dead letters removed\n")
        self.assertEqual(json.loads(self.ok("dead", "retry", "second", "-o", "json")), {"moved": 1})
        done = run("-b", self.url, "dead", "retry", "third", "nobody")
        self.assertEqual((done.returncode, done.stdout), (7, "1 dead letters sent again\n"))
        self.refused(4, r"'nobody'", "dead", "rm", "-f", "nobody")
        self.assertEqual(self.ok("dead", "retry", "--all"), "0 dead letters sent again\n")
        self.assertEqual((self.totals()["waiting"], harness.unaccounted(self.totals())), (2, 0))

    def test_output_ends_early(self):
        text = "".join(json.dumps({"task": "t", "id": f"i{i}"}) + "\n" for i in range(3000))
        self.ok("call", "-", stdin=text)
        done = subprocess.run(f"'{harness.program()}' -b '{self.url}' queue peek celery -n 3000 | head -1", shell=True,
                              capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        self.assertTrue(done.stdout.startswith("STATE"))


@unittest.skipUnless("sqlite" in sys.argv, "about files")
class SqliteFaults(Case):
    def setUp(self):
        super().setUp()
        self.file = self.url.partition(":")[2]

    def test_not_a_database(self):
        pathlib.Path(self.file).write_bytes(os.urandom(8192))
        self.refused(5, r"queue\.db' is not an SQLite database", "status")
        self.refused(5, r"not an SQLite database", "call", "t")

    def test_a_directory(self):
        self.refused(5, r"is not a regular file", "-b", f"sqlite:{self.directory}", "status", broker=False)

    def test_locked(self):
        self.ok("call", "t")
        import sqlite3
        holder = sqlite3.connect(self.file, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        self.refused(3, r"queue\.db did not answer within 0\.5 s", "call", "t", "--timeout", "0.5")
        self.assertLess(time.monotonic() - begun, 30)
        holder.execute("ROLLBACK")
        holder.close()
        self.ok("call", "t")

    def test_results_elsewhere(self):
        other = f"sqlite:{self.directory}/results.db"
        with harness.Worker(self.url, "--result-backend", other, "-c", "1"):
            self.assertEqual(self.ok("--result-backend", other, "call", "math.add", "-a", "[1, 2]", "--id", "i", "--wait",
                                     "30"), "3\n")
        self.assertEqual(run("-b", self.url, "result", "i").returncode, 4)
        self.assertEqual(run("-b", self.url, "--result-backend", "disabled://", "result", "i").returncode, 4)

    def test_results_nowhere(self):
        nowhere = ("--result-backend", "disabled://")
        self.refused(2, r"--wait would never end: the result backend stores no", "call", "t", "--wait", "0", *nowhere)
        self.refused(2, r"--wait would never end", "result", "some-id", "--wait", "0", *nowhere)
        self.assertEqual(self.totals()["published"], 0)

    def test_bad_result_backend(self):
        self.refused(2, r"bogus", "--result-backend", "bogus:x", "status")


@unittest.skipUnless("redis" in sys.argv, "about a server")
class RedisFaults(Case):
    def server(self, *options):
        directory = tempfile.mkdtemp(prefix="celeriac-test-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        redis = harness.Redis(directory, *options)
        self.addCleanup(redis.stop)
        return redis

    def test_refused_connection(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0"
        self.refused(3, rf"{port}.*[Rr]efused", "-b", url, "status", broker=False)
        self.refused(3, rf"{port}", "-b", url, "call", "t", "--timeout", "0.5", broker=False)
        self.refused(3, r"no\.sock", "-b", "redis+socket:///tmp/no.sock", "queue", "ls", broker=False)

    def test_passwords(self):
        redis = self.server()
        redis.start()
        redis.cli("CONFIG", "SET", "requirepass", "right")
        self.refused(5, r"(?i)auth|password", "-b", redis.url, "status", broker=False)
        bad = redis.url.replace("redis+socket://", "redis+socket://:wr0ng@")
        done = self.refused(5, r"(?i)password", "-b", bad, "status", broker=False)
        self.assertNotIn("wr0ng", done.stderr)
        good = redis.url.replace("redis+socket://", "redis+socket://:right@")
        self.assertEqual(run("-b", good, "status").returncode, 0)

    def test_out_of_memory(self):
        redis = self.server().start()
        self.assertEqual(run("-b", redis.url, "call", "t").returncode, 0)
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        self.refused(3, r"OOM|memory", "-b", redis.url, "call", "t", "--timeout", "0.5", broker=False)
        redis.cli("CONFIG", "SET", "maxmemory", "0")
        self.assertEqual(run("-b", redis.url, "call", "t").returncode, 0)

    def test_read_only(self):
        redis = self.server().start()
        redis.cli("REPLICAOF", "127.0.0.1", "1")
        done = run("-b", redis.url, "call", "t", "--timeout", "0.5")
        self.assertIn(done.returncode, (3, 5), done.stderr)
        self.assertRegex(done.stderr, r"(?i)read.?only|replica")

    def test_stopped_server(self):
        redis = self.server().start()
        with frozen(redis.process.pid):
            self.refused(3, r"did not answer", "-b", redis.url, "status", "--timeout", "0.5", broker=False)

    def test_bulk_over_a_hang(self):
        redis = self.server().start()
        process = subprocess.Popen([harness.program(), "-b", redis.url, "call", "-", "--timeout", "0.5"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write('{"task": "a", "id": "1"}\n')
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "1\n")
        with frozen(redis.process.pid):
            out, errors = process.communicate('{"task": "b"}\n{"task": "c"}\n', timeout=harness.DEADLINE_S)
        self.assertEqual((process.returncode, out), (7, ""))
        self.assertRegex(errors, r"^celeriac: line 2: .*\nceleriac: 1 sent, 0 bad lines, 2 not confirmed; the rest")

    def test_kombu_reads_the_list(self):
        redis = self.server().start()
        self.assertEqual(run("-b", redis.url, "call", "t", "--id", "i-1").returncode, 0)
        envelope = json.loads(redis.cli("LRANGE", "celery", "0", "-1"))
        self.assertEqual(envelope["headers"]["id"], "i-1")


if __name__ == "__main__":
    KIND = next((word for word in sys.argv[1:] if word in ("sqlite", "redis")), KIND)
    unittest.main(argv=[word for word in sys.argv if word != KIND], verbosity=2)
