"""The public Python client against the local server.

    python agentbay_client.py PATH_TO_SERVER_BINARY

Starts the server, works with it as a user of `wuying-agentbay-sdk` would, by the client's
synchronous and its asynchronous side, over the API and over the direct path, and lets it go
wrong in each way that the server knows. Ends with 0 and one line when all was as it should be.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# The client sends statistics to an outside host through the module aliyun.log: an empty one of
# that name comes first. It writes a log into the working directory: somewhere else.
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE / "stubs"))
SCRATCH = tempfile.TemporaryDirectory(prefix="agentbay-client-")
os.environ["AGENTBAY_LOG_LEVEL"] = "CRITICAL"
os.environ["AGENTBAY_LOG_FILE"] = str(Path(SCRATCH.name) / "client.log")
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)
    os.environ.pop(name.lower(), None)
for name in [name for name in os.environ if name.startswith("AGENTBAY_") and "LOG" not in name]:
    del os.environ[name]

# Whatever else than this machine is asked for. The interpreter itself tells, so nothing that
# opens a connection or looks up a name goes around it.
OUTSIDE = []
LOOPBACK = {"127.0.0.1", "::1", "localhost", None, ""}
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def guard(event, args):
    if event in NAMES:
        host = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if not isinstance(address, tuple):
            return  # A socket of this machine, or a connected one.
        host = address[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host not in LOOPBACK:
        OUTSIDE.append((event, host))
        raise ConnectionRefusedError(f"{host} is not this machine")


sys.addaudithook(guard)

import warnings  # noqa: E402

warnings.simplefilter("ignore")

import aliyun.log  # noqa: E402
from agentbay import (  # noqa: E402
    AgentBay,
    AsyncAgentBay,
    Config,
    CreateSessionParams,
)

KEY = "akm-of-the-test"


class Server:
    """The server's process."""

    def __init__(self, binary, *flags):
        command = [binary, "--port", "0", "--key", KEY, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # A server that says nothing is not waited for.
        alarm = threading.Timer(30, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:(\d+))\n", line)
        assert found, f"the server said {line!r}"
        self.url, self.port = found[1], int(found[2])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            return
        # Asked to end, it leaves nothing behind although the test has failed.
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def admin(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()
        assert reply.status == 200, answer
        return answer

    def stats(self):
        return self.admin("GET", "/stats")

    def faults(self, *rules):
        self.admin("POST", "/faults", {"seed": 1, "rules": list(rules)})

    def given(self, kind):
        return self.stats()["faults"].get(kind, 0)

    def client(self, key=KEY, timeout_ms=60_000):
        return AgentBay(api_key=key, cfg=self.config(timeout_ms))

    def async_client(self, key=KEY, timeout_ms=60_000):
        return AsyncAgentBay(api_key=key, cfg=self.config(timeout_ms))

    def config(self, timeout_ms):
        return Config(endpoint=self.url, timeout_ms=timeout_ms)

    def stop(self, sessions, by=signal.SIGTERM):
        """Ends the server, which deletes the sessions that are left."""
        self.process.send_signal(by)
        rest, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, self.process.returncode
        assert rest == f"ended, {sessions} sessions deleted\n", rest


def made(result):
    assert result.success, result.error_message
    assert result.request_id, "no request id"
    return result.session


def well(result):
    assert result.success, result.error_message
    assert result.request_id, "no request id"
    return result


def badly(result, *parts):
    assert not result.success, "it should have failed"
    for part in parts:
        assert part.lower() in result.error_message.lower(), result.error_message
    return result


def the_guard_works():
    """A guard that lets all through would prove nothing."""
    import socket

    for outside in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.getaddrinfo("agentbay.example", 443),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 9)),
    ):
        try:
            outside()
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("the guard let it through")
    assert len(OUTSIDE) == 3, OUTSIDE
    OUTSIDE.clear()
    assert Path(aliyun.log.__file__).is_relative_to(HERE / "stubs"), aliyun.log.__file__


