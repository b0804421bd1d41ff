#!/usr/bin/python3
"""Runs a program beside a rabbitmq-server of its own, which it may freeze and alarm. usage: amqp_outage.py PROGRAM [ARG...]

The program sees CELERIAC_TEST_AMQP_URL, CELERIAC_TEST_AMQPS_URL, CELERIAC_TEST_AMQP_TLS (a folder with ca.pem, client.pem and client.key),
CELERIAC_TEST_AMQP_PID, and CELERIAC_TEST_AMQP_ALARM, a command that takes on or off. Exit status: the program's; 77 without RabbitMQ.
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

support = pathlib.Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(support))
import rabbitmq  # noqa: E402


def alarm_script(directory, server):
    """A shell script, since the program is in C: rabbitmqctl with the server's environment."""
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in rabbitmq.Control.environment(server).items())
    script = pathlib.Path(directory) / "alarm"
    script.write_text(f"#!/bin/sh\n[ $1 = on ] && mark=0.00001 || mark=0.4\nexec env {settings} {rabbitmq.tool('rabbitmqctl')} -q "
                      "set_vm_memory_high_watermark $mark\n")
    script.chmod(0o700)
    return script


def main():
    with tempfile.TemporaryDirectory(prefix="celeriac-outage-") as directory, rabbitmq.RabbitMQ(directory, tls=True) as server:
        environment = {**os.environ, "CELERIAC_TEST_AMQP_URL": server.url_of("/"),
                       "CELERIAC_TEST_AMQPS_URL": server.url_of("/", scheme="amqps").replace("127.0.0.1", "localhost"),
                       "CELERIAC_TEST_AMQP_TLS": server.facts["certificates"], "CELERIAC_TEST_AMQP_PID": str(server.pid),
                       "CELERIAC_TEST_AMQP_ALARM": str(alarm_script(directory, server))}
        return subprocess.run(sys.argv[1:], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
