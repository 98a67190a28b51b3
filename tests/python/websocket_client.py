"""The public Python client `websockets` against `examples/websocket_server`.

    websocket_client.py PATH_TO_SERVER_BINARY

Exits with 0 and one line when all is as it should be; an assertion says what is not.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

LIMIT = 30  # seconds, for anything


class Peer:
    """One connection: replies by id, notifications by execution."""

    def __init__(self, link):
        self.link = link
        self.ids = itertools.count(1)
        self.pending = {}
        self.notes = {}
        self.stray = asyncio.Queue()
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        with contextlib.suppress(ConnectionClosed):
            async for text in self.link:
                message = json.loads(text)
                assert message["jsonrpc"] == "2.0", message
                if "method" in message:
                    self.queue(message["params"]["id"]).put_nowait(message)
                elif message["id"] in self.pending:
                    self.pending.pop(message["id"]).set_result(message)
                else:
                    self.stray.put_nowait(message)

    def queue(self, name):
        return self.notes.setdefault(name, asyncio.Queue())

    async def send(self, method, **params):
        number = next(self.ids)
        reply = self.pending[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await self.link.send(json.dumps(request))
        return reply

    async def call(self, method, **params):
        reply = await self.send(method, **params)
        return await asyncio.wait_for(reply, LIMIT)

    async def result(self, method, **params):
        message = await self.call(method, **params)
        assert "error" not in message, message
        return message["result"]

    async def code(self, method, **params):
        message = await self.call(method, **params)
        assert "result" not in message, message
        return message["error"]["code"]

    async def note(self, name):
        return await asyncio.wait_for(self.queue(name).get(), LIMIT)

    async def line(self, name):
        """The next line of this execution's, put together from its pieces."""
        text = ""
        while True:
            note = await self.note(name)
            if note["method"] != "process.output":
                continue
            params = note["params"]
            text += params["text"]
            if not params["partial"]:
                return text, params


@contextlib.asynccontextmanager
async def client(url):
    async with connect(url, max_size=16 << 20) as link:
        peer = Peer(link)
        try:
            yield peer
        finally:
            peer.reader.cancel()


async def streams_output(url):
    async with client(url) as peer:
        script = "echo one; echo two >&2; sleep 0.3; echo three; exit 3"
        reply = await peer.send("execute", id="s", command=script)
        started = await peer.note("s")
        assert started["method"] == "process.started" and started["params"]["pid"] > 0, started
        first = {(await peer.line("s"))[0], (await peer.line("s"))[0]}
        assert first == {"one", "two"}, first
        assert not reply.done(), "the output does not come while it runs"
        assert (await peer.line("s"))[0] == "three"
        result = (await asyncio.wait_for(reply, LIMIT))["result"]
        assert (result["exit_code"], result["status"]) == (3, "exited"), result
        assert result["stdout"] == {"bytes": 8, "lines": 2}, result
        assert (await peer.result("execute", command=["echo", "$HOME"]))["exit_code"] == 0


async def controls(url):
    async with client(url) as peer:
        script = "trap 'echo bye; exit 7' TERM; while :; do echo tick; sleep 0.02; done"
        reply = await peer.send("execute", id="c", command=script)
        assert (await peer.line("c"))[0] == "tick"
        assert (await peer.result("control", id="c", type="PAUSE"))["done"]
        await asyncio.sleep(0.1)
        while not peer.queue("c").empty():
            peer.queue("c").get_nowait()
        await asyncio.sleep(0.2)
        assert peer.queue("c").empty(), "it runs while it is paused"
        assert (await peer.result("list"))[0]["state"] == "paused"
        assert (await peer.result("control", id="c", type="RESUME"))["done"]
        assert (await peer.line("c"))[0] == "tick"
        assert (await peer.result("control", id="c", type="PAUSE"))["done"]
        assert (await peer.result("control", id="c", type="CANCEL"))["done"]
        result = (await asyncio.wait_for(reply, LIMIT))["result"]
        assert (result["status"], result["exit_code"]) == ("cancelled", 7), result
        assert await peer.code("control", id="c", type="PAUSE") == -32001


