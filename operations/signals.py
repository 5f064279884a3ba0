"""What ends a run early: the first signal at its next safe point, the second at once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import gevent
from pyinfra import logger

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody asked the run to end; nothing new is begun, and nothing is undone."""


class Signals:
    """The signals of this process, which nothing else handles once a run has taken them over."""

    def __init__(self) -> None:
        self.asked = ""
        self._at_work: Callable[[], bool] = lambda: False
        self._stop: Callable[[str], object] = logger.error

    def take_over(self, at_work: Callable[[], bool], stop: Callable[[str], object]) -> None:
        """From here on a signal calls `stop`, or is remembered for the next safe point while `at_work`.

        What the caller of this process ignores, as `nohup` does, stays ignored.
        """
        self._at_work, self._stop = at_work, stop
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hear)

    def pause_point(self) -> None:
        """Between two pieces of work, and while waiting: raises Interrupted when a signal has come."""
        if self.asked:
            raise Interrupted(f"interrupted by {self.asked}")

    def _hear(self, number: int, _frame: object) -> None:
        """In a greenlet of its own: what is raised here would hit whichever one happens to run."""
        gevent.spawn(self._obey, signal.Signals(number).name)

    def _obey(self, name: str) -> None:
        if self._at_work() and not self.asked:
            self.asked = name
            logger.warning(f"{name}: the run ends at its next safe point; a second signal ends it at once")
            return
        self.asked = name
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        self._stop(f"ended by {name}")


SIGNALS = Signals()
