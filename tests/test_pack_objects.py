"""benchmarks/pack_objects.py: meshes told and rebuilt, objects packed and unpacked, and what is said of bad files."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sv3d_pipe.dataset.invented.inventions import invent
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.blender import to_glb
from sv3d_pipe.render.objects import Object, load_object

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("a_lamp", "späte Birne #2", "teapot.v1_(old)")
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which lies outside the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = {name: importlib.import_module(f"pack_{name}") for name in ("meshes", "file", "objects")}
        yield argparse.Namespace(**found)
    finally:
        sys.path.remove(str(BENCHMARKS))


def sheet(side: int) -> np.ndarray:
    """Triangles [F, 3] of an open square sheet with ``side`` vertices a side."""
    corner = np.arange(side * side).reshape(side, side)[:-1, :-1].ravel()
    right, up = corner + 1, corner + side
    return np.concatenate([np.stack([corner, right, up], 1), np.stack([right, up + 1, up], 1)])


FACES = {
    "one": np.array([[0, 1, 2]]),
    "sphere": trimesh.creation.icosphere(2).faces,
    "ring": trimesh.creation.torus(1, 0.4, major_sections=16, minor_sections=8).faces,
    "sheet": sheet(9),
    "sheet, turned at random": np.where(RNG.random(128)[:, None] < 0.5, sheet(9), sheet(9)[:, ::-1]),
    "three at an edge": np.array([[0, 1, 2], [0, 1, 3], [1, 0, 4], [0, 1, 2]]),
    "two that touch": np.array([[0, 1, 2], [2, 3, 4], [5, 6, 7]]),
    "soup": np.stack([RNG.permutation(12)[:3] for _ in range(200)]),
}


def triangles(mesh) -> np.ndarray:
    """Positions and coordinates of all triangles [F, 15], each begun at its least corner, in order."""
    corners = np.concatenate([mesh.places[mesh.place_of], mesh.uv], 1)[mesh.faces]  # [F, 3, 5]
    turned = [min(tuple(np.roll(face, -k, 0).ravel()) for k in range(3)) for face in corners]
    return np.array(sorted(turned))


@pytest.mark.parametrize("seam", [False, True])
@pytest.mark.parametrize("kind", FACES)
def test_a_mesh_is_rebuilt_as_it_was_told(bench, kind, seam):
    place_faces = np.asarray(FACES[kind], np.int32)
    count = place_faces.max() + 1
    places = RNG.permutation(8 * count)[: 3 * count].reshape(-1, 3).astype(np.int32)
    sides = RNG.integers(0, 3, len(place_faces)) if seam else np.zeros(len(place_faces), int)
    faces = (place_faces + count * sides[:, None]).astype(np.int32)  # up to three coordinates a place
    place_of = np.tile(np.arange(count, dtype=np.int32), 3)
    mesh = bench.meshes.GridMesh(faces, place_of, places, RNG.integers(0, 4096, (3 * count, 2), np.int32))
    told = bench.meshes.tell(mesh)
    again = bench.meshes.rebuild(told)
    assert len(again.places) == len(np.unique(place_faces))
    assert len(again.uv) == len(np.unique(faces))
    np.testing.assert_array_equal(triangles(again), triangles(mesh))


def test_a_closed_surface_takes_a_step_a_triangle(bench):
    """Two triangles share each edge, so that nothing is left open: no edge is looked over in vain."""
    ball = trimesh.creation.icosphere(4)
    places = np.round(ball.vertices * 4000).astype(np.int32)
    place_of, uv = np.arange(len(places), dtype=np.int32), np.zeros((len(places), 2), np.int32)
    told = bench.meshes.tell(bench.meshes.GridMesh(ball.faces.astype(np.int32), place_of, places, uv))
    assert len(told.steps) == len(ball.faces) + 2  # the first triangle has three corners to place
    assert (told.steps != bench.meshes.NOTHING).all() and len(told.named) < 0.01 * len(ball.faces)
    assert np.abs(told.places).mean() < 0.25 * np.abs(np.diff(places, axis=0)).mean()


@pytest.fixture(scope="module")
def packed(bench, tmp_path_factory):
    """A folder of made-up objects, one in flat colors, their pack and what became of them."""
    folder = tmp_path_factory.mktemp("pack")
    (folder / "objects").mkdir()
    for seed, name in enumerate(NAMES):
        (folder / "objects" / f"{name}.glb").write_bytes(to_glb(invent(seed), 1.0))
    ball, colors = trimesh.creation.icosphere(3), RNG.integers(0, 256, (4, 4, 3)) / np.float32(255)
    texel = (RNG.integers(0, 4, (len(ball.faces), 1, 2)) + 0.5).repeat(3, 1) / 4
    flat = Object(ball.vertices.astype(np.float32) / 2, ball.faces, texel.astype(np.float32), colors)
    (folder / "objects" / "flat.glb").write_bytes(to_glb(flat, 1.0))
    grain = bench.file.Grain()
    sizes = bench.objects.pack(folder / "objects", folder / "some.pack", grain, 1.0, workers=1)
    count = bench.objects.unpack(folder / "some.pack", folder / "unpacked", workers=1)
    return argparse.Namespace(folder=folder, sizes=sizes, count=count)


def test_unpacked_objects_look_as_before(bench, packed):
    assert packed.count == 4
    assert {path.stem for path in (packed.folder / "unpacked").glob("*/*.glb")} == {*NAMES, "flat"}
    scores = bench.objects.compare(packed.folder / "objects", packed.folder / "unpacked", 4, 96)
    assert len(scores) == 4 and min(scores.values()) > 36


def test_a_pack_is_small_and_counts_its_bytes(packed):
    whole = (packed.folder / "some.pack").stat().st_size
    assert sum(packed.sizes.values()) <= whole < sum(packed.sizes.values()) + 100
    assert whole < 0.2 * sum(path.stat().st_size for path in (packed.folder / "objects").iterdir())


def test_flat_colors_stay_to_the_last_bit(packed):
    before = load_object(packed.folder / "objects" / "flat.glb")
    after = load_object(next((packed.folder / "unpacked").glob("*/flat.glb")))
    np.testing.assert_array_equal(after.texture, before.texture)
    texels = [np.sort((np.floor(obj.corner_uv.mean(1) * 4) @ (4, 1)).astype(int)) for obj in (before, after)]
    np.testing.assert_array_equal(*texels)


def test_triangles_without_area_are_dropped_and_the_end_of_a_texture_does_not_wrap(bench):
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1e-6, 0, 0], [9, 9, 9]])
    corner_uv = np.float32([[[0, 1], [1, 1], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    grain = replace(bench.file.Grain(), position_bits=8, uv_bits=4)
    mesh = bench.objects.to_grid(vertices, np.array([[0, 1, 2], [0, 1, 3]]), corner_uv, grain)
    assert len(mesh.faces) == 1
    assert mesh.places.max(0).tolist() == [255, 255, 0]  # the unused vertex far away does not count
    np.testing.assert_array_equal(mesh.uv[mesh.faces[0]].max(0), [15, 15])


def test_what_is_not_seen_of_a_texture_takes_the_nearest_color(bench):
    rgb = RNG.integers(0, 256, (32, 64, 3), np.uint8)
    left_half = np.float32([[[0, 0], [0.5, 0], [0, 1]], [[0.5, 0], [0.5, 1], [0, 1]]])
    spread = bench.objects.spread(rgb, left_half)
    np.testing.assert_array_equal(spread[:, :32], rgb[:, :32])
    np.testing.assert_array_equal(spread[:, 34:], np.broadcast_to(spread[:, 33:34], (32, 30, 3)))
    np.testing.assert_array_equal(bench.objects.spread(rgb, left_half * 3), rgb)


def test_families_are_held_out_whole_and_few(bench):
    held_out = bench.objects.held_out
    names = [f"{kind}_{thing}" for kind in "abcdefghij" for thing in ("apple", "bed", "cat", "door")]
    names = [f"{name}{suffix}" for name in names for suffix in "klmnopqrstuvwxyz"]
    assert all(held_out(name) == held_out(f"{name}3_left_02") for name in names)
    assert 0.015 < np.mean([held_out(name) for name in names]) < 0.06


def test_bad_files_and_folders_are_told_in_a_sentence(bench, packed, tmp_path):
    content = (packed.folder / "some.pack").read_bytes()
    broken = tmp_path / "broken.pack"
    for damaged in (content[:-1], content[:2000] + bytes([content[2000] ^ 1]) + content[2001:], content[:30]):
        broken.write_bytes(damaged)
        with pytest.raises(UserError, match="broken.pack is damaged; copy it again"):
            bench.objects.unpack(broken, tmp_path / "out", 1)
    broken.write_bytes(b"PK\3\4 something else")
    with pytest.raises(UserError, match="not a pack of objects"):
        bench.objects.unpack(broken, tmp_path / "out", 1)
    with pytest.raises(UserError, match="There is no .*missing.pack"):
        bench.objects.unpack(tmp_path / "missing.pack", tmp_path / "out", 1)
    with pytest.raises(UserError, match="holds no .glb files"):
        bench.objects.pack(tmp_path, tmp_path / "none.pack", bench.file.Grain(), 1.0, 1)
    assert not (tmp_path / "out").exists()


def test_a_pack_over_the_limit_is_not_written(bench, packed, tmp_path):
    (tmp_path / "objects").mkdir()
    shutil.copy(packed.folder / "objects" / "flat.glb", tmp_path / "objects")
    with pytest.raises(UserError, match="more than 0.001; choose fewer --texture"):
        bench.objects.pack(tmp_path / "objects", tmp_path / "large.pack", bench.file.Grain(), 0.001, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["objects"]
