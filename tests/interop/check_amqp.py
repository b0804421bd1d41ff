#!/usr/bin/python3
"""Messages and topology of the AMQP broker, beside those of real Celery on a real RabbitMQ: byte for byte where that can be.

usage: check_amqp.py AMQP_PARTS ENCODE_MESSAGES, with a URL in CELERIAC_TEST_AMQP_URL
"""
import base64
import datetime
import json
import os
import subprocess
import sys
import time
import unittest
import uuid

try:
    import amqp
    import celery
    import kombu
    from amqp.basic_message import Message
    from amqp.serialization import decode_properties_basic
    from celery.worker.request import Request
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
URL = os.environ.get("CELERIAC_TEST_AMQP_URL")
if not URL:
    print("skipped: no CELERIAC_TEST_AMQP_URL")
    sys.exit(77)

OURS = {"celeriac_sent_ms"}
# What Celery sends since 5.3; its workers take the names that we leave out for none and 0.
NEWER = {"replaced_task_nesting", "stamped_headers", "stamps"}
DEADLINE_S = 60
EXCHANGE, QUEUE, BIND_QUEUE, BIND_EXCHANGE = range(4)
app = celery.Celery("t", broker=URL, set_as_current=False)


@app.task(name="t.add", shared=False)
def add(*args, **kwargs):
    return args, kwargs


