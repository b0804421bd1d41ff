#!/usr/bin/python3
"""Write an access log that holds every line the parser must survive (docs/etl-format.md).

    make_nasty.py [--as FORMAT] [--expect FILE] OUT

The file is in FORMAT (combined_timed when not given). --expect writes the verdict each line must get, one
line each: `ok` or the reason code, a tab, the name of the case. The output depends on the arguments alone.
"""

import argparse
import hashlib
import sys

FORMATS = ("common", "combined", "vhost_combined", "combined_timed")
LINE_MAX = 1 << 20
BOM = b"\xef\xbb\xbf"
TLS_HELLO = rb"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\xD4\xA9\x5C\x22\x00 \x8B"


class Maker:
    """Collects lines with the verdict each must get."""

    def __init__(self, name):
        self.name = name
        self.data = bytearray()
        self.expected = []

    def record(self, name=None, **fields):
        """The bytes of one record, with the given fields instead of the ordinary ones."""
        name = name or self.name
        serial = b"%d" % len(self.expected)
        f = {
            "vhost": b"www.example.org:80", "address": b"192.0.2.7", "ident": b"-", "user": b"-",
            "time": b"10/Oct/2000:13:55:36 -0700", "request": b"GET /a/" + serial + b"?x=1&y=%20 HTTP/1.1", "status": b"200",
            "bytes": b"2326", "referer": b"https://example.org/start", "agent": b"Mozilla/5.0 (X11; Linux x86_64)",
            "rtime": b"0.003", "rid": hashlib.md5(serial).hexdigest().encode(),
        }
        f.update(fields)
        text = b'%(address)b %(ident)b %(user)b [%(time)b] "%(request)b" %(status)b %(bytes)b'
        if name != "common":
            text += b' "%(referer)b" "%(agent)b"'
        if name == "combined_timed":
            text += b" %(rtime)b %(rid)b"
        if name == "vhost_combined":
            text = b"%(vhost)b " + text
        return text % {key.encode(): value for key, value in f.items()}

    def put(self, verdict, case, raw, end=b"\n"):
        self.data += raw + end
        self.expected.append((verdict, case))

    def event(self, case, end=b"\n", **fields):
        self.put("ok", case, self.record(**fields), end)

    def bad(self, reason, case, **fields):
        self.put(reason, case, self.record(**fields))

    def has(self, field):
        if field in ("referer", "agent"):
            return self.name != "common"
        return {"vhost": "vhost_combined", "rtime": "combined_timed", "rid": "combined_timed"}[field] == self.name


def begin(m):
    m.data += BOM
    m.event("BOM at the start of the file, and CRLF", end=b"\r\n")
    for _ in range(40):  # the majority that decides the format
        m.event("ordinary line")
    m.event("CRLF", end=b"\r\n")


