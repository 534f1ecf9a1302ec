"""What a run shows."""

import io

import pytest
from rich.console import Console

from sv3d_pipe.road.records import StageRecord
from sv3d_pipe.road.report import BarReporter, format_memory, format_metric


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"photo_psnr_db": 24.318, "coverage": 0.2}, "photo psnr 24.32 dB"),
        ({"mask_iou": 0.99213}, "mask iou 0.9921"),
        ({"faces": 19876}, "faces 19,876"),
        ({"watertight": True}, "watertight True"),
        ({"psnr_db": None}, "psnr None dB"),
        ({}, ""),
    ],
)
def test_the_first_metric_in_words(metrics, text):
    assert format_metric(metrics) == text


def test_memory_in_words():
    assert [format_memory(mb) for mb in (12.4, 1023, 1536)] == ["12 MB", "1023 MB", "1.50 GB"]


def test_bars_show_the_metric_and_warnings_but_take_no_markup_from_stages():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    record = StageRecord("nerf", 1, "k", {}, {}, 1, "cpu", {}, 1.0, 1.0, {"psnr_db": 30.0}, [])
    with BarReporter(console) as reporter:
        reporter.skip(record)
        reporter.start("refine")
        with reporter.bar("refine", 4) as bar:
            bar.update(2, "[red]21.5 dB")
            reporter._progress.refresh()
        reporter.warn("refine", "the [mask] is odd")
        reporter.finish(record)
    shown = console.file.getvalue()
    for text in ("skipped, finished before", "50%", "[red]21.5 dB", "refine: warning: the [mask] is odd"):
        assert text in shown
