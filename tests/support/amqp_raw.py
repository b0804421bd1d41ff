"""A connection to RabbitMQ that may say anything: what no library lets one say. Standard library only."""
import socket
import struct

from rabbitmq4 import frame, read_frame

FRAME_MAX = 131072
CONFIRMED = (60, 80)


class Raw:
    """A connection that may say anything on channel 1."""

    def __init__(self, port, vhost):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.sendall(b"AMQP\0\0\x09\x01")
        read_frame(self.sock)
        plain = b"\0guest\0guest"
        self.say(0, struct.pack(">HHI", 10, 11, 0) + b"\x05PLAIN" + struct.pack(">I", len(plain)) + plain + b"\x05en_US")
        read_frame(self.sock)
        self.say(0, struct.pack(">HHHIH", 10, 31, 2047, FRAME_MAX, 0))
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
        """headers: the bytes of the table, without its length. Class and method of the answer: CONFIRMED, or what the server did not like."""
        self.say(1, struct.pack(">HHHB", 60, 40, 0, 0) + bytes([len(queue)]) + queue.encode() + b"\0")
        self.sock.sendall(frame(2, 1, struct.pack(">HHQHI", 60, 0, len(body), 0x2000, len(headers)) + headers))
        for at in range(0, len(body), FRAME_MAX - 8):
            self.sock.sendall(frame(3, 1, body[at:at + FRAME_MAX - 8]))
        return struct.unpack(">HH", read_frame(self.sock)[2][:4])


def nested(depth):
    """A header "deep" that is a table in a table in a table."""
    value = b"V"
    for _ in range(depth):
        table = b"\x01x" + value
        value = b"F" + struct.pack(">I", len(table)) + table
    return b"\x04deep" + value
