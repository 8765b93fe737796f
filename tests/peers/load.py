"""Load by wrk and h2load: every request is answered."""

import http.server
import re
import subprocess
import threading

import mesh

AUTHORITY = f"{mesh.HOST}:{mesh.HTTP}"


def to(port):
    return ["-H", f":authority: {mesh.HOST}:{port}", f"http://{mesh.MESH}:{port}/"]


class Reading(http.server.BaseHTTPRequestHandler):
    """Reads a body to its end, and answers."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Application(http.server.ThreadingHTTPServer):
    """Takes all connections that a proxy opens at once; five, as the library has it, are too few."""

    daemon_threads = True
    request_queue_size = 256


def serve():
    """The application that reads bodies."""
    server = Application((mesh.SERVER, mesh.BODIES + mesh.BEHIND), Reading)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def output(*args):
    """What a command prints; it must succeed."""
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, f"{args}: {done.stdout}"
    return done.stdout


def run(home):
    """Yields what was shown."""
    text = output("wrk", "-t", "1", "-c", "32", "-d", "3s", "-H", f"Host: {AUTHORITY}", f"http://{mesh.MESH}:{mesh.HTTP}/")
    assert "Socket errors" not in text and "Non-2xx" not in text, text
    yield "wrk, 32 connections of HTTP/1.1: " + re.search(r"Requests/sec: +(\S+)", text)[1] + " requests a second"

    body = home / "body"
    body.write_bytes(bytes(100_000))
    for name, args, port, count in (
        ("HTTP/2, 8 connections with 32 streams each", ["-c", "8", "-m", "32"], mesh.HTTP, 20_000),
        ("HTTP/1.1, 16 connections", ["--h1", "-c", "16"], mesh.HTTP, 10_000),
        ("HTTP/2, bodies of 100 kB", ["-c", "4", "-m", "8", "-d", str(body)], mesh.BODIES, 500),
    ):
        text = output("h2load", "-n", str(count), *args, *to(port))
        assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in text, text
        assert f"{count} 2xx" in text, text
        yield f"h2load, {name}: " + re.search(r"finished in [^,]+, (\S+) req/s", text)[1] + " requests a second"