def requests(m):
    m.event("TLS bytes as a request, escaped", request=TLS_HELLO, status=b"400", bytes=b"157")
    m.event("TLS bytes as a request, raw", request=b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03", status=b"400")
    m.event("empty request, 400", request=b"", status=b"400", bytes=b"0")
    m.event("empty request, 408", request=b"", status=b"408", bytes=b"0")
    m.event("request -, 408", request=b"-", status=b"408", bytes=b"-")
    m.event("HTTP/0.9", request=b"GET /old", status=b"009")
    m.event("HTTP/2", request=b"GET / HTTP/2.0")
    m.event("one word", request=b"\\n", status=b"400")
    m.event("method only", request=b"GET", status=b"400")
    m.event("method and a space", request=b"GET ", status=b"400")
    m.event("no target between two spaces", request=b"GET  HTTP/1.1", status=b"400")
    m.event("target with spaces", request=b"GET /a b c HTTP/1.1")
    m.event("protocol of another kind", request=b"GET / RTSP/1.0", status=b"400")
    m.event("protocol in lower case", request=b"GET / http/1.1", status=b"400")
    m.event("method with a control byte", request=rb"G\x00T / HTTP/1.1", status=b"400")
    m.event("method of 32 bytes", request=b"M" * 32 + b" / HTTP/1.1", status=b"405")
    m.event("method of 33 bytes", request=b"M" * 33 + b" / HTTP/1.1", status=b"405")
    m.event("CONNECT", request=b"CONNECT example.org:443 HTTP/1.1", status=b"405")
    m.event("OPTIONS *", request=b"OPTIONS * HTTP/1.1", status=b"405")
    m.event("absolute target", request=b"GET http://example.org/p?q HTTP/1.1")
    m.event("empty query", request=b"GET /p? HTTP/1.1")
    m.event("second question mark", request=b"GET /p?a?b HTTP/1.1")
    m.event("query only", request=b"GET ?a HTTP/1.1", status=b"400")
    m.event("escaped quote in the path", request=rb"GET /\x22quoted\x22 HTTP/1.1")
    m.event("NUL in the path", request=b"GET /nul\x00here HTTP/1.1", status=b"400")
    m.event("invalid UTF-8 in the path", request=b"GET /\xff\xfe\xc3( HTTP/1.1")
    m.event("LF, CR, TAB as Apache escapes them", request=rb"GET /a\nb\rc\td HTTP/1.1")
    m.event("64 KB request", request=b"GET /" + b"u" * 65536 + b" HTTP/1.1", status=b"414")
    m.bad("request", "quote inside the request", request=b'GET /"x" HTTP/1.1')
    m.put("request", "request never closed", m.record().split(b' HTTP/1.1"')[0])
    m.put("request", "request ends in a backslash", m.record().split(b' HTTP/1.1"')[0] + b"\\")
    m.event("two identical requests in one second, the first", request=b"GET /twice HTTP/1.1", rid=b"a" * 32)
    m.event("two identical requests in one second, the second", request=b"GET /twice HTTP/1.1", rid=b"b" * 32)


def agents(m):
    if not m.has("agent"):
        return
    m.event("quotes and backslashes, nginx", agent=rb"say \x22hi\x22 in C:\x5CTemp\x5C")
    m.event("quotes and backslashes, Apache", agent=rb"say \"hi\" in C:\\Temp\\")
    m.event("escaped UTF-8", agent=rb"\xD0\x9F\xD1\x80\xD0\xB8 \xE2\x82\xAC")
    m.event("raw UTF-8", agent="Привет €".encode())
    m.event("invalid UTF-8", agent=b"\xc0\xaf\xed\xa0\x80\xff\xf8\x88\x80")
    m.event("escaped invalid UTF-8, hexadecimal in both cases", agent=rb"\xC0\xaf\xFf")
    m.event("NUL and control bytes, raw", agent=b"a\x00b\x01c\x7f\x1b[31m")
    m.event("NUL, escaped", agent=rb"\x00\x00")
    m.event("half escapes", agent=rb"\x \xG1 \x4 \q \0 \u0041 \\x41 \x5Cx41")
    m.event("Apache's letters", agent=rb"\b\n\r\t\v\f\a")
    m.event("CR inside", agent=b"a\rb")
    m.event("empty referer and agent", referer=b"", agent=b"")
    m.event("no referer and no agent", referer=b"-", agent=b"-")
    m.event("a dash, escaped", referer=rb"\x2D", agent=b"--")
    m.event("looks like a time", agent=b"bot [10/Oct/2000:13:55:36 -0700] \\\" x")
    m.event("64 KB agent", agent=b"A" * 65536)
    m.event("64 KB of backslashes", agent=b"\\" * 65536)
    m.event("64 KB of escapes", agent=rb"\xE2\x82\xAC" * 5462)
    m.bad("agent", "quote inside the agent", agent=b'a "b" c')
    m.bad("referer", "quote inside the referer", referer=b'a "b" c')
    m.put("referer", "ends before the referer closes", m.record(name="combined").split(b"/start")[0] if m.name != "vhost_combined"
          else m.record().split(b"/start")[0])


def heads(m):
    m.event("IPv6", address=b"2001:db8::7")
    m.event("IPv6 with IPv4 inside", address=b"::ffff:192.0.2.7")
    m.event("IPv6 loopback", address=b"::1")
    for raw in (b"192.0.2.256", b"192.0.2", b"192.0.2.07", b"fe80::1%eth0", b"[::1]", b"1::2::3", b"12345::", b"unix:", b"host.example.org", b"-", b"", b"1.2.3.4\x00"):
        m.bad("address", "address " + ascii(raw), address=raw)
    m.event("user", user=b"alice")
    m.event("user with spaces", user=b"john q doe")
    m.event("empty user", user=b"")
    m.event("user with escapes and raw bytes", user=rb"a\x22\x5Cb" + b"\xff\x00")
    m.event("ident", ident=b"identd")
    m.put("user", "address alone", m.record().split(b" - ")[0])
    m.put("time", "line ends after the user", m.record().split(b" [")[0])
    m.put("user", "ident missing", m.record().replace(b" - - [", b" - [", 1))
    m.put("user", "ident empty", m.record().replace(b" - - [", b"  - [", 1))
    if m.has("vhost"):
        m.event("vhost of another port", vhost=b"[2001:db8::1]:8443")
        for raw in (b"www.example.org", b"www.example.org:", b":80", b"www.example.org:65536", b"a/b:80"):
            m.bad("vhost", "vhost " + ascii(raw), vhost=raw)
        m.bad("format", "an address that looks like a vhost", vhost=b"::1:80")


def times(m):
    for raw in (b"29/Feb/2000:00:00:00 +0000", b"01/Jan/1970:00:00:00 +0100", b"31/Dec/2016:23:59:60 +0000", b"31/Dec/9999:23:59:59 -2359", b"10/Oct/2000:13:55:36 -0000", b"10/Oct/2000:13:55:36 +0545"):
        m.event("time " + ascii(raw), time=raw)
    for raw in (b"29/Feb/2100:00:00:00 +0000", b"31/Apr/2000:00:00:00 +0000", b"00/Oct/2000:13:55:36 -0700", b"10/oct/2000:13:55:36 -0700",
                b"10/Okt/2000:13:55:36 -0700", b"10/Oct/1969:13:55:36 -0700", b"10/Oct/2000:24:00:00 -0700", b"10/Oct/2000:13:60:36 -0700",
                b"10/Oct/2000:13:55:61 -0700", b"10/Oct/2000:13:55:36 +2400", b"10/Oct/2000:13:55:36 +0060", b"10/Oct/2000:13:55:36", b"-", b"", b"10/Oct/2000:13:55:36 -07000", b"1\x00/Oct/2000:13:55:36 -0700"):
        m.bad("time", "time " + ascii(raw), time=raw)


def numbers(m):
    for raw in (b"000", b"009", b"999", b"499"):
        m.event("status " + ascii(raw), status=raw)
    for raw in (b"20", b"2000", b"-", b"-20", b"2x0", b""):
        m.bad("status", "status " + ascii(raw), status=raw)
    for raw in (b"-", b"0", b"00005", b"4294967296", b"9223372036854775807"):
        m.event("size " + ascii(raw), bytes=raw)
    for raw in (b"-5", b"-1", b"+5", b"9223372036854775808", b"18446744073709551616", b"9" * 19, b"9" * 400, b"0" * 20, b"1e9", b"1.5", b"0x10", b"", b"5\x00"):
        m.bad("bytes", "size " + ascii(raw), bytes=raw)
    if m.has("rtime"):
        for raw in (b"0.000", b"59.999", b"9999999999.999"):
            m.event("request time " + ascii(raw), rtime=raw)
        for raw in (b"-", b"-0.001", b"0.01", b"0.0001", b"1", b".001", b"99999999999.000", b"nan", b"0,001", b""):
            m.bad("request_time", "request time " + ascii(raw), rtime=raw)
    if m.has("rid"):
        m.event("request id in capitals", rid=b"0123456789ABCDEF0123456789abcdef")
        for raw in (b"-", b"", b"0" * 31, b"0" * 33, b"g" * 32, b"0" * 31 + b"\x00"):
            m.bad("request_id", "request id " + ascii(raw), rid=raw)


def empties(m):
    for raw in (b"", b" ", b"\t \v\f", b"\r", b" \r\r"):
        m.put("empty", "blank " + ascii(raw), raw)


def shapes(m):
    for other in FORMATS:
        if other != m.name:
            m.put("format", "in " + other, m.record(name=other))
    if m.name == "combined_timed":
        m.put("format", "cut after the size", m.record(name="common"))
        m.put("request_id", "cut after the request time", m.record().rsplit(b" ", 1)[0])
    m.put("glued", "two records glued", m.record() + m.record())
    m.put("glued", "two records with a space between", m.record() + b" " + m.record())
    m.put("glued", "three records with NUL between", b"\x00".join([m.record()] * 3))
    m.put("time", "record cut in its time, then a whole one", m.record().split(b":36 ")[0] + m.record())
    m.put("glued", "record cut in the request, then a whole one", m.record().split(b"?x=1")[0] + m.record())
    m.put("glued", "record and one of another format", m.record() + m.record(name="common"))
    m.put("glued", "record and a second one cut in its request", m.record() + b" " + m.record().split(b"?x=1")[0])
    m.put("trailing", "a space at the end", m.record() + b" ")
    m.put("trailing", "a word at the end", m.record() + b" more")
    last = {"common": "bytes", "combined_timed": "request_id"}.get(m.name, "agent")
    m.put(last, "two CR at the end", m.record() + b"\r", end=b"\r\n")
    garbage = "vhost" if m.name == "vhost_combined" else "address"
    m.put(garbage, "no record at all", b"hello world")
    m.put(garbage, "binary", bytes(b for b in range(256) if b != 10))
    m.put(garbage, "64 KB of NUL", b"\x00" * 65536)
    m.put(garbage, "64 KB of quotes", b'"' * 65536)
    m.put(garbage, "BOM in the middle of the file", BOM + m.record())
    m.put(garbage, "a space at the start", b" " + m.record())
    m.put(garbage, "JSON", b'{"remote_addr":"192.0.2.7","status":200}')


def longest(m):
    def padded(total):
        short = m.record(request=b"GET /pad HTTP/1.1")
        return short.replace(b"/pad", b"/pad" + b"p" * (total - len(short)))

    m.put("ok", "longest line that is read", padded(LINE_MAX))
    m.put("too_long", "one byte longer", padded(LINE_MAX + 1))
    m.put("too_long", "CR counts", padded(LINE_MAX), end=b"\r\n")
    m.put("too_long", "blanks without end", b" " * (LINE_MAX + 1))
    m.put("too_long", "two longest lines glued", padded(LINE_MAX) * 2)


def build(name):
    m = Maker(name)
    for part in (begin, requests, agents, heads, times, numbers, empties, shapes, longest):
        part(m)
    m.event("ordinary line after all that")
    m.event("no newline at the end of the file", end=b"")
    return m


def main():
    options = argparse.ArgumentParser(description="Write an access log of every line the parser must survive.")
    options.add_argument("--as", dest="name", choices=FORMATS, default="combined_timed")
    options.add_argument("--expect", metavar="FILE", help="write the verdict that each line must get")
    options.add_argument("out")
    args = options.parse_args()
    made = build(args.name)
    with open(args.out, "wb") as out:
        out.write(made.data)
    if args.expect:
        with open(args.expect, "w", encoding="ascii") as out:
            out.writelines("%s\t%s\n" % pair for pair in made.expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
