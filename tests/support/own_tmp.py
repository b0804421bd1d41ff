#!/usr/bin/python3
"""own_tmp.py COMMAND...: runs a command with a temporary directory of its own, and removes it with all that is left in it.

What a test started may have been killed and left its files (a Celery worker's `pymp-*`), and a test may be killed itself.
Its mounts are in a name space of its own where the kernel lets us make one, so they end with the last of its processes. A
directory whose run was killed is removed by the next run. The exit status is the command's.
"""
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
PRIVATE = 0x4000 | 1 << 18  # MS_REC | MS_PRIVATE
PREFIX = "celeriac-run-"


def hide_mounts():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS) == 0:
        libc.mount(b"none", b"/", None, PRIVATE, None)


def is_alive(pid):
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def remove(place):
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        where = line.split()[1]
        if where.startswith(f"{place}/"):
            subprocess.run(["umount", "-l", where], check=False)
    shutil.rmtree(place, ignore_errors=True)


def remove_left_over(folder):
    for place in pathlib.Path(folder).glob(PREFIX + "*"):
        owner = re.match(PREFIX + r"(\d+)-", place.name)
        with contextlib.suppress(OSError):
            if owner and not is_alive(int(owner[1])) and place.lstat().st_uid == os.getuid():
                remove(place)


def main():
    hide_mounts()
    remove_left_over(tempfile.gettempdir())
    place = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
    child = subprocess.Popen(sys.argv[1:], env={**os.environ, "TMPDIR": place})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: child.send_signal(got))
    try:
        status = child.wait()
    finally:
        remove(place)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
