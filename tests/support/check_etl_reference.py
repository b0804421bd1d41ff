#!/usr/bin/python3
"""Check the reference parser: the nasty log in every format, and values written down by hand.

    check_etl_reference.py [SAMPLE]

With SAMPLE (samples/access.log.gz, or another that make-sample wrote) it also checks that each line is an event or,
for the one login that nobody can read back, quarantined as `time`. Exits 1 and names each difference.
"""

import io
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARSER = os.path.join(HERE, "etl_reference.py")
NASTY = os.path.join(HERE, "make_nasty.py")
FORMATS = ("common", "combined", "vhost_combined", "combined_timed")

TIMED = b'%b - %b [10/Oct/2000:13:55:36 -0700] "%b" 200 - "-" "%b" 61.002 ABCDEF0123456789abcdef0123456789\n'

# address, user, request, agent -> some keys of the canonical object, as it is written.
VALUES = (
    ((b"192.0.2.7", b"-", b"GET /a?x=1 HTTP/1.1", b"-"),
     '"address":"192.0.2.7","user":null,"time":971211336,"zone":-420,"method":"GET","path":"/a","query":"x=1","protocol":"HTTP/1.1",'
     '"request":null,"status":200,"bytes":0,"referer":null,"agent":null,"request_time":61002,"request_id":"abcdef0123456789abcdef0123456789"}'),
    ((b"::1", b"john doe", b"GET /p? HTTP/1.1", b""), '"path":"/p","query":"","protocol":"HTTP/1.1","request":null'),
    ((b"::1", b"john doe", b"GET /p HTTP/1.1", b""), '"user":"john doe"'),
    ((b"::1", b"", b"GET /p HTTP/1.1", b""), '"user":""'),
    ((b"::1", b"-", b"GET /a b?c HTTP/2", b""), '"method":"GET","path":"/a b","query":"c","protocol":"HTTP/2"'),
    ((b"::1", b"-", rb"\x16\x03\x01", b""), '"method":null,"path":null,"query":null,"protocol":null,"request":"\\u0016\\u0003\\u0001"'),
    ((b"::1", b"-", b"-", b""), '"request":"-"'),
    ((b"::1", b"-", b"", b""), '"request":""'),
    ((b"::1", b"-", b"GET /old", b""), '"method":null,"path":null,"query":null,"protocol":null,"request":"GET /old"'),
    ((b"::1", b"-", b"", rb"a\x22b\x5Cc\"d\\e"), '"agent":"a\\"b\\\\c\\"d\\\\e"'),
    ((b"::1", b"-", b"", rb"\x5Cx41 \\x41"), '"agent":"\\\\x41 \\\\x41"'),
    ((b"::1", b"-", b"", rb"\xg1\q\x4"), '"agent":"\\\\xg1\\\\q\\\\x4"'),
    ((b"::1", b"-", b"", b"\xc3\xa9\\xC3\\xA9\x00\x7f"), '"agent":"\\u00c3\\u00a9\\u00c3\\u00a9\\u0000\\u007f"'),
    ((b"::1", b"-", b"", rb"\b\t\n\v\r"), '"agent":"\\u0008\\u0009\\u000a\\u000b\\u000d"'),
)

failures = []


def differs(what, wanted, found):
    if wanted != found:
        failures.append("%s: wanted %s, found %s" % (what, wanted, found))


def reference(*args):
    return subprocess.run([sys.executable, PARSER, *args], check=True, stdout=subprocess.PIPE).stdout.decode("ascii")


def check_values(folder):
    path = os.path.join(folder, "values.log")
    with open(path, "wb") as log:
        log.writelines(TIMED % fields for fields, _ in VALUES)
    found = reference(path).splitlines()
    differs("format of the values", '{"format":"combined_timed"}', found[0])
    differs("number of values", len(VALUES), len(found) - 1)
    for (fields, wanted), line in zip(VALUES, found[1:]):
        if wanted not in line:
            failures.append("%s: wanted %s in %s" % (ascii(fields), wanted, line))


def check_nasty(folder, name):
    log, expect = os.path.join(folder, "nasty.log"), os.path.join(folder, "expect")
    subprocess.run([sys.executable, NASTY, "--as", name, "--expect", expect, log], check=True)
    with open(expect, encoding="ascii") as text:
        wanted = [line.rstrip("\n").split("\t", 1) for line in text]
    found = [json.loads(line) for line in io.StringIO(reference(log))]
    differs("format", {"format": name}, found.pop(0))
    differs("%s: number of lines" % name, len(wanted), len(found))
    offset = 0
    for number, ((verdict, case), line) in enumerate(zip(wanted, found), 1):
        differs("%s: %s" % (name, case), verdict, line.get("bad", "ok"))
        differs("%s: place of %s" % (name, case), (number, offset), (line["line"], line["offset"]))
        offset += line["length"]
    differs("%s: sum of the lengths" % name, os.path.getsize(log), offset)


def check_empty(folder):
    path = os.path.join(folder, "empty.log")
    open(path, "wb").close()
    differs("empty file", '{"format":"combined"}\n', reference(path))
    with open(path, "wb") as log:
        log.write(b"\xef\xbb\xbf")
    differs("BOM alone", '{"format":"combined"}\n{"line":1,"offset":0,"length":3,"bad":"empty"}\n', reference(path))


def check_sample(path):
    rows = [line.rpartition(" ") for line in reference("--counts", path).splitlines()]
    counts = {key: value for key, _, value in rows}
    differs("sample's format", "combined_timed", counts["format"])
    differs("sample's quarantine", {"quarantined time"}, {key for key in counts if key.startswith("quarantined ")} | {"quarantined time"})
    differs("sample's events", int(counts["lines"]), int(counts["events"]) + int(counts.get("quarantined time", 0)))
    if int(counts["lines"]) < 50000 or int(counts["request_unsplit"]) < 100:
        failures.append("sample: too few lines or broken requests: %s" % counts)


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_values(folder)
        check_empty(folder)
        for name in FORMATS:
            check_nasty(folder, name)
    for path in sys.argv[1:]:
        check_sample(path)
    for line in failures:
        print("check_etl_reference: %s" % line)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
