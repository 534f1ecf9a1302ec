"""Painted orbits as files: what is read, from which elevation, with which truth; and what is refused."""

import json
import os

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.orbit_files import find_orbits

COUNT, SIZE = 12, 32


def frames():
    """[N, S, S, 3] uint8 on white: a square that moves to the right and gets redder."""
    film = np.full((COUNT, SIZE, SIZE, 3), 255, np.uint8)
    for i, frame in enumerate(film):
        frame[8:24, 4 + i : 16 + i] = 15 * i, 40, 200
    return film


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "orbits"
    (folder / "pngs").mkdir(parents=True)
    for i, frame in enumerate(frames()):
        Image.fromarray(frame).save(folder / f"pngs/{i + 1}.png")  # 10 after 9, not after 1
    pictures = [Image.fromarray(frame) for frame in frames()]
    pictures[0].save(folder / "gif.gif", save_all=True, append_images=pictures[1:], duration=50)
    with imageio.get_writer(folder / "film.mp4", fps=8, quality=10, macro_block_size=2) as writer:
        for frame in frames():
            writer.append_data(frame)
    (folder / "few").mkdir()
    pictures[0].save(folder / "few/0.png")
    (folder / "notes.txt").write_text("no orbit")
    return folder


def test_all_kinds_are_found_and_read_in_order(folder):
    found = find_orbits(folder)
    assert list(found) == ["film", "gif", "pngs"]
    for name, tolerance in (("pngs", 0), ("gif", 0.03), ("film", 0.25)):
        read = found[name].frames()
        assert read.shape == (COUNT, SIZE, SIZE, 4) and read.dtype == np.float32 and read[..., 3].min() == 1
        middle = [frame[12:20, 10 + i, 0].mean() for i, frame in enumerate(read)]
        assert middle == pytest.approx(15 / 255 * np.arange(COUNT), abs=max(tolerance, 1e-6))
    assert list(find_orbits(folder, ids=("g*", "f*"))) == ["film", "gif"]
    assert list(find_orbits(folder, limit=1, seed=3)) == list(find_orbits(folder, limit=1, seed=3))


def test_transparency_is_kept(tmp_path):
    (tmp_path / "clear").mkdir()
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = 200, 100, 0, 128
    for i in range(COUNT):
        Image.fromarray(rgba).save(tmp_path / f"clear/{i:03d}.png")
    read = find_orbits(tmp_path)["clear"].frames()
    assert read[0, 8, 8, 3] == pytest.approx(128 / 255) and read[0, 0, 0, 3] == 0


def test_elevations_by_name_then_beside_the_orbit_then_for_all(folder, tmp_path):
    (folder / "gif.json").write_text('{"elevation_deg": 5}')
    (folder / "pngs.json").write_text('{"elevation_deg": 20}')
    (tmp_path / "known.json").write_text(json.dumps({"pngs": -6.5, "another": 3}))
    found = find_orbits(folder, elevation_deg=12, elevations=tmp_path / "known.json")
    assert {name: orbit.elevation_deg for name, orbit in found.items()} == {
        "film": 12,
        "gif": 5,
        "pngs": -6.5,
    }


def test_truth_is_one_mesh_or_a_folder_of_them(folder, tmp_path):
    (tmp_path / "meshes").mkdir()
    for name in ("gif.ply", "pngs.glb"):
        (tmp_path / "meshes" / name).write_text(name)
    found = find_orbits(folder, truth=tmp_path / "meshes")
    assert [orbit.truth and orbit.truth.name for orbit in found.values()] == [None, "gif.ply", "pngs.glb"]
    found = find_orbits(folder, truth=tmp_path / "meshes/gif.ply")
    assert {orbit.truth.name for orbit in found.values()} == {"gif.ply"}


def test_content_changes_with_all_that_scores_depend_on(folder, tmp_path):
    (tmp_path / "true.ply").write_text("a mesh")
    seen = [find_orbits(folder)["pngs"].content(), find_orbits(folder, elevation_deg=4)["pngs"].content()]
    seen.append(find_orbits(folder, truth=tmp_path / "true.ply")["pngs"].content())
    (tmp_path / "true.ply").write_text("another mesh")
    seen.append(find_orbits(folder, truth=tmp_path / "true.ply")["pngs"].content())
    (folder / "pngs/3.png").write_bytes((folder / "pngs/4.png").read_bytes())
    seen.append(find_orbits(folder)["pngs"].content())
    json.dumps(seen)
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
    assert find_orbits(folder)["pngs"].content() == seen[-1]


def test_what_is_wrong_is_said(folder, tmp_path):
    for arguments, words in (
        ({"folder": tmp_path / "nowhere"}, "There is no folder"),
        ({"folder": folder / "few"}, "There are no orbits in"),
        ({"folder": folder, "ids": ("x*",)}, "that match x"),
        ({"folder": folder, "truth": tmp_path / "none"}, "There is no mesh or folder"),
        ({"folder": folder, "truth": folder}, "named after an orbit, such as film.glb"),
        ({"folder": folder, "elevations": tmp_path / "none.json"}, "must be a JSON object"),
    ):
        with pytest.raises(UserError, match=words):
            find_orbits(**arguments)
    for text in ('{"elevation_deg": "ten"}', '{"elevation_deg": 95}', '{"other": 1}', "[1]", "{"):
        (folder / "gif.json").write_text(text)
        with pytest.raises(UserError, match="gif.json must"):
            find_orbits(folder)


def test_frames_that_are_no_orbit_are_refused(folder):
    found = find_orbits(folder)
    Image.fromarray(frames()[0, :, :20]).save(folder / "pngs/3.png")
    (folder / "film.mp4").write_bytes(b"no film")
    short = [Image.fromarray(frame) for frame in frames()[:5]]
    short[0].save(folder / "gif.gif", save_all=True, append_images=short[1:])
    for name, words in (("pngs", "square"), ("film", "Cannot read"), ("gif", "has 5 frames")):
        with pytest.raises(UserError, match=words):
            found[name].frames()


def test_films_without_end_and_pipes_are_refused(folder, monkeypatch):
    monkeypatch.setattr("sv3d_pipe.evaluate.orbit_files.MOST_PIXELS", COUNT * SIZE**2 - 1)
    found = find_orbits(folder)
    for orbit in found.values():
        with pytest.raises(UserError, match="pixels together; shrink them"):
            orbit.frames()
    (folder / "film.mp4").unlink()
    os.mkfifo(folder / "film.mp4")
    for read in (found["film"].frames, found["film"].content):
        with pytest.raises(UserError, match="film.mp4 is a device, pipe or socket"):
            read()
