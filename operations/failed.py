"""Work that could not be done."""

from __future__ import annotations

from cascade.exit_codes import ERROR


class WorkFailed(Exception):
    """An operation could not do its work; the message says where, what and what next."""

    def __init__(self, message: str, code: int = ERROR) -> None:
        super().__init__(message)
        self.code = code
