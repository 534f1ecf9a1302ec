"""Summaries and tables by hand."""

import pytest

from sv3d_pipe.evaluate.tables import Table, object_table, summarize, summary_table, word, worst_first

ROWS = [
    {"name": "a", "nerf_cd": 0.1, "export_cd": 0.2, "export_tight": True},
    {"name": "b", "nerf_cd": 0.2, "export_cd": 0.3, "export_tight": False},
    {"name": "c", "nerf_cd": 0.6, "export_cd": None, "export_tight": False},
]


def test_mean_and_median_over_the_rows_that_have_a_number():
    summary = summarize(ROWS, ("nerf", "export"), ("cd", "tight", "psnr"))
    assert summary["nerf"] == {"cd": {"mean": pytest.approx(0.3), "median": 0.2, "n": 3}}
    assert summary["export"]["cd"] == {"mean": 0.25, "median": 0.25, "n": 2}
    assert summary["export"]["tight"]["mean"] == pytest.approx(1 / 3)
    table = summary_table("Both", summary, ("cd", "tight", "psnr"))
    assert table.columns == ["", "nerf", "export"]
    assert table.lines == [["cd", "0.3000 / 0.2000", "0.2500 / 0.2500"], ["tight", "", "0.3333 / 0.0000"]]


def test_worst_first_puts_rows_without_a_number_before_all():
    assert [r["name"] for r in worst_first(ROWS, "export_cd", large_is_good=False)] == ["c", "b", "a"]
    assert [r["name"] for r in worst_first(ROWS, "nerf_cd", large_is_good=True)] == ["a", "b", "c"]


def test_words():
    values = (0.01234, 12.345, 12345.6, True, None, 20000, "sine")
    assert [word(v) for v in values] == ["0.0123", "12.35", "12,346", "yes", "", "20,000", "sine"]


def test_markdown():
    table = object_table("All", ROWS[:1], ("nerf_cd", "export_tight", "unknown"))
    assert table.markdown() == (
        "**All**\n\n"
        "| object | nerf_cd | export_tight |\n"
        "| ------ | ------: | -----------: |\n"
        "| a      |  0.1000 |          yes |\n"
    )


def test_a_table_is_shown_whole_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    Table("Wide", ["object", "a_long_heading"], [["an_object_with_a_long_name", "0.1234"]]).show()
    shown = capsys.readouterr().err
    assert "an_object_with_a_long_name" in shown and "a_long_heading" in shown and "0.1234" in shown
