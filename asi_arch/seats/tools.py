"""The tools that an agent in the researcher's seat has, as it reads them."""

import re
import sys
from time import monotonic
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from asi_arch.errors import SetupError
from asi_arch.loop.desk import knowledge_text
from asi_arch.records import Proposal
from asi_arch.researcher.author import LEAST_MOTIVATION, NAME
from asi_arch.seats import answers
from asi_arch.seats.claims import Refusal
from asi_arch.seats.seats import LOOK_SECONDS, FailedCheck, Seats
from asi_arch.study import AGENT

PATIENCE = 45.0  # seconds that a call waits for checks: common clients give a tool 60
SIGN_SECONDS = 5.0  # between two signs of progress while a result is waited for
CHECKING = (
    "The checks are still running (they take about a minute, longer on a busy machine). Call {} again with "
    "the same arguments; nothing is run twice."
)
INSTRUCTIONS = """\
You take the researcher's seat in a search for better neural architectures: you design, this server measures.
Loop: get_brief, think, check until all checks pass, submit, wait_for_result, read the finding, and again.
Stop when get_brief says that the study has all it wants, or when your user says so. Every answer is plain
text that names the next step. Do not edit files of the study, and train nothing yourself: only what is
submitted counts.
"""

Experiment = Annotated[int, Field(description="The experiment's number, as get_brief gave it.", ge=1)]
Source = Annotated[str, Field(description="The whole program as text, under the contract of the brief.")]
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


class ToolServer(MCPServer[Any]):
    """A server of tools whose every fault is an answer in one piece: what is wrong, and what to do."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool; a fault comes back as an answer with `is_error`."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            text = _fault(name, error.__cause__ or error)
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def make_server(seats: Seats, version: str) -> ToolServer:
    """Give the server of a study's seats."""
    server = ToolServer("asi-arch", version=version, instructions=INSTRUCTIONS, log_level="CRITICAL")
    tools = Tools(seats)
    for tool, hints in (
        (tools.get_brief, WRITES),
        (tools.search_cognition, READS),
        (tools.read_experiment, READS),
        (tools.check, WRITES),
        (tools.submit, WRITES),
        (tools.wait_for_result, READS),
        (tools.leaderboard, READS),
        (tools.give_up, WRITES),
    ):
        server.add_tool(tool, annotations=hints, structured_output=False)
    return server


