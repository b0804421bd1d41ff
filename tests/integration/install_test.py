#!/usr/bin/python3
"""Installs into a temporary prefix and builds examples/ out of tree, with find_package and with pkg-config.

argv: the source directory, the build directory, the C compiler, then its flags.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import harness  # noqa: E402

SOURCE, BUILD, COMPILER, *FLAGS = sys.argv[1:]
SOURCE, BUILD = pathlib.Path(SOURCE), pathlib.Path(BUILD)
FLAGS = [flag for flag in FLAGS if flag]
# There may be no make here, which CMake would use by itself.
GENERATOR = re.search(r"^CMAKE_GENERATOR:INTERNAL=(.+)$", (BUILD / "CMakeCache.txt").read_text(), re.M)[1]


def tool(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="celeriac-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.prefix = cls.directory / "prefix"
        tool("cmake", "--install", BUILD, "--prefix", cls.prefix)
        os.environ["CELERIAC"] = str(cls.prefix / "bin/celeriac")
        [pkgconfig] = cls.prefix.glob("lib*/**/pkgconfig")
        cls.pkg_env = {**os.environ, "PKG_CONFIG_PATH": str(pkgconfig)}

    def check(self, program, module):
        """The program's task and the module's both run in the installed worker."""
        [library] = self.prefix.glob("lib*/**/libceleriac.so")
        with harness.broker("sqlite") as (url, _), harness.Worker(url, "-c", "1", "-A", str(module)):
            out = tool(program, url, env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)})
            self.assertIn('"result": 5', out)
            done = harness.celeriac(url, "call", "weather.windchill", "-a", "[0, 20]", "--wait", "30", check=0)
            self.assertLess(float(done.stdout), 0)

    def build(self, example):
        where = self.directory / f"build-{example}"
        flags = [f"-DCMAKE_C_FLAGS={' '.join(FLAGS)}", f"-DCMAKE_C_COMPILER={COMPILER}"]
        tool("cmake", "-G", GENERATOR, "-S", SOURCE / "examples" / example, "-B", where, f"-DCMAKE_PREFIX_PATH={self.prefix}", *flags)
        tool("cmake", "--build", where)
        return where

    def test_the_module_for_rabbitmq_is_found_and_missed(self):
        nobody = "amqp://127.0.0.1:1/"
        done = harness.celeriac(nobody, "status", check=None)
        self.assertEqual((done.returncode, "Connection refused; is the server running there?" in done.stderr), (3, True), done.stderr)
        [module] = self.prefix.glob("lib*/**/celeriac-amqp-*.so")
        aside = module.rename(module.with_suffix(".aside"))
        self.addCleanup(aside.rename, module)
        done = harness.celeriac(nobody, "status", check=None)
        self.assertEqual((done.returncode, "install it with the program" in done.stderr), (5, True), done.stderr)

    def test_find_package(self):
        self.check(self.build("send-and-wait") / "send-and-wait", self.build("task-module") / "weather.so")

    def test_pkg_config(self):
        program, module = self.directory / "program", self.directory / "weather.so"
        words = tool("pkg-config", "--cflags", "--libs", "celeriac", env=self.pkg_env).split()
        tool(COMPILER, *FLAGS, SOURCE / "examples/send-and-wait/main.c", "-o", program, *words)
        words = tool("pkg-config", "--cflags", "--libs", "celeriac-task", env=self.pkg_env).split()
        tool(COMPILER, *FLAGS, "-shared", "-fPIC", SOURCE / "examples/task-module/weather.c", "-o", module, *words, "-lm")
        self.check(program, module)

    def test_static(self):
        program = self.directory / "static"
        [library] = self.prefix.glob("lib*/**/libceleriac.a")
        words = tool("pkg-config", "--cflags", "--libs", "--static", "celeriac", env=self.pkg_env).split()
        words = [str(library) if word == "-lceleriac" else word for word in words]
        tool(COMPILER, *FLAGS, SOURCE / "examples/send-and-wait/main.c", "-o", program, *words)
        self.assertNotIn("libceleriac", tool("ldd", program))

    def test_pages_and_completion(self):
        for page in ("man1/celeriac.1", "man1/celeriac-worker.1", "man1/celeriac-call.1", "man3/libceleriac.3"):
            self.assertTrue((self.prefix / "share/man" / page).exists(), page)
        tool("bash", "-n", self.prefix / "share/bash-completion/completions/celeriac")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
