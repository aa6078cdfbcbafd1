"""What tests of the MCP server share: servers as real processes, and an agent that talks to them.

As a program, `python tests/agent.py FOLDER`, it is an agent that starts a server over stdio, claims an
experiment, says so, and waits to be killed.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

TOKEN = "a-token-that-only-tests-know"
WHY = "The line cannot bend. This adds a bend, so the error inside should fall; outside it may rise."
COMMAND = [sys.executable, "-m", "asi_arch", "mcp"]


def rule(*degrees: int) -> str:
    terms = ", ".join(f'{{"kind": "power", "degree": {degree}}}' for degree in degrees)
    return f'RULE = {{"terms": [{terms}]}}\n'


class Agent:
    """A client's session: `await agent.submit(...)` gives the answer's text; a fault raises `Fault`."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def ask(self, tool: str, **arguments: Any) -> str:
        answer = await self.session.call_tool(tool, arguments)
        [part] = answer.content
        assert answer.structured_content is None  # the text would be sent twice
        assert "Traceback" not in part.text
        if answer.is_error:
            raise Fault(part.text)
        return part.text

    async def brief(self, **arguments: Any) -> int:
        """Claim an experiment, and give its number."""
        text = await self.ask("get_brief", **arguments)
        found = re.match(r"# Brief of experiment (\d+)\n", text)
        assert found, text
        return int(found[1])

    async def design(self, id: int, name: str, source: str, **others: Any) -> str:
        """Check and hand in a design; give the answer."""
        assert "checks passed" in await self.ask("check", source=source, experiment=id)
        return await self.ask("submit", experiment=id, name=name, motivation=WHY, source=source, **others)

    async def result(self, id: int) -> str:
        text = await self.ask("wait_for_result", experiment=id, seconds=60)
        assert text.startswith(f"#{id} "), text
        return text


class Fault(Exception):  # noqa: N818
    """An answer with `is_error`."""


@contextlib.asynccontextmanager
async def over_stdio(folder: Path, *options: str) -> AsyncIterator[Agent]:
    arguments = [*COMMAND[1:], "--study", str(folder), "--space", "toy", *options]
    server = StdioServerParameters(command=COMMAND[0], args=arguments)
    with open(os.devnull, "w") as log:
        async with stdio_client(server, log) as streams, ClientSession(*streams, client_info=me()) as session:
            await session.initialize()
            yield Agent(session)


@contextlib.asynccontextmanager
async def over_http(address: str, token: str = TOKEN) -> AsyncIterator[Agent]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=90) as client,
        streamable_http_client(address, http_client=client) as streams,
        ClientSession(*streams, client_info=me()) as session,
    ):
        await session.initialize()
        yield Agent(session)


def me() -> Implementation:
    return Implementation(name="Test Agent", version="1")


class Server:
    """A server over HTTP in a process of its own."""

    def __init__(self, folder: Path, *options: str, token: str = TOKEN) -> None:
        command = [*COMMAND, "--http", "--port", "0", "--study", str(folder), "--space", "toy", *options]
        environment = {**os.environ, "ASI_ARCH_MCP_TOKEN": token}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line.startswith("address: "):
                self.address = line.removeprefix("address: ").strip()
            if line.startswith("study "):
                break
        else:
            raise AssertionError("".join(self.log))

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; give the exit code, and what it wrote since it began."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log


@contextlib.contextmanager
def serving(folder: Path, *options: str, token: str = TOKEN) -> Iterator[Server]:
    server = Server(folder, *options, token=token)
    try:
        yield server
    finally:
        server.kill()


async def _claim_and_wait(folder: Path) -> None:
    async with over_stdio(folder, "--workers", "0") as agent:
        print(await agent.brief(), flush=True)
        await anyio.sleep(600)


if __name__ == "__main__":
    anyio.run(_claim_and_wait, Path(sys.argv[1]))