def commands(session):
    result = well(session.command.execute_command("echo out; echo err >&2"))
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0), result
    assert result.output == "out\nerr\n", result.output

    well(session.command.execute_command("mkdir -p inner"))
    result = well(
        session.command.execute_command(
            'printf "%s %s" "$GREETING" "$(basename "$PWD")"', cwd="inner", envs={"GREETING": "grüß"}
        )
    )
    assert result.stdout == "grüß inner", result.stdout

    result = badly(session.command.execute_command("echo some; echo why >&2; exit 3"), "why")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "some\n", "why\n"), result
    assert result.trace_id, "no trace id"

    result = badly(session.command.execute_command("no-such-command-here"))
    assert result.exit_code == 127, result.exit_code

    began = time.monotonic()
    result = badly(session.command.execute_command("echo first; sleep 30", timeout_ms=400))
    assert time.monotonic() - began < 10, "the time limit did not hold"
    assert result.exit_code != 0 and result.stdout == "first\n", result

    # What looks like the tool's own form is still the command's output.
    text = '{"exit_code": 1, "stdout": "x", "stderr": ""}'
    result = well(session.command.execute_command(f"echo '{text}'"))
    assert result.stdout == text + "\n", result.stdout


def code(session):
    result = well(session.code.run_code("print('hello'); print(6 * 7)", "python"))
    assert "".join(result.logs.stdout) == "hello\n42\n", result.logs
    assert result.result == "hello\n42\n", result.result
    assert well(session.code.run_code("a = 6\na * 7", "python")).result == "42"
    result = well(session.code.run_code("import sys; print('aside', file=sys.stderr)", "PY"))
    assert "aside" in "".join(result.logs.stderr), result.logs

    result = session.code.run_code("print('before'); 1 / 0", "python")
    assert not result.success and result.request_id
    assert "ZeroDivisionError" in result.error.value, result.error
    assert "before" in "".join(result.logs.stdout), result.logs

    badly(session.code.run_code("cat", "befunge"), "unsupported")
    began = time.monotonic()
    result = session.code.run_code("import time; time.sleep(30)", "python", timeout_s=1)
    assert not result.success and time.monotonic() - began < 10, result


def files(server, session):
    fs = session.file_system
    text = "Grüße, 世界 😀\n\"quoted\" \\ back\tslash\n"
    well(fs.write_file("notes/a.txt", text))
    assert well(fs.read_file("notes/a.txt")).content == text
    well(fs.write_file("notes/a.txt", "more", mode="append"))
    assert well(fs.read_file("notes/a.txt")).content == text + "more"
    well(fs.write_file("notes/a.txt", "less"))
    assert well(fs.read_file("notes/a.txt")).content == "less"
    well(fs.write_file("empty", ""))
    assert well(fs.read_file("empty")).content == ""

    # In several chunks, whose ends fall into the middle of characters: nine bytes do not
    # divide 50 KiB.
    long = "ä€😀" * 18_000
    assert (50 * 1024) % len("ä€😀".encode()) != 0
    assert len(long.encode()) > 3 * 51 * 1024
    well(fs.write_file("long.txt", long))
    assert well(fs.read_file("long.txt")).content == long
    chunks = server.stats()["tools"]
    assert session.link_url or (chunks["write_file"] >= 8 and chunks["read_file"] >= 7), chunks
    read = well(fs.read_file("long.txt", format="bytes"))
    assert read.content == long.encode() and read.size == len(read.content)

    well(session.command.execute_command(r"printf '\000\377\001' > raw"))
    assert well(fs.read_file("raw", format="bytes")).content == b"\x00\xff\x01"

    info = well(fs.get_file_info("long.txt")).file_info
    assert info["size"] == len(long.encode()) and info["isDirectory"] is False, info
    assert well(fs.get_file_info("notes")).file_info["isDirectory"] is True

    well(fs.create_directory("tree/deep"))
    well(fs.write_file("tree/one.py", "1"))
    well(fs.write_file("tree/deep/two.py", "2"))
    entries = well(fs.list_directory("tree")).entries
    entries = {entry.name: entry.is_directory for entry in entries}
    assert entries == {"deep": True, "one.py": False}, entries
    matches = well(fs.search_files("tree", "*.py")).matches
    assert sorted(match.rsplit("/", 1)[1] for match in matches) == ["one.py", "two.py"], matches
    matches = well(fs.search_files("tree", "*.py", exclude_patterns=["two*"])).matches
    assert [match.rsplit("/", 1)[1] for match in matches] == ["one.py"], matches
    assert well(fs.search_files("tree", "*.rs")).matches == []

    well(fs.move_file("tree/one.py", "tree/three.py"))
    badly(fs.read_file("tree/one.py"))
    assert well(fs.read_file("tree/three.py")).content == "1"
    well(fs.delete_file("tree/three.py"))
    badly(fs.delete_file("tree/three.py"))

    badly(fs.read_file("no/such/file"))
    badly(fs.read_file("tree"))
    badly(fs.read_file("../../../../etc/passwd"))
    badly(fs.write_file("../outside", "x"))
    badly(fs.list_directory("nowhere"))
    well(session.command.execute_command("printf x > secret && chmod 000 secret"))
    if os.geteuid() != 0:
        badly(fs.read_file("secret"))


