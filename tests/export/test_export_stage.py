import dataclasses
import io
import json

import numpy as np
import pytest
import trimesh
from gray_bodies import gray

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.export import export
from sv3d_pipe.export.clean import subdivide
from sv3d_pipe.export.promises import broken_promises
from sv3d_pipe.export.textured_views import file_views
from sv3d_pipe.export.turntable import N_TURNS
from sv3d_pipe.pictures import load_png
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context

SMALL = ExportConfig(texture=256, faces=4000)


@pytest.fixture(scope="module")
def cube_input(colored_cube):
    """A gray cube off center, and views of the colored one in its place."""
    cube = dataclasses.replace(colored_cube, vertices=colored_cube.vertices * 0.6 + np.float32((0.05, 0, 0)))
    cameras = orbit(*orbit_angles("sine", 10.0))
    views = Views(render_views(cube, cameras, 64), cameras, render_views(cube, cameras[-1], 192))
    return gray(cube), views


@pytest.fixture(scope="module")
def exported(cube_input, tmp_path_factory):
    context = Context()
    asset, metrics = export.export_mesh(SMALL, *cube_input, context)
    folder = tmp_path_factory.mktemp("export")
    asset.save(folder)
    return asset, metrics, folder, context


def test_files_are_all_there(exported):
    asset, _, folder, context = exported
    assert [path.name for path in asset.files(folder)] == ["mesh.glb", "contact_sheet.png", "turntable.mp4"]
    assert context.warnings == []
    assert load_png(folder / "contact_sheet.png").shape[0] % 3 == 0
    import imageio.v2 as imageio

    with imageio.get_reader(folder / "turntable.mp4") as reader:
        assert reader.count_frames() == N_TURNS


def test_metrics_are_plain_and_lead_with_the_front_view(exported, cube_input):
    _, metrics, folder, _ = exported
    assert next(iter(metrics)) == "front_psnr_db"
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["front_psnr_size"] == 192
    assert metrics["components"] == 1 and metrics["watertight"]
    photo = cube_input[1].photo
    transform = metrics["transform"]
    place = (transform["scale"], transform["center"])
    seen = file_views(folder / "mesh.glb", cube_input[1].cameras[-1], 192, *place)[0]
    error = seen[..., :3] * seen[..., 3:] - seen[..., 3:] - photo[..., :3] * photo[..., 3:] + photo[..., 3:]
    assert metrics["front_psnr_db"] == pytest.approx(-10 * np.log10((error**2).mean()), abs=0.01)
    assert metrics["front_psnr_db"] > 26
    assert metrics["views_psnr_size"] == 64 and metrics["views_psnr_db"] > 22


def test_each_side_has_its_color(exported):
    """Red, cyan, green, magenta, blue, yellow for +x, -x, +y, -y, +z, -z; the bottom is hardly seen."""
    _, _, folder, _ = exported
    views = {
        (90, 0): (1, 0, 0), (270, 0): (0, 1, 1), (0, 80): (0, 1, 0), (0, 0): (0, 0, 1), (180, 0): (1, 1, 0)
    }  # fmt: skip
    for (azimuth, elevation), rgb in views.items():
        center = file_views(folder / "mesh.glb", orbit([azimuth], elevation, 4.0), 64)[0, 32, 32]
        assert np.abs(center[:3] - rgb).max() < 0.15, (azimuth, elevation)


def test_the_mesh_is_normalized(exported):
    _, _, folder, _ = exported
    mesh = trimesh.load(folder / "mesh.glb", force="mesh", process=False)
    assert np.allclose(mesh.bounds, [[-0.5] * 3, [0.5] * 3], atol=1e-5)


def test_scale_and_up_axis_reach_the_files_and_the_record(cube_input):
    config = dataclasses.replace(SMALL, scale=20.0, up="z", format="stl,glb", turntable=False)
    context = Context()
    asset, metrics = export.export_mesh(config, *cube_input, context)
    assert context.warnings == []
    for kind in ("stl", "glb"):
        body = trimesh.load(io.BytesIO(asset.documents[f"mesh.{kind}"]), file_type=kind, force="mesh")
        assert np.allclose(body.extents, 20, atol=1e-4)
    assert metrics["transform"]["scale"] == pytest.approx([0.6 / 20] * 3)
    assert metrics["front_psnr_db"] > 26  # the file found its way back to the cameras


def test_a_known_depth_stretches_the_files_and_not_what_was_seen(exported, cube_input):
    """The cube of side 0.6, twice as deep as it looks, comes out 0.5 x 0.5 x 1."""
    _, plain, _, _ = exported
    asset, metrics = export.export_mesh(dataclasses.replace(SMALL, depth=2.0), *cube_input, Context())
    body = trimesh.load(io.BytesIO(asset.documents["mesh.glb"]), file_type="glb", force="mesh")
    assert np.allclose(body.extents, (0.5, 0.5, 1), atol=1e-4)
    assert plain["depth"] == pytest.approx(1, abs=1e-3) and metrics["depth"] == pytest.approx(2, abs=1e-3)
    assert metrics["transform"]["scale"] == pytest.approx([1.2, 1.2, 0.6], rel=1e-4)  # the cube was 0.6 deep
    assert metrics["transform"]["center"] == pytest.approx([0.05, 0, 0], abs=1e-6)
    assert metrics["front_psnr_db"] == pytest.approx(plain["front_psnr_db"], abs=0.05)


