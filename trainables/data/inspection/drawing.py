"""Clips drawn as skeletons: poses side by side (PNG) or moving (GIF).

Knows joints and layouts, nothing of stores or files.

What is in space is drawn twice, from the front and from the side, to one scale and without
perspective. What was found in images is drawn as it is in the image: y down, joints and bones as
faint as the detector was unsure. Each person has a colour, dark on the left side of the body and
light on its right.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.data.store.description import Channels, Joints
from trainables.figures import blank_figure
from trainables.layouts import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[np.float64]
Side = Literal["left", "middle", "right"]

UP = ("x", "y", "z", "-x", "-y", "-z")
MARGIN = 0.08  # around everything that is ever drawn, as a share of its height
COLUMNS = 8  # poses side by side
ROW_WIDTH, POSE_WIDTH = 13.0, 3.0  # inches: of a row of poses, and the most of one
GIF_HEIGHT, GIF_DPI = 3.6, 80  # of a picture's axes in inches, pixels per inch
GIF_RATE = 15  # pictures per second at most
HOLD = 1.0  # seconds for which the last picture stays
TITLE_SIZE, LETTERS = 9, 13  # points; letters of that size to an inch
LEGEND_WIDTH = 1.2  # inches of an entry
# of persons, in turns
PERSON_COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple", "tab:orange", "tab:brown")
# towards black (negative) or white
SHADE: dict[Side, float] = {"left": -0.35, "middle": 0.0, "right": 0.45}


@dataclass(frozen=True, slots=True)
class View:
    """Which coordinate runs across and which one up; the sign is -1 where it runs the other way."""

    name: str
    across: tuple[int, int]  # coordinate, sign
    upwards: tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A clip ready to be drawn."""

    title: str
    layout: Layout
    points: Values  # (M, T, V, 3)
    strength: Values  # (M, T, V), 0 where a joint is not drawn, 1 where it is certain
    views: tuple[View, ...]
    unit: str

    @property
    def length(self) -> int:
        """Number of frames."""
        return int(self.points.shape[1])


def picture_of(
    joints: Joints, channels: Channels, layout: Layout, title: str, up: str = "y"
) -> Picture:
    """joints (M, T, V, 3) as `channels` says; `up`, one of `UP`, is the direction away from the
    ground where joints are positions in space.

    A frame in which every joint of a person is zero does not show that person; nor are joints drawn
    that are not finite or, in images, have confidence 0 or no place. UserError when nothing is left
    to draw.
    """
    shown = np.isfinite(joints).all(axis=-1) & (joints != 0).any(axis=(2, 3))[..., None]
    points = np.where(shown[..., None], joints, 0).astype(np.float64)
    strength = shown.astype(np.float64)
    if channels != "xyz":
        strength *= (points[..., :2] != 0).any(axis=-1)
    if channels == "xyc":
        strength *= np.clip(points[..., 2], 0.0, 1.0)
    if not strength.any():
        raise UserError(
            f"{title}: there must be somebody to draw, but none of its {joints.shape[1]} frames"
            " shows a joint"
        )
    if channels == "xyz":
        return Picture(title, layout, points, strength, space_views(up), "m")
    return Picture(title, layout, points, strength, (View("", (0, 1), (1, -1)),), "px")


def space_views(up: str) -> tuple[View, View]:
    """From the front, as a camera sees it that looks along z (along y where z is up), and from the
    side with that camera on the left.

    Coordinates are taken to be right-handed, as those of Kinect are: what is on the camera's right
    grows along forward x up.
    """
    if up not in UP:
        raise UserError(f"up must be one of {', '.join(UP)}, got '{up}'")
    axis, sign = "xyz".index(up[-1]), -1 if up.startswith("-") else 1
    forward = 1 if axis == 2 else 2
    unit = np.eye(3, dtype=np.int64)
    right = np.cross(unit[forward], sign * unit[axis])
    across = int(np.abs(right).argmax())
    return View("from the front", (across, int(right[across])), (axis, sign)), View(
        "from the side", (forward, 1), (axis, sign)
    )


