#!/usr/bin/python3
"""own_tmp.py: what a command leaves is gone, whatever became of the command."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

OWN_TMP = pathlib.Path(__file__).with_name("own_tmp.py")


class OwnTmp(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="celeriac-test-")
        self.addCleanup(place.cleanup)
        self.outer = pathlib.Path(place.name)

    def start(self, script):
        return subprocess.Popen([sys.executable, OWN_TMP, "sh", "-c", script], stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "TMPDIR": str(self.outer)})

    def run_script(self, script):
        child = self.start(script)
        out = child.communicate()[0].strip()
        return child.returncode, out

    def test_the_status_is_kept_and_the_files_are_not(self):
        status, place = self.run_script('mkdir "$TMPDIR/a"; echo x >"$TMPDIR/a/b"; echo "$TMPDIR"; exit 7')
        self.assertEqual((status, pathlib.Path(place).parent), (7, self.outer))
        self.assertEqual(list(self.outer.iterdir()), [])

    def test_a_command_that_is_killed(self):
        self.assertEqual(self.run_script("echo left >$TMPDIR/x; kill -9 $$")[0], 128 + signal.SIGKILL)
        self.assertEqual(list(self.outer.iterdir()), [])

    def test_a_run_that_was_killed_is_tidied_up_by_the_next(self):
        child = self.start("echo left >$TMPDIR/x; echo; exec sleep 600 >/dev/null & echo $!; wait")
        self.addCleanup(child.stdout.close)
        child.stdout.readline()
        sleeper = int(child.stdout.readline())
        child.kill()
        child.wait()
        os.kill(sleeper, signal.SIGKILL)
        self.assertEqual(len(list(self.outer.iterdir())), 1)
        self.run_script("true")
        self.assertEqual(list(self.outer.iterdir()), [])

    def test_a_mount_is_not_seen_outside(self):
        if os.getuid() != 0:
            self.skipTest("only root can mount")
        status, place = self.run_script('mkdir "$TMPDIR/m" && mount -t tmpfs tmpfs "$TMPDIR/m" || exit 77; echo "$TMPDIR"')
        if status == 77:
            self.skipTest("nothing can be mounted here")
        self.assertEqual(list(self.outer.iterdir()), [])
        self.assertNotIn(place, pathlib.Path("/proc/self/mounts").read_text())


if __name__ == "__main__":
    unittest.main()
