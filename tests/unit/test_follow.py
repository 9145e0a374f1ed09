"""What a person sees of a run: real files, a console that writes into memory."""

import io
import os

import msgspec
import pytest
from rich.console import Console

from mpirun_infer.core.printable import printable
from mpirun_infer.model import ItemCounts, MiniBatchCounts, Notice, Status
from mpirun_infer.watch.follow import PLAIN_PERIOD_S, Follower


class Screen:
    """A follower, its two files, its clock and what it has printed."""

    def __init__(self, folder, *, terminal=False):
        self.status_file = folder / "status.json"
        self.events_file = folder / "events"
        self.text = io.StringIO()
        self.now_s = 1000.0
        self.terminal = terminal

    def follower(self):
        console = Console(
            file=self.text,
            width=100,
            force_terminal=self.terminal,
            color_system="standard" if self.terminal else None,
            _environ={"TERM": "xterm"},
        )
        files = (str(self.status_file), str(self.events_file))
        return Follower(*files, console, now=lambda: self.now_s)

    def write_status(self, done, state="running"):
        status = Status(
            state=state,
            mini_batches=MiniBatchCounts(total=20, listing=False, done=done),
            items=ItemCounts(total=20, succeeded=done),
        )
        new = self.status_file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(status))
        os.replace(new, self.status_file)

    def add_events(self, data):
        with self.events_file.open("ab") as events:
            events.write(data)

    def shown(self):
        """What was printed since the last call."""
        text = self.text.getvalue()
        self.text.seek(0)
        self.text.truncate()
        return text


def event(text, level="info"):
    return msgspec.json.encode(Notice(at="2026-11-22T14:00:00Z", level=level, text=text)) + b"\n"


@pytest.fixture
def screen(tmp_path):
    return Screen(tmp_path)


@pytest.fixture
def terminal(tmp_path):
    return Screen(tmp_path, terminal=True)


def test_nothing_is_shown_before_there_is_anything(screen):
    follower = screen.follower()
    follower.turn()
    assert screen.shown() == ""


def test_plain_text_gets_a_line_at_once_and_then_every_30_seconds(screen):
    follower = screen.follower()
    screen.write_status(1)
    follower.turn()
    assert screen.shown() == "Processed 1 of 20 mini batches in 0:00:00.\n"
    screen.now_s += PLAIN_PERIOD_S - 1
    screen.write_status(2)
    follower.turn()
    assert screen.shown() == ""
    screen.now_s += 1
    screen.write_status(3)
    follower.turn()
    assert screen.shown() == "Processed 3 of 20 mini batches in 0:00:00.\n"


def test_a_notice_is_printed_once_and_at_once(screen):
    follower = screen.follower()
    screen.add_events(event("worker 2 lost"))
    follower.turn()
    follower.turn()
    screen.add_events(event("worker 2 is back", "warning"))
    follower.turn()
    follower.finish(75, "lost")
    assert screen.shown() == "worker 2 lost\nworker 2 is back\n"


def test_half_a_notice_waits_for_its_end(screen):
    follower = screen.follower()
    whole = event("naïve")
    cut = whole.index(b"\xc3") + 1
    screen.add_events(whole[:cut])
    follower.turn()
    assert screen.shown() == ""
    screen.add_events(whole[cut:])
    follower.turn()
    assert screen.shown() == "naïve\n"


def test_a_line_that_is_no_notice_is_passed_over(screen):
    follower = screen.follower()
    screen.add_events(b"\0\0\0\n[1]\n" + event("after"))
    follower.turn()
    assert screen.shown() == "after\n"


def test_notices_of_an_earlier_launch_are_old_news(screen):
    screen.add_events(event("before"))
    screen.write_status(20, state="interrupted")
    follower = screen.follower()
    follower.turn()
    assert screen.shown() == ""


def test_what_a_terminal_would_obey_is_escaped(screen):
    follower = screen.follower()
    screen.add_events(event("item /d/\x1b[2J\r\n\x07\x9b[bold]\u202egnp.png failed"))
    follower.turn()
    assert screen.shown() == ("item /d/\\x1b[2J\\r\\n\\x07\\x9b[bold]\\u202egnp.png failed\n")


def test_printable_leaves_letters_alone_and_fits_the_encoding():
    assert printable("Grüße 数字 [red]") == "Grüße 数字 [red]"
    assert printable("/d/\udcff.png") == "/d/\\udcff.png"
    assert printable("Grüße", "ascii") == "Gr\\xfc\\xdfe"


def test_a_long_notice_is_not_broken_into_lines(screen):
    follower = screen.follower()
    screen.add_events(event("x" * 500 + " " + "y" * 500))
    follower.turn()
    assert screen.shown() == "x" * 500 + " " + "y" * 500 + "\n"


def test_a_damaged_status_is_not_shown_and_does_no_harm(screen):
    follower = screen.follower()
    screen.status_file.write_bytes(b'{"version": 1, "sta')
    follower.turn()
    assert screen.shown() == ""
    screen.write_status(5)
    follower.turn()
    assert screen.shown().startswith("Processed 5 of 20 ")


def test_the_end_shows_the_summary_also_when_nothing_has_changed(screen):
    screen.write_status(20, state="complete")
    follower = screen.follower()
    status = follower.finish(75, "lost")
    assert status.state == "complete"
    assert screen.shown().splitlines()[:2] == [
        "Complete in 0:00:00.",
        "  items          20: 20 succeeded, 0 failed",
    ]


def test_the_end_of_a_run_that_left_nothing_is_silent(screen):
    follower = screen.follower()
    assert follower.finish(75, "lost") is None
    assert screen.shown() == ""


def test_a_terminal_has_one_live_line_with_notices_above_it(terminal):
    with terminal.follower() as follower:
        terminal.write_status(1)
        follower.turn()
        terminal.write_status(2)
        follower.turn()
        first = terminal.shown()
        assert "Processed 1 of 20" in first
        assert "Processed 2 of 20" in first
        assert "\n" not in first  # the second line was written over the first
        terminal.add_events(event("out of luck", "error"))
        follower.turn()
        assert terminal.shown().index("out of luck") >= 0
        terminal.write_status(20, state="complete")
        follower.finish(75, "lost")
    last = terminal.shown()
    assert "\x1b[?25h" in last  # the cursor is back
    assert last.index("\x1b[?25h") < last.index("Complete in")


def test_the_terminal_is_given_back_after_an_error(terminal):
    with pytest.raises(KeyboardInterrupt), terminal.follower() as follower:
        terminal.write_status(1)
        follower.turn()
        raise KeyboardInterrupt
    assert "\x1b[?25h" in terminal.shown()


def test_a_live_line_is_cut_at_the_width_of_the_terminal(terminal):
    with terminal.follower() as follower:
        follower._console.width = 20
        terminal.write_status(1)
        follower.turn()
    shown = terminal.shown()
    assert "Processed 1 of 20 m…" in shown
    assert "mini batches" not in shown
