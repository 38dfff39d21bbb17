"""`orchestrate data show`: one clip of a store as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainables.data.store.reading import Store

POSES, MOST_POSES = 8, 100  # of a PNG: unless told otherwise, and at most
FPS = 30.0  # of a recording unless told otherwise: Kinect's
NEIGHBOURS = 20  # ids before and after an unknown one that are compared with it


def show(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="Read the store in this folder, or a copy of it at an address (s3://...).",
        ),
    ],
    clip: Annotated[str, typer.Argument(metavar="ID", help="Draw the clip of this id.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write this .png (poses side by side) or .gif (moving); ID.png here without."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help=f"Draw so many poses in a PNG ({POSES}), or pictures of a GIF (15 per second)."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help=f"Play a GIF at so many frames per second of the recording ({FPS:g})."),
    ] = None,
    up: Annotated[
        str | None,
        typer.Option(
            help="Say what points up, for positions in space: y (as with Kinect), z, -y, ..."
        ),
    ] = None,
) -> None:
    """Draw one clip's skeletons, from the front and from the side or as in the image."""
    from trainables.contract.disk import write_atomic
    from trainables.contract.errors import UserError
    from trainables.data.inspection.drawing import moving_gif, picture_of, poses_png
    from trainables.data.store.cache import open_store

    file = out or Path(clip.replace("/", "_") + ".png")
    moving = file.suffix.lower() == ".gif"
    _check(file, frames, fps, up)
    opened = open_store(store)
    position = _position(opened, clip)
    channels = opened.info.channels
    if up is not None and channels != "xyz":
        raise UserError(f"--up: must be left out for joints found in images, got {up}")
    picture = picture_of(
        opened.clip(position), channels, opened.layout, _title(opened, position), up or "y"
    )
    content = (
        moving_gif(picture, frames, fps or FPS) if moving else poses_png(picture, frames or POSES)
    )
    try:
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"{file}: the picture cannot be written: {error.strerror}") from error
    typer.echo(file)


def _check(file: Path, frames: int | None, fps: float | None, up: str | None) -> None:
    """UserError with everything that is wrong with the options; before anything is read."""
    from trainables.contract.errors import UserError
    from trainables.data.inspection.drawing import UP

    problems, ending = [], file.suffix.lower()
    if ending not in (".png", ".gif"):
        problems.append(f"--out: must end in .png or .gif, got {file}")
    if frames is not None and frames < 1:
        problems.append(f"--frames: must be at least 1, got {frames}")
    if frames is not None and frames > MOST_POSES and ending == ".png":
        problems.append(f"--frames: must be at most {MOST_POSES} for a .png, got {frames}")
    if fps is not None and not 1 <= fps <= 1000:
        problems.append(f"--fps: must be between 1 and 1000, got {fps:g}")
    if fps is not None and ending == ".png":
        problems.append("--fps: must be left out for a .png, which does not move")
    if up is not None and up not in UP:
        problems.append(f"--up: must be one of {', '.join(UP)}, got {up}")
    if problems:
        raise UserError.of(problems)


def _position(store: Store, clip: str) -> int:
    """Where the clip of that id is; UserError names the nearest ids."""
    from bisect import bisect_left

    from trainables.contract.errors import UserError

    ids = store.column("id").tolist()
    place = bisect_left(ids, clip)
    if place < len(ids) and ids[place] == clip:
        return place
    near = nearest(clip, ids)
    hint = f", did you mean {' or '.join(near)}?" if near else f" (its first is {ids[0]})"
    raise UserError(f"{store.path}: there is no clip '{clip}'{hint}")


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Up to three of `known` that look most like `name`, the best first.

    Only those beside it in alphabetical order are compared, and those beside it when words are read
    backwards: a store has up to some 100 000 ids, and a comparison with all takes seconds.
    """
    from bisect import bisect_left
    from difflib import get_close_matches

    around: set[str] = set()
    for step in (1, -1):
        turned = sorted(each[::step] for each in known)
        place = bisect_left(turned, name[::step])
        around.update(
            each[::step] for each in turned[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS]
        )
    # first where an ending was left on it
    return sorted(
        get_close_matches(name, sorted(around)), key=lambda each: not name.startswith(each)
    )


def _title(store: Store, position: int) -> str:
    """Id, class and place of a clip."""
    classes, label = store.info.classes, int(store.column("label")[position])
    places = [
        f"{name} {store.column(name)[position]}"
        for name in ("subject", "camera", "take")
        if store.column(name)[position] is not None
    ]
    words = [
        str(store.column("id")[position]),
        classes[label] if 0 <= label < len(classes) else f"label {label}",
    ]
    return ", ".join([*words, *places])
