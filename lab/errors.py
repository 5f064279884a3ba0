"""The one exception of the lab: where it went wrong, what happened, and what to do next."""


class LabError(Exception):
    """A failure that a person can act on, said in one message."""

    def __init__(self, where: str, what: str, next_step: str) -> None:
        super().__init__(f"{where}: {what}\n  next: {next_step}")
        self.where = where
        self.what = what
        self.next_step = next_step
