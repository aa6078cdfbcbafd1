"""Answers from a record: the same requests get the same answers, in the order in which they were given."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from asi_arch.calls import Call, Message, Turn
from asi_arch.errors import SetupError
from asi_arch.llm.source import Reply, Request, key_of, plain

FOUND_ANEW = ("answer", "tool")  # faults that the conversation finds itself
AROUND = 30  # characters that are shown on each side of a difference


@dataclass(frozen=True, slots=True)
class _Recorded:
    call: Call
    request: Request
    turn: Turn


class Replay:
    """A source that knows the calls of a study.

    The same request asked again gets the next answer that was recorded for it, those of its own
    experiment first. Tools are not replayed: they run, and what they give must be what they gave.

    Args:
        name: of the source, such as "replay:studies/first".
        calls: the record. One that did not end, since the study was killed or stopped, serves where
            no other does: what was stopped was asked again.
    """

    def __init__(self, name: str, calls: Sequence[Call]) -> None:
        self._name = name
        ended_first = sorted(calls, key=lambda call: not (call.answer or call.error))
        self._all = [found for call in ended_first for found in _requests(call)]
        self._left: dict[str, list[_Recorded]] = defaultdict(list)
        for found in self._all:
            self._left[key_of(found.request)].append(found)

    async def answer(self, request: Request) -> Reply:
        """Give what came of a request; see `Source.answer`.

        Raises:
            SetupError: there is none, or no further one; the line names the nearest difference.
        """
        found = self._take(request)
        if found is None:
            raise SetupError(self._missing(request))
        kept = tuple(fault for fault in found.turn.faults if fault.kind not in FOUND_ANEW)
        return Reply(turn=replace(found.turn, asked=(), faults=kept), model=found.call.model)

    async def close(self) -> None:
        """Do nothing."""

    def __str__(self) -> str:
        """Give its name."""
        return self._name

    def _take(self, request: Request) -> _Recorded | None:
        left = self._left.get(key_of(request))
        if not left:
            return None
        own = [i for i, found in enumerate(left) if found.request.experiment == request.experiment]
        return left.pop(own[0] if own else 0)

    def _missing(self, request: Request) -> str:
        head = f"{self._name} has no answer to a request of the {request.role}"
        same = [found for found in self._all if found.request.role == request.role]
        if not same:
            return f"{head}: no call of that role was recorded"
        used = sum(key_of(found.request) == key_of(request) for found in same)
        if used:
            return f"{head}: it was recorded {used} times, and asked once more"
        nearest = max(same, key=lambda found: _likeness(found.request, request))
        return f"{head}: {_difference(nearest.request, request)}, the nearest being call {nearest.call.id}"


def _requests(call: Call) -> Iterator[_Recorded]:
    """Give every request of a call with its turn."""
    messages: tuple[Message, ...] = ()
    for turn in call.turns:
        messages += turn.asked
        request = Request(
            role=call.role,
            experiment=call.experiment,
            options=call.options,
            schema=call.schema,
            tools=call.tools,
            messages=messages,
        )
        yield _Recorded(call, request, turn)
        if turn.answer is not None:
            messages += (turn.answer,)


def _likeness(recorded: Request, asked: Request) -> tuple[int, int]:
    """Tell how many messages are equal from the start, and how many characters of the next one."""
    place = _first_difference(recorded, asked)
    if place >= min(len(recorded.messages), len(asked.messages)):
        return place, 0
    pair = (recorded.messages[place].text, asked.messages[place].text)
    return place, _common(*pair)


def _first_difference(recorded: Request, asked: Request) -> int:
    pairs = zip(recorded.messages, asked.messages, strict=False)
    for place, (one, other) in enumerate(pairs):
        if plain(one) != plain(other):
            return place
    return min(len(recorded.messages), len(asked.messages))


def _difference(recorded: Request, asked: Request) -> str:
    """Say in one line where a request first differs from a recorded one."""
    place = _first_difference(recorded, asked)
    if place < min(len(recorded.messages), len(asked.messages)):
        one, other = recorded.messages[place], asked.messages[place]
        name = f"message {place + 1} ({' '.join(filter(None, (other.author, other.tool)))})"
        if one.text == other.text:
            return f"{name} differs in who speaks or in the tools that are used"
        start = _common(one.text, other.text)
        was, now = (text[max(0, start - AROUND) : start + AROUND] for text in (one.text, other.text))
        return f"{name} differs at character {start + 1}: recorded {was!r}, asked {now!r}"
    for name in ("options", "schema", "tools"):
        if getattr(recorded, name) != getattr(asked, name):
            was, now = getattr(recorded, name), getattr(asked, name)
            return f"its {name} differ" + (f": recorded {was}, asked {now}" if name == "options" else "")
    return f"it has {len(asked.messages)} messages, the recorded one {len(recorded.messages)}"


def _common(one: str, other: str) -> int:
    """Count the characters that two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