class Tools:
    """The tools; each docstring is what an agent reads of it."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats

    def get_brief(
        self,
        ctx: Context[Any, Any],
        seat: Annotated[
            str,
            Field(
                description="A name for yourself, if several agents share this server: the same name gets "
                "the brief that it holds already. Empty: always a new brief.",
                max_length=40,
            ),
        ] = "",
        short: Annotated[
            bool, Field(description="True leaves out the contract and the operators, if you still know them.")
        ] = False,
    ) -> str:
        """Start here: claim the next experiment and get its brief.

        The brief has the contract that a design must obey, what asi_arch.ops offers, the parent with source
        and figures, references, findings of this study, knowledge from papers, what failed nearby, the
        checks' limits, how the score is made, the standing, and what to do next. Each call without a seat
        claims another experiment; each brief is for one design.
        """
        author = _author(ctx, seat)
        brief = self._seats.claim(author, _label(seat), PATIENCE)
        standing = self._seats.standing()
        if brief is None:
            return answers.done_answer(standing)
        text = answers.brief_answer(brief, self._seats.view(), standing, short)
        self._seats.note_brief(brief.id, author, text)
        return text

    def search_cognition(
        self,
        query: Annotated[
            str, Field(description="A weakness or a mechanism in words, such as 'recall with many pairs'.")
        ],
        k: Annotated[int, Field(description="How many pieces of knowledge, at most.", ge=1, le=20)] = 5,
    ) -> str:
        """Search what papers know: id, when each piece of it helps, its formula, and how to write it.

        The search compares words: use those of metrics, findings and mechanisms. Name the ids that your
        design rests on in submit(cognitions=[...]).
        """
        unknown = "Nothing is known of these words. Try other words, such as a metric or a mechanism."
        return knowledge_text(self._seats.study.cognition, query, k) or unknown

    def read_experiment(self, experiment: Experiment) -> str:
        """Read one experiment: idea, difference to its parent, checks, scores, cost, finding, source.

        Baselines are experiments too. leaderboard lists the best.
        """
        found = self._seats.claims.get(experiment)
        return answers.story_answer(self._seats.view(), found)

    def check(
        self,
        source: Source,
        experiment: Annotated[
            int, Field(description="The experiment that it is for; 0 if you hold none.", ge=0)
        ] = 0,
    ) -> str:
        """Run all checks that stand before training on a source, and get every verdict.

        The source is traced into a graph behind a wall and held against the contract: causality, constant
        state, whole = pieces = tokens, gradients, budgets and so on. It takes about a minute, also while
        others train, and costs the study nothing: check as often as you need. A failed verdict has the line
        or the figure against its limit, and what often mends it. Checking the same source again is free.
        """
        checked = self._seats.check(source, experiment, PATIENCE)
        if checked is None:
            return CHECKING.format("check")
        twin = self._seats.twin(checked, experiment) if checked.failure is None else None
        return answers.checks_answer(checked, twin, experiment)

    def submit(
        self,
        ctx: Context[Any, Any],
        experiment: Experiment,
        name: Annotated[
            str,
            Field(description="CamelCase name that says what the design is: 3 to 60 letters, digits or _."),
        ],
        motivation: Annotated[
            str,
            Field(
                description="What is weak and why, what you change, why that acts on the cause, and what "
                "you expect of each metric and at what cost."
            ),
        ],
        source: Source,
        cognitions: Annotated[
            list[str],
            Field(description="Ids of the knowledge that it really rests on, such as 2412.06464/1."),
        ] = [],  # noqa: B006 - read, never changed
        parents: Annotated[
            list[int],
            Field(description="Experiments that it is made from, the main one first; empty: the brief's."),
        ] = [],  # noqa: B006
        seat: Annotated[str, Field(description="The seat that you gave to get_brief, if you gave one.")] = "",
    ) -> str:
        """Hand in the design of an experiment that you hold; it is trained and scored in the background.

        It must have passed check (else the checks run now), and be new: a program, graph or function that
        another experiment has is refused at once. What is refused costs nothing: mend it and submit again.
        What is accepted cannot be changed any more.
        """
        proposal = Proposal(
            name=self._checked_name(name),
            motivation=self._checked_motivation(motivation),
            source=source if source.endswith("\n") else source + "\n",
            author=_author(ctx, seat),
            parents=self._checked_parents(parents),
            cognitions=self._checked_cognitions(cognitions),
        )
        try:
            entered = self._seats.submit(experiment, proposal, PATIENCE, seated=bool(seat))
        except FailedCheck as fault:
            verdicts = answers.checks_answer(fault.evidence, None, experiment)
            raise Refusal(f"refused, nothing was handed in. {verdicts}") from None
        moved = ""
        if entered.id != experiment:
            moved = (
                f"Experiment {experiment} is somebody else's since your claim ended; yours is {entered.id}. "
            )
        if entered.status == "claimed":
            return f"{moved}{CHECKING.format(f'submit(experiment={entered.id}, ...)')}"
        standing = answers.standing_text(self._seats.standing())
        return f"{moved}Accepted as #{entered.id} {name}. Next: wait_for_result({entered.id}). {standing}"

    async def wait_for_result(
        self,
        ctx: Context[Any, Any],
        experiment: Experiment,
        seconds: Annotated[
            float,
            Field(
                description="How long to wait, at most 600. Clients often cut a call after 60.", ge=0, le=600
            ),
        ] = 50,
    ) -> str:
        """Wait for a submitted experiment: its progress, or when it has ended the full result.

        A result has every metric beside the parent's, the seed's with its noise and the best baseline's, the
        fitness and its rank, cost, and the finding: what this taught. You may design another meanwhile.
        """
        begin = last = monotonic()
        while True:
            found = await run_sync(self._seats.claims.get, experiment)
            now = monotonic()
            if found.status != "proposed" or now - begin >= seconds or self._seats.is_stopping():
                break
            if now - last >= SIGN_SECONDS:
                last = now
                await ctx.report_progress(now - begin, seconds)
            await anyio.sleep(min(LOOK_SECONDS, max(0.0, seconds - (now - begin))))
        return await run_sync(self._told, experiment)

    def leaderboard(
        self,
        top: Annotated[int, Field(description="How many candidates, the best first.", ge=0, le=100)] = 10,
    ) -> str:
        """See all baselines and the best candidates with fitness, metrics, size, and gains over the seed."""
        return answers.board_answer(self._seats.view(), self._seats.standing(), top)

    def give_up(self, experiment: Experiment) -> str:
        """Hand back a brief that you will not design for; somebody else gets it."""
        self._seats.claims.give_up(experiment)
        return f"Experiment {experiment} is given back. get_brief gives another."

    def _told(self, id: int) -> str:
        found = self._seats.claims.get(id)
        if found.status in ("finished", "failed"):
            return answers.result_answer(self._seats.view(), found)
        self._seats.claims.renew(id)
        return answers.waiting_answer(found, self._seats.standing(), self._seats.notes.now.get(id))

    def _checked_name(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise Refusal(f"name: {name!r} must be 3 to 60 letters, digits and '_', starting with a letter")
        return name

    def _checked_motivation(self, motivation: str) -> str:
        if len(motivation.strip()) < LEAST_MOTIVATION:
            raise Refusal(
                f"motivation: at least {LEAST_MOTIVATION} characters; say what is weak and why, what you "
                "change, why that helps, and what you expect of each metric"
            )
        return motivation.strip()

    def _checked_parents(self, parents: list[int]) -> tuple[int, ...]:
        for id in parents:
            status = self._seats.claims.get(id).status
            if status != "finished":
                raise Refusal(
                    f"parents: experiment {id} is {status}; name experiments that have a fitness, or none"
                )
        return tuple(dict.fromkeys(parents))

    def _checked_cognitions(self, cognitions: list[str]) -> tuple[str, ...]:
        unknown = [id for id in cognitions if self._seats.study.cognition.get(id) is None]
        if unknown:
            raise Refusal(
                f"cognitions: there is no {', '.join(unknown)}; name ids as the brief and search_cognition "
                "give them, such as 2412.06464/1, or none"
            )
        return tuple(dict.fromkeys(cognitions))


def _author(ctx: Context[Any, Any], seat: str) -> str:
    """Give the author of an agent's designs: "agent", its client's name if it told it, and its seat."""
    params = ctx.request_context.session.client_params
    client = _label(params.client_info.name) if params is not None else ""
    return " ".join(part for part in (AGENT, client, _label(seat)) if part)


def _label(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-")[:40]


def _fault(tool: str, error: BaseException) -> str:
    """Give a fault for an agent: one of its own in full, one of the server's without its trace."""
    if isinstance(error, Refusal | SetupError):
        return str(error)
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return f"wrong arguments for {tool}: {'; '.join(faults)}. Call it again with these mended"
    if isinstance(error, ToolError):
        return str(error)
    sys.excepthook(type(error), error, error.__traceback__)  # on stderr
    return (
        f"{tool} met a fault of the server's own ({type(error).__name__}); nothing that was accepted is "
        "lost. Call it again; if it stays, tell your user to look at the server's log"
    )
