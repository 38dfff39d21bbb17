"""`orchestrate data show` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.commands.clips import nearest
from tests.naive_stores import (
    clip,
    description,
    store,
)
from tests.orchestrator.cli.data_command import run
from trainables.contract.errors import UserError
from trainables.data.store.reading import Clip, write_store


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    clips = [clip(name, subject=1) for name in ("a01_s01", "a01_s02", "a02_s01")]
    return store(
        tmp_path / "shown",
        [*clips, Clip("nobody", 0, clips[0].joints * 0, extra={"split": "test"})],
    ).path


def test_show_draws_a_clip(shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("show", shown, "a01_s02", "--frames", 1) == "a01_s02.png\n"
    assert Path("a01_s02.png").read_bytes().startswith(b"\x89PNG")
    run(
        "show",
        shown,
        "a01_s02",
        "--out",
        "deep/moving.GIF",
        "--fps",
        10,
        "--frames",
        2,
        "--up",
        "-y",
    )
    first = Path("deep/moving.GIF").read_bytes()
    assert first.startswith(b"GIF89a")
    run("show", shown, "a02_s01", "--out", "deep/moving.GIF", "--frames", 2)
    assert Path("deep/moving.GIF").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a01_s03",), r"there is no clip 'a01_s03', did you mean a01_s0[12] or a01_s0[12]"),
        (("zz",), r"there is no clip 'zz' \(its first is a01_s01\)"),
        (
            ("a01_s01", "--out", "x.jpg", "--frames", "0"),
            r"--out: must end in .png or .gif, got x.jpg\n--frames: must be at least 1, got 0",
        ),
        (("a01_s01", "--fps", "30"), r"--fps: must be left out for a .png"),
        (("a01_s01", "--fps", "0", "--out", "x.gif"), r"--fps: must be between 1 and 1000, got 0"),
        (("a01_s01", "--frames", "101"), r"--frames: must be at most 100 for a .png, got 101"),
        (("a01_s01", "--up", "north"), r"--up: must be one of x, y, z, -x, -y, -z, got north"),
        (
            ("nobody",),
            (
                r"nobody, class 0: there must be somebody to draw, but none of its 5 frames shows a"
                r" joint"
            ),
        ),
    ],
)
def test_show_says_what_is_wrong_and_leaves_nothing(
    shown: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match=message):
        run("show", shown, *arguments)
    assert not list(here.iterdir())


def test_show_has_no_up_in_images_and_cannot_write_over_a_folder(
    shown: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png: the picture cannot be written: Is a directory"):
        run("show", shown, "a01_s01", "--frames", 1, "--out", tmp_path / "a.png")
    write_store(
        tmp_path / "image",
        [clip("a"), clip("b", split="test")],
        description().model_copy(update={"channels": "xy"}),
    )
    with pytest.raises(UserError, match="--up: must be left out for joints found in images, got z"):
        run("show", tmp_path / "image", "a", "--up", "z")


def test_nearest_ids_survive_a_typo_at_either_end() -> None:
    known = [f"S{s:03}C001P{p:03}A{a:03}" for s in range(20) for p in range(10) for a in range(20)]
    assert nearest("S011C001P004A01", known)[0].startswith("S011C001P004A01")
    assert nearest("x011C001P004A013", known)[0] == "S011C001P004A013"
    assert nearest("S011C001P004A013.skeleton", known)[0] == "S011C001P004A013"
    # both are as alike
    assert nearest("a09_s01_e01_skeleton3D", ["a09_s01_e01", "a09_s01_e03"])[0] == "a09_s01_e01"
    assert nearest("unlike", known) == []
