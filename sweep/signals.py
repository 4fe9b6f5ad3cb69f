"""Ctrl-C and SIGTERM: after the first signal cells write checkpoints and the sweep ends; a second ends it at once."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from sweep.storage.object_store import ObjectStore
from sweep.storage.run_dir import STOP, RunDir

CHECKPOINT_TIME = 5.0
"""Seconds after SIGTERM that cells have for their checkpoints. The sender usually kills us some seconds later."""
EXIT_TIME = 9.0
"""Seconds after SIGTERM, or a second Ctrl-C, after which the process exits whatever it is doing."""
TURN = 0.5
"""Seconds between two looks for a KeyboardInterrupt."""

Handler = Callable[[int, FrameType | None], None]
T = TypeVar("T")


class Terminated(KeyboardInterrupt):
    """Raised after SIGTERM. It differs from Ctrl-C only in the exit code."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Context manager in which SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt, and sets a deadline."""

    def terminate(number: int, frame: FrameType | None) -> None:
        if not signal.getitimer(signal.ITIMER_REAL)[0]:  # otherwise an earlier deadline holds
            _deadline(EXIT_TIME, _exit_handler(number))
        raise Terminated

    with _handling({signal.SIGTERM: terminate}):
        yield


class StopRequest:
    """Holds whether running cells must stop, and because of which signal. A file tells the workers."""

    def __init__(self, run_dir: RunDir, *, by_signals: bool = True) -> None:
        """No stop is requested yet. `handling` creates the file's folder.

        Args:
            run_dir: the sweep's folder.
            by_signals: whether the process is a command of ours, whose signals ask; otherwise they belong to the
                caller, and `call` listens to the KeyboardInterrupt that is raised there.
        """
        self.run_dir, self._by_signals = run_dir, by_signals
        self._file, self._store = run_dir.stop, run_dir.store if run_dir.uri else None
        self._alone = not run_dir.shard
        self._sending: threading.Thread | None = None
        self._announced = False
        self._due = 0.0
        self.signal = 0
        """The number of the received signal; 0 without one."""
        self.at_once = False
        """Whether the process must end without its usual last steps."""

    @property
    def asked(self) -> bool:
        """Whether cells must stop."""
        return self.signal != 0

    @property
    def code(self) -> int:
        """The exit code of a process that stops for this signal."""
        return 128 + self.signal

    def call(self, function: Callable[[], T]) -> T:
        """Call a function that runs cells, in `handling`, and return its result.

        Without signals of our own it runs in a thread of its own: a KeyboardInterrupt, such as that of Jupyter's stop
        button, is raised in this thread, and cannot leave Ray in the middle of a step. It asks as Ctrl-C does.
        """
        with self.handling():
            if self._by_signals:
                return function()
            with ThreadPoolExecutor(1, "sweep") as threads:
                idents: Future[int] = threads.submit(threading.get_ident)
                running = threads.submit(function)
                while True:
                    try:
                        # With a limit: a handler of a library such as Polars lets a wait without one go on.
                        while not running.done():
                            wait([running], timeout=TURN)
                        return running.result()
                    except KeyboardInterrupt:
                        if running.done():
                            raise
                        self._interrupt_thread(idents.result())

    def _interrupt_thread(self, ident: int) -> None:
        """The first KeyboardInterrupt asks; a further one is raised in the thread that runs cells."""
        if self.asked:
            self.at_once = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt))
        else:
            self.ask(signal.SIGINT)

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Context manager in which the first signal asks cells to stop. A second Ctrl-C, or the deadline, raises."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        handlers: dict[signal.Signals, Handler] = {}
        if self._by_signals:
            handlers[signal.SIGTERM] = self._terminate
            # A shell ignores Ctrl-C for background commands of a script: it is not meant for them.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                handlers[signal.SIGINT] = self._interrupt
        try:
            with _handling(handlers):
                yield
        finally:
            if self._due and not self.at_once:  # the last steps must end before the same deadline
                _deadline(max(0.1, self._due - time.monotonic()), _exit_handler(signal.SIGTERM))
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
                if self._alone:  # otherwise another driver may just begin to use it
                    self._file.parent.rmdir()  # fails if there are checkpoints
            self._withdraw()

    def ask(self, number: int) -> None:
        """Ask cells to stop, as after the signal of this number."""
        self.signal = number
        with suppress(OSError):  # on a full disk cells continue until the second signal or the deadline
            self._file.parent.mkdir(exist_ok=True)
            self._file.touch()
        if self._store and not self._sending:  # a signal handler must not wait for the store
            self._sending = threading.Thread(target=self._send, args=(self._store,), name="stop", daemon=True)
            self._sending.start()

    def take_message(self) -> str | None:
        """A message for the user, once. The driver's loop prints it, because a signal handler may interrupt a print."""
        if not self.asked or self._announced:
            return None
        self._announced = True
        if self.signal == signal.SIGPIPE:
            return "the output is no longer read: stopping, running cells write their checkpoints"
        if self.signal == signal.SIGTERM:
            return f"SIGTERM: running cells write their checkpoints, within {CHECKPOINT_TIME:g} s"
        again = "Ctrl-C again stops" if self._by_signals else "another interrupt stops"
        return f"stopping: running cells write their checkpoints; {again} at once"

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.at_once = True
            _deadline(EXIT_TIME, _exit_handler(self.signal))
            raise KeyboardInterrupt
        self.ask(number)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if self.signal != signal.SIGTERM:  # also after a Ctrl-C
            self._due = time.monotonic() + EXIT_TIME
            _deadline(CHECKPOINT_TIME, self._cut_off)
        self.ask(number)

    def _cut_off(self, number: int, frame: FrameType | None) -> None:
        self.at_once = True
        _deadline(EXIT_TIME - CHECKPOINT_TIME, _exit_handler(signal.SIGTERM))
        raise Terminated

    def _send(self, store: ObjectStore) -> None:
        with suppress(OSError):
            store.write(STOP, b"")

    def _withdraw(self) -> None:
        """Remove the file at the address. If the store does not answer, the next command removes it."""
        if self._store and self._sending:
            self._sending.join(1.0)
            with suppress(OSError):
                self._store.remove(STOP, once=True)


def _deadline(seconds: float, then: Handler) -> None:
    """Call a handler after some seconds."""
    signal.signal(signal.SIGALRM, then)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _exit_handler(number: int) -> Handler:
    """A signal handler that kills all processes and exits."""

    def handle(alarm: int, frame: FrameType | None) -> None:
        kill_all(128 + number)

    return handle


def kill_all(code: int) -> NoReturn:
    """Kill all child processes and exit at once, without waiting for threads."""
    for child in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
    for stream in (sys.stdout, sys.stderr):
        with suppress(RuntimeError, OSError, ValueError):  # the signal may have interrupted a print
            stream.flush()
    os._exit(code)


def exit_with(code: int) -> NoReturn:
    """Exit with this code; after a signal at once, because its sender does not wait for Python's clean-up."""
    if code > 128:
        kill_all(code)
    raise SystemExit(code)


def descendants(process: int) -> list[int]:
    """The child processes of a process, each before its own children; on systems other than Linux none."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


@contextmanager
def _handling(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
