"""What the pictures name, and that names stand beside what they name."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from orchestrator.report import figures
from orchestrator.report.figures import draw_confusion, draw_front, draw_size_accuracy
from orchestrator.report.point_names import Point, _mark


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    found = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: found.append(figure) or path)
    return found


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_names_cover_neither_each_other_nor_a_mark(drawn, tmp_path):
    points = [
        Point("level0.6", "member", 86_534, 0.8103, 0.018),
        Point("level0.8", "member", 84_619, 0.7888, 0.019),
        Point("level0.95", "member", 83_175, 0.7958, 0.022),
        Point("multi_level", "ensemble", 87_000, 0.7759, 0.019),
    ]
    draw_size_accuracy(points, "test", tmp_path / "p.png")
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert sorted(texts(axes)) == sorted(point.name for point in points)
    boxes = [text.get_window_extent() for text in axes.texts]
    marks = [_mark(axes, point) for point in points]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        for left, bottom, right, top in marks:
            apart = box.x1 < left or box.x0 > right or box.y1 < bottom or box.y0 > top
            assert apart
    assert "deploy" in axes.get_xlabel()


def test_a_confusion_matrix_names_its_classes_and_counts_its_clips(drawn, tmp_path):
    counts = np.array([[7, 3], [0, 10]])
    draw_confusion(counts, "final, test split", tmp_path / "c.png", ("sit", "stand"))
    axes = drawn[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["sit", "stand"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["sit", "stand"]
    assert texts(axes) == ["7", "3", "10"]
    assert axes.get_title() == "final, test split, 20 clips"


def test_a_front_names_its_ensembles_and_their_costs(drawn, tmp_path):
    values = [(0.7, 0.02), (0.8, 0.02)]
    draw_front(
        {"a": 1000.0, "a + b": 5000.0},
        {"selection": values, "test": values},
        "non-zero parameters",
        tmp_path / "f.png",
    )
    (axes,) = drawn[0].axes
    assert texts(axes) == ["a", "a + b"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1,000", "5,000"]
    # bars of equal figures stand beside each other
    places = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert min(places) < 1000.0 < max(places)


def test_a_report_never_has_half_a_figure(tmp_path, monkeypatch):
    path = tmp_path / "confusion.png"
    path.write_bytes(b"before")

    def interrupted(figure, content, **options):
        if isinstance(content, BytesIO):
            content.write(b"half")
        else:
            content.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_confusion(np.eye(3, dtype=np.int64), "net", path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]
