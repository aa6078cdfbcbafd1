"""A coding agent in the researcher's place: the tools of a study over stdio, or HTTP on this machine."""

import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asi_arch.controls import tell_controls
from asi_arch.errors import SetupError

if TYPE_CHECKING:
    from asi_arch.seats.seats import Seats
    from asi_arch.seats.tools import ToolServer
    from asi_arch.study import Study

HOST, PORT = "127.0.0.1", 8741
TOKEN_FILE, TOKEN_VARIABLE = "mcp-token", "ASI_ARCH_MCP_TOKEN"
LEAST_TOKEN = 16  # characters
LOOK_SECONDS = 0.1  # between two looks at the stop event
GRACE_SECONDS = 2  # for answers under way, when the server ends

App = Callable[[Any, Any, Any], Awaitable[None]]
Say = Callable[[str], None]


def mcp(
    study: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the study.")] = Path(
        "studies/default"
    ),
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Space of a new study.")] = None,
    experiments: Annotated[int | None, typer.Option(metavar="N", help="Candidates to reach in all.")] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Trained at once; 0: an `asi-arch run` beside does it.")
    ] = 1,
    http: Annotated[bool, typer.Option("--http", help="Serve HTTP on 127.0.0.1 instead of stdio.")] = False,
    port: Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="For --http; 0: any.")] = PORT,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings as a TOML file.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated.")
    ] = None,
    contained: Annotated[
        bool, typer.Option("--require-isolation", help="Refuse to run where code is not contained.")
    ] = False,
) -> None:
    """Let coding agents design: an MCP server for a study.

    An agent gets briefs, checks and submits designs; they are trained here, in the background. An agent's
    program starts it over stdio (docs/agents.md); with --http several agents share one server, with the
    token that is in the study's folder or in ASI_ARCH_MCP_TOKEN.
    """
    from asi_arch.seats.seats import CHECKS
    from asi_arch.settings import given_values
    from asi_arch.study import Study

    given = given_values(config, values or ())
    given |= {k: v for k, v in {"space": space, "experiments": experiments}.items() if v is not None}
    if contained:
        from asi_arch.engineer.isolation import detect, require_isolation

        require_isolation(detect())
    listening = _listen(port) if http else None
    opened = Study.open_or_create(study, given, workers=max(1, workers), spare=CHECKS)
    serve(opened, workers, listening, lambda text: typer.echo(text, err=True))


def serve(study: "Study", workers: int, listening: socket.socket | None, say: Say) -> None:
    """Serve a study's seats until the client, or a signal, ends it; close the study.

    Args:
        study: made with `spare=CHECKS`.
        workers: experiments that are measured here at once; 0 leaves that to others.
        listening: a socket that listens, for HTTP; None for stdio.
        say: is told what a person should know.
    """
    from importlib.metadata import version

    from asi_arch.seats.seats import Seats
    from asi_arch.seats.tools import make_server

    seats, stop = Seats(study, workers), threading.Event()
    server = make_server(seats, version("asi-arch"))
    run, end = _over_http(server, study, listening, say) if listening else _over_stdio(server)
    talking = threading.Thread(target=run, name="mcp", daemon=True)
    with _stopped_by_signals(stop):
        _tell(seats, say)
        seats.start()
        talking.start()
        while talking.is_alive() and not stop.is_set():
            talking.join(LOOK_SECONDS)
        seats.close()
    end()
    talking.join(GRACE_SECONDS + 1)
    if talking.is_alive():  # it waits for its next line, which nothing can interrupt
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def token_of(folder: Path, say: Say) -> str:
    """Give the token of a study's HTTP server: of the environment, or of a file that is made once.

    Raises:
        SetupError: the environment's is too short.
    """
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        if len(given) < LEAST_TOKEN:
            raise SetupError(f"{TOKEN_VARIABLE} has {len(given)} characters; give it {LEAST_TOKEN} or more")
        return given
    path = folder / TOKEN_FILE
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(token := secrets.token_urlsafe(32))
        say(f"token (also in {path}): {token}")
    except FileExistsError:
        token = path.read_text().strip()
        say(f"token: in {path}")
    return token


def guarded(app: App, token: str) -> App:
    """Give an ASGI app that answers 401 to every request without the bearer token."""
    wanted = f"Bearer {token}".encode()

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or compare_digest(headers.get(b"authorization", b""), wanted):
            await app(scope, receive, send)
            return
        kind = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": kind})
        text = (
            f"no or wrong token; send 'Authorization: Bearer TOKEN' with that of the study's {TOKEN_FILE}\n"
        )
        await send({"type": "http.response.body", "body": text.encode()})

    return guard


def _over_stdio(server: "ToolServer") -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: server.run("stdio"), lambda: None


def _over_http(
    server: "ToolServer", study: "Study", listening: socket.socket, say: Say
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Give what serves over HTTP, and what ends that. No session is kept, so a restart disturbs no client."""
    import uvicorn

    app = guarded(server.streamable_http_app(stateless_http=True, host=HOST), token_of(study.folder, say))
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, ws="none", timeout_graceful_shutdown=GRACE_SECONDS
    )
    web = uvicorn.Server(config)
    say(f"address: http://{HOST}:{listening.getsockname()[1]}/mcp")

    def end() -> None:
        web.should_exit = True

    return lambda: web.run(sockets=[listening]), end


def _listen(port: int) -> socket.socket:
    """Give a socket that listens. Raises SetupError: the port is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise SetupError(f"cannot use port {port}: {error.strerror}; choose another with --port") from None
    listening.listen()
    return listening


def _tell(seats: "Seats", say: Say) -> None:
    study, standing = seats.study, seats.standing()
    say(
        f"study {study.folder}, space {study.space.name}: {standing.ended} of {standing.goal} candidates, "
        f"{standing.measured} of {standing.baselines} baselines measured; Ctrl-C ends this server, nothing "
        "is lost"
    )
    controls = tell_controls(study.settings.without, study.settings.selection)
    if controls:
        say(controls)


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set an event; a second one ends the process at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