def labels_and_state(client, session):
    well(session.set_labels({"stage": "two", "wörter": "ja"}))
    assert well(session.get_labels()).data == {"stage": "two", "wörter": "ja"}
    badly(session.set_labels({}))

    info = well(session.info()).data
    assert info.session_id == session.session_id and info.resource_url
    assert well(session.get_status()).status == "RUNNING"
    well(session.keep_alive())
    assert {"shell", "run_code"} <= {tool.name for tool in session.list_mcp_tools().tools}
    assert well(session.get_link(protocol_type="https", port=30_150)).data.startswith("https://")
    try:
        session.get_link(port=80)
    except Exception as error:
        assert "InvalidParameter" in str(error), error
    else:
        raise AssertionError("port 80 has no link")

    again = made(client.get(session.session_id))
    assert well(again.command.execute_command("echo again")).stdout == "again\n"

    paused = session.beta_pause(poll_interval=0.02)
    assert paused.success and paused.status == "PAUSED", paused.error_message
    assert well(session.get_status()).status == "PAUSED"
    badly(session.command.execute_command("echo asleep"))
    badly(session.beta_pause(poll_interval=0.02), "InvalidMcpSession.Status")
    resumed = session.beta_resume(poll_interval=0.02)
    assert resumed.success, resumed.error_message
    assert well(session.command.execute_command("echo awake")).stdout == "awake\n"


def lists(client, label):
    batch = {"batch": label}
    made_here = [made(client.create(CreateSessionParams(labels=batch))) for _ in range(5)]
    wanted = {session.session_id for session in made_here}
    found = []
    for page, size in ((1, 2), (2, 2), (3, 1)):
        listed = well(client.list(labels=batch, page=page, limit=2))
        assert len(listed.session_ids) == size, listed.session_ids
        assert listed.total_count == 5 and listed.max_results == 2
        assert bool(listed.next_token) == (page < 3)
        found += [entry["sessionId"] for entry in listed.session_ids]
    assert len(found) == 5 and set(found) == wanted, found
    badly(client.list(labels=batch, page=4, limit=2), "no more pages")
    assert len(well(client.list(labels=batch, status="RUNNING")).session_ids) == 5
    assert well(client.list(labels=batch, status="PAUSED")).session_ids == []
    assert well(client.list(labels={"batch": "another"})).session_ids == []
    for listed in well(client.list(labels=batch)).session_ids:
        assert listed["sessionStatus"] == "RUNNING", listed
    threads = [threading.Thread(target=lambda s=s: s.delete()) for s in made_here]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert well(client.list(labels=batch)).session_ids == []


def unknown_and_wrong(server, client):
    badly(client.get("s-unknown"), "not found")
    assert client.get("s-unknown").code == "InvalidMcpSession.NotFound"
    stranger = server.client(key="akm-of-somebody-else")
    badly(stranger.create(), "InvalidApiKey")
    badly(stranger.list(), "InvalidApiKey")
    for failed in (stranger.create(), stranger.list()):
        assert "akm-of-somebody-else" not in failed.error_message