def test_a_depth_is_not_for_captures(cube_input):
    mesh, views = cube_input
    captured = dataclasses.replace(views, to_world=np.eye(4))
    with pytest.raises(UserError, match="leave out export.depth"):
        export.export_mesh(dataclasses.replace(SMALL, depth=0.5), mesh, captured, Context())


def test_z_up_on_a_glb_alone_is_said_to_do_nothing(cube_input):
    context = Context()
    export.export_mesh(dataclasses.replace(SMALL, up="z", turntable=False), *cube_input, context)
    assert len(context.warnings) == 1 and "glTF" in context.warnings[0]


def test_an_open_mesh_is_closed_on_request(cube_input):
    mesh, views = cube_input
    fine = subdivide(mesh, 4 * len(mesh.faces))
    opened = dataclasses.replace(fine, faces=fine.faces[1:])
    for watertight in (False, True):
        config = dataclasses.replace(SMALL, watertight=watertight, turntable=False)
        asset, metrics = export.export_mesh(config, opened, views, Context())
        body = trimesh.load(io.BytesIO(asset.documents["mesh.glb"]), file_type="glb", force="mesh")
        body.merge_vertices(merge_tex=True, merge_norm=True)
        assert body.is_watertight == metrics["watertight"] == watertight


def test_unknown_format_stops_before_any_work(monkeypatch, cube_input):
    monkeypatch.setattr(export, "clean", lambda *_: pytest.fail("work began"))
    with pytest.raises(UserError, match="glb, obj, ply, stl, usdz"):
        export.export_mesh(dataclasses.replace(SMALL, format="fbx"), *cube_input, Context())


def test_a_failing_video_encoder_only_warns(monkeypatch, cube_input):
    def broken(frames):
        raise OSError("no ffmpeg")

    monkeypatch.setattr(export, "encode_mp4", broken)
    context = Context()
    asset, _ = export.export_mesh(dataclasses.replace(SMALL, format="stl"), *cube_input, context)
    assert list(asset.documents) == ["mesh.stl", "cameras.json", "contact_sheet.png"]
    assert len(context.warnings) == 1 and "no ffmpeg" in context.warnings[0]


def test_without_turntable_and_photo(cube_input):
    mesh, views = cube_input
    config = dataclasses.replace(SMALL, turntable=False, format="obj,glb")
    asset, metrics = export.export_mesh(config, mesh, Views(views.rgba, views.cameras), Context())
    assert list(asset.documents) == ["mesh.obj", "mesh.mtl", "mesh.png", "mesh.glb"]
    assert metrics["front_psnr_size"] == 64
    assert metrics["photo_coverage"] == 0


def test_what_the_files_do_not_keep_is_said_with_what_was_reached(cube_input, monkeypatch):
    config = dataclasses.replace(
        SMALL,
        scale=20.0,
        up="z",
        depth=0.5,
        watertight=True,
        faces=100,
        format="obj,ply,stl,glb",
        turntable=False,
    )
    context = Context()
    asset, metrics = export.export_mesh(config, *cube_input, context)
    assert context.warnings == [] and metrics["faces"] <= 100
    assert broken_promises(config, asset, asset.documents, ("obj", "ply", "stl", "glb")) == []
    for change, words in (
        ({"faces": 20}, "faces, more than the 20 asked for"),
        ({"scale": 10.0}, "is 20 long instead of 10"),
        ({"up": "y"}, "does not have +y up"),
        ({"depth": 0.7}, "is 0.5 deep instead of 0.7"),
    ):
        other = dataclasses.replace(config, **change)
        for name in ("obj", "ply", "stl"):
            said = broken_promises(other, asset, asset.documents, (name,))
            assert any(sentence.startswith(f"mesh.{name} ") and words in sentence for sentence in said), said
    other = dataclasses.replace(config, texture=1024)
    said = broken_promises(other, asset, asset.documents, ("glb", "usdz"))
    assert said[0] == "No usdz was written."
    assert [sentence.split(" has ")[0] for sentence in said[1:]] == [
        "The texture in mesh.glb",
        "The texture in mesh.png",
    ]
    open_ply = trimesh.load(io.BytesIO(asset.documents["mesh.ply"]), file_type="ply", process=False)
    open_ply.update_faces(np.arange(len(open_ply.faces)) > 0)
    said = broken_promises(config, asset, {"mesh.ply": open_ply.export(file_type="ply")}, ("ply",))
    assert said == ["mesh.ply is not closed; allow more faces with --faces."]
    monkeypatch.setattr(export, "broken_promises", lambda *_: ["mesh.glb has 7 faces."])
    export.export_mesh(config, *cube_input, context)
    assert context.warnings[-1] == "mesh.glb has 7 faces."
