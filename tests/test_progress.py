"""The progress helper: silent when short, a line where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from robustad._progress import Progress, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_short_work_writes_nothing_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Progress("short", 3, stream=stream) as shown:
        for _ in range(3):
            shown.update()
    assert stream.getvalue() == ""


def test_a_line_holds_amount_share_time_left_and_note(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("robustad._progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("work", 8, unit="images", initial=2, interval=10, stream=stream) as shown:
        now[0] += 9
        shown.update(note="hidden: too early")
        now[0] += 1
        shown.update(note="loss 0.5")
        now[0] += 1
        shown.update()
    # 2 of the 4 were there before: 10 s for 2 gained, 4 to go.
    assert stream.getvalue() == "work: 4 of 8 images (50%), 20 s left, loss 0.5\n"


def test_bytes_and_unknown_total_are_readable() -> None:
    stream = io.StringIO()
    with Progress("get", unit="B", interval=0, stream=stream) as shown:
        for size in (7, 1_500, 2_340_000, 4_900_000_000):
            shown.move_to(size)
    assert stream.getvalue().splitlines() == ["get: 7 B", "get: 1.5 kB", "get: 2.34 MB", "get: 4.9 GB"]


@pytest.mark.parametrize(("seconds", "text"), [(119, "119 s"), (180, "3 min"), (7260, "2 h 1 min")])
def test_time_left(seconds: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("robustad._progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("w", 2, interval=1, stream=stream) as shown:
        now[0] = seconds
        shown.update()
    assert f", {text} left" in stream.getvalue()


def test_a_terminal_gets_a_bar_with_markup_left_alone() -> None:
    stream = Terminal()
    with Progress("file[red].tar", 10, unit="B", stream=stream) as shown:
        shown.update(5, note="[note]")
        assert shown._bar is not None
        shown._bar.refresh()
    assert "file[red].tar" in stream.getvalue()
    assert "[note]" in stream.getvalue()


def test_only_the_outermost_shows_and_a_failure_frees_the_place() -> None:
    outer, inner, later = Terminal(), Terminal(), io.StringIO()
    with pytest.raises(RuntimeError), Progress("outer", 1, stream=outer), Progress("inner", 1, stream=inner) as shown:
        shown.update()
        raise RuntimeError
    assert inner.getvalue() == ""
    with Progress("later", 1, interval=0, stream=later) as shown:
        shown.update()
    assert later.getvalue().startswith("later: 1 of 1")


def test_disabled_is_silent() -> None:
    stream = io.StringIO()
    with Progress("other rank", 1, interval=0, enabled=False, stream=stream) as shown:
        shown.update()
    assert stream.getvalue() == ""
    assert shown.completed == 1


def test_iterable_yields_every_item_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress([3, 1, 2], "items")) == [3, 1, 2]
    assert "3/3" in stream.getvalue()
    endless = progress(iter(int, 1), "endless")
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]


def test_rich_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, robustad._progress; raise SystemExit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
