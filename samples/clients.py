#!/usr/bin/python3
"""The badly-behaved part of the sample's traffic, and the application behind nginx.

    clients.py ports N                         print N free loopback ports
    clients.py upstream PORT                   serve /api/ until TERM
    clients.py misbehave PORT COUNT SECONDS SEED
                                               do COUNT odd things to the server within SECONDS

Standard library only. Everything stays on loopback.
"""

import asyncio
import base64
import random
import signal
import socket
import ssl
import struct
import sys
import threading
import time

WAIT_S = 4  # for an answer; the server's own limits are shorter


def free_ports(count):
    """Distinct ports that were free on both loopbacks a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    print(*(sock.getsockname()[1] for sock in held))


# ---- the application behind nginx -------------------------------------------------------------

async def answer(reader, writer):
    """One connection of nginx's; what is asked for is in the path."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    await reader.readexactly(int(line.split(b":")[1]))
            path = head.split(b" ")[1]
            low, high = {b"/api/fa": (0, 0), b"/api/me": (.005, .03), b"/api/sl": (.05, .4), b"/api/ha": (5, 5)}.get(path[:7], (0, .002))
            if high:
                await asyncio.sleep(random.uniform(low, high))
            if path.startswith(b"/api/drop"):
                break
            status = b"500 Oops" if path.startswith(b"/api/fail") else b"503 Busy" if path.startswith(b"/api/busy") else b"200 OK"
            body = b'{"ok":true,"path":"%s"}' % path[:40]
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
            await writer.drain()
    except (OSError, EOFError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def upstream(port):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await stop.wait()
    server.close()


# ---- clients that misbehave -------------------------------------------------------------------

class Client:
    """What every odd client needs: an address to come from, bytes to send, patience."""

    def __init__(self, port, rng):
        self.port = port
        self.rng = rng

    def connect(self):
        if self.rng.random() < .25:
            return socket.create_connection(("::1", self.port), timeout=WAIT_S)
        source = "127.%d.%d.%d" % (self.rng.randint(0, 3), self.rng.randint(0, 3), self.rng.randint(1, 9))
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S, source_address=(source, 0))

    def send(self, *parts, pause_s=0.0):
        """Sends the parts, reads whatever comes back until the server closes."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
                if pause_s:
                    time.sleep(pause_s)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    def ask(self, target=b"/", method=b"GET", *lines, version=b"HTTP/1.1", body=b""):
        head = [method + b" " + target + b" " + version, b"Host: www.example.org", b"Connection: close", *lines]
        self.send(b"\r\n".join(head) + b"\r\n\r\n" + body)

    def hang(self, data):
        """Sends and then says nothing more, until the server loses patience."""
        with self.connect() as sock:
            sock.sendall(data)
            while sock.recv(65536):
                pass

    def abort(self, data, read_bytes=0, after_s=.05):
        """Sends, reads a little, and leaves with a reset."""
        with self.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(data)
            while read_bytes > 0:
                got = len(sock.recv(min(read_bytes, 4096)))
                read_bytes = read_bytes - got if got else 0
            time.sleep(after_s)


def tls(c):
    """A real ClientHello on the plain port, as from a browser told https by mistake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="www.example.org").do_handshake()
    except ssl.SSLWantReadError:
        pass
    c.send(outgoing.read())


BROKEN = (
    b"GET\r\n\r\n", b"GET \r\n\r\n", b"GET /\r\n\r\n", b"G\x00T / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / FTP/1.0\r\n\r\n", b"GET / HTTP/1.1x\r\n\r\n",
    b"GET /a b c HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\x00nul HTTP/1.1\r\nHost: a\r\n\r\n", b"get / http/1.1\r\nhost: a\r\n\r\n",
    b"POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", b"POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.0\r\n\r\n", b"GET /%zz HTTP/1.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"\x05\x01\x00", b"\x03\x00\x00\x13\x0e\xe0\x00\x00", b"HELO mail\r\n", b"*1\r\n$4\r\nPING\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\x80\x9e\x01\x03\x01",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://www.example.org/article/5?full=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"\"GET / HTTP/1.1\"\r\n\r\n", b"\\x16\\x03 / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", b"POST /api/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"M" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET /?" + b"%41" * 30 + b" HTTP/1.0\r\n\r\n",
)

AGENTS = (
    b'() { :;}; echo "vulnerable"', b"${jndi:ldap://example.org/a}", b"sqlmap/1.7 ' OR \"1\"=\"1", b"\\", b'"', b'\\"', b"\\\\x22", b"a\\", b"\xf0\x9f\x98\x80 \xe2\x82\xac",
    b"\xff\xff\xff", b"tab\tand\x7fdel", b" ", b"[21/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", b"x" * 5000,
)