def poses_png(picture: Picture, poses: int) -> bytes:
    """`poses` frames of the clip, evenly chosen from the first to the last, as a PNG."""
    frames = chosen_frames(picture.length, poses)
    columns = min(len(frames), COLUMNS)
    lines = -(-len(frames) // columns)
    views, window = picture.views, _Window.of(picture, frames, follow=True)
    width = min(ROW_WIDTH / columns, POSE_WIDTH)
    height = width * window.height / window.width
    figure = blank_figure(width * columns + 0.6, lines * len(views) * (height + 0.45) + 0.6)
    grid = figure.subplots(lines * len(views), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, frame in enumerate(frames):
        line, column = divmod(place, columns)
        for row, view in enumerate(views, line * len(views)):
            axes = grid[row, column]
            _prepare(axes, picture, view, window, place)
            axes.tick_params(labelleft=column == 0)
            axes.set_ylabel("" if column else f"{view.name}\n{axes.get_ylabel()}".strip())
            if view is views[0]:
                end = frame in (0, picture.length - 1)
                axes.set_title(
                    _frame_name(frame, picture.length),
                    fontsize=8,
                    fontweight="bold" if end else "normal",
                )
            _Body(axes, picture, view).show(frame)
    _explain(figure, picture)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def moving_gif(picture: Picture, pictures: int | None = None, fps: float = 30.0) -> bytes:
    """The clip in its own time as an endless GIF; `fps` is the rate at which it was recorded.

    At most `GIF_RATE` pictures per second are drawn, or `pictures` of them, evenly chosen from the
    first frame to the last.
    """
    from PIL import Image

    frames = chosen_frames(
        picture.length,
        pictures or 1 + int(np.ceil((picture.length - 1) * min(GIF_RATE / fps, 1.0))),
    )
    window = _Window.of(picture, frames, follow=False)
    figure = blank_figure(
        len(picture.views) * GIF_HEIGHT * window.width / window.height + 0.8, GIF_HEIGHT + 1.0
    )
    figure.set_dpi(GIF_DPI)
    bodies = []
    for axes, view in zip(
        figure.subplots(1, len(picture.views), squeeze=False)[0], picture.views, strict=True
    ):
        _prepare(axes, picture, view, window, 0)
        axes.set_title(view.name, fontsize=8)
        bodies.append(_Body(axes, picture, view))
    name = bodies[0].axes.text(
        0.03, 0.98, "", transform=bodies[0].axes.transAxes, va="top", fontsize=7
    )
    _explain(figure, picture)
    canvas: Any = figure.canvas
    moving = [name, *(artist for body in bodies for artist in (body.lines, body.dots))]
    for _ in range(2):  # the second time finds where labels have come to lie
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for artist in moving:
        artist.set_animated(True)  # not part of what stays
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    images = []
    for frame in frames:
        name.set_text(_frame_name(frame, picture.length))
        for body in bodies:
            body.show(frame)
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    palette = images[0].quantize(128)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    times = np.rint(100 * np.asarray(frames) / fps)  # a GIF counts hundredths of a second
    durations = [10 * max(int(step), 2) for step in np.diff(times)] + [int(1000 * HOLD)]
    stream = io.BytesIO()
    first.save(
        stream, format="GIF", save_all=True, append_images=others, duration=durations, loop=0
    )
    return stream.getvalue()


def chosen_frames(length: int, count: int) -> list[int]:
    """At most `count` frame numbers, evenly spaced from the first frame to the last."""
    return sorted({round(frame) for frame in np.linspace(0, length - 1, count).tolist()})


def _frame_name(frame: int, length: int) -> str:
    if length == 1:
        return "the only frame"
    return f"frame {frame}" + {0: " (first)", length - 1: " (last)"}.get(frame, "")


@dataclass(frozen=True, eq=False, slots=True)
class _Window:
    """What the picture of each frame shows, in units of the joints: one size for all frames and
    views, so that all are of one scale.
    """

    centre: Values  # (frames, 3)
    width: float
    height: float

    @classmethod
    def of(cls, picture: Picture, frames: Sequence[int], *, follow: bool) -> _Window:
        """follow: a window just large enough for any one of the frames, which goes to and fro with
        the persons; otherwise one for them all.
        """
        points, seen = picture.points[:, frames], (picture.strength[:, frames] > 0)[..., None]
        # (frames, 3), infinite where nobody is seen
        low = np.where(seen, points, np.inf).min(axis=(0, 2))
        high = np.where(seen, points, -np.inf).max(axis=(0, 2))
        there = (low <= high).all(axis=1)
        if not there.any():
            return cls(np.zeros_like(low), 1.0, 1.0)
        whole = np.stack([low.min(axis=0), high.max(axis=0)])
        centre = np.tile(whole.mean(axis=0), (len(low), 1))
        extent = whole[1] - whole[0]
        upwards, across = picture.views[0].upwards[0], [view.across[0] for view in picture.views]
        if follow:
            centre[np.ix_(there, across)] = (low[there] + high[there])[:, across] / 2
            extent[across] = (high[there] - low[there])[:, across].max(axis=0)
        width = float(extent[across].max())
        height = max(float(extent[upwards]), width / 4, 1e-6)  # never a flat strip
        return cls(centre, max(width, height / 2) + 2 * MARGIN * height, height * (1 + 2 * MARGIN))


class _Body:
    """The bones and joints of everybody in one pair of axes; `show` moves them to a frame."""

    def __init__(self, axes: Axes, picture: Picture, view: View) -> None:
        from matplotlib.collections import LineCollection

        layout = picture.layout
        parents = layout.graph_parents or layout.parents
        self.axes = axes
        self.picture = picture
        self.flat = picture.points[..., [view.across[0], view.upwards[0]]]
        self.bones = [(v, parent) for v, parent in enumerate(parents) if v != parent]
        sides = [side_of(name) for name in layout.joints]
        # (M, V, 3)
        self.colours = np.array(
            [[_colour(person, side) for side in sides] for person in range(len(picture.points))]
        )
        self.lines = LineCollection([], linewidths=1.6, capstyle="round")
        axes.add_collection(self.lines)
        self.dots = axes.scatter([], [], s=5, linewidths=0, zorder=3)

    def show(self, frame: int) -> None:
        """Draw one frame: a bone is as strong as the weaker of its joints and has the colour of the
        joint further out.
        """
        segments, colours = [], []
        places, strength = self.flat[:, frame], self.picture.strength[:, frame]
        for person in range(len(places)):
            for v, parent in self.bones:
                strong = min(strength[person, v], strength[person, parent])
                if strong > 0:
                    segments.append(places[person, [v, parent]])
                    colours.append((*self.colours[person, v], strong))
        self.lines.set_segments(segments)
        self.lines.set_color(colours)
        seen = strength > 0
        self.dots.set_offsets(places[seen])
        self.dots.set_facecolor(
            [
                (*colour, strong)
                for colour, strong in zip(
                    self.colours[seen].tolist(), strength[seen].tolist(), strict=True
                )
            ]
        )


def side_of(joint: str) -> Side:
    """The side of the body that a joint's name says it is on."""
    name = joint.lower()
    if name.startswith(("left", "l_")):
        return "left"
    return "right" if name.startswith(("right", "r_")) else "middle"


def _colour(person: int, side: Side) -> tuple[float, float, float]:
    """Red, green and blue."""
    from matplotlib.colors import to_rgb

    shade, colour = SHADE[side], np.array(to_rgb(PERSON_COLOURS[person % len(PERSON_COLOURS)]))
    red, green, blue = colour * (1 + shade) if shade < 0 else colour + (1 - colour) * shade
    return float(red), float(green), float(blue)


def _prepare(axes: Axes, picture: Picture, view: View, window: _Window, place: int) -> None:
    """Empty axes of one view, with the window of the frame at that place."""
    from matplotlib.ticker import MaxNLocator

    axes.set_axis_on()
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=6)
    for set_limits, (number, sign), size in (
        (axes.set_xlim, view.across, window.width),
        (axes.set_ylim, view.upwards, window.height),
    ):
        middle = window.centre[place, number]
        set_limits(middle - sign * size / 2, middle + sign * size / 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=2))
    axes.set_xlabel(f"{'xyz'[view.across[0]]}, {picture.unit}", fontsize=7)
    axes.set_ylabel(f"{'xyz'[view.upwards[0]]}, {picture.unit}", fontsize=7)


def _explain(figure: Figure, picture: Picture) -> None:
    """The title, and the colours of the persons that are ever seen."""
    from matplotlib.lines import Line2D

    figure.suptitle(fill(picture.title, int(figure.get_figwidth() * LETTERS)), fontsize=TITLE_SIZE)
    persons = np.flatnonzero((picture.strength > 0).any(axis=(1, 2))).tolist()
    sides: Sequence[Side] = (
        ("left", "right")
        if any(side_of(name) != "middle" for name in picture.layout.joints)
        else ("middle",)
    )
    handles = []
    for person in persons:
        for side in sides:
            label = f"person {person}" + ("" if side == "middle" else f", {side}")
            handles.append(Line2D([], [], color=_colour(person, side), linewidth=2, label=label))
    columns = min(len(handles), int(figure.get_figwidth() / LEGEND_WIDTH))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False
    )
