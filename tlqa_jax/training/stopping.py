"""SIGTERM and Ctrl-C while a program trains: the step is finished and saved, then the program stops.

Clusters send SIGTERM some seconds before they take a machine away. A second signal ends the program at once.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """The program was asked to stop, and what it has trained is saved. `signal`: by which signal."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.signal = signal.Signals(number)


class StopSignals:
    """A context in which the first SIGTERM or SIGINT only sets `received`; the second has its usual effect.

    Python delivers signals to the main thread only, so in another thread nothing is changed. A signal that is ignored
    stays ignored.

    `received` is the number of the signal, or 0.
    """

    def __init__(self):
        self.received, self.raises = 0, False

    def __enter__(self) -> "StopSignals":
        main = threading.current_thread() is threading.main_thread()
        heard = [number for number in SIGNALS if main and signal.getsignal(number) is not signal.SIG_IGN]
        self.usual = {number: signal.signal(number, self._receive) for number in heard}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.usual.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for again, handler in self.usual.items():
            signal.signal(again, handler)
        self.received = number
        if self.raises:
            raise Stopped(number)

    @contextlib.contextmanager
    def raised_at_once(self) -> Iterator[None]:
        """Within it the signal raises Stopped: for work that may be broken off.

        Of several processes none does, as all have to stop after the same step.
        """
        self.raises = jax.process_count() == 1
        try:
            if self.raises and self.received:
                raise Stopped(self.received)
            yield
        finally:
            self.raises = False

    def of_any_process(self) -> int:
        """The signal that this process has received, or the largest that any of several has. All have to call it."""
        if jax.process_count() == 1:
            return self.received
        return int(np.max(multihost_utils.process_allgather(np.int32(self.received))))
