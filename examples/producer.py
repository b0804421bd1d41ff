#!/usr/bin/python3
"""Sends math.add to a Celeriac worker with Python's Celery and prints the result.

    celeriac -b redis://localhost/0 worker &
    examples/producer.py redis://localhost/0
"""
import sys

from celery import Celery

url = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost/0"
app = Celery("producer", broker=url, backend=url)
print(app.send_task("math.add", args=[2, 3]).get(timeout=10))
