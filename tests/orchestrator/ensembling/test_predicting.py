"""Files become predictions in their order, and a stream of frames answers on time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensembling.live import Streaming, _Window, answers, warm_up
from orchestrator.ensembling.open_model import ExportedModel
from orchestrator.ensembling.predicting import Reading, files_of, predict_files, ranked
from trainables.contract.errors import UserError
from trainables.data.readers.clip_files import Wanted
from trainables.data.readers.frames import LONGEST_LINE, parse_frame
from trainables.data.readers.tracks import Tracks
from trainables.data.store.description import Description

PAIR = {"name": "pair", "joints": ("hip", "head"), "parents": (0, 0), "origin": 0}


class Counting:
    """A model whose classes are how many frames a clip has, up to nine."""

    description = Description(
        name="made",
        layout=PAIR,
        classes=tuple(f"{k} frames" for k in range(10)),
        persons=2,
        pipeline="ctr",
        protocols={"split": {"column": "label", "train": (0,), "test": (1,)}},
    )

    def __init__(self):
        self.batches = []

    def predict(self, clips):
        self.batches.append([clip.shape[:2] for clip in clips])
        self.last = clips[-1]
        rows = np.full((len(clips), 10), 0.01)
        for row, clip in zip(rows, clips, strict=True):
            row[min(clip.shape[1], 9)] = 0.91
        return rows


WANTED = Wanted.of(Counting.description)


def clip(frames):
    joints = np.ones((frames, 2, 3), np.float32)
    joints[:, 1, 1] = 1.7 + np.arange(frames) / 10
    return joints


def test_files_folders_and_patterns_keep_their_order(tmp_path):
    names = (
        "b/2.npy",
        "b/deep/1.npz",
        "a/z.npy",
        "b/notes.txt",
        "b/.hidden.npy",
        "b/x_skeleton3D.txt",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "[odd].npy").touch()
    texts = [f"{tmp_path}/b", f"{tmp_path}/a/z.npy", f"{tmp_path}/*/2.n*", f"{tmp_path}/[odd].npy"]
    found = [file.relative_to(tmp_path).as_posix() for file in files_of(texts)]
    inside = ["b/2.npy", "b/deep/1.npz", "b/x_skeleton3D.txt"]
    assert found == [*inside, "a/z.npy", "[odd].npy"]  # each once
    assert [file.name for file in files_of([f"{tmp_path}/?"])] == [
        *("z.npy", "2.npy", "1.npz", "x_skeleton3D.txt")
    ]


def test_names_that_fit_nothing_are_all_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        files_of([f"{tmp_path}/empty", f"{tmp_path}/*.npy", "unheard.npy"])
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "must hold clips (.skeleton, .npy, .npz, .pkl, .pickle, .jsonl, .ndjson, .json, .txt), got"
        " none",
        *["must be a clip's file, a folder or a pattern that fits some, got no such file"] * 2,
    ]


@pytest.fixture
def files(tmp_path):
    """Five clips of 2 to 6 frames; the third file is damaged."""
    for frames in range(2, 7):
        np.save(tmp_path / f"{frames}.npy", clip(frames))
    (tmp_path / "4.npy").write_text("x")
    return [tmp_path / f"{frames}.npy" for frames in (6, 5, 4, 3, 2)]


def test_clips_are_predicted_in_batches_in_their_order(files):
    model, steps, good = Counting(), [], [*files[:2], *files[3:]]
    reading = Reading(batch=3, step=lambda: steps.append(len(model.batches)))
    found = list(predict_files(model, good, WANTED, reading))
    assert [each.clip for each in found] == [str(file) for file in good]
    assert [ranked(each.probabilities, 1) for each in found] == [[6], [5], [3], [2]]
    assert [len(batch) for batch in model.batches] == [3, 1]
    assert steps == [0, 0, 1, 1]


def test_bad_clips_are_all_named_or_left_out(files):
    (files[4]).write_text("x")
    model, notes = Counting(), []
    with pytest.raises(UserError) as caught:
        list(predict_files(model, files, WANTED, Reading(batch=10)))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(files[2]),
        str(files[4]),
    ]
    assert model.batches == []  # nothing was computed in vain
    reading = Reading(batch=10, skip_bad=True, note=notes.append)
    found = list(predict_files(model, files, WANTED, reading))
    assert [ranked(each.probabilities, 1) for each in found] == [[6], [5], [3]]
    assert [note.partition(":")[0] for note in notes] == ["left out", "left out"]
    with pytest.raises(UserError, match=r"4\.npy: must be a NumPy array"):
        list(predict_files(model, files[2:3], WANTED, reading))  # nothing is left


def test_an_exported_file_gets_clips_of_one_length_at_a_time(monkeypatch, tmp_path):
    class Exported:
        about = Counting
        shapes = ()

        def probabilities(self, clips):
            self.shapes = (*self.shapes, clips.shape)
            return clips.sum(axis=(1, 2, 3, 4))[:, None].repeat(10, 1)

    exported = Exported()
    monkeypatch.setattr("trainables.deploy.export.exported.open_exported", lambda file: exported)
    model = ExportedModel(tmp_path / "net.onnx")
    assert model.description == Counting.description
    clips = [clip(4)[None], clip(3)[None], clip(4)[None].repeat(2, 0)]
    rows = model.predict(clips)
    assert exported.shapes == ((2, 3, 4, 2, 2), (1, 3, 3, 2, 1))
    np.testing.assert_allclose(rows[:, 0], [each.sum() for each in clips], rtol=1e-6)


def line(time=None, persons=((1.0, "a"),), **more):
    """A frame with somebody at each x."""
    record = {
        "persons": [{"id": name, "joints": [[x, 0.1, 2], [x, 1.8, 2]]} for x, name in persons]
    }
    return json.dumps(record | ({} if time is None else {"time": time}) | more).encode()


def streamed(lines, model=None, **settings):
    return list(answers(lines, model or Counting(), WANTED, Streaming(**settings)))


def test_a_stream_answers_every_few_frames_on_its_last_seconds():
    lines = [line(t / 10) for t in range(12)]
    found = streamed(lines, window=0.5, every=4, top=2)
    assert [(each["line"], each["time"], each["frames"], each["full"]) for each in found] == [
        *((4, 0.3, 4, False), (8, 0.7, 6, True), (12, 1.1, 6, True))
    ]
    assert [each["class"] for each in found] == ["4 frames", "6 frames", "6 frames"]
    assert found[1]["seconds"] == pytest.approx(0.5)
    assert next(iter(found[0]["probabilities"].items())) == ("4 frames", 0.91)
    assert len(found[0]["probabilities"]) == 2
    assert all(each["latency_ms"] > 0 and each["persons"] == 1 for each in found)
    same = streamed([line() for _ in range(12)], window=0.5, every=4, top=2, fps=10)
    kept = ("line", "frames", "full", "class")
    assert [[each[k] for k in kept] for each in same] == [[each[k] for k in kept] for each in found]


def test_frames_of_a_camera_that_slows_down_are_spread_evenly():
    model = Counting()
    times = [0.0, 0.1, 0.2, 0.6, 1.0]  # 0.25 s between those of the clip
    lines = [line(t, persons=((10 * t + 1, "a"),)) for t in times]
    streamed(lines, model, window=2.0, every=5)
    np.testing.assert_allclose(model.last[0, :, 0, 0], [1, 3, 7, 7, 11], rtol=1e-6)


def test_somebody_who_leaves_is_zero_and_forgotten_with_the_window():
    model = Counting()
    both, one = ((1, "a"), (2, "b")), ((2, "b"),)
    lines = [line(t / 10, persons=both if t < 2 else one) for t in range(10)]
    found = streamed(lines, model, window=0.3, every=4)
    assert [each["persons"] for each in found] == [2, 1]
    first, last = model.batches
    assert first == [(2, 4)]
    assert last == [(1, 4)]


def test_nobody_in_sight_is_an_answer_without_a_class():
    found = streamed([line(t / 10, persons=()) for t in range(4)], every=2)
    assert [(each["persons"], each["class"], each["probabilities"]) for each in found] == [
        (0, None, {})
    ] * 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{", "line 3: must be a frame as JSON"),
        (line(0.1), "line 3: time must grow from frame to frame, got 0.1 after 0.1"),
        (line(-0.0), "line 3: time must grow from frame to frame, got 0 after 0.1"),
        (line(), "line 3: must have a time in seconds, or --fps must be given"),
        (b"[" * (LONGEST_LINE + 1), f"line 3: a frame must have at most {LONGEST_LINE} bytes"),
    ],
)
def test_a_bad_line_ends_the_stream_or_is_left_out(bad, message):
    lines = [line(0.0), line(0.1), bad, b"\n", line(0.3)]
    with pytest.raises(UserError, match=f"^{message}"):
        streamed(lines)
    notes = []
    found = streamed(lines, every=3, skip_bad=True, note=notes.append)
    assert [each["line"] for each in found] == [5]
    assert len(notes) == 1
    assert notes[0].startswith(f"left out: {message}")


def of_joints(time, *joints):
    """A frame with a single person."""
    return json.dumps({"time": time, "persons": [{"joints": joints}]}).encode()


def in_millimetres(time):
    return of_joints(time, [1000, 100, 2000], [1000, 1800, 2000])


def test_a_unit_that_no_body_has_ends_a_stream_before_the_first_answer():
    lines = [in_millimetres(t) for t in range(6)]
    with pytest.raises(UserError, match=r"line 2: a typical body must measure .* in mm"):
        streamed(lines, every=2)
    notes = []
    found = streamed(lines, every=2, skip_bad=True, note=notes.append)
    assert [(each["class"], each["persons"]) for each in found] == [(None, 1)] * 3
    assert len(notes) == 1  # not one for each answer
    assert notes[0].startswith("no class: line 2: a typical body must measure between 0.05 and 10")


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_tracker_that_errs_for_a_while_does_not_end_a_stream(skip_bad):
    notes = []
    lines = [in_millimetres(t / 10) if 4 <= t % 20 < 14 else line(t / 10) for t in range(40)]
    found = streamed(lines, window=0.3, every=4, skip_bad=skip_bad, note=notes.append)
    classes = [each["class"] for each in found]
    assert classes == [*["4 frames", None, None, None, "4 frames"] * 2]
    assert [note.partition(": a")[0] for note in notes] == ["no class: line 8", "no class: line 28"]


def test_a_hand_alone_is_no_error_of_a_unit():
    layout = PAIR | {"joints": tuple("abcdef"), "parents": (0,) * 6}
    wanted = Wanted.of(Description(**{**Counting.description.model_dump(), "layout": layout}))
    hand = of_joints(0.0, [1, 1, 1], [1.02, 1, 1], None, None, None, None)
    whole = of_joints(0.0, *([1, t, 2] for t in range(1, 7)))
    lines = [
        json.dumps(json.loads(hand if t < 20 else whole) | {"time": t / 10}).encode()
        for t in range(40)
    ]
    notes = []
    found = list(answers(lines, Counting(), wanted, Streaming(0.5, 10, note=notes.append)))
    assert [each["class"] for each in found] == [None, None, "6 frames", "6 frames"]
    assert len(notes) == 1


def test_a_clip_begins_and_ends_with_somebody():
    model, nobody = Counting(), ()
    seen = [False] * 6 + [True, True, False, True] + [False] * 6
    lines = [line(t / 10, persons=((t, "a"),) if there else nobody) for t, there in enumerate(seen)]
    found = streamed(lines, model, window=0.7, every=2)
    assert [(each["persons"], each["frames"], each["seconds"]) for each in found] == [
        *[(0, 0, 0.0)] * 3,
        (1, 2, 0.1),
        *[(1, 4, 0.3)] * 2,
        (1, 4, 0.3),
        (0, 0, 0.0),  # a single frame shows no motion
    ]
    assert [each["class"] for each in found][3:] == ["2 frames", *["4 frames"] * 3, None]
    np.testing.assert_allclose(model.last[0, :, 0, 0], [6, 7, 0, 9])


def test_a_clip_has_the_frames_of_those_who_are_chosen():
    model = Counting()
    wanted = Wanted.of(model.description.model_copy(update={"persons": 1}))
    waving = [((3.0 + t, "a"), (1, "b")) if 4 <= t < 7 else ((1, "b"),) for t in range(8)]
    lines = [line(t / 10, persons=there) for t, there in enumerate(waving)]
    (found,) = answers(lines, model, wanted, Streaming(2.0, 8))
    assert (found["frames"], found["seconds"], found["class"]) == (3, 0.2, "3 frames")
    np.testing.assert_allclose(model.last[0, :, 0, 0], [7, 8, 9])


def test_a_window_that_cannot_be_held_is_said(monkeypatch):
    monkeypatch.setattr("orchestrator.ensembling.live.MOST_FRAMES", 5)
    model, notes = Counting(), []
    lines = [line(t / 10, persons=((1, "a"),) if t < 3 else ((9, "b"),)) for t in range(12)]
    found = streamed(lines, model, window=60, every=4, note=notes.append)
    assert [(each["frames"], each["full"], each["persons"]) for each in found] == [
        *((4, False, 2), (5, True, 1), (5, True, 1))
    ]
    assert notes == [
        "line 8: a window holds at most 5 frames, 0.4 s here, --window 60 asks for more"
    ]


def test_somebody_who_left_a_window_that_is_cut_is_forgotten(monkeypatch):
    monkeypatch.setattr("orchestrator.ensembling.live.MOST_FRAMES", 3)
    window = _Window(60, Tracks(3))
    for t, name in enumerate("aabbb"):
        window.add(t, parse_frame("", line(persons=((1, name),)), WANTED.layout, "xyz"))
    assert [[number for number, _ in seen] for _, seen in window.frames] == [[1]] * 3
    assert window.tracks._last.keys() == {1}


def test_times_that_are_no_seconds_are_said_once():
    notes = []
    found = streamed([line(33.0 * t) for t in range(8)], every=2, note=notes.append)
    assert [each["class"] for each in found] == [None] * 4
    assert notes == [
        "line 2: frames are 33 s apart, so a window of 2 s shows no motion: time must be in"
        " seconds, or --window longer"
    ]


def test_a_line_that_is_left_out_takes_its_time():
    lines = [line() if t % 2 else b"{" for t in range(12)]
    found = streamed(lines, every=3, fps=10, skip_bad=True)
    assert [each["time"] for each in found] == [0.5, 1.1]


@pytest.mark.parametrize("names", [("a", None), (None, "a")])
def test_ids_that_come_and_go_make_one_person(names):
    found = streamed([line(t / 10, persons=((1, names[t // 5]),)) for t in range(10)], every=10)
    assert [(each["persons"], each["frames"]) for each in found] == [(1, 10)]


def test_a_single_actor_is_there_twice_where_all_that_trained_were():
    model = Counting()
    provenance = {"single_actor": "duplicate"}
    wanted = Wanted.of(model.description.model_copy(update={"provenance": provenance}))
    (found,) = answers([line(t / 10) for t in range(4)], model, wanted, Streaming(every=4))
    assert (found["persons"], model.batches) == (1, [[(2, 4)]])
    np.testing.assert_array_equal(model.last[0], model.last[1])


def test_a_time_and_a_rate_contradict_each_other():
    with pytest.raises(UserError, match="line 1: has a time, so --fps must be left out, got 30"):
        streamed([line(0.0)], fps=30)


def test_a_camera_that_starts_again_begins_a_new_window():
    notes = []
    lines = [*(line(100 + t / 10) for t in range(8)), *(line(t / 10) for t in range(8))]
    found = streamed(lines, window=0.5, every=4, note=notes.append)
    assert [each["frames"] for each in found] == [4, 6, 4, 6]
    assert [each["full"] for each in found] == [False, True, False, True]
    assert notes == ["line 9: time falls to 0, the window begins anew"]


def test_the_networks_are_read_before_the_first_frame():
    model = Counting()
    warm_up(model, WANTED)
    assert model.batches == [[(1, 2)]]
