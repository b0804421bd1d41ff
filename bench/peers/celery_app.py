"""The Celery program of bench/peers: tasks, and the producer (peer.py says how it is called)."""
import json
import os
import sys
import time

from celery import Celery

SERVER = os.environ["PEER_SERVER"]
PAD = "x" * int(os.environ["PEER_BYTES"])
BURN_S = float(os.environ["PEER_BURN_S"])

app = Celery("peers", broker=f"redis+socket://{SERVER}?virtual_host=0", backend=f"redis+socket://{SERVER}?virtual_host=1")


@app.task(name="noop")
def noop(pad):
    return None


@app.task(name="burn")
def burn(pad):
    end = time.thread_time() + BURN_S
    while time.thread_time() < end:
        pass


def produce(task, count, how):
    """Celery has no bulk call for tasks without a group; one connection is kept by its pool."""
    start = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            if how == "bulk":
                task.apply_async((PAD,), producer=producer)
            else:
                task.delay(PAD)
    return {"from": start, "to": time.monotonic()}


def trips(count):
    us = []
    for _ in range(count):
        start = time.monotonic()
        noop.delay(PAD).get(timeout=30)
        us.append((time.monotonic() - start) * 1e6)
    return {"us": us}


if __name__ == "__main__":
    if sys.argv[1] == "trips":
        print(json.dumps(trips(int(sys.argv[2]))))
    else:
        print(json.dumps(produce({"noop": noop, "burn": burn}[sys.argv[2]], int(sys.argv[3]), sys.argv[4])))
