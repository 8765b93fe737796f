"""gRPC through two sidecars, by grpcio: every kind of call, trailers, deadlines, cancellation."""

import threading
import time
from concurrent import futures

import grpc

LIMIT = 20.0
SERVICE = "shop.Echo"


class Echo(grpc.GenericRpcHandler):
    """The server: bytes in, bytes out. `left` is set once a call that waits has lost its caller."""

    def __init__(self):
        self.left = threading.Event()

    def service(self, details):
        name = details.method.removeprefix(f"/{SERVICE}/")
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Trickle": grpc.unary_stream_rpc_method_handler(self.trickle),
        }.get(name)

    def unary(self, message, context):
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", sent.get("x-mine", "")),))
        context.set_trailing_metadata((("x-last", sent.get("x-mine", "")), ("x-bytes-bin", b"\0\xff")))
        if message == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ä%")
        return message

    def down(self, message, _):
        return (b"%d" % number for number in range(int(message)))

    def up(self, messages, _):
        return b"%d" % sum(len(message) for message in messages)

    def wait(self, _, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        if gone.wait(LIMIT):
            self.left.set()
        return b"late"

    def trickle(self, _, context):
        context.add_callback(self.left.set)
        while context.is_active():
            yield b"more"
            time.sleep(0.01)


def serve(at):
    """A server at `at`, and its handler."""
    server, echo = grpc.server(futures.ThreadPoolExecutor(32)), Echo()
    server.add_generic_rpc_handlers((echo,))
    assert server.add_insecure_port(at), f"{at} cannot be bound"
    server.start()
    return server, echo


def fails(code, call):
    """The error with which `call` must fail."""
    try:
        result = call()
    except grpc.RpcError as error:
        assert error.code() == code, f"expected {code}, came {error}"
        return error
    raise AssertionError(f"expected {code}, came {result}")


def run(at, authority, echo):
    """Yields what was shown."""
    options = [("grpc.default_authority", authority), ("grpc.max_receive_message_length", 1 << 24)]
    with grpc.insecure_channel(at, options) as channel:
        method = f"/{SERVICE}/"
        unary = channel.unary_unary(method + "Unary")
        calls = [unary.future(b"%d" % number, timeout=LIMIT) for number in range(500)]
        assert [call.result() for call in calls] == [b"%d" % number for number in range(500)]
        yield "500 calls at once"

        message, call = unary.with_call(b"hi", metadata=(("x-mine", "yes"),), timeout=LIMIT)
        first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert (message, first["x-first"], last["x-last"]) == (b"hi", "yes", "yes"), (first, last)
        assert last["x-bytes-bin"] == b"\0\xff", last
        yield "metadata before and after the message, text and bytes"

        great = bytes(3 << 20)
        assert unary(great, timeout=LIMIT) == great
        yield "a message of 3 MiB both ways"

        error = fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: unary(b"fail", timeout=LIMIT))
        assert error.details() == "not today: ä%", error
        yield "an error with its words"

        fails(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary(method + "Nothing")(b"", timeout=LIMIT))
        yield "a method that is not there"

        down = list(channel.unary_stream(method + "Down")(b"5000", timeout=LIMIT))
        assert down == [b"%d" % number for number in range(5000)]
        yield "5000 messages down"

        up = channel.stream_unary(method + "Up")((b"x" * 1000 for _ in range(2000)), timeout=LIMIT)
        assert up == b"2000000", up
        yield "2000 messages up"

        gate = threading.Semaphore(1)

        def questions():
            for number in range(200):
                gate.acquire()
                yield b"%d" % number

        for number, answer in enumerate(channel.stream_stream(method + "Both")(questions(), timeout=LIMIT)):
            assert answer == b"%d" % number
            gate.release()
        assert number == 199
        yield "200 questions, each asked after the answer to the last"

        began = time.monotonic()
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: channel.unary_unary(method + "Wait")(b"", timeout=0.3))
        assert time.monotonic() - began < LIMIT / 2
        assert echo.left.wait(LIMIT), "the server never learned of it"
        yield "a deadline, which the server learns of"

        echo.left.clear()
        stream = channel.unary_stream(method + "Trickle")(b"", timeout=LIMIT)
        assert next(stream) == b"more"
        stream.cancel()
        assert echo.left.wait(LIMIT), "the server never learned of it"
        yield "a cancellation in the midst of a stream, which the server learns of"
        assert unary(b"after", timeout=LIMIT) == b"after"
        yield "a call on the same channel after all that"


def run_without_server(at, authority):
    """Yields what was shown with the server gone."""
    with grpc.insecure_channel(at, [("grpc.default_authority", authority)]) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        fails(grpc.StatusCode.UNAVAILABLE, lambda: unary(b"", timeout=LIMIT))
        yield "UNAVAILABLE where nobody is"