def deletes(server, client):
    server.faults({"kind": "slow_delete", "delay_ms": 300})
    session = made(client.create())
    polls = server.stats()["calls"].get("GetSessionDetail", 0)
    well(client.delete(session))
    assert server.stats()["calls"]["GetSessionDetail"] >= polls + 2, "it was seen to be deleted"
    server.faults()
    badly(session.get_status(), "not found")
    badly(session.delete(), "NotFound")
    badly(session.command.execute_command("echo gone"), "NotFound")


def goes_wrong(server, client):
    calls = server.stats()["calls"].get("ListSession", 0)
    server.faults({"kind": "throttle", "on": ["ListSession"], "next": 1, "retry_after_ms": 50})
    badly(client.list(), "Throttling.User", "429")
    assert server.stats()["calls"]["ListSession"] == calls + 1, "the client does not retry"
    well(client.list())

    server.faults({"kind": "unavailable", "next": 2})
    badly(client.list())
    badly(client.create())
    well(client.list())

    server.faults({"kind": "refuse", "next": 2})
    badly(client.list(), "busy")
    badly(client.create(), "busy")

    for kind in ("truncated_reply", "cut_reply", "lost_request"):
        server.faults({"kind": kind, "next": 1})
        badly(client.list())
        assert server.given(kind) == 1
        well(client.list())

    server.faults({"kind": "slow_reply", "delay_ms": 2_000, "next": 1})
    badly(server.client(timeout_ms=300).list(), "timed out")

    # The reply is lost and the session is there: it is found again by its label.
    before = server.stats()["sessions"]
    server.faults({"kind": "lost_reply", "on": ["CreateMcpSession"], "next": 1})
    badly(client.create(CreateSessionParams(labels={"lost": "yes"})))
    assert server.stats()["sessions"] == before + 1
    found = well(client.list(labels={"lost": "yes"})).session_ids
    assert len(found) == 1, found
    session = made(client.get(found[0]["sessionId"]))

    # A piece of a file whose reply is lost is written all the same.
    server.faults({"kind": "lost_reply", "on": ["write_file"], "skip": 1, "next": 1})
    badly(session.file_system.write_file("half", "x" * 120 * 1024))
    server.faults()
    assert well(session.file_system.get_file_info("half")).file_info["size"] == 2 * 51 * 1024
    well(session.delete())


async def asynchronously(server):
    client = server.async_client()
    session = made(await client.create(CreateSessionParams(image_id="code_latest")))
    result = well(await session.command.execute_command("echo out; echo err >&2"))
    assert (result.stdout, result.stderr) == ("out\n", "err\n"), result
    result = badly(await session.command.execute_command("exit 4"))
    assert result.exit_code == 4
    result = well(await session.code.run_code("print(6 * 7)", "python"))
    assert "".join(result.logs.stdout) == "42\n"
    result = await session.code.run_code("raise ValueError('no')", "python")
    assert not result.success and "ValueError" in result.error.value

    long = "ä€😀" * 9_000
    well(await session.file_system.write_file("long.txt", long))
    assert well(await session.file_system.read_file("long.txt")).content == long
    badly(await session.file_system.read_file("missing"))

    echoes = [session.command.execute_command(f"echo {n}") for n in range(16)]
    outputs = [well(result).stdout for result in await asyncio.gather(*echoes)]
    assert outputs == [f"{n}\n" for n in range(16)], outputs

    well(await session.set_labels({"side": "async"}))
    assert well(await session.get_labels()).data == {"side": "async"}
    listed = well(await client.list(labels={"side": "async"}))
    assert [entry["sessionId"] for entry in listed.session_ids] == [session.session_id]
    again = made(await client.get(session.session_id))
    assert well(await again.info()).data.session_id == session.session_id
    assert well(await session.get_status()).status == "RUNNING"

    badly(await server.async_client(key="wrong").create(), "InvalidApiKey")
    badly(await client.get("s-unknown"), "not found")
    server.faults({"kind": "throttle", "next": 1})
    badly(await client.list(), "Throttling.User")
    for kind in ("unavailable", "truncated_reply", "cut_reply", "lost_request", "lost_reply"):
        server.faults({"kind": kind, "next": 1})
        badly(await client.list())
        assert server.given(kind) >= 1
    server.faults({"kind": "slow_reply", "delay_ms": 2_000, "next": 1})
    badly(await server.async_client(timeout_ms=300).list())
    server.faults()

    well(await client.delete(session))
    badly(await session.get_status(), "not found")


