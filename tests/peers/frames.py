"""HTTP/2 that breaks the rules (RFC 9113): each gets the right error, and closes only its own connection."""

import socket
import struct
import time

from hpack import Decoder, Encoder

import mesh

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NAMES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
         "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"]
LIMIT = 10.0
# How long a flood lasts, and a stream on which nobody says anything.
FLOOD, NOBODY = 2.0, 0x7FFFFFFF


class Peer:
    """One connection that says what it likes."""

    def __init__(self, at):
        self.tcp = socket.create_connection(at)
        self.tcp.settimeout(LIMIT)
        self.encoder = Encoder()
        self.buffer = b""
        self.tcp.sendall(PREFACE + raw(4, 0, 0, b""))

    def head(self, path="/", extra=(), pseudo=None):
        """The header block of a GET."""
        first = pseudo or [(":method", "GET"), (":scheme", "http"), (":authority", AUTHORITY), (":path", path)]
        return self.encoder.encode([*first, *extra])

    def headers(self, stream, block, flags=0x5):
        """HEADERS; they end their stream and their block if not told otherwise."""
        return raw(1, flags, stream, block)

    def send(self, data):
        """Sends; false if the other side has gone."""
        try:
            self.tcp.sendall(data)
            return True
        except OSError:
            return False

    def frames(self, until):
        """Frames as (type, flags, stream, payload), until `until` of one is true, the end, or no more in time."""
        deadline = time.monotonic() + LIMIT
        while True:
            while len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + size:
                    break
                kind, flags = self.buffer[3], self.buffer[4]
                stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                one = (kind, flags, stream, self.buffer[9 : 9 + size])
                self.buffer = self.buffer[9 + size :]
                if kind == 4 and not flags & 1:
                    self.send(raw(4, 1, 0, b""))
                yield one
                if until(one):
                    return
            try:
                self.tcp.settimeout(max(0.01, deadline - time.monotonic()))
                more = self.tcp.recv(65536)
            except TimeoutError:
                yield ("silence",)
                return
            except OSError:
                more = b""
            if not more:
                yield ("end",)
                return
            self.buffer += more

    def outcome(self, stream=None):
        """What ends the matter: ('goaway', code), ('reset', code), ('status', code), ('end',) or ('silence',)."""
        def is_last(one):
            kind, _, on, _ = one
            return kind == 7 or (kind in (1, 3) and (stream is None or on == stream))

        last = None
        for last in self.frames(is_last):
            pass
        match last:
            case (7, _, _, payload):
                return ("goaway", NAMES[struct.unpack(">I", payload[4:8])[0]])
            case (3, _, _, payload):
                return ("reset", NAMES[struct.unpack(">I", payload)[0]])
            case (1, _, _, payload):
                return ("status", status(payload))
            case other:
                return other


def status(block):
    return int(dict(Decoder().decode(block))[":status"])


