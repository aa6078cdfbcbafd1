"""The two exceptions of the house: the user's fault, and the candidate's."""


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
