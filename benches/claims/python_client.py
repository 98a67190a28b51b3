"""The public Python client's part of `scripts/claims`.

    python python_client.py URL KEY PART

Prints one line of JSON. What the client would send to a third party goes into the stub of
`aliyun.log` next to the tests.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

STUBS = Path(__file__).resolve().parents[2] / "tests" / "python" / "stubs"
sys.dont_write_bytecode = True
sys.path.insert(0, str(STUBS))
SCRATCH = tempfile.TemporaryDirectory(prefix="agentbay-claims-")
os.environ["AGENTBAY_LOG_LEVEL"] = "CRITICAL"
os.environ["AGENTBAY_LOG_FILE"] = str(Path(SCRATCH.name) / "client.log")

import aliyun.log  # noqa: E402, F401
from agentbay import AgentBay, AsyncAgentBay, Config  # noqa: E402

TASKS = 10
COMMANDS = 14


def config(url):
    return Config(endpoint=url, timeout_ms=60_000)


def well(result):
    assert result.success, result.error_message
    return result


def task(client):
    session = well(client.create()).session
    well(session.command.execute_command("sleep 1"))
    well(client.delete(session))


async def async_task(client):
    session = well(await client.create()).session
    well(await session.command.execute_command("sleep 1"))
    well(await client.delete(session))


async def side_by_side(url, key):
    client = AsyncAgentBay(api_key=key, cfg=config(url))
    await asyncio.gather(*[async_task(client) for _ in range(TASKS)])


def tasks(url, key):
    client = AgentBay(api_key=key, cfg=config(url))
    begun = time.monotonic()
    for _ in range(TASKS):
        task(client)
    sequential = time.monotonic() - begun
    begun = time.monotonic()
    asyncio.run(side_by_side(url, key))
    return {"sequential": sequential, "concurrent": time.monotonic() - begun}


def calls(url, key):
    client = AgentBay(api_key=key, cfg=config(url))
    session = well(client.create()).session
    for n in range(COMMANDS):
        well(session.command.execute_command(f"echo {n}"))
    well(client.list())
    return {}


async def at_once(url, key):
    client = AsyncAgentBay(api_key=key, cfg=config(url))
    session = well(await client.create()).session
    commands = [session.command.execute_command(f"echo {n}") for n in range(COMMANDS)]
    for result in await asyncio.gather(*commands):
        well(result)
    well(await client.list())


def calls_at_once(url, key):
    asyncio.run(at_once(url, key))
    return {}


if __name__ == "__main__":
    url, key, part = sys.argv[1:]
    print(json.dumps({"tasks": tasks, "calls": calls, "calls_at_once": calls_at_once}[part](url, key)))
