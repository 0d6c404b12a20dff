"""What a line of progress looks like: figures are never cut, the time left is believable (points 14 to 17, 28, 29, 52)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.cli.layout import KEPT_FREE, Figures, Window, clock, cut, fraction, size, width, wrapped
from stack.cli.output import duration

MIB = 1 << 20
FILM = "The.Quite.Long.Movie.Name.2026.2160p.UHD.mkv"
RUNNING = Figures(label=FILM, done=185 * MIB, total=286 * MIB, files=1204, text="1 peer")


@pytest.mark.parametrize("columns", range(20, 121))
@pytest.mark.parametrize(
    "name", ["f", "film.mkv", FILM, "Grüße aus München und so weiter", "日本語のとても長いファイル名.mkv"]
)
def test_figures_are_whole_in_a_terminal_of_any_width(name: str, columns: int) -> None:
    figures = Figures(label=name, done=185 * MIB, total=286 * MIB, files=1204, text="1 peer")
    lines = figures.lines(columns, 31.4 * MIB, 64.0)
    together = "  ".join(lines)
    for part in ("185.0/286.0 MiB", "1,204 files", "31.4 MiB/s", "1:04 left", "1 peer"):
        assert part in together
    if columns >= 24:
        assert max(map(width, lines)) <= columns - KEPT_FREE


def test_what_gives_way_is_the_bar_then_the_name_then_the_line() -> None:
    assert "━" in RUNNING.lines(140, 0, None)[0] and FILM in RUNNING.lines(140, 0, None)[0]
    assert "━" not in RUNNING.lines(100, 0, None)[0] and FILM in RUNNING.lines(100, 0, None)[0]
    (one,) = RUNNING.lines(80, 0, None)
    assert FILM not in one and one.startswith("The.Quite.Long.M…6.2160p.UHD.mkv  185.0/")
    assert RUNNING.lines(40, 0, None) == [
        "The.Quite.Long.Mov…2026.2160p.UHD.mkv",
        "185.0/286.0 MiB  1,204 files  0 B/s",
        "1 peer",
    ]


def test_a_name_is_cut_in_its_middle_and_keeps_the_number_of_the_episode() -> None:
    assert cut("a long series - part 1.mkv", 16) == "a long s…t 1.mkv"
    assert cut("short", 5) == "short" and width(cut("日本語日本語", 7)) <= 7 and cut("abc", 0) == ""


@given(st.text(max_size=60), st.integers(1, 60))
def test_a_cut_name_is_as_wide_as_there_is_room_and_never_wider(name: str, columns: int) -> None:
    shown = cut(name, columns)
    assert width(shown) <= columns
    assert shown == name or width(name) > columns


@given(st.text("ab 日", max_size=100), st.integers(4, 40))
def test_text_breaks_between_words_and_loses_none(text: str, columns: int) -> None:
    lines = wrapped(text, columns)
    assert " ".join(lines) == text
    assert all(width(line) <= columns or " " not in line for line in lines)


def test_a_figure_keeps_its_unit() -> None:
    assert wrapped("received in 7.7 s, 994.2 KiB/s)", 24) == ["received in 7.7 s,", "994.2 KiB/s)"]


def test_the_rate_is_of_the_last_seconds_and_zero_when_nothing_moves() -> None:
    """Point 29: minutes later still `16.3 MB/s`."""
    window = Window()
    for second in range(11):
        window.add(second, second * 10)
    assert window.rate(10) == 10
    assert window.rate(12.5) == pytest.approx(6, rel=0.2)
    assert window.rate(15) == 0 and window.rate(300) == 0 and window.left(300, 50) is None


def test_what_was_waited_before_anything_came_does_not_slow_the_rate() -> None:
    window = Window()
    for at in (0.0, 1.0, 3.0):
        window.add(at, 0)
    window.add(4.0, 10 * MIB)
    assert window.rate(4.0) == 10 * MIB and window.left(4.0, 20 * MIB) == 2.0
    serving = Window()  # tells nothing while nobody asks
    serving.add(0.0, 0)
    serving.add(60.0, 10 * MIB)
    assert serving.rate(60.0) == 10 * MIB


def test_the_first_bytes_tell_nothing_of_the_time_left() -> None:
    window = Window()
    window.add(0.0, 0)
    window.add(1.0, 750)
    assert window.left(1.0, 3 * MIB) is None and window.left(1.0, 500) is not None


def test_a_rate_is_not_the_mean_since_the_start() -> None:
    """Point 17: 53.8 MB/s stood there while small files came at a hundredth of it."""
    window = Window()
    window.add(0, 0)
    window.add(2, 1000)
    for second in range(3, 30):
        window.add(second, 1000 + second)
    assert window.rate(29) == 1
    assert window.left(29, 100) == pytest.approx(100, rel=0.2)


def test_what_goes_on_without_an_end_is_idle_at_times() -> None:
    sent = Figures(label="f", verb="sent", done=575 * MIB, text="to 2 peers, 2 whole copies")
    assert sent.lines(80, 0.0, None) == ["f  sent 575.0 MiB  now idle  to 2 peers, 2 whole copies"]
    assert sent.lines(80, 16.3 * MIB, None) == ["f  sent 575.0 MiB  16.3 MiB/s  to 2 peers, 2 whole copies"]


def test_who_waits_sees_no_rate() -> None:
    waiting = Figures(label="f", done=49 * MIB, total=114 * MIB, is_moving=False, text="waiting 4.0 s")
    assert "B/s" not in waiting.lines(80, 9.0, 7.0)[0]
    assert Figures(label="f", is_counted=False, text="waiting 4.0 s").lines(80, 9.0, 7.0) == ["f  waiting 4.0 s"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (60 * MIB, "60.0 MiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_units_are_of_1024_everywhere(count: int, text: str) -> None:
    """Point 28."""
    assert size(count) == text


def test_both_figures_of_a_fraction_have_the_unit_of_the_larger() -> None:
    assert fraction(0, 205) == "0/205 B" and fraction(512, 300 * MIB) == "0.0/300.0 MiB"
    assert (clock(7), clock(750), clock(11100)) == ("0:07", "12:30", "3:05:00")


def test_a_time_after_which_the_clock_was_set_back_is_none_at_all() -> None:
    """`stack jobs`: "-31535998.4 s ago"."""
    assert duration(-31_535_998.4) == "0.0 s"
