#!/usr/bin/python3
"""Reference parser for access logs: the second implementation of docs/etl-format.md.

    etl_reference.py [--counts] [--format NAME] FILE[.gz]

Prints the canonical output of section 7, byte for byte what the C parser must print.
--counts prints a summary instead, --format skips the choice of section 6.

Written for clearness and independence, not for speed: where the C parser walks bytes, this one
lets the re module decide, so that the two are unlikely to share a mistake.
"""

import argparse
import calendar
import collections
import gzip
import ipaddress
import re
import sys
import zlib

FORMATS = ("common", "combined", "vhost_combined", "combined_timed")
VOTERS = 1000
LINE_MAX = 1 << 20
BYTES_MAX = (1 << 63) - 1
BOM = b"\xef\xbb\xbf"
MONTHS = {m.encode(): i for i, m in enumerate(calendar.month_abbr) if m}

MARK = re.compile(rb' \[[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\] "')
TIME = re.compile(rb"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})")
TOKEN = re.compile(rb"[^ ]*")
# Possessive by construction: an item starts with a backslash or it does not, never both.
QUOTED = re.compile(rb'"((?:\\.|[^"\\])*)"(?= |\Z)', re.DOTALL)
VHOST = re.compile(rb"[A-Za-z0-9._:\[\]-]+:([0-9]{1,5})")
REQUEST = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}) (.+) (HTTP/[0-9]{1,3}(?:\.[0-9]{1,3})?)", re.DOTALL)
ESCAPE = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|(["\\btnvr]))')
SIMPLE = {b'"': b'"', b"\\": b"\\", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"r": b"\r"}


class Bad(Exception):
    """The line does not parse as the format asked for; args[0] is the reason code."""


class Cursor:
    """A position in a text that only moves forward."""

    def __init__(self, text):
        self.text = text
        self.at = 0

    def rest(self):
        return self.text[self.at:]

    def space(self, reason):
        if self.text[self.at:self.at + 1] != b" ":
            raise Bad(reason)
        self.at += 1

    def token(self):
        found = TOKEN.match(self.text, self.at)
        self.at = found.end()
        return found.group()

    def quoted(self, reason):
        found = QUOTED.match(self.text, self.at)
        if not found:
            raise Bad(reason)
        self.at = found.end()
        return found.group(1)


def unescape(raw):
    return ESCAPE.sub(lambda m: bytes([int(m.group(1), 16)]) if m.group(1) else SIMPLE[m.group(2)], raw)


def or_null(raw):
    return None if raw == b"-" else unescape(raw)


def is_address(token):
    """What inet_pton(3) takes; ipaddress also takes zones and is asked in text, hence the guard."""
    if not re.fullmatch(rb"[0-9A-Fa-f:.]+", token):
        return False
    try:
        ipaddress.ip_address(token.decode("ascii"))
    except ValueError:
        return False
    return True


def is_vhost(token):
    found = VHOST.fullmatch(token)
    return bool(found) and int(found.group(1)) <= 65535 and not is_address(token)


def read_time(raw):
    """(epoch seconds, offset in minutes) or Bad."""
    found = TIME.fullmatch(raw)
    if not found:
        raise Bad("time")
    month = MONTHS.get(found.group(2))
    day, year, hour, minute, second = (int(found.group(i)) for i in (1, 3, 4, 5, 6))
    off_h, off_m = int(found.group(8)), int(found.group(9))
    if month is None or year < 1970 or off_h > 23 or off_m > 59:
        raise Bad("time")
    if not 1 <= day <= calendar.monthrange(year, month)[1] or hour > 23 or minute > 59 or second > 60:
        raise Bad("time")
    zone = (off_h * 60 + off_m) * (-1 if found.group(7) == b"-" else 1)
    return calendar.timegm((year, month, day, hour, minute, 0)) + second - zone * 60, zone


def read_request(raw, event):
    plain = unescape(raw)
    event.update(method=None, path=None, query=None, protocol=None, request=plain)
    # Greedy: the target reaches to the last space, so it may contain spaces itself.
    found = REQUEST.fullmatch(plain)
    if found:
        path, mark, query = found.group(2).partition(b"?")
        event.update(method=found.group(1), path=path, query=query if mark else None, protocol=found.group(3), request=None)


def read_head(cur, event):
    token = cur.token()
    if not is_address(token):
        raise Bad("address")
    event["address"] = token
    cur.space("user")
    bracket = cur.text.find(b" [", cur.at)
    if bracket < 0:
        raise Bad("time")
    ident, space, user = cur.text[cur.at:bracket].partition(b" ")
    if not ident or not space:
        raise Bad("user")
    event["user"] = or_null(user)
    cur.at = bracket + 2
    event["time"], event["zone"] = read_time(cur.text[cur.at:cur.at + 26])
    cur.at += 26
    if cur.text[cur.at:cur.at + 1] != b"]":
        raise Bad("time")
    cur.at += 1


def read_middle(cur, event):
    cur.space("request")
    read_request(cur.quoted("request"), event)
    cur.space("status")
    token = cur.token()
    if not re.fullmatch(rb"[0-9]{3}", token):
        raise Bad("status")
    event["status"] = int(token)
    cur.space("bytes")
    token = cur.token()
    if token != b"-" and (not re.fullmatch(rb"[0-9]{1,19}", token) or int(token) > BYTES_MAX):
        raise Bad("bytes")
    event["bytes"] = 0 if token == b"-" else int(token)


def read_timing(cur, event):
    cur.space("request_time")
    found = re.fullmatch(rb"([0-9]{1,10})\.([0-9]{3})", cur.token())
    if not found:
        raise Bad("request_time")
    event["request_time"] = int(found.group(1)) * 1000 + int(found.group(2))
    cur.space("request_id")
    token = cur.token()
    if not re.fullmatch(rb"[0-9A-Fa-f]{32}", token):
        raise Bad("request_id")
    event["request_id"] = token.lower()


def parse(text, name):
    """The event that `text` is in format `name`, or Bad."""
    cur = Cursor(text)
    event = {"vhost": None, "referer": None, "agent": None, "request_time": None, "request_id": None}
    if name == "vhost_combined":
        token = cur.token()
        if not is_vhost(token):
            raise Bad("vhost")
        event["vhost"] = token
        cur.space("address")
    read_head(cur, event)
    read_middle(cur, event)
    if name != "common":
        for key in ("referer", "agent"):
            cur.space(key)
            event[key] = or_null(cur.quoted(key))
    if name == "combined_timed":
        read_timing(cur, event)
    if cur.rest():
        raise Bad("trailing")
    return event


def parses(text, name):
    try:
        parse(text, name)
    except Bad:
        return False
    return True


def unparsable(line, text):
    """Rules 1 and 2 of section 2, which need no format."""
    if len(line) - line.endswith(b"\n") > LINE_MAX:
        return "too_long"
    if not text.strip(b" \t\v\f\r"):
        return "empty"
    return None


def verdict(line, text, name):
    """(event, None) or (None, reason)."""
    reason = unparsable(line, text)
    if reason:
        return None, reason
    try:
        return parse(text, name), None
    except Bad as bad:
        reason = bad.args[0]
    if any(parses(text, other) for other in FORMATS if other != name):
        return None, "format"
    if len(MARK.findall(text)) >= 2:
        return None, "glued"
    return None, reason


def lines_of(stream):
    """(offset, line with its LF, text); a binary stream splits at LF and nothing else."""
    offset = 0
    for line in stream:
        text = line[:-1] if line.endswith(b"\n") else line
        text = text[:-1] if text.endswith(b"\r") else text
        if offset == 0 and text.startswith(BOM):
            text = text[len(BOM):]
        yield offset, line, text
        offset += len(line)


def choose_format(path):
    votes = dict.fromkeys(FORMATS, 0)
    with open_log(path) as stream:
        for number, (_, line, text) in enumerate(lines_of(stream)):
            if number == VOTERS:
                break
            if not unparsable(line, text):
                for name in FORMATS:
                    votes[name] += parses(text, name)
    best = max(FORMATS, key=lambda name: votes[name])
    return best if votes[best] else "combined"


def open_log(path):
    with open(path, "rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def json_string(raw):
    out = []
    for byte in raw:
        if byte in (0x22, 0x5C):
            out.append("\\" + chr(byte))
        elif 0x20 <= byte <= 0x7E:
            out.append(chr(byte))
        else:
            out.append("\\u%04x" % byte)
    return '"' + "".join(out) + '"'


def json_value(value):
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else json_string(value)


KEYS = ("vhost", "address", "user", "time", "zone", "method", "path", "query", "protocol", "request", "status", "bytes",
        "referer", "agent", "request_time", "request_id")


def canonical(number, offset, line, event, reason):
    head = '{"line":%d,"offset":%d,"length":%d' % (number, offset, len(line))
    if reason:
        return '%s,"bad":"%s"}\n' % (head, reason)
    return head + "".join(',"%s":%s' % (key, json_value(event[key])) for key in KEYS) + "}\n"


def print_counts(path, name, out):
    reasons = collections.Counter()
    statuses = collections.Counter()
    unsplit = lines = size = 0
    with open_log(path) as stream:
        for _, line, text in lines_of(stream):
            event, reason = verdict(line, text, name)
            lines += 1
            size += len(line)
            if reason:
                reasons[reason] += 1
            else:
                statuses["%03d" % event["status"]] += 1
                unsplit += event["request"] is not None
    out.write("format %s\nlines %d\nbytes %d\nevents %d\nrequest_unsplit %d\n" % (name, lines, size, sum(statuses.values()), unsplit))
    for label, counter in (("quarantined", reasons), ("status", statuses)):
        for key, count in sorted(counter.items()):
            out.write("%s %s %d\n" % (label, key, count))


def main():
    options = argparse.ArgumentParser(description="Print the canonical reading of an access log (docs/etl-format.md).")
    options.add_argument("--counts", action="store_true", help="print counts instead of lines")
    options.add_argument("--format", choices=FORMATS, help="do not choose the format from the file")
    options.add_argument("file")
    args = options.parse_args()
    try:
        name = args.format or choose_format(args.file)
        if args.counts:
            print_counts(args.file, name, sys.stdout)
            return 0
        sys.stdout.write('{"format":"%s"}\n' % name)
        with open_log(args.file) as stream:
            for number, (offset, line, text) in enumerate(lines_of(stream), 1):
                sys.stdout.write(canonical(number, offset, line, *verdict(line, text, name)))
    except (OSError, EOFError, zlib.error) as error:
        sys.stderr.write("etl_reference: %s: %s\n" % (args.file, error))
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.exit(141)