def over_links(binary):
    """The direct path to the tools, and data as JSON in a string."""
    with Server(binary, "--links", "--data-as-text", "--fault", "slow_reply:next=1:delay_ms=1") as server:
        client = server.client()
        session = made(client.create(CreateSessionParams(labels={"path": "direct"})))
        assert session.link_url.startswith(server.url) and session.token
        commands(session)
        code(session)
        files(server, session)
        counted = server.stats()
        assert counted["calls"]["callTool"] > 30 and "CallMcpTool" not in counted["calls"], counted
        assert counted["faults"] == {"slow_reply": 1}, counted

        session.token = "wrong"
        badly(session.command.execute_command("echo no"), "403")
        session = made(client.get(session.session_id))
        server.faults({"kind": "throttle", "on": ["callTool"], "next": 1})
        badly(session.command.execute_command("echo no"), "429")
        for kind in ("truncated_reply", "cut_reply", "lost_reply"):
            server.faults({"kind": kind, "on": ["shell"], "next": 1})
            badly(session.command.execute_command("echo no"))
        server.faults()
        well(session.command.execute_command("echo yes"))

        # Without its server's name the tool is called over the API.
        session.mcpTools = []
        well(session.command.execute_command("echo yes"))
        assert server.stats()["calls"]["CallMcpTool"] == 1
        total = server.stats()
        server.stop(sessions=1, by=signal.SIGINT)
        return total


def count_connections(binary):
    """16 calls one after the other, by each side of the client, at a server of its own: the
    client keeps connections for as long as the program runs."""

    def difference(before, after):
        return [after[name] - before[name] for name in ("requests", "connections")]

    async def run(server):
        client = server.async_client()
        session = made(await client.create())
        for n in range(14):
            well(await session.command.execute_command(f"echo {n}"))
        well(await client.list())

    with Server(binary) as server:
        client = server.client()
        before = server.stats()
        session = made(client.create())
        for n in range(14):
            well(session.command.execute_command(f"echo {n}"))
        well(client.list())
        sync = difference(before, server.stats())
        before = server.stats()
        asyncio.run(run(server))
        asynchronous = difference(before, server.stats())
        server.stop(sessions=2)
    for side, (calls, connections) in (("sync", sync), ("async", asynchronous)):
        print(f"{side}, one after the other: {calls} calls, {connections} connections")
        assert calls == 16 and 1 <= connections <= 16


def main(binary):
    began = time.monotonic()
    the_guard_works()
    with Server(binary) as server:
        client = server.client()
        params = CreateSessionParams(labels={"stage": "one"}, image_id="code_latest")
        session = made(client.create(params))
        assert session.session_id and session.resource_url
        assert well(session.get_labels()).data == {"stage": "one"}
        commands(session)
        code(session)
        files(server, session)
        labels_and_state(client, session)
        lists(client, "sync")
        unknown_and_wrong(server, client)
        deletes(server, client)
        goes_wrong(server, client)
        asyncio.run(asynchronously(server))
        well(session.delete())
        assert server.stats()["sessions"] == 0, server.stats()
        # Sessions that are left are the server's to delete.
        for _ in range(2):
            made(client.create())
        total = server.stats()
        server.stop(sessions=2)
    links = over_links(binary)
    count_connections(binary)
    assert OUTSIDE == [], f"asked for {OUTSIDE}"
    calls = total["requests"] + links["requests"]
    connections = total["connections"] + links["connections"]
    print(f"{calls} calls, {connections} connections")
    print(f"agentbay client: all as it should be, {time.monotonic() - began:.1f} s, nothing left this machine")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: agentbay_client.py PATH_TO_SERVER_BINARY")
    main(sys.argv[1])
