#!/usr/bin/python3
"""A proxy in front of a RabbitMQ 3 that calls itself 4.1.0 and refuses the frames which RabbitMQ 4 refuses, or will when its deprecated
features are off.

Model: two threads per connection copy whole frames. What the client says is looked at first: a refused method is answered with
connection.close as the server would, and noted in `refused`; `seen` counts methods by (class, method). Standard library only.

usage: rabbitmq4.py PORT   (of the real server; prints its own port and serves until standard input ends)
"""
import contextlib
import socket
import struct
import sys
import threading

VERSION = b"4.1.0"
FRAME_MIN = 8192
START, TUNE, TUNE_OK, CLOSE = (10, 10), (10, 30), (10, 31), (10, 50)
QUEUE_DECLARE, QOS = (50, 10), (60, 10)


def read_exactly(sock, n):
    parts = b""
    while len(parts) < n:
        part = sock.recv(n - len(parts))
        if not part:
            raise ConnectionError
        parts += part
    return parts


def read_frame(sock):
    """(type, channel, payload)"""
    kind, channel, size = struct.unpack(">BHI", read_exactly(sock, 7))
    payload = read_exactly(sock, size + 1)
    return kind, channel, payload[:-1]


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def close_method(code, text, method):
    return struct.pack(">HHHB", *CLOSE, code, len(text)) + text.encode() + struct.pack(">HH", *method)


def rename(payload):
    """connection.start with another version in the server's properties."""
    size = struct.unpack(">I", payload[6:10])[0]
    table, rest = payload[10:10 + size], payload[10 + size:]
    at = table.index(b"\x07versionS") + 9
    old = struct.unpack(">I", table[at:at + 4])[0]
    table = table[:at] + struct.pack(">I", len(VERSION)) + VERSION + table[at + 4 + old:]
    return payload[:6] + struct.pack(">I", len(table)) + table + rest


def look_at_declare(payload):
    name = payload[6]
    bits = payload[7 + name]
    passive, durable, exclusive = bits & 1, bits & 2, bits & 4
    if not passive and not durable and not exclusive:
        return 541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated and not permitted"
    for removed in (b"x-ha-policy", b"x-ha-params", b"x-ha-sync-mode", b"x-queue-master-locator"):
        if removed in payload:
            return 406, f"PRECONDITION_FAILED - {removed.decode()}: classic queues are not mirrored any more"
    return None


class RabbitMQ4:
    """Serves on a port of its own in threads of its own until stop()."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.refused, self.seen, self.offered = [], {}, {}
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client):
        with client, socket.create_connection(("127.0.0.1", self.server_port)) as server:
            with contextlib.suppress(OSError):
                server.sendall(read_exactly(client, 8))
                back = threading.Thread(target=self._to_client, args=(server, client), daemon=True)
                back.start()
                self._to_server(client, server)
            for side in (client, server):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            back.join()

    def _to_client(self, server, client):
        with contextlib.suppress(OSError):
            while True:
                kind, channel, payload = read_frame(server)
                method = struct.unpack(">HH", payload[:4]) if kind == 1 else None
                if method == START:
                    payload = rename(payload)
                elif method == TUNE:
                    self.offered[client] = struct.unpack(">HI", payload[4:10])
                client.sendall(frame(kind, channel, payload))
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _refusal(self, client, method, payload):
        if method == QOS and payload[10] & 1:
            return 540, "NOT_IMPLEMENTED - Feature `global_qos` is deprecated and not permitted"
        if method == QUEUE_DECLARE:
            return look_at_declare(payload)
        if method == TUNE_OK:
            channels, size = struct.unpack(">HI", payload[4:10])
            offered_channels, offered_size = self.offered[client]
            if size < FRAME_MIN or size > offered_size:
                return 530, f"NOT_ALLOWED - negotiated frame_max = {size} is not between {FRAME_MIN} and {offered_size}"
            if channels == 0 or channels > offered_channels:
                return 530, f"NOT_ALLOWED - negotiated channel_max = {channels} is higher than the maximum allowed value ({offered_channels})"
        return None

    def _to_server(self, client, server):
        while True:
            kind, channel, payload = read_frame(client)
            if kind == 1:
                method = struct.unpack(">HH", payload[:4])
                self.seen[method] = self.seen.get(method, 0) + 1
                refusal = self._refusal(client, method, payload)
                if refusal:
                    self.refused.append((method, *refusal))
                    client.sendall(frame(1, 0, close_method(*refusal, method)))
                    return
            server.sendall(frame(kind, channel, payload))


if __name__ == "__main__":
    proxy = RabbitMQ4(int(sys.argv[1]))
    print(proxy.port, flush=True)
    sys.stdin.read()
