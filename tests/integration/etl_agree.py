#!/usr/bin/python3
"""Both parsers of access logs must print the same bytes for the same file.

    etl_agree.py CELERIAC

Held against each other on the sample log, on the nasty log of every format, and on lines that were
cut, glued and changed at random (the seed is printed, and taken from ETL_AGREE_SEED).
"""

import gzip
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SUPPORT = os.path.join(ROOT, "tests", "support")
FORMATS = ("common", "combined", "vhost_combined", "combined_timed")
PIECES = (b'"', b"\\", b" ", b"  ", b"\n", b"\r", b"\0", b"[", b"]", b"-", b'" "', b"\\x", b"\\\\",
          b"\xff", b"?", b"999", b":", b"::", b"HTTP/1.1", b" [10/Oct/2000:13:55:36 -0700] \"")


def output(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240, check=False)
    if done.returncode != 0:
        sys.exit("%s: exit status %d: %s" % (command, done.returncode, done.stderr.decode()))
    return done.stdout


def agree(celeriac, path, name, options=()):
    ours = output([celeriac, "etl", "parse", *options, path]).splitlines()
    theirs = output([sys.executable, os.path.join(SUPPORT, "etl_reference.py"), *options, path]).splitlines()
    for number, (our, their) in enumerate(zip(ours, theirs)):
        if our != their:
            sys.exit("%s: output line %d differs\n  ours:   %s\n  theirs: %s"
                     % (name, number, our.decode(), their.decode()))
    if len(ours) != len(theirs):
        sys.exit("%s: %d lines against %d" % (name, len(ours), len(theirs)))
    print("%s: the same %d lines" % (name, len(ours)))
    return len(ours)


def mutate(rng, lines):
    line = bytearray(rng.choice(lines))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(line) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            line[at:at] = rng.choice(PIECES)
        elif kind == 1:
            del line[at:at + rng.choice((1, 1, 1, 5, 40))]
        elif kind == 2 and at < len(line):
            line[at] = rng.randrange(256)
        elif kind == 3:
            line[at:at] = rng.choice(lines)[:rng.randrange(200)]
        elif kind == 4:
            other = rng.choice(lines)
            line[at:] = other[rng.randrange(len(other) + 1):]
    return bytes(line)


def main():
    celeriac = sys.argv[1]
    seed = os.environ.get("ETL_AGREE_SEED", str(int(time.time())))
    rng = random.Random(seed)
    sample = os.path.join(ROOT, "samples", "access.log.gz")
    with tempfile.TemporaryDirectory(prefix="celeriac-agree-") as folder:
        os.environ["TMPDIR"] = folder
        lines = agree(celeriac, sample, "the sample")
        if lines < 50001:
            sys.exit("the sample has fewer than 50,000 lines")
        with gzip.open(sample) as packed:
            known = packed.read().splitlines(keepends=True)
        pool = rng.sample(known, 500)
        for name in FORMATS:
            path = os.path.join(folder, name + ".log")
            output([sys.executable, os.path.join(SUPPORT, "make_nasty.py"), "--as", name, path])
            agree(celeriac, path, "nasty " + name)
            with open(path, "rb") as log:
                pool += [line for line in log if len(line) < 2000]
        path = os.path.join(folder, "mutated.log")
        with open(path, "wb") as log:
            for _ in range(20000):
                log.write(mutate(rng, pool))
        for name in FORMATS:
            agree(celeriac, path, "mutated (seed %s) as %s" % (seed, name), ("--format", name))
        agree(celeriac, path, "mutated (seed %s)" % seed)


main()
