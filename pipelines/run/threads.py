"""Running an iterator or a consumer on its own thread, with a bounded queue."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_END = object()


class Prefetcher(Generic[T]):
    """Iterate on a thread, at most `depth` items ahead; an error is raised where it is due.

    Parameters
    ----------
    items
        The iterator, used by the thread alone. It returns None where there is no item yet, so
        that the thread can end.
    depth
        How many items may be ready.
    """

    def __init__(self, items: Iterator[T | None], depth: int = 2) -> None:
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(items,), name="reading", daemon=True
        )
        self._thread.start()

    def _run(self, items: Iterator[T | None]) -> None:
        try:
            for item in items:
                if self._stopped.is_set() or (item is not None and not self._put(item)):
                    return
            self._put(_END)
        except BaseException as error:  # handed to the thread that asks for items
            self._put(error)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.get()

    def get(self, timeout_s: float | None = None) -> T:
        """Return the next item.

        Raises
        ------
        StopIteration
            If there is none any more.
        TimeoutError
            If none came in time.
        """
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if item is _END:
            self._queue.put(_END)
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Stop the thread; items that are ready are dropped."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:  # so that the thread need not wait for room
                self._queue.get_nowait()
        self._thread.join()


class Background(Generic[T]):
    """Consume items on a thread; an error is raised by the next call.

    Parameters
    ----------
    consume
        Called for each item, in order.
    depth
        How many items may wait before `put` blocks.
    """

    def __init__(self, consume: Callable[[T], None], depth: int = 1) -> None:
        self._consume = consume
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            if self._error is None:
                try:
                    self._consume(item)  # type: ignore[arg-type]
                except BaseException as error:  # handed to the thread that puts items
                    self._error = error
            self._queue.task_done()

    def put(self, item: T) -> None:
        """Hand over an item, waiting while `depth` items are in the queue."""
        self._raise()
        self._queue.put(item)

    def flush(self) -> None:
        """Wait until everything so far has been consumed."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Wait until everything has been consumed, and end."""
        if self._thread.is_alive():
            self._queue.put(_END)
            self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
