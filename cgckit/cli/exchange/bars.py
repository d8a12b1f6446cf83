"""Progress bars on stderr that are there only once there is progress: before, an error is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def waiting_bars(enabled: bool) -> Iterator[Progress]:
    """Bars that are to be started by whoever has something to show."""
    from cgckit.jobs.console import progress_bars

    bars = progress_bars(enabled)
    try:
        yield bars
    finally:
        if bars.live.is_started:
            bars.stop()


@contextmanager
def counted(what: str, enabled: bool) -> Iterator[Callable[[int], None]]:
    """One bar; gives what is called with the total after each step."""
    with waiting_bars(enabled) as bars:

        def step(total: int) -> None:
            if not bars.tasks:
                bars.start()
                bars.add_task(what, total=total, note="")
            bars.advance(bars.task_ids[0])

        yield step
