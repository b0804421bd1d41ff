#!/usr/bin/python3
"""libceleriac as a program gets it: builds the example against both forms, runs it, looks at the symbols.

argv: the source directory, the build directory, the C compiler, then its flags.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import harness  # noqa: E402

SOURCE, BUILD, COMPILER, *FLAGS = sys.argv[1:]
FLAGS = [flag for flag in FLAGS if flag]
SOURCE, BUILD = pathlib.Path(SOURCE), pathlib.Path(BUILD)
# What a program links beside libceleriac.a is said once: in the pkg-config file.
DEPENDENCIES = re.search(r"^Requires.private: (.+)$", (SOURCE / "cmake/celeriac.pc.in").read_text(), re.M)[1].split()


def tool(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{words}: {done.stderr}")
    return done.stdout


def names(*words):
    return {line.split()[-1].partition("@")[0] for line in tool(*words).splitlines() if " T " in line or " D " in line}


class Library(unittest.TestCase):
    def example(self, directory, *libraries):
        program = f"{directory}/send-and-wait"
        tool(COMPILER, *FLAGS, f"-I{SOURCE}/client", str(SOURCE / "examples/send-and-wait/main.c"), "-o", program, *libraries)
        return program

    def check_example(self, *libraries):
        with harness.broker("sqlite") as (url, directory):
            program = self.example(directory, *libraries)
            with harness.Worker(url, "-c", "1"):
                done = subprocess.run([program, url], capture_output=True, text=True, timeout=harness.DEADLINE_S)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stdout, r'^\{"status": "SUCCESS", "result": 5,')
            done = subprocess.run([program, "bogus:x"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn("bogus", done.stdout)

    def test_shared(self):
        self.check_example(f"-L{BUILD}/client", "-lceleriac", f"-Wl,-rpath,{BUILD}/client")

    def test_static(self):
        libraries = tool("pkg-config", "--libs", *DEPENDENCIES).split()
        self.check_example(str(BUILD / "client/libceleriac.a"), *libraries, "-lm", "-lpthread")

    def test_only_the_public_names_are_seen(self):
        header = (SOURCE / "client/celeriac.h").read_text()
        public = set(re.findall(r"\b(celeriac_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
        public = {name for name in public if not name.endswith("_fn")}
        self.assertEqual(names("nm", "-D", "--defined-only", str(BUILD / "client/libceleriac.so")), public)
        self.assertEqual(names("nm", "-g", "--defined-only", str(BUILD / "client/libceleriac.a")), public)

    def test_header_is_fit_for_cplusplus(self):
        compiler = shutil.which("g++") or shutil.which("clang++")
        if not compiler:
            self.skipTest("no C++ compiler")
        text = ('#include "celeriac.h"\nint main() { celeriac_task_options o = CELERIAC_TASK_OPTIONS_INIT; '
                "celeriac_options p = CELERIAC_OPTIONS_INIT; return !o.size + !p.size; }\n")
        done = subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", "-std=c++11", "-fsyntax-only",
                               f"-I{SOURCE}/client", "-x", "c++", "-"], input=text, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_example_is_short(self):
        lines = (SOURCE / "examples/send-and-wait/main.c").read_text().splitlines()
        code = [line for line in lines if line.strip() not in ("", "{", "}")]
        self.assertLessEqual(len(code), 15)


if __name__ == "__main__":
    os.environ.setdefault("CELERIAC", str(BUILD / "app/celeriac"))
    unittest.main(argv=sys.argv[:1], verbosity=2)
