"""The exceptions of the house: the user's fault, the candidate's, and those of asking a language model."""


class SetupError(Exception):
    """The user's fault: one line that names the fault, the value and the cure.

    The command line prints the line without a traceback and exits with code 2.
    """


class CandidateError(Exception):
    """The candidate's fault, on its way to becoming a `Failure` record.

    It lives inside the engineer only: `Pool.run` turns it into evidence, so no candidate can raise
    through the loop.

    Args:
        phase: where it was found: `source`, `contract`, `graph`, a check's name, `train` or `evaluate`.
        kind: a short word for machines: `syntax`, `timeout`, `memory`, `operator`, `nan`.
        message: one line for the author: what is wrong, where, and what would mend it.
        trace: the tail of the candidate's traceback, if it has one.
    """

    def __init__(self, phase: str, kind: str, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.phase = phase
        self.kind = kind
        self.message = message
        self.trace = trace


class ModelError(Exception):
    """A language model gave no answer that can be used, whatever was tried; one line that says why.

    It ends one call, and not the study: who asked decides what becomes of the experiment.
    """


class BudgetError(Exception):
    """The study's budget for language models is spent; one line that names it and the cure.

    It ends the study cleanly: what is open stays open, and a later run with a larger budget goes on.
    """


class StoppedError(RuntimeError):
    """What was waited for was given up, since the study stops."""