LOGINS = (b"alice:wonderland", b"alice:wrong", b"bob:builder", b"nobody:", b":empty", b"john q doe:spaced", b'q"uote\\back:x', "жук:x".encode(), b"-:dash", b"nocolon", b"\x00nul:x")
# The log format puts a user as it is between " - " and " [": this one cannot be read back, by anybody.
FORGED = b"mallory [1:x"

RANGES = (b"bytes=0-99", b"bytes=-50", b"bytes=100-", b"bytes=0-9,20-29,40-49", b"bytes=999999999-", b"bytes=9-3", b"lines=1-2")


def login(c, pair):
    c.ask(b"/account/1", b"GET", b"Authorization: Basic " + base64.b64encode(pair))


def pipelined(c):
    c.send(b"GET /article/1 HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + b"GET /article/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def long_target(c, size):
    c.ask(b"/search?q=" + b"long" * (size // 4), version=b"HTTP/1.0")


# weight, what: about how often, compared with each other
ODD = (
    (4, tls),
    (24, lambda c: c.send(c.rng.choice(BROKEN))),
    (3, lambda c: c.send(b"")),
    (3, lambda c: c.send(b"\r\n\r\n")),
    (3, lambda c: c.send(b"\x00")),
    (3, lambda c: c.hang(b"GET /article/3 HTTP/1.1\r\nHost: a\r\n")),
    (2, lambda c: c.hang(b"GE")),
    (2, lambda c: c.hang(b"POST /api/body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")),
    (12, lambda c: c.ask(c.rng.choice((b"/static/asset-3.png", b"/download/big.bin", b"/article/12")), b"GET", b"Range: " + c.rng.choice(RANGES))),
    (8, lambda c: c.abort(b"GET /download/big.bin HTTP/1.1\r\nHost: a\r\n\r\n", read_bytes=c.rng.choice((1, 10000, 300000)))),
    (8, lambda c: c.abort(b"GET /api/hang?id=1 HTTP/1.1\r\nHost: a\r\n\r\n", after_s=.1 + .3 * c.rng.random())),
    (2, lambda c: c.ask(b"/api/hang")),
    (3, lambda c: c.abort(b"GET /artic", after_s=0)),
    (6, lambda c: c.send(b"GET /article/%d HTTP/1.0\r\nUser-Agent: Lynx/2.8\r\n\r\n" % c.rng.randint(1, 30))),
    (4, lambda c: c.send(b"GET /article/%d\r\n" % c.rng.randint(1, 30))),
    (12, lambda c: c.ask(b"/article/%d" % c.rng.randint(1, 30), b"GET", b"User-Agent: " + c.rng.choice(AGENTS), b"Referer: " + c.rng.choice((b"-", b'http://a/"b"', b"\\", b"x")))),
    (8, lambda c: login(c, c.rng.choice(LOGINS))),
    (.4, lambda c: login(c, FORGED)),
    (6, lambda c: c.ask(c.rng.choice((b"/wp-login.php", b"/.env", b"/.git/config", b"/cgi-bin/%2e%2e/sh", b"/admin?x='\"<>")), c.rng.choice((b"GET", b"POST", b"PUT", b"PATCH")), b"Content-Length: 0")),
    (3, lambda c: c.ask(b"/api/upload", b"POST", b"Content-Length: 100000")),
    (3, lambda c: c.ask(b"/api/up", b"POST", b"Expect: 100-continue", b"Content-Length: 5", body=b"12345")),
    (3, pipelined),
    (.25, lambda c: long_target(c, 65536)),
    (.25, lambda c: long_target(c, 90000)),
    (.5, lambda c: c.ask(b"/", b"GET", b"X-Long: " + b"h" * 80000)),
    (.25, lambda c: c.ask(b"/", b"GET", b"User-Agent: " + b"\xe2\x82\xac" * 5400)),
)


def misbehave(port, count, seconds, seed):
    """COUNT odd clients, evenly over the time, at most 16 at once."""
    rng = random.Random(seed)
    weights = [weight for weight, _ in ODD]
    begun = time.monotonic()
    slots = threading.BoundedSemaphore(16)

    def run(act, client):
        try:
            act(client)
        except OSError:  # being cut off is what most of these clients ask for
            pass
        finally:
            slots.release()

    threads = []
    for number in range(count):
        time.sleep(max(0.0, begun + seconds * number / count - time.monotonic()))
        slots.acquire()
        act = rng.choices(ODD, weights)[0][1]
        threads.append(threading.Thread(target=run, args=(act, Client(port, random.Random(rng.random())))))
        threads[-1].start()
        threads = [thread for thread in threads if thread.is_alive()]
    for thread in threads:
        thread.join()


def main():
    verb, numbers = sys.argv[1], [int(arg) for arg in sys.argv[2:]]
    if verb == "ports":
        free_ports(*numbers)
    elif verb == "upstream":
        asyncio.run(upstream(*numbers))
    elif verb == "misbehave":
        misbehave(*numbers)
    else:
        sys.exit("clients.py: unknown verb %s; give ports, upstream or misbehave" % verb)


if __name__ == "__main__":
    main()