async def answers_out_of_order(url):
    async with client(url) as peer:
        order = []

        async def one(n):
            command = f"sleep {1.6 - 0.3 * n}; echo {n}; exit {n}"
            result = await peer.result("execute", id=f"o{n}", command=command)
            assert result["exit_code"] == n, result
            assert (await peer.line(f"o{n}"))[0] == str(n)
            order.append(n)

        begun = time.monotonic()
        await asyncio.gather(*(one(n) for n in range(5)))
        assert order == [4, 3, 2, 1, 0], order
        assert time.monotonic() - begun < 4, "one after the other"


async def bears_bad_input(url):
    async with client(url) as peer:
        bad = {"{": -32700, "<html>": -32700, "": -32700, "[]": -32600, "7": -32600, "null": -32600}
        for text, code in bad.items():
            await peer.link.send(text)
            reply = await asyncio.wait_for(peer.stray.get(), LIMIT)
            assert (reply["id"], reply["error"]["code"]) == (None, code), reply
        await peer.link.send(b"\xff\x00")
        reply = await asyncio.wait_for(peer.stray.get(), LIMIT)
        assert reply["error"]["code"] == -32600, reply
        assert await peer.code("no_such_method") == -32601
        assert await peer.code("execute") == -32602
        assert await peer.code("execute", command=[1]) == -32602
        assert await peer.code("execute", command=["/no/such/program"]) == -32002
        assert await peer.code("control", id="nobody", type="CANCEL") == -32001
        running = await peer.send("execute", id="d", command="echo up; sleep 60")
        await peer.line("d")
        assert await peer.code("execute", id="d", command="true") == -32602, "a duplicate id"
        assert (await peer.result("control", id="d", type="CANCEL"))["done"]
        await asyncio.wait_for(running, LIMIT)
        result = await peer.result("execute", command="sleep 60", timeout=0.1)
        assert result["status"] == "timed_out", result


async def carries_any_output(url):
    async with client(url) as peer:
        script = r"head -c 1048576 /dev/zero | tr '\0' x; echo; printf 'a\377b\n'; echo end"
        result = await peer.result("execute", id="b", command=script)
        assert result["stdout"] == {"bytes": (1 << 20) + 6, "lines": 3}, result
        text, _ = await peer.line("b")
        assert text == "x" * (1 << 20), len(text)
        text, params = await peer.line("b")
        assert (text, params["hex"]) == ("a\ufffdb", "61ff62"), params
        assert (await peer.line("b"))[0] == "end"


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def until(what, is_so):
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < LIMIT, f"never: {what}"
        await asyncio.sleep(0.02)


async def takes_children_along(url):
    async with client(url) as peer:
        script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        for n in range(3):
            await peer.send("execute", id=f"k{n}", command=script)
        for n in range(3):
            assert (await peer.line(f"k{n}"))[0] == "up"
        pids = [one["pid"] for one in await peer.result("list")]
        assert len(pids) == 3 and all(map(is_alive, pids)), pids
        begun = time.monotonic()
        peer.link.transport.abort()  # as a client that crashes
    await until("its children are gone", lambda: not any(map(is_alive, pids)))
    took = time.monotonic() - begun
    assert 0.9 < took < 2.5, f"three children in one grace of 1 s took {took}"


async def main(binary):
    server = await asyncio.create_subprocess_exec(
        binary, "--port", "0", "--grace", "1", stdout=asyncio.subprocess.PIPE
    )
    try:
        line = await asyncio.wait_for(server.stdout.readline(), LIMIT)
        url = line.decode().removeprefix("listening on ").strip()
        assert url.startswith("ws://127.0.0.1:"), line
        tests = [
            streams_output,
            controls,
            answers_out_of_order,
            bears_bad_input,
            carries_any_output,
            takes_children_along,
        ]
        for test in tests:
            await asyncio.wait_for(test(url), 2 * LIMIT)
        server.send_signal(signal.SIGTERM)
        closed = await asyncio.wait_for(server.stdout.read(), LIMIT)
        assert await server.wait() == 0 and b"closed" in closed, closed
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
    print(f"websockets client: {len(tests)} tests passed")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(f"usage: {sys.argv[0]} PATH_TO_SERVER_BINARY")
    asyncio.run(main(sys.argv[1]))