def parts(*lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([sys.argv[1]], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def frame_of(message):
    """The properties as they are on the wire: py-amqp has no other words for what it decoded."""
    return message._serialize_properties()


class Raw(Message):
    """A message whose properties are bytes of ours."""

    def __init__(self, frame, body):
        properties, end = decode_properties_basic(frame, 0)
        assert end == len(frame)
        super().__init__(body, **properties)
        self.frame = frame

    def _serialize_properties(self):
        return self.frame


def to_us(message, queue):
    info = message.delivery_info
    return json.loads(parts({"receive": {
        "frame": frame_of(message).hex(), "body": to_bytes(message.body).hex(), "exchange": info["exchange"],
        "routing_key": info["routing_key"], "redelivered": info["redelivered"], "queue": queue}})[0]["envelope"])


def to_bytes(body):
    return body if isinstance(body, bytes) else body.encode()


def from_us(envelope):
    sent = parts({"send": json.dumps(envelope)})[0]
    return Raw(bytes.fromhex(sent["frame"]), bytes.fromhex(sent["body"])), sent["raw"]


class AmqpCase(unittest.TestCase):
    def setUp(self):
        self.kombu = kombu.Connection(URL)
        self.kombu.connect()
        self.addCleanup(self.kombu.release)
        self.channel = self.kombu.default_channel
        self.server = int(self.kombu.connection.server_properties["version"].split(".")[0])
        self.queue = "q." + uuid.uuid4().hex[:8]
        self.channel.queue_declare(self.queue, durable=True, auto_delete=False)

    def get(self, deadline_s=DEADLINE_S):
        """The next message, as py-amqp and not kombu has it, and when it came."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            message = amqp.Channel.basic_get(self.channel, self.queue, no_ack=True)
            if message:
                return message, time.time()
            time.sleep(0.002)
        raise AssertionError("no message came")

    def celery_sends(self, **options):
        args = options.pop("args", (2, 3))
        result = add.apply_async(args, options.pop("kwargs", {}), queue=kombu.Queue(self.queue, durable=True), **options)
        return result, self.get()[0]


class Messages(AmqpCase):
    CALLS = {
        "plain": {},
        "options": {"kwargs": {"y": "\u20ac"}, "countdown": 60, "expires": 120, "priority": 5, "time_limit": 30,
                    "soft_time_limit": 2.5, "ignore_result": True, "shadow": "s",
                    "headers": {"x-custom": "v", "when": datetime.datetime(2026, 1, 2, 3, 4, 5), "b": b"\xff\0", "n": None,
                                "big": -2**40, "deep": {"l": [1, [2.5, {"a": None}]], "e": {}, "t": True}}},
        "links": {"link": add.s(1), "link_error": add.s(2), "group_id": "g", "root_id": "r", "parent_id": "p"},
        "compressed": {"args": ("x" * 2000,), "compression": "gzip"},
    }

    def test_celery_to_us_and_back(self):
        """What Celery sent comes out again with the same bytes, frame and body, after it was an envelope of ours."""
        for name, options in self.CALLS.items():
            if "headers" in options and self.server >= 4:
                # It delivers each 64-bit number as a signed "l", which py-amqp reads unsigned and writes as "L".
                options = {**options, "headers": {k: v for k, v in options["headers"].items() if k != "big"}}
            with self.subTest(name):
                result, message = self.celery_sends(**options)
                envelope = to_us(message, self.queue)
                self.assertEqual(base64.b64decode(envelope["body"]), to_bytes(message.body))
                self.assertEqual(envelope["headers"]["id"], result.id)
                self.assertEqual(envelope["properties"]["correlation_id"], result.id)
                self.assertEqual(envelope["properties"]["delivery_info"], {"exchange": "", "routing_key": self.queue})
                again, raw = from_us(envelope)
                self.assertFalse(raw)
                self.assertEqual(again.frame.hex(), frame_of(message).hex())
                self.assertEqual(to_bytes(again.body), to_bytes(message.body))

    def test_protocol_1(self):
        old = celery.Celery("old", broker=URL, set_as_current=False)
        old.conf.task_protocol = 1
        old.send_task("t.add", (2, 3), queue=kombu.Queue(self.queue, durable=True))
        message, _ = self.get()
        envelope = to_us(message, self.queue)
        self.assertEqual(json.loads(base64.b64decode(envelope["body"]))["task"], "t.add")
        again, raw = from_us(envelope)
        self.assertFalse(raw)
        self.assertEqual(again.frame.hex(), frame_of(message).hex())

    def test_envelope_is_that_of_kombus_redis(self):
        """The same members as kombu itself makes for Redis out of the same parts."""
        _, message = self.celery_sends()
        envelope = to_us(message, self.queue)
        with kombu.Connection("memory://") as connection:
            channel = connection.channel()
            made = channel.prepare_message(message.body, 0, message.content_type, message.content_encoding, message.headers,
                                           {name: message.properties[name] for name in ("correlation_id", "reply_to", "delivery_mode")})
            channel._inplace_augment_message(made, "", self.queue)
        if "priority" not in message.properties:  # Celery before 5.3 sends none
            del made["properties"]["priority"]
        made["properties"]["delivery_tag"] = envelope["properties"]["delivery_tag"]
        self.assertEqual(envelope, made)

    def encoded(self, **fields):
        line = {"task": "t.add", "id": str(uuid.uuid4()), "args": [2, 3], "kwargs": {}, "queue": self.queue, **fields}
        done = subprocess.run([sys.argv[2]], input=json.dumps(line) + "\n", capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def test_ours_is_celerys(self):
        """The envelope of our own client, sent, beside Celery's message for the same call: properties, headers, body."""
        now_ms = int(time.time() * 1000)
        calls = [({}, {}),
                 ({"priority": 5, "expires_ms": now_ms + 120000, "now_ms": now_ms, "hard_limit_s": 30, "soft_limit_s": 20},
                  {"priority": 5, "expires": datetime.datetime.fromtimestamp(now_ms / 1000 + 120, datetime.timezone.utc),
                   "time_limit": 30, "soft_time_limit": 20})]
        for ours_fields, options in calls:
            result, theirs = self.celery_sends(**options)
            ours, raw = from_us(self.encoded(id=result.id, **ours_fields))
            self.assertFalse(raw)
            self.channel.basic_publish(ours, routing_key=self.queue)
            came, _ = self.get()
            mine, other = dict(came.properties), dict(theirs.properties)
            my_headers, headers = mine.pop("application_headers"), other.pop("application_headers")
            other.setdefault("priority", 0)  # Celery before 5.3 sends none
            self.assertEqual(set(mine), set(other))
            self.assertLessEqual({name for name in other if mine[name] != other[name]}, {"reply_to", "expiration"})
            headers = {name: value for name, value in headers.items() if name not in NEWER}
            self.assertEqual([name for name in my_headers if name not in OURS], list(headers))
            self.assertLessEqual({name for name, value in headers.items() if my_headers[name] != value},
                                 {"origin", "expires", "timelimit"})
            self.assertEqual([float(limit or 0) for limit in my_headers["timelimit"]],
                             [float(limit or 0) for limit in headers["timelimit"]])
            self.assertEqual(came.body, theirs.body)

    def test_celery_worker_takes_ours(self):
        envelope = self.encoded(headers={"x-custom": "v"}, retries=2, root_id="r")
        self.channel.basic_publish(from_us(envelope)[0], routing_key=self.queue)
        message = kombu.Queue(self.queue, durable=True, channel=self.channel).get(no_ack=True, accept=["json"])
        self.assertEqual(message.payload, [[2, 3], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
        made = Request(message, app=app, task=app.tasks["t.add"], body=message.body, headers=message.headers, decoded=False, utc=True)
        self.assertEqual((made.id, made.name, made.root_id, made.request_dict["retries"]),
                         (envelope["headers"]["id"], "t.add", "r", 2))
        self.assertEqual(made.request_dict["x-custom"], "v")

    def test_what_the_server_rewrites_survives(self):
        """A dead-lettered message is encoded anew by the server: in other kinds of numbers, sorted, with its own headers."""
        dead = self.queue + ".ttl"
        self.channel.queue_declare(dead, durable=True, auto_delete=False, arguments={
            "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue})
        envelope = self.encoded(now_ms=1795225616016, headers={"n": 2**40, "f": 0.25})
        self.channel.basic_publish(from_us(envelope)[0], routing_key=dead)
        message, _ = self.get()
        came = to_us(message, self.queue)
        self.assertEqual(came["headers"]["x-death"][0]["reason"], "expired")
        self.assertEqual(came["headers"]["x-death"][0]["time"]["__type__"], "datetime")
        self.assertEqual({name: value for name, value in came["headers"].items() if not name.startswith("x-")}, envelope["headers"])
        again, _ = from_us(came)
        self.assertEqual(dict(again.properties["application_headers"]), envelope["headers"])
        self.channel.queue_delete(dead)


class Delays(AmqpCase):
    def declare(self, things):
        calls = {
            EXCHANGE: lambda d: self.channel.exchange_declare(d["name"], d["type"], durable=True, auto_delete=False),
            QUEUE: lambda d: self.channel.queue_declare(d["name"], durable=True, auto_delete=False, arguments=d["arguments"]),
            BIND_QUEUE: lambda d: self.channel.queue_bind(d["name"], d["source"], d["key"]),
            BIND_EXCHANGE: lambda d: self.channel.exchange_bind(d["name"], d["source"], d["key"]),
        }
        for thing in things:
            calls[thing["kind"]](thing)

    def remove(self, things):
        for thing in things:
            if thing["kind"] == QUEUE:
                self.channel.queue_delete(thing["name"])
            elif thing["kind"] == EXCHANGE:
                self.channel.exchange_delete(thing["name"])

    def declare_as_kombu(self, kind):
        """Once more, by kombu's own classes, with the words of its native delayed delivery."""
        for level in range(28):
            name, below = f"celery_delayed_{level}", f"celery_delayed_{level - 1}" if level else "celery_delayed_delivery"
            kombu.Exchange(name, type="topic").bind(self.channel).declare()
            arguments = {"x-queue-type": kind, "x-overflow": "reject-publish", "x-message-ttl": 2**level * 1000,
                         "x-dead-letter-exchange": below}
            if kind == "quorum":
                arguments["x-dead-letter-strategy"] = "at-least-once"
            kombu.Queue(name, queue_arguments=arguments).bind(self.channel).declare()
        kombu.Exchange("celery_delayed_delivery", type="topic").bind(self.channel).declare()

    def publish(self, plan, text="x", headers=None):
        sent_at = time.time()
        self.channel.basic_publish(Message(text, application_headers=headers, delivery_mode=2), exchange=plan["exchange"],
                                   routing_key=plan["routing_key"])
        return sent_at

    def arrive(self, plan, sent_at):
        message, came_at = self.get()
        # Each of its queues counts whole milliseconds.
        self.assertGreaterEqual(came_at - sent_at, plan["delay_ms"] / 1000 - 0.01)
        return message

    def ladder(self, kind):
        things = parts({"ladder": kind})[0]
        self.declare(things)
        self.addCleanup(self.remove, things)
        self.declare_as_kombu(kind)
        self.declare(parts({"bind": self.queue})[0])

    def check_ladder(self, kind):
        self.ladder(kind)
        other = "x." + self.queue  # another queue whose name ends with this one's: it must get none of these, nor we its
        self.channel.queue_declare(other, durable=True, auto_delete=False)
        self.declare(parts({"bind": other})[0])
        plans = parts(*({"delay_ms": ms, "queue": name} for ms in (2001, 2600) for name in (self.queue, other)))
        self.assertEqual([plan["exchange"] for plan in plans], ["celery_delayed_1"] * 4)
        for plan in plans:
            sent_at = self.publish(plan)
        self.arrive(plans[0], sent_at - 1)
        self.arrive(plans[2], sent_at - 1)
        self.assertEqual(self.channel.queue_declare(self.queue, passive=True).message_count, 0)
        end = time.monotonic() + DEADLINE_S
        while self.channel.queue_declare(other, passive=True).message_count < 2 and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(self.channel.queue_declare(other, passive=True).message_count, 2)
        # kombu's way of entering, at the top, brings it to the same place.
        top = {**plans[0], "exchange": "celery_delayed_27"}
        message = self.arrive(top, self.publish(top))
        envelope = to_us(message, self.queue)
        self.assertEqual(envelope["properties"]["delivery_info"], {
            "exchange": "", "routing_key": self.queue, "sent_exchange": "celery_delayed_delivery"})
        self.channel.queue_delete(other)

    def test_ladder_of_quorum_queues(self):
        self.check_ladder("quorum")

    def test_ladder_of_classic_queues(self):
        self.check_ladder("classic")

    def test_the_same_way_again_and_again(self):
        """A message that comes back and is sent the same way once more is not taken for one that goes round in a circle."""
        self.ladder("classic")
        plan = parts({"delay_ms": 2001, "queue": self.queue})[0]
        sent_at = self.publish(plan, headers={"id": "i", "task": "t"})
        for _ in range(2):
            envelope = to_us(self.arrive(plan, sent_at), self.queue)
            self.assertIn("x-death", envelope["headers"])
            message, raw = from_us(envelope)
            self.assertFalse(raw)
            sent_at = time.time()
            self.channel.basic_publish(message, exchange=plan["exchange"], routing_key=plan["routing_key"])
        self.arrive(plan, sent_at)

    def test_steps(self):
        for kind in ("classic", "quorum"):
            plan = parts({"delay_ms": 240, "queue": self.queue})[0]
            things = parts({"step": plan["step"], "type": kind})[0]
            self.declare(things)
            self.declare(things)
            message = self.arrive(plan, self.publish(plan))
            self.assertEqual(message.delivery_info["routing_key"], self.queue)
            self.assertEqual(plan["delay_ms"], 250)
            self.remove(things)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
