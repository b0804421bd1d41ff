"""A private rabbitmq-server: own directory, node name, cookie, name daemon (epmd) and ports, on 127.0.0.1 only.

Model: RabbitMQ starts epmd and the server as children, knows when it listens, and stops both by their pids; the server is first
asked by rabbitmqctl. Everything it writes is below one directory, so start() after kill9() or stop() finds the same data. Should
the process that started it be killed, the kernel kills the children. Works as root and as anybody else, because it runs
the server's own script and not the distribution's wrapper. Attached is the same server seen from another process: it can control
it but not stop it. Standard library only.
"""
import contextlib
import ctypes
import glob
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

SKIPPED = 77
START_S = 120
STOP_S = 60
PR_SET_PDEATHSIG = 1
USER = PASSWORD = "guest"


def tool(name):
    """Path of one of RabbitMQ's own scripts; Debian's in /usr/sbin change the user, so they come last."""
    for directory in ("/usr/lib/rabbitmq/bin", *sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def available():
    return bool(tool("rabbitmq-server") and tool("rabbitmqctl") and shutil.which("epmd"))


def major():
    """3 or 4: of the RabbitMQ that is installed, by the name of its folder; asking rabbitmqctl would start an epmd."""
    return max((int(path.rpartition("-")[2].split(".")[0]) for path in glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")), default=3)


def free_ports(n):
    """n ports below those that the kernel gives to clients, so that no connection of ours takes one meanwhile."""
    ports = []
    while len(ports) < n:
        port = random.randrange(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def speaks_amqp(port):
    """Whether the server answers the protocol header with its first frame."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as s:
        s.sendall(b"AMQP\x00\x00\x09\x01")
        return s.recv(1) == b"\x01"
    return False


def make_certificates(directory):
    """ca.pem, server.pem/.key for localhost and 127.0.0.1, client.pem/.key; all signed by that CA, valid for two days."""
    where = pathlib.Path(directory)
    where.mkdir(exist_ok=True)

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=where, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n" if name == "server" else ""
        # A strict verifier, as Python's since 3.13, wants the key's identifiers.
        (where / f"{name}.ext").write_text(f"subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n{names}")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")
        openssl("x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    return where


class Control:
    """What can be done with a running server; facts: node, cookie, home, port, ports of the other listeners."""

    def __init__(self, facts):
        self.facts = facts

    def environment(self):
        f = self.facts
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": f["home"], "RABBITMQ_NODENAME": f["node"],
                "ERL_EPMD_PORT": str(f["epmd_port"]), "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_CONF_ENV_FILE": f"{f['directory']}/env.conf",
                "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}

    @property
    def url(self):
        return self.url_of("/")

    def url_of(self, vhost, user=USER, password=PASSWORD, scheme="amqp"):
        port = self.facts["tls_port" if scheme == "amqps" else "port"]
        who = f"{urllib.parse.quote(user, safe='')}:{urllib.parse.quote(password, safe='')}"
        return f"{scheme}://{who}@127.0.0.1:{port}/{urllib.parse.quote(vhost, safe='')}"

    @property
    def api_url(self):
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.facts['api_port']}"

    def ctl(self, *args, check=True):
        """rabbitmqctl ARG...; its standard output."""
        done = subprocess.run([tool("rabbitmqctl"), "-q", *args], env=self.environment(), capture_output=True, text=True, timeout=STOP_S)
        if check and done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def evaluate(self, erlang):
        """Evaluates an Erlang expression in the server: by erl_call in some 10 ms, else by rabbitmqctl in a second."""
        found = sorted(glob.glob("/usr/lib/erlang/erts-*/bin/erl_call")) + sorted(glob.glob("/usr/lib/erlang/lib/erl_interface-*/bin/erl_call"))
        if not found:
            return self.ctl("eval", erlang + ".")
        # A name of its own: without it every erl_call has the same one, and the server lets only one of them in at a time.
        name = "c" + secrets.token_hex(6)
        done = subprocess.run([found[-1], "-h", name, "-sname", self.facts["node"], "-e"], input=erlang + ".\n", env=self.environment(),
                              capture_output=True, text=True, timeout=STOP_S)
        if "failed to connect" in done.stderr:  # it gives a busy machine no time; nothing was evaluated
            return self.ctl("eval", erlang + ".")
        if done.returncode != 0 or not done.stdout.startswith("{ok"):
            raise RuntimeError(f"{erlang}: {done.stdout}{done.stderr}")
        return done.stdout

    def fresh_vhost(self, name=None):
        """Makes a virtual host of which the usual user may do everything, and returns its name."""
        name = name or "t" + secrets.token_hex(6)
        rights = ",".join(['<<".*">>'] * 3)
        self.evaluate(f'ok = rabbit_vhost:add(<<"{name}">>, <<"test">>), '
                      f'rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{name}">>, {rights}, <<"test">>)')
        return name

    def fresh_url(self):
        return self.url_of(self.fresh_vhost())

    def memory_alarm(self, on):
        """An alarm stops every publisher until it is taken back."""
        self.ctl("set_vm_memory_high_watermark", "0.00001" if on else "0.4")


class Attached(Control):
    """A server that another process keeps, by the file in which that one wrote what it is."""

    def __init__(self, path):
        super().__init__(json.loads(pathlib.Path(path).read_text()))


class RabbitMQ(Control):
    """A server that this process keeps. plugins: their names; config: more lines of rabbitmq.conf."""

    def __init__(self, directory, *, tls=False, management=False, consumer_timeout_ms=None, plugins=(), config=""):
        if not available():
            raise SystemExit(SKIPPED)
        self.root = pathlib.Path(directory) / "rabbitmq"
        self.server = self.epmd = None
        names = ["port", "dist_port", "epmd_port", "tls_port", "api_port"]
        super().__init__({"directory": str(self.root), "home": str(self.root / "home"), "cookie": secrets.token_hex(16),
                          "node": f"celeriac{secrets.token_hex(4)}@localhost", **dict(zip(names, free_ports(len(names))))})
        self._write(tls, management, consumer_timeout_ms, plugins, config)

    def _write(self, tls, management, consumer_timeout_ms, plugins, config):
        f = self.facts
        (self.root / "home").mkdir(parents=True)
        cookie = self.root / "home" / ".erlang.cookie"
        cookie.write_text(f["cookie"])
        cookie.chmod(0o400)
        lines = [f"listeners.tcp.local = 127.0.0.1:{f['port']}", "loopback_users = none", "log.file.level = info", config]
        rabbit = []
        if tls:
            made = make_certificates(self.root / "tls")
            f["ca"], f["certificates"] = str(made / "ca.pem"), str(made)
            lines += [f"listeners.ssl.local = 127.0.0.1:{f['tls_port']}", f"ssl_options.cacertfile = {made}/ca.pem",
                      f"ssl_options.certfile = {made}/server.pem", f"ssl_options.keyfile = {made}/server.key",
                      "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = false"]
        if management:
            plugins, f["management"] = [*plugins, "rabbitmq_management"], True
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {f['api_port']}", "collect_statistics_interval = 1000"]
        if consumer_timeout_ms:
            # It is looked at once in a tick; the usual one lasts a minute.
            rabbit += [f"{{consumer_timeout,{consumer_timeout_ms}}}", "{channel_tick_interval,500}"]
        (self.root / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.root / "advanced.config").write_text(f"[{{rabbit,[{','.join(rabbit)}]}}].\n")
        (self.root / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        (self.root / "env.conf").write_text("")

    def environment(self):
        root, f = self.root, self.facts
        # RUNNING_UNDER_SYSTEMD makes the script become the server, so that our child is the server.
        return {**super().environment(), "RUNNING_UNDER_SYSTEMD": "true", "RABBITMQ_DIST_PORT": str(f["dist_port"]),
                "RABBITMQ_MNESIA_BASE": f"{root}/mnesia", "RABBITMQ_LOG_BASE": f"{root}/log", "RABBITMQ_PID_FILE": f"{root}/pid",
                "RABBITMQ_CONFIG_FILE": f"{root}/rabbitmq.conf", "RABBITMQ_ADVANCED_CONFIG_FILE": f"{root}/advanced.config",
                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{root}/enabled_plugins", "RABBITMQ_GENERATED_CONFIG_DIR": f"{root}/generated",
                "RABBITMQ_SCHEDULER_BIND_TYPE": "u", "ERL_CRASH_DUMP_BYTES": "0",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +SDio 4 -kernel inet_dist_use_interface {127,0,0,1}"}

    def _spawn(self, *words):
        log = open(self.root / "output", "ab")
        with log:
            return subprocess.Popen(words, cwd=self.root, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    preexec_fn=end_with_parent)

    def start(self):
        """Starts it, on what it wrote before, and returns once it answers."""
        if not self.epmd:
            self.epmd = self._spawn(shutil.which("epmd"), "-address", "127.0.0.1", "-port", str(self.facts["epmd_port"]))
            self._wait_for(lambda: listens(self.facts["epmd_port"]), self.epmd, "epmd")
        self.server = self._spawn(tool("rabbitmq-server"))
        self._wait_for(lambda: speaks_amqp(self.facts["port"]), self.server, "rabbitmq-server")
        return self

    def _wait_for(self, condition, process, what):
        end = time.monotonic() + START_S
        while not condition():
            if process.poll() is not None or time.monotonic() > end:
                output = (self.root / "output").read_text(errors="replace")[-2000:]
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"{what} did not start:\n{output}")
            time.sleep(0.05)

    @property
    def pid(self):
        return self.server.pid if self.server else None

    def kill9(self):
        """As a power failure of that one program: nothing is written on the way out."""
        if self.server:
            self.server.kill()
            self.server.wait()
            self.server = None

    def stop_server(self):
        """By its own control command; by its pid when that does not help."""
        if not self.server:
            return
        self.server.send_signal(signal.SIGCONT)
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.ctl("stop")
            self.server.wait(STOP_S)
        self.kill9()

    def restart(self):
        self.stop_server()
        return self.start()

    def stop(self, sig=signal.SIGTERM):
        """Stops it and its epmd; SIGKILL: at once."""
        if sig == signal.SIGKILL:
            self.kill9()
        else:
            self.stop_server()
        if self.epmd:
            self.epmd.terminate()
            self.epmd.wait()
            self.epmd = None

    def save(self, path):
        """Writes what Attached needs."""
        new = pathlib.Path(f"{path}.new")
        new.touch(0o600)
        new.write_text(json.dumps({**self.facts, "keeper": os.getpid(), "server": self.pid}))
        new.rename(path)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()
