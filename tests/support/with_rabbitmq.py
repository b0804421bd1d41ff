#!/usr/bin/python3
"""Runs a command with a rabbitmq-server at hand, or keeps one for many commands.

usage: with_rabbitmq.py [--state DIR] [--tls] [--management] [--consumer-timeout MS] -- COMMAND [ARG...]
       with_rabbitmq.py --state DIR --start [--tls] [--management] [--consumer-timeout MS]
       with_rabbitmq.py --state DIR --stop
       with_rabbitmq.py --state DIR --fresh
       with_rabbitmq.py --state DIR --ctl ARG...

With `-- COMMAND` the command sees CELERIAC_TEST_AMQP_URL, a URL with a virtual host of its own, and CELERIAC_TEST_AMQP_FRESH,
a shell command that prints another such URL each time it is run. With --tls also CELERIAC_TEST_AMQPS_URL and CELERIAC_TEST_AMQP_CA, with
--management CELERIAC_TEST_AMQP_API. The server is the one that --start keeps in DIR, else one of its own that ends with
the command. When CELERIAC_TEST_AMQP_URL is already set nothing is started. Exit status: the command's; 77 when there is no
rabbitmq-server here.

--start leaves a keeper behind that ends with --stop, or with the process that ran --start (ctest). --ctl is rabbitmqctl.
"""
import argparse
import contextlib
import os
import pathlib
import select
import shlex
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rabbitmq  # noqa: E402


def parse(argv):
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("--state")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--ctl", nargs=argparse.REMAINDER)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--management", action="store_true")
    parser.add_argument("--consumer-timeout", type=int)
    own, command = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    options = parser.parse_args(own)
    if not command and not ((options.start or options.stop or options.fresh or options.ctl is not None) and options.state):
        parser.error("give a command behind --, or --state and what to do")
    return options, command


def state_file(options):
    return pathlib.Path(options.state) / "server.json"


def attached(options):
    """The server of the keeper in --state, or None when there is none (any more)."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        server = rabbitmq.Attached(state_file(options))
        keeper = pathlib.Path(f"/proc/{server.facts['keeper']}/cmdline").read_bytes()
        return server if b"with_rabbitmq" in keeper else None
    return None


def own_server(options, directory):
    return rabbitmq.RabbitMQ(directory, tls=options.tls, management=options.management, consumer_timeout_ms=options.consumer_timeout)


def variables(server, state):
    vhost = server.fresh_vhost()
    fresh = shlex.join([sys.executable, os.path.abspath(__file__), "--state", str(state), "--fresh"])
    found = {"CELERIAC_TEST_AMQP_URL": server.url_of(vhost), "CELERIAC_TEST_AMQP_FRESH": fresh}
    if "ca" in server.facts:
        found["CELERIAC_TEST_AMQPS_URL"] = server.url_of(vhost, scheme="amqps")
        found["CELERIAC_TEST_AMQP_CA"] = server.facts["ca"]
    if server.facts.get("management"):
        found["CELERIAC_TEST_AMQP_API"] = server.api_url
    return found


def run(options, command):
    if os.environ.get("CELERIAC_TEST_AMQP_URL"):
        os.execvp(command[0], command)
    server = options.state and attached(options)
    if server:
        os.environ.update(variables(server, options.state))
        os.execvp(command[0], command)
    with tempfile.TemporaryDirectory(prefix="celeriac-amqp-") as directory, own_server(options, directory) as server:
        server.save(f"{directory}/server.json")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return subprocess.run(command, env={**os.environ, **variables(server, directory)}).returncode


def keep(options, parent, ready):
    """The keeper: serves until SIGTERM, or until the parent of --start is gone."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    stop_reader, stop_writer = os.pipe()
    os.set_blocking(stop_writer, False)
    signal.set_wakeup_fd(stop_writer)
    signal.signal(signal.SIGTERM, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="celeriac-amqp-") as directory:
        server = own_server(options, directory)
        try:
            server.start()
            server.save(state_file(options))
            os.write(ready, b"1")
            os.close(ready)
            select.select([stop_reader, parent], [], [])
        except RuntimeError as error:
            os.write(ready, str(error).encode()[-4000:])
        finally:
            state_file(options).unlink(missing_ok=True)
            server.stop()


def start(options):
    if not rabbitmq.available():
        print("there is no rabbitmq-server here: what needs one is skipped")
        return 0
    pathlib.Path(options.state).mkdir(parents=True, exist_ok=True)
    stop(options)
    parent = os.pidfd_open(os.getppid())
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        status = 1
        try:
            keep(options, parent, writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    said = b"".join(iter(lambda: os.read(reader, 4096), b""))
    if said != b"1":
        print(said.decode(errors="replace") or "the keeper died", file=sys.stderr)
        return 1
    return 0


def stop(options):
    server = attached(options)
    if not server:
        return 0
    keeper = os.pidfd_open(server.facts["keeper"])
    signal.pidfd_send_signal(keeper, signal.SIGTERM)
    return 0 if select.select([keeper], [], [], rabbitmq.STOP_S * 2)[0] else 1


def main(argv):
    options, command = parse(argv)
    if options.start:
        return start(options)
    if options.stop:
        return stop(options)
    if not command:
        server = attached(options)
        if not server:
            print(f"no server is kept in {options.state}", file=sys.stderr)
            return 1
        print(server.fresh_url() if options.fresh else server.ctl(*options.ctl))
        return 0
    return run(options, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
