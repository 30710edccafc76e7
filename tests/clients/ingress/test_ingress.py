"""WebSockets and gRPC through an Ingress: real clients, and real servers behind it.

ADDRESS is that of the Ingress, AUTHORITY the file of its certificate. Services lead to the ports below.
"""

import asyncio
import os
import ssl
import threading
import time
import unittest
from concurrent import futures

import grpc
import websockets

GRPC, SOCKETS = 50051, 50052
ADDRESS, AUTHORITY = os.environ["ADDRESS"], os.environ["AUTHORITY"]


class Echo(grpc.GenericRpcHandler):
    """Methods named for what they do; messages are bytes."""

    def __init__(self):
        self.cancelled = threading.Event()

    def service(self, call):
        methods = {
            "/test.Echo/One": grpc.unary_unary_rpc_method_handler(self.one),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test.Echo/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "/test.Echo/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/test.Echo/Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "/test.Echo/Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        return methods.get(call.method)

    def one(self, request, context):
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-seen", sent.get("x-sent", "")), ("x-from", sent.get("x-real-ip", ""))))
        context.set_trailing_metadata((("x-last", "yes"),))
        return request

    def fail(self, request, context):
        context.set_trailing_metadata((("why-bin", b"\0\1\2"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 %")

    def wait(self, request, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(20)
        return request

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode() * 100

    def sum(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def talk(self, requests, context):
        for request in requests:
            yield b"you said " + request


class Grpc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.echo = Echo()
        options = [("grpc.max_receive_message_length", -1), ("grpc.ssl_target_name_override", "grpc.app.com")]
        cls.server = grpc.server(futures.ThreadPoolExecutor(20), handlers=[cls.echo], options=options)
        assert cls.server.add_insecure_port(f"0.0.0.0:{GRPC}") == GRPC
        cls.server.start()
        with open(AUTHORITY, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        cls.channel = grpc.secure_channel(f"{ADDRESS}:443", credentials, options)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.stop(None)

    def test_one(self):
        one = self.channel.unary_unary("/test.Echo/One")
        answer, call = one.with_call(b"hello", metadata=(("x-sent", "a, b"),), timeout=10)
        self.assertEqual(answer, b"hello")
        self.assertEqual(dict(call.initial_metadata())["x-seen"], "a, b")
        self.assertEqual(dict(call.trailing_metadata())["x-last"], "yes")
        for size in [0, 1, 16_384, 3_000_000]:
            self.assertEqual(len(one(b"x" * size, timeout=10)), size)

    def test_many_at_once(self):
        one = self.channel.unary_unary("/test.Echo/One")
        calls = [one.future(str(number).encode(), timeout=20) for number in range(500)]
        self.assertEqual([int(call.result()) for call in calls], list(range(500)))

    def test_status(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.channel.unary_unary("/test.Echo/Fail")(b"", timeout=10)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(raised.exception.details(), "no such thing: 100 %")
        self.assertEqual(dict(raised.exception.trailing_metadata())["why-bin"], b"\0\1\2")
        with self.assertRaises(grpc.RpcError) as raised:
            self.channel.unary_unary("/test.Echo/Nothing")(b"", timeout=10)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_streams(self):
        numbers = list(self.channel.unary_stream("/test.Echo/Count")(b"2000", timeout=20))
        self.assertEqual(numbers, [str(number).encode() * 100 for number in range(2000)])
        total = self.channel.stream_unary("/test.Echo/Sum")((b"x" * 10_000 for _ in range(300)), timeout=20)
        self.assertEqual(total, b"3000000")

    def test_a_talk(self):
        heard = threading.Semaphore(1)

        def says():
            for number in range(50):
                # Only after the last answer has come.
                self.assertTrue(heard.acquire(timeout=10))
                yield str(number).encode()

        for number, answer in enumerate(self.channel.stream_stream("/test.Echo/Talk")(says(), timeout=20)):
            self.assertEqual(answer, f"you said {number}".encode())
            heard.release()

    def test_deadline(self):
        began = time.monotonic()
        with self.assertRaises(grpc.RpcError) as raised:
            self.channel.unary_unary("/test.Echo/Wait")(b"", timeout=0.5)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertLess(time.monotonic() - began, 5)
        self.assertTrue(self.echo.cancelled.wait(10), "the server does not know that the client gave up")


class Sockets(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        async def answer(socket):
            async for message in socket:
                if message == "leave":
                    await socket.close(4001, "as you wish")
                elif message == "headers":
                    await socket.send(socket.request.headers["X-Real-IP"])
                elif message == "pieces":
                    await socket.send(iter(["a" * 70_000, "b", "c" * 70_000]))
                else:
                    await socket.send(message)

        self.server = await websockets.serve(answer, "0.0.0.0", SOCKETS, max_size=None, subprotocols=["chat"])

    async def asyncTearDown(self):
        self.server.close()
        await self.server.wait_closed()

    def connect(self):
        context = ssl.create_default_context(cafile=AUTHORITY)
        context.set_alpn_protocols(["http/1.1"])
        where = {"host": ADDRESS, "port": 443, "ssl": context, "proxy": None}
        return websockets.connect("wss://ws.app.com/", subprotocols=["chat"], max_size=None, **where)

    async def test_messages(self):
        async with self.connect() as socket:
            self.assertEqual(socket.subprotocol, "chat")
            for message in ["", "short", b"\0\xff", "x" * 126, "x" * 65_536, b"y" * 5_000_000]:
                await socket.send(message)
                self.assertEqual(await asyncio.wait_for(socket.recv(), 20), message)
            await socket.send(iter(["one ", "two ", "three"]))
            self.assertEqual(await socket.recv(), "one two three")
            await socket.send("pieces")
            self.assertEqual(len(await socket.recv()), 140_001)
            await asyncio.wait_for(await socket.ping(), 10)
            await socket.send("headers")
            self.assertTrue(await socket.recv())

    async def test_both_close_with_a_reason(self):
        async with self.connect() as socket:
            await socket.send("leave")
            with self.assertRaises(websockets.ConnectionClosed) as raised:
                await asyncio.wait_for(socket.recv(), 10)
            self.assertEqual((raised.exception.rcvd.code, raised.exception.rcvd.reason), (4001, "as you wish"))
        async with self.connect() as socket:
            await socket.close(4002, "my turn")
            self.assertEqual(socket.close_code, 4002)

    async def test_many(self):
        async def talk(number):
            async with self.connect() as socket:
                for round in range(10):
                    await socket.send(f"{number} {round}")
                    self.assertEqual(await asyncio.wait_for(socket.recv(), 20), f"{number} {round}")

        await asyncio.gather(*(talk(number) for number in range(50)))


if __name__ == "__main__":
    unittest.main()
