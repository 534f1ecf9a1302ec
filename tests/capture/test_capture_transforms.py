"""Reading transforms.json: the forms in which it occurs, and what is said of wrong ones."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from sv3d_pipe.capture.transforms import CAPTURE, capture_sha256, is_capture, read_frames
from sv3d_pipe.errors import UserError

POSE = np.array([[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1.0]])


@pytest.fixture
def capture(tmp_path):
    """A folder of three pictures; returns a function that writes its transforms with some changes."""
    for n in range(3):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")

    def write(frames=None, file="transforms.json", **fields):
        if frames is None:
            frames = [{"file_path": f"{n}.png", "transform_matrix": POSE.tolist()} for n in range(3)]
        (tmp_path / file).write_text(json.dumps({"fl_x": 9} | fields | {"frames": frames}))
        return tmp_path

    return write


def frame(name="0.png", matrix=POSE, **more):
    return {"file_path": name, "transform_matrix": np.asarray(matrix).tolist()} | more


def test_frames_keep_their_order_and_their_own_fields_win(capture):
    folder = capture([frame("2.png", fl_x=7), frame("1.png"), frame("0.png")], k1=0.5)
    frames = read_frames(folder)
    assert [f.image.name for f in frames] == ["2.png", "1.png", "0.png"]
    assert [f.optics["fl_x"] for f in frames] == [7, 9, 9]
    assert frames[2].optics["k1"] == 0.5
    np.testing.assert_allclose(frames[0].c2w, POSE)
    assert frames[0].mask is None


def test_synthetic_scenes_name_files_without_extension(capture):
    folder = capture([frame(f"./{n}") for n in range(3)], "transforms_train.json")
    assert is_capture(folder)
    assert [f.image.name for f in read_frames(folder)] == ["0.png", "1.png", "2.png"]
    assert len(read_frames(folder / "transforms_train.json")) == 3


def test_backslashes_masks_and_3x4_matrices(capture, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "masks" / "0.png")
    frames = [frame(mask_path="masks\\0.png"), frame(matrix=POSE[:3]), frame()]
    read = read_frames(capture(frames))
    assert read[0].mask.name == "0.png" and read[0].mask.parent.name == "masks"
    np.testing.assert_allclose(read[1].c2w, POSE)


def test_a_scale_in_the_axes_is_taken_out_and_applied_transform_is_left_alone(capture):
    scaled = POSE.copy()
    scaled[:3, :3] *= 2.5
    folder = capture([frame(matrix=scaled)] * 3, applied_transform=np.eye(4)[:3].tolist(), applied_scale=3)
    np.testing.assert_allclose(read_frames(folder)[0].c2w, POSE, atol=1e-12)


def test_the_identity_follows_the_content(capture, tmp_path):
    before = capture_sha256(capture())
    assert capture_sha256(tmp_path) == before
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "1.png")
    assert capture_sha256(tmp_path) != before
    assert CAPTURE.identity(tmp_path)["capture"] == str(tmp_path.resolve())


MIRRORED = np.diag([-1.0, 1, 1, 1])
SHEARED = np.eye(4) + np.diag([0.3, 0, 0], 1)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ({}, 'has no list "frames"'),
        ([frame()] * 2, "has 2 frames; at least 3 are needed"),
        (
            [frame("0.png"), frame("8.png"), frame("9.png")],
            "2 files named in .* are missing; the first is .*8.png",
        ),
        ([frame(mask_path="m.png")] * 3, "missing; the first is .*m.png"),
        ([{"transform_matrix": POSE.tolist()}] * 3, "has no file_path"),
        ([{"file_path": "0.png"}] * 3, "must be 4 x 4 numbers"),
        ([frame(matrix=[[1, 2]])] * 3, "must be 4 x 4 numbers"),
        ([frame(matrix=POSE * np.nan)] * 3, "must be 4 x 4 numbers"),
        ([frame() | {"transform_matrix": [[10**400] * 4] * 4}] * 3, "must be 4 x 4 numbers"),
        ([frame() | {"transform_matrix": [[[[[]]]]]}] * 3, "must be 4 x 4 numbers"),
        ([frame(matrix=POSE + np.diag([1e12], 3))] * 3, "holds numbers above 1e[+]09; check its units"),
        ([frame("x" * 9999)] * 3, "3 files named in .* are missing"),
        ([frame("a\0b")] * 3, "3 files named in .* are missing"),
        ([frame("pipe.png")] * 3, "pipe.png is a device, pipe or socket"),
        ([frame(matrix=MIRRORED)] * 3, "not a camera-to-world matrix"),
        ([frame(matrix=SHEARED)] * 3, "not a camera-to-world matrix"),
        ([frame(matrix=np.zeros((4, 4)))] * 3, "not a camera-to-world matrix"),
    ],
)
def test_wrong_transforms_are_one_sentence(capture, tmp_path, frames, sentence):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=sentence):
        read_frames(capture(frames))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "[]," * 3_000_000 + "[]]", "holds more than 3,000,000 values"),
    ],
)
def test_other_files_are_refused(tmp_path, text, sentence):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_frames(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_windows_line_ends_are_read(capture, tmp_path, encoding):
    path = capture() / "transforms.json"
    path.write_bytes(path.read_text().replace(",", ",\r\n").encode(encoding))
    assert [f.image.name for f in read_frames(tmp_path)] == ["0.png", "1.png", "2.png"]


def test_a_folder_without_transforms_and_a_missing_one(tmp_path):
    assert not is_capture(tmp_path)
    with pytest.raises(UserError, match="holds no transforms.json"):
        read_frames(tmp_path)
    with pytest.raises(UserError, match="There is no"):
        read_frames(tmp_path / "nowhere")
