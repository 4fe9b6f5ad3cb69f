"""The reports of a cell, sent by a thread, so that training does not wait until the driver has read them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

SendReport = Callable[[dict[str, Any]], None]
"""Sends a report to the driver; returns when it has been read."""


class Reporter:
    """Sends reports one after the other, in their order.

    As a context manager it returns when all have been read, and leaves no thread. What `send` raises, such as the
    SystemExit by which Ray Tune ends a cell, is raised in the thread that reports, when it next reports or checks.
    """

    def __init__(self, send: SendReport) -> None:
        """Start no thread yet."""
        self._send = send
        self._thread = ThreadPoolExecutor(1, "reports")
        self._last: Future[None] | None = None
        self._raised: BaseException | None = None

    def __call__(self, report: dict[str, Any]) -> None:
        """Send a report after all earlier ones, without waiting."""
        self.check()
        self._last = self._thread.submit(self._deliver, report)

    @property
    def idle(self) -> bool:
        """Whether all reports have been read."""
        return self._last is None or self._last.done()

    def check(self) -> None:
        """Raise what `send` has raised, if it has."""
        if self._raised is not None:
            raise self._raised

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.check()

    def _deliver(self, report: dict[str, Any]) -> None:
        if self._raised is None:  # otherwise nobody listens any more
            try:
                self._send(report)
            except BaseException as error:  # for the other thread
                self._raised = error