def raw(kind, flags, stream, payload):
    """A frame as no library would write it."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def pseudo(*fields):
    """A GET whose header block is this and nothing else."""
    return lambda peer: peer.headers(1, peer.encoder.encode(list(fields)))


def with_fields(*fields):
    """A GET with these fields."""
    return lambda peer: peer.headers(1, peer.head(extra=fields))


def post(peer, *frames, extra=()):
    """A POST with its frames."""
    block = peer.head(extra=extra, pseudo=POST)
    return peer.headers(1, block, flags=0x4) + b"".join(frames)


def data(stream, payload, end=True):
    return raw(0, 1 if end else 0, stream, payload)


AUTHORITY = f"{mesh.HOST}:{mesh.HTTP}"
HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", AUTHORITY), (":path", "/")]
POST = [(":method", "POST"), *HEAD[1:]]


def goaway(*codes):
    return [("goaway", code) for code in codes]


def reset(*codes):
    return [("reset", code) for code in codes]


# A request that is none ends its stream; the connection may end with it (section 8.1.1).
def malformed():
    return reset("PROTOCOL_ERROR") + goaway("PROTOCOL_ERROR", "COMPRESSION_ERROR")


# The code that is less particular, which the library that reads frames often says.
LESS = "PROTOCOL_ERROR"

# What is said on a new connection, and what may come of it.
CASES = {
    # Frames (RFC 9113, sections 4 to 6).
    "DATA on an idle stream": (lambda p: data(1, b"x"), goaway("PROTOCOL_ERROR")),
    "DATA on stream 0": (lambda p: data(0, b"x"), goaway("PROTOCOL_ERROR")),
    "HEADERS on stream 0": (lambda p: p.headers(0, p.head()), goaway("PROTOCOL_ERROR")),
    "HEADERS on an even stream": (lambda p: p.headers(2, p.head()), goaway("PROTOCOL_ERROR")),
    "a stream below the last one": (
        lambda p: p.headers(5, p.head()) + p.headers(3, p.head()),
        goaway("PROTOCOL_ERROR", "STREAM_CLOSED") + reset("STREAM_CLOSED"),
    ),
    "DATA after the end of the stream": (
        lambda p: p.headers(1, p.head("/slow")) + data(1, b"x"),
        goaway("STREAM_CLOSED", "PROTOCOL_ERROR") + reset("STREAM_CLOSED"),
    ),
    "HEADERS after the end of the stream": (
        lambda p: p.headers(1, p.head("/slow")) + p.headers(1, p.head("/slow")),
        goaway("STREAM_CLOSED", "PROTOCOL_ERROR") + reset("STREAM_CLOSED", "PROTOCOL_ERROR"),
    ),
    "a frame greater than may be": (lambda p: post(p) + data(1, b"x" * 16_385), goaway("FRAME_SIZE_ERROR", LESS)),
    "SETTINGS of five bytes": (lambda p: raw(4, 0, 0, b"12345"), goaway("FRAME_SIZE_ERROR", LESS)),
    "SETTINGS on a stream": (lambda p: raw(4, 0, 1, b""), goaway("PROTOCOL_ERROR")),
    "SETTINGS acknowledged with a payload": (lambda p: raw(4, 1, 0, b"123456"), goaway("FRAME_SIZE_ERROR", LESS)),
    "a window greater than may be": (
        lambda p: raw(4, 0, 0, struct.pack(">HI", 4, 1 << 31)),
        goaway("FLOW_CONTROL_ERROR", LESS),
    ),
    "a least frame size below the least": (
        lambda p: raw(4, 0, 0, struct.pack(">HI", 5, 16_383)),
        goaway("PROTOCOL_ERROR"),
    ),
    "ENABLE_PUSH of 2": (lambda p: raw(4, 0, 0, struct.pack(">HI", 2, 2)), goaway("PROTOCOL_ERROR")),
    "PING of seven bytes": (lambda p: raw(6, 0, 0, b"1234567"), goaway("FRAME_SIZE_ERROR", LESS)),
    "PING on a stream": (lambda p: raw(6, 0, 1, b"12345678"), goaway("PROTOCOL_ERROR")),
    "RST_STREAM of an idle stream": (lambda p: raw(3, 0, 1, b"\0\0\0\0"), goaway("PROTOCOL_ERROR")),
    "RST_STREAM of three bytes": (
        lambda p: post(p) + raw(3, 0, 1, b"123"),
        goaway("FRAME_SIZE_ERROR", LESS),
    ),
    "PUSH_PROMISE from a client": (
        lambda p: post(p) + raw(5, 4, 1, b"\0\0\0\2" + p.head()),
        goaway("PROTOCOL_ERROR"),
    ),
    "WINDOW_UPDATE of 0 for the connection": (lambda p: raw(8, 0, 0, b"\0\0\0\0"), goaway("PROTOCOL_ERROR")),
    "WINDOW_UPDATE of 0 for a stream": (
        lambda p: post(p) + raw(8, 0, 1, b"\0\0\0\0"),
        goaway("PROTOCOL_ERROR") + reset("PROTOCOL_ERROR"),
    ),
    "WINDOW_UPDATE beyond the greatest window": (
        lambda p: raw(8, 0, 0, struct.pack(">I", 0x7FFFFFFF)),
        goaway("FLOW_CONTROL_ERROR", LESS),
    ),
    "WINDOW_UPDATE beyond a stream's greatest window": (
        lambda p: post(p) + raw(8, 0, 1, struct.pack(">I", 0x7FFFFFFF)),
        goaway("FLOW_CONTROL_ERROR", LESS) + reset("FLOW_CONTROL_ERROR"),
    ),
    "WINDOW_UPDATE on an idle stream": (lambda p: raw(8, 0, 1, b"\0\0\0\1"), goaway("PROTOCOL_ERROR")),
    "padding longer than its frame": (
        lambda p: raw(1, 0x8 | 0x5, 1, bytes([255]) + p.head()),
        goaway("PROTOCOL_ERROR"),
    ),
    "CONTINUATION without HEADERS": (lambda p: raw(9, 4, 1, p.head()), goaway("PROTOCOL_ERROR")),
    "CONTINUATION of another stream": (
        lambda p: raw(1, 1, 1, p.head()) + raw(9, 4, 3, b""),
        goaway("PROTOCOL_ERROR"),
    ),
    "a frame between HEADERS and CONTINUATION": (
        lambda p: raw(1, 1, 1, p.head()) + raw(6, 0, 0, b"12345678"),
        goaway("PROTOCOL_ERROR"),
    ),
    # Compression (RFC 7541).
    "an index that is not there": (lambda p: raw(1, 5, 1, b"\xff\xff\x7f"), goaway("COMPRESSION_ERROR", LESS)),
    "the index 0": (lambda p: raw(1, 5, 1, b"\x80"), goaway("COMPRESSION_ERROR", LESS)),
    "an integer without end": (lambda p: raw(1, 5, 1, b"\xff" * 20), goaway("COMPRESSION_ERROR", LESS)),
    "a table greater than may be": (
        lambda p: raw(1, 5, 1, b"\x3f\xff\xff\x7f" + p.head()),
        goaway("COMPRESSION_ERROR", LESS),
    ),
    # Requests (RFC 9113, section 8).
    "no method": (pseudo(*HEAD[1:]), malformed()),
    "no scheme": (pseudo(HEAD[0], *HEAD[2:]), malformed()),
    "no path": (pseudo(*HEAD[:3]), malformed()),
    "an empty path": (pseudo(*HEAD[:3], (":path", "")), malformed() + [("status", 400)]),
    "two paths": (pseudo(*HEAD, (":path", "/other")), malformed()),
    "a status in a request": (pseudo(*HEAD, (":status", "200")), malformed()),
    "a pseudo field that is not known": (pseudo(*HEAD, (":mine", "1")), malformed()),
    "a pseudo field after another": (pseudo(*HEAD[:3], ("x", "1"), HEAD[3]), malformed()),
    "a name in capitals": (with_fields(("X-Mine", "1")), malformed()),
    "a name with a space": (with_fields(("x mine", "1")), malformed()),
    "an empty name": (with_fields(("", "1")), malformed()),
    "a value with a line end": (with_fields(("x", "1\r\ny: 2")), malformed()),
    "a method with a line end": (
        pseudo((":method", "GET / HTTP/1.1\r\nx: 1"), *HEAD[1:]),
        malformed(),
    ),
    "a path with a space": (pseudo(*HEAD[:3], (":path", "/a b")), malformed() + [("status", 400)]),
    "a path without a slash": (pseudo(*HEAD[:3], (":path", "pkg.Svc/M")), malformed() + [("status", 400)]),
    "a method with a NUL": (pseudo((":method", "P\0ST"), *HEAD[1:]), malformed()),
    "a known method in small letters": (pseudo((":method", "post"), *HEAD[1:]), [("status", 400)]),
    "a scheme in other letters": (pseudo(HEAD[0], (":scheme", "HttpS"), *HEAD[2:]), [("status", 200)]),
    "the field connection": (with_fields(("connection", "close")), malformed()),
    "the field transfer-encoding": (with_fields(("transfer-encoding", "chunked")), malformed()),
    "te other than trailers": (with_fields(("te", "gzip")), malformed()),
    "CONNECT with a protocol": (
        pseudo((":method", "CONNECT"), *HEAD[1:], (":protocol", "websocket")),
        malformed(),
    ),
    "less of a body than was said": (
        lambda p: post(p, data(1, b"x"), extra=[("content-length", "5")]),
        reset("PROTOCOL_ERROR"),
    ),
    "more of a body than was said": (
        lambda p: post(p, data(1, b"xxxxxx"), extra=[("content-length", "5")]),
        reset("PROTOCOL_ERROR"),
    ),
    "a length and no body": (with_fields(("content-length", "5")), reset("PROTOCOL_ERROR")),
    "two lengths": (
        lambda p: post(p, data(1, b"xxxxx"), extra=[("content-length", "5"), ("content-length", "6")]),
        reset("PROTOCOL_ERROR") + [("status", 400)],
    ),
    "a pseudo field in trailers": (
        lambda p: post(p, data(1, b"x", end=False), p.headers(1, p.encoder.encode([(":path", "/")]))),
        # It goes no further, and the request does without.
        [*malformed(), ("status", 200)],
    ),
    "trailers that do not end": (
        lambda p: post(p, data(1, b"x", end=False), p.headers(1, p.encoder.encode([("x", "1")]), 0x4)),
        reset("PROTOCOL_ERROR") + goaway("PROTOCOL_ERROR"),
    ),
    "too many fields": (
        with_fields(*[(f"x-{number}", "1") for number in range(200)]),
        reset("PROTOCOL_ERROR") + [("status", 431)],
    ),
}


def endless(first, again):
    """A piece, and another one for ever."""
    def say(peer):
        yield first(peer)
        while True:
            yield again(peer)

    return say


def reset_rapidly(peer):
    """Streams that are opened and reset at once (CVE-2023-44487)."""
    block = peer.head("/slow")
    for stream in range(1, 200_000, 2):
        yield peer.headers(stream, block if stream == 1 else peer.head("/slow")) + raw(3, 0, stream, b"\0\0\0\x08")


def made_to_reset(peer):
    """Streams whose reset the server is made to send (CVE-2025-8671)."""
    for stream in range(1, 200_000, 2):
        yield peer.headers(stream, peer.head("/slow")) + raw(8, 0, stream, b"\0\0\0\0")


def great_fields(peer):
    """Header blocks of a hundred times what may be, each field an index into the table."""
    for stream in range(1, 2000, 2):
        block = peer.encoder.encode([*HEAD, *[("x-great", "a" * 3900)] * 1500])
        pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        yield raw(1, 1 if len(pieces) > 1 else 5, stream, pieces[0])
        for number, piece in enumerate(pieces[1:], 2):
            yield raw(9, 4 if number == len(pieces) else 0, stream, piece)


# What is said again and again, and whether it ends the connection; else it must be answered in bounded memory.
FLOODS = {
    "CONTINUATION without end": (
        endless(lambda p: raw(1, 1, 1, p.head()), lambda p: raw(9, 0, 1, p.encoder.encode([("x", "a" * 8000)]))),
        True,
    ),
    "empty CONTINUATION without end": (endless(lambda p: raw(1, 1, 1, p.head()), lambda p: raw(9, 0, 1, b"") * 100), True),
    "rapid reset": (reset_rapidly, True),
    "made to reset": (made_to_reset, True),
    "SETTINGS": (endless(lambda p: b"", lambda p: raw(4, 0, 0, b"") * 100), False),
    "PING": (endless(lambda p: b"", lambda p: raw(6, 0, 0, b"12345678") * 100), False),
    "empty DATA": (endless(lambda p: post(p), lambda p: data(1, b"", end=False) * 100), False),
    "PRIORITY": (endless(lambda p: b"", lambda p: raw(2, 0, 1, b"\0\0\0\3\x10") * 100), False),
    "frames that are not known": (endless(lambda p: b"", lambda p: raw(0x42, 0, 0, b"x" * 100) * 100), False),
    "fields from the table": (great_fields, False),
}


def all_cases():
    """Each as its name and what runs it at an address."""
    for name, (say, expected) in CASES.items():
        yield name, lambda at, say=say, expected=expected: once(at, say, expected)
    for name, (say, ends) in FLOODS.items():
        yield f"flood: {name}", lambda at, say=say, ends=ends: flood(at, say, ends)


def once(at, say, expected):
    peer = Peer(at)
    peer.send(say(peer))
    came = peer.outcome()
    peer.tcp.close()
    assert came in expected, f"came {came}, expected one of {expected}"


def flood(at, say, ends):
    """Floods for a while, without reading."""
    peer = Peer(at)
    peer.tcp.settimeout(1)
    began = time.monotonic()
    for piece in say(peer):
        if not peer.send(piece) or time.monotonic() - began > FLOOD:
            break
    came = peer.outcome(NOBODY)
    peer.tcp.close()
    if ends:
        assert came[0] in ("goaway", "end"), f"came {came}, expected an end"
