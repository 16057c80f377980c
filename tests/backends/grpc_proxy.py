"""A gRPC server before the Firestore emulator: passes calls on as bytes, or answers them as it was told to."""

import threading
from concurrent import futures

import grpc

FOREVER = 30.0


class Proxy:
    """Listens on a port of the loopback; `mood` is what becomes of calls.

    None passes them on; a :class:`grpc.StatusCode` answers with it; "hang" takes them and says nothing, as a network
    does that drops packets; "break off" ends a streamed answer with an error behind its first message.
    """

    def __init__(self, target):
        self.mood = None
        self.calls = []
        self._ended = threading.Event()
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def answer(self, method, context):
        """Do what the mood says; True if the call is to be passed on."""
        mood = self.mood
        self.calls.append((method.rpartition("/")[2], mood))
        if mood in (None, "break off"):
            return True
        if mood == "hang":
            self._ended.wait(FOREVER)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the proxy was closed")
        context.abort(mood, f"answered by the test: {mood.name}")
        return False

    def unary(self, method, request, context):
        if self.answer(method, context):
            try:
                return self._channel.unary_unary(method)(request, metadata=_kept(context), timeout=FOREVER)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
        return None

    def stream(self, method, request, context):
        if self.answer(method, context):
            try:
                for message in self._channel.unary_stream(method)(request, metadata=_kept(context), timeout=FOREVER):
                    yield message
                    if self.mood == "break off":
                        context.abort(grpc.StatusCode.UNAVAILABLE, "broken off by the test")
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

    def close(self):
        self._ended.set()
        self._server.stop(0)
        self._channel.close()


class _Handler(grpc.GenericRpcHandler):
    STREAMING = ("BatchGetDocuments", "RunQuery", "RunAggregationQuery")

    def __init__(self, proxy):
        self._proxy = proxy

    def service(self, details):
        method = details.method
        if method.rpartition("/")[2] in self.STREAMING:
            return grpc.unary_stream_rpc_method_handler(lambda r, c: self._proxy.stream(method, r, c))
        return grpc.unary_unary_rpc_method_handler(lambda r, c: self._proxy.unary(method, r, c))


def _kept(context):
    return [(key, value) for key, value in context.invocation_metadata() if not key.startswith(("grpc-", "user-agent"))]
