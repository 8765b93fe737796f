"""Independent peers against two sidecars of the built binary: wrk, h2load, grpcio, and frames that break the rules.

    python tests/peers/run.py target/release/isthmus

Needs wrk and h2load (Debian: wrk, nghttp2-client) and the Python packages grpcio, hpack.
"""

import contextlib
import http.client
import sys
import threading
import time

import calls
import frames
import load
import mesh

AT = (mesh.MESH, mesh.HTTP)
GRPC_AT, GRPC_AUTHORITY = f"{mesh.MESH}:{mesh.GRPC}", f"{mesh.HOST}:{mesh.GRPC}"
# How much more a sidecar may hold for all that breaks the rules, in KiB.
MEMORY = 64 * 1024


class Tally:
    """What was shown, and what was not."""

    def __init__(self):
        self.passed = self.failed = 0

    def take(self, group, shown):
        """Counts what `shown` yields, to its end or its first failure."""
        try:
            for what in shown:
                self.passed += 1
                print(f"ok    {group}: {what}", flush=True)
        except Exception as error:  # whatever it is, the next group is to run
            self.failed += 1
            print(f"FAIL  {group}: {type(error).__name__}: {error}", flush=True)


def main(binary):
    tally = Tally()
    with mesh.running(binary) as processes, mesh.application(binary), beside() as peaceful:
        mesh.until("the application answers", lambda: ask(http.client.HTTPConnection(*AT, timeout=1)))
        reading = load.serve()
        tally.take("load", load.run(processes.home))
        reading.shutdown()
        server, echo = calls.serve(f"{mesh.SERVER}:{mesh.GRPC + mesh.BEHIND}")
        tally.take("gRPC", calls.run(GRPC_AT, GRPC_AUTHORITY, echo))
        server.stop(None).wait()
        tally.take("gRPC", calls.run_without_server(GRPC_AT, GRPC_AUTHORITY))
        peaceful.start()
        before = processes.memory("caller")
        for name, case in frames.all_cases():
            tally.take("HTTP/2", shown(name, case))
        tally.take("HTTP/2", grown(processes, before))
        tally.take("HTTP/2", peaceful.end())
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


def shown(name, case):
    case(AT)
    yield name


def grown(processes, before):
    more = processes.memory("caller") - before
    assert more < MEMORY, f"the sidecar holds {more} KiB more than before"
    yield f"the sidecar holds {more} KiB more than before"


class Peaceful:
    """Asks all the while over one connection that breaks no rule; nothing must happen to it."""

    def __init__(self):
        self.stop, self.error, self.asked, self.slowest = threading.Event(), None, 0, 0.0
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def start(self):
        self.thread.start()

    def ask(self):
        connection = http.client.HTTPConnection(*AT, timeout=mesh.PATIENCE)
        connection.connect()
        # Opened once, and never again.
        connection.auto_open = 0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                ask(connection)
            except Exception as error:
                self.error = error
                return
            self.asked, self.slowest = self.asked + 1, max(self.slowest, time.monotonic() - began)
            self.stop.wait(0.01)

    def end(self):
        self.stop.set()
        self.thread.join()
        assert self.error is None, f"after {self.asked} requests: {self.error!r}"
        yield f"{self.asked} requests on a connection beside all that, the slowest within {self.slowest:.2f} s"


@contextlib.contextmanager
def beside():
    peaceful = Peaceful()
    try:
        yield peaceful
    finally:
        peaceful.stop.set()


def ask(connection):
    connection.request("GET", "/", headers={"Host": load.AUTHORITY})
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
