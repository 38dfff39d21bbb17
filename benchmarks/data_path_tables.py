"""What data_path.py prints of its measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from clip_by_clip import STORAGES

LEAST_GROWTH_MB = 100  # below, a ratio of memories says nothing
Row = dict[str, Any]


def batches_table(rows: Sequence[Row]) -> str:
    """Aligned text, two lines per stream: one per storage."""
    lines = [
        (
            "clips per second, medians; batches and the loader without workers use one core, two"
            " workers use two"
        ),
        "",
    ]
    titles = (
        "batches",
        "0 workers",
        "2 workers",
        "ratio to 0",
        "ratio to 2",
        "per core",
        "of limit",
    )
    lines.append(
        f"{'pipeline':9}{'stream':14}{'storage':9}" + "".join(f"{title:>11}" for title in titles)
    )
    for row in rows:
        for storage in STORAGES:
            speeds = f"{row[storage]:11,.0f}{row['workers_0']:11,.0f}{row['workers_2']:11,.0f}"
            ratios = "".join(
                f"{row[f'{storage}_ratio_{name}']:10.1f}x" for name in ("0", "2", "2_per_core")
            )
            lines.append(
                f"{row['pipeline']:9}{row['stream']:14}{storage:9}{speeds}{ratios}"
                f"{row[f'{storage}_of_limit']:11.0%}"
            )
    copied = statistics.median(row["bandwidth"] for row in rows)
    needed = {
        f"{row['pipeline']} {storage} {row[f'{storage}_bytes'] / 1e3:.0f} kB": None
        for row in rows
        for storage in STORAGES
    }
    lines += [
        "",
        (
            f"limit: {copied / 1e9:.1f} GB/s read and written by a copy on one core; a clip takes"
            f" at least {', '.join(needed)}"
        ),
        "",
    ]
    return "\n".join(lines)


def open_table(rows: Sequence[Row]) -> str:
    """One line per store."""
    return "".join(
        f"opening a store of {row['clips']:,} clips: {row['milliseconds']:.2f} ms\n" for row in rows
    )


def _worth_a_ratio(row: Row) -> str:
    """Empty where one process grows by no more than its working memory varies."""
    return f"{row['ratio']:.2f}x" if row["one_mb"] > LEAST_GROWTH_MB else ""


def processes_table(rows: Sequence[Row]) -> str:
    """Aligned text, one line per form and number of clips."""
    together = f"all {rows[0]['processes']}"
    lines = [
        f"{'form':9}{'clips':>8}{'first batch':>13}{'with imports':>14}"
        f"{'before':>10}{'one process':>13}{together:>10}{'ratio':>8}"
    ]
    for row in rows:
        times = (
            f"{row['first_batch_ms']:10.0f} ms{row['with_import_ms']:11.0f}"
            f" ms{row['before_mb']:7.0f} MB"
        )
        lines.append(
            f"{row['form']:9}{row['clips']:8,}{times}{row['one_mb']:10,.0f} MB{row['all_mb']:7,.0f}"
            f" MB{_worth_a_ratio(row):>8}"
        )
    return "\n".join(lines) + "\n"
