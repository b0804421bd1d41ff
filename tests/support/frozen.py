"""Stops processes so that a test can say: from here on they did nothing.

kill() returns before every thread has seen SIGSTOP; on a busy machine a server still answers meanwhile. freeze() returns when all
threads of the process have stopped, or the process is gone.
"""
import contextlib
import os
import pathlib
import signal
import time


def all_stopped(pid):
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            if stat.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def freeze(pid):
    os.kill(pid, signal.SIGSTOP)
    while not all_stopped(pid):  # ctest's limit ends it
        time.sleep(0.001)


@contextlib.contextmanager
def frozen(*pids):
    for pid in pids:
        freeze(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
