"""Work done in threads ahead of who needs it, in order, with a bound on what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    call: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int = 2, window: int = 64
) -> Iterator[Result]:
    """Results of calls in threads while the consumer works on earlier ones, in the order of the items.

    The first error ends it, and what nobody will want is not begun.

    Args:
        call: Must be fit for threads.
        items: Consumed lazily, at most ``window`` ahead.
        num_workers: Threads.
        window: Results in memory at most.
    """
    with ThreadPoolExecutor(num_workers, thread_name_prefix="robustad-ahead") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(call, item))
                if len(pending) >= window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
