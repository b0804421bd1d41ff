#!/usr/bin/python3
"""Envelopes of our encoder, judged by Celery's own code: kombu decodes them as its Redis transport does, the worker's
strategy and Request accept them, and header names, body bytes and argsrepr are those Celery would have sent itself.

usage: check_message.py ENCODE_MESSAGES
"""
import base64
import datetime
import json
import random
import subprocess
import sys
import unittest
import uuid

try:
    import celery
    import kombu
    from celery.utils.saferepr import saferepr
    from celery.worker.request import Request
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

NOW_MS = int(datetime.datetime.now().timestamp()) * 1000
OURS = {"celeriac_sent_ms"}
# What Celery sends since 5.3; its workers take the names that we leave out for none and 0.
NEWER = {"replaced_task_nesting", "stamped_headers", "stamps"}
app = celery.Celery("t", broker="memory://", set_as_current=False)


@app.task(name="t.add", shared=False)
def add(*args, **kwargs):
    return args, kwargs


def encode(lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([sys.argv[1]], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def spec(**fields):
    return {"task": "t.add", "id": str(uuid.uuid4()), "args": [2, 3], "kwargs": {}, **fields}


def request(envelope):
    """As a worker does: the virtual transport's Message, then the request the strategy makes of it."""
    with kombu.Connection("memory://") as connection:
        message = connection.channel().message_to_python(envelope)
        assert message.payload is not None
        assert "args" not in message.payload
        made = Request(message, app=app, task=app.tasks["t.add"], body=message.body, headers=message.headers,
                       decoded=False, utc=True)
        args, kwargs, embed = message.decode()
        return made, args, kwargs, embed


def random_value(depth):
    choice = random.randrange(10 if depth < 6 else 7)
    if choice == 0:
        return random.choice([None, True, False])
    if choice == 1:
        return random.randrange(-10**18, 10**18)
    if choice == 2:
        return random.choice([0.1, -0.0, 1e16, 1e15, 123456.789, 1e-5, 1.5e300, 5e-324, random.random(),
                              random.uniform(-1e18, 1e18)])
    if choice < 7:
        return "".join(random.choice("ab c'\"\\\n\u00e9\u20ac\U0001f600\x7f/") for _ in range(random.choice([3, 9, 90])))
    if choice < 9:
        return [random_value(depth + 1) for _ in range(random.randrange(5))]
    return {str(random_value(9)): random_value(depth + 1) for _ in range(random.randrange(4))}


class Messages(unittest.TestCase):
    def test_plain(self):
        sent = spec()
        made, args, kwargs, embed = request(encode([sent])[0])
        self.assertEqual((made.id, made.name, made.root_id, made.parent_id),
                         (sent["id"], "t.add", sent["id"], None))
        self.assertEqual((args, kwargs), ([2, 3], {}))
        self.assertEqual(embed, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
        self.assertEqual(made.time_limits, [None, None])
        self.assertIsNone(made.eta)
        self.assertEqual(made.delivery_info["routing_key"], "celery")

    def test_all_options(self):
        sent = spec(args=[], kwargs={"y": 3}, root_id="r", parent_id="p", group="g", group_index=2, queue="q",
                    shadow="my.shadow", eta_ms=NOW_MS + 60000, expires_ms=NOW_MS + 120000, hard_limit_s=30,
                    soft_limit_s=2.5, retries=2, priority=5, ignore_result=1, now_ms=NOW_MS,
                    headers={"x-custom": "v", "lang": "c"})
        envelope = encode([sent])[0]
        made, args, kwargs, _ = request(envelope)
        self.assertEqual((made.root_id, made.parent_id, made.group, made.group_index), ("r", "p", "g", 2))
        self.assertEqual(made.eta.timestamp() * 1000, NOW_MS + 60000)
        self.assertEqual(made.expires.timestamp() * 1000, NOW_MS + 120000)
        self.assertEqual(made.time_limits, [30, 2.5])
        self.assertEqual((args, kwargs), ([], {"y": 3}))
        self.assertEqual((made.argsrepr, made.kwargsrepr), ("()", "{'y': 3}"))
        self.assertTrue(made.ignore_result)
        self.assertEqual(made.request_dict["x-custom"], "v")
        self.assertEqual(made.request_dict["lang"], "c")
        self.assertEqual(envelope["properties"]["expiration"], "120000")
        self.assertEqual(envelope["properties"]["priority"], 5)
        self.assertFalse(made.revoked())

    def test_names_are_celerys(self):
        """What kombu's Redis transport would have pushed for the same call, name by name and in the same order."""
        sent = spec(now_ms=NOW_MS)
        ours = encode([sent])[0]
        made = app.amqp.as_task_v2(sent["id"], "t.add", args=(2, 3), kwargs={})
        with kombu.Connection("memory://") as connection:
            channel = connection.channel()
            producer = kombu.Producer(channel, serializer="json")
            body, content_type, content_encoding = producer._prepare(made.body, "json", None, None, None, {})
            message = channel.prepare_message(body, 0, content_type, content_encoding, made.headers,
                                              {**made.properties, "delivery_mode": 2})
            channel._inplace_augment_message(message, "", "celery")
        theirs = {name: value for name, value in made.headers.items() if name not in NEWER}
        self.assertEqual([name for name in ours["headers"] if name not in OURS], list(theirs))
        self.assertEqual(set(ours), set(message))
        self.assertEqual(set(ours["properties"]), set(message["properties"]))
        self.assertEqual(ours["body"], message["body"])
        self.assertEqual(ours["content-type"], message["content-type"])
        self.assertEqual(ours["content-encoding"], message["content-encoding"])
        different = {name for name, value in theirs.items() if ours["headers"][name] != value}
        self.assertLessEqual(different, {"origin"})
        self.assertRegex(ours["headers"]["origin"], r"^gen\d+@.+$")

    def test_random_arguments(self):
        """Body bytes as json.dumps writes them and argsrepr as saferepr does, for 2,000 random calls."""
        random.seed(2)
        calls = [spec(args=[random_value(0) for _ in range(random.randrange(6))],
                      kwargs={f"k{i}": random_value(0) for i in range(random.randrange(4))}) for _ in range(2000)]
        envelopes = encode(calls)
        self.assertEqual(len(envelopes), len(calls))
        for sent, envelope in zip(calls, envelopes):
            body = base64.b64decode(envelope["body"]).decode()
            embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
            self.assertEqual(body, json.dumps([sent["args"], sent["kwargs"], embed]))
            self.assertEqual(envelope["headers"]["argsrepr"], saferepr(tuple(sent["args"]), 1024))
            self.assertEqual(envelope["headers"]["kwargsrepr"], saferepr(sent["kwargs"], 1024))

    def test_delivery_tags_differ(self):
        tags = {envelope["properties"]["delivery_tag"] for envelope in encode([spec() for _ in range(100)])}
        self.assertEqual(len(tags), 100)
        self.assertTrue(all(str(uuid.UUID(tag)) == tag for tag in tags))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
