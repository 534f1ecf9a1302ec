"""Which part of a capture's pictures is the object: masks, transparency, mattes, and pictures that contradict the others."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from toy_capture import (
    COUNT,
    OPTICS,
    Optics,
    agreement,
    busy,
    cameras_around,
    edit,
    opaque,
    poses,
    shoot,
    write,
)

from sv3d_pipe.capture.capture import import_capture
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import on_white, save_png
from sv3d_pipe.render.draw import from_trimesh
from sv3d_pipe.road.context import Context


def test_mask_files_cut_the_object_out(toy, tmp_path):
    obj, pictures, matrices = toy
    folder = opaque(tmp_path, pictures, matrices, busy)

    def change(index, frame):
        frame["mask_path"] = f"images/mask{index}.png"
        mask = pictures[index][..., 3]
        save_png(folder / frame["mask_path"], mask if index % 2 else (mask > 0.5) / 255)  # white, or just 1

    views, metrics = import_capture(edit(folder, change), "auto", Context())
    assert metrics["masks"] == {"mask": COUNT}
    assert agreement(obj, views) > 0.97


def masked(folder, pictures, matrices, mask_file):
    """A capture with a mask file beside each picture: mask_file(index, mask [h, w]) is what it holds."""
    opaque(folder, pictures, matrices, busy)

    def change(index, frame):
        frame["mask_path"] = f"images/mask{index}.png"
        save_png(folder / frame["mask_path"], mask_file(index, pictures[index][..., 3]))

    return edit(folder, change)


@pytest.mark.parametrize("paint", [0.0, 1.0])
def test_a_mask_in_the_alpha_of_a_picture_of_one_color_is_that_alpha(toy, tmp_path, paint):
    obj, pictures, matrices = toy
    folder = masked(tmp_path, pictures, matrices, lambda _, mask: np.dstack([mask * 0 + paint] * 3 + [mask]))
    views, _ = import_capture(folder, "auto", Context())
    assert agreement(obj, views) > 0.97


@pytest.mark.parametrize(
    ("mask_file", "sentence"),
    [
        (
            lambda _, mask: 1 - mask,
            "masks of 10 of 10 pictures mark the background .the first is that of 0.jpg",
        ),
        (lambda _, mask: 0 * mask + 1, "mark the whole picture .*white must be the object"),
    ],
)
def test_inverted_and_full_masks_are_refused(toy, tmp_path, mask_file, sentence):
    _, pictures, matrices = toy
    with pytest.raises(UserError, match=sentence):
        import_capture(masked(tmp_path, pictures, matrices, mask_file), "auto", Context())


def test_pictures_that_contradict_all_others_are_left_out_and_named(toy, tmp_path):
    obj, pictures, matrices = toy
    wrong = pictures.copy()
    wrong[3] = 0  # blank
    wrong[6] = 0
    wrong[6, 5:20, 60:75] = 1  # something else
    context = Context()
    folder = write(tmp_path / "few", wrong, matrices, OPTICS.fields())
    views, metrics = import_capture(folder, "auto", context)
    assert metrics["contradicting"] == ["0003.png", "0006.png"] and len(views.rgba) == COUNT - 2
    assert "2 of 10 pictures (0003.png, 0006.png) were left out" in context.warnings[0]
    assert agreement(obj, views) > 0.97
    wrong[[0, 5]] = 0
    context = Context()
    _, metrics = import_capture(write(tmp_path / "many", wrong, matrices, OPTICS.fields()), "auto", context)
    assert metrics["contradicting"] == [] and metrics["views"] == COUNT
    assert (
        "of 10 pictures (0000.png" in context.warnings[0] and "contradict the others" in context.warnings[0]
    )


def test_a_plain_background_is_matted_with_a_warning_and_a_busy_one_refused(toy, tmp_path):
    obj, pictures, matrices = toy
    context = Context()
    plain = opaque(tmp_path / "plain", pictures, matrices, lambda index: 0.8)
    views, metrics = import_capture(plain, "auto", context)
    assert metrics["masks"] == {"offline": COUNT}
    assert "neither transparency nor a mask" in context.warnings[0]
    assert agreement(obj, views) > 0.93
    mixed = opaque(
        tmp_path / "mixed", pictures, matrices, lambda index: busy(index) if index in (2, 5) else 0.8
    )
    context = Context()
    views, metrics = import_capture(mixed, "auto", context)
    assert metrics["views"] == COUNT - 2 and "2 pictures were left out" in context.warnings[1]
    with pytest.raises(UserError, match="cannot be cut out"):
        import_capture(opaque(tmp_path / "busy", pictures, matrices, busy), "auto", Context())


def test_pictures_on_white_are_cut_out_together(tmp_path):
    ring = trimesh.creation.torus(0.36, 0.12, major_sections=48, minor_sections=16)
    ring.visual = trimesh.visual.ColorVisuals(ring, vertex_colors=[150, 160, 170])
    obj, cameras, optics = from_trimesh(ring), cameras_around(COUNT), Optics(200, 160, 420.0, 112.0, 70.0)
    pictures = shoot(obj, cameras, optics)
    folder = write(tmp_path, pictures, poses(cameras), optics.fields())

    def whiten(index, frame):
        frame["file_path"] = f"images/{index}.jpg"
        Image.fromarray((on_white(pictures[index]) * 255).astype(np.uint8)).save(folder / frame["file_path"])

    views, metrics = import_capture(edit(folder, whiten), "offline", Context())
    assert metrics["masks"] == {"offline": COUNT} and views.seen is None
    assert agreement(obj, views) > 0.97
    middle = views.size // 2
    assert not views.rgba[-1, middle - 3 : middle + 3, middle - 3 : middle + 3].any()  # through the ring


def test_masks_of_sixteen_bits_and_turned_pictures_are_read_as_they_are_stored(toy, tmp_path):
    _, pictures, matrices = toy
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())
    want, _ = import_capture(folder, "auto", Context())
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn, which the intrinsics know nothing of

    def deep_mask(index, frame):
        path = folder / frame["file_path"]
        frame["mask_path"] = f"images/mask{index}.png"
        rgba = np.asarray(Image.open(path))
        Image.fromarray(rgba[..., 3].astype(np.uint16) * 257).save(folder / frame["mask_path"])
        Image.fromarray(rgba[..., :3]).save(path, exif=turned)

    views, metrics = import_capture(edit(folder, deep_mask), "auto", Context())
    assert metrics["masks"] == {"mask": COUNT}
    np.testing.assert_array_equal(views.rgba, want.rgba)


@pytest.mark.parametrize("masked", [False, True])
def test_pictures_stored_on_their_side_are_turned_where_w_and_h_are_those_of_the_turned_one(
    toy, tmp_path, masked
):
    _, pictures, matrices = toy
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())
    want, _ = import_capture(folder, "auto", Context())
    turned = Image.Exif()
    turned[0x0112] = 6  # shown a quarter turn clockwise of what is stored

    def lay_down(index, frame):
        path = folder / frame["file_path"]
        stored = np.rot90(np.asarray(Image.open(path)))
        if masked:
            frame["mask_path"] = f"images/mask{index}.png"
            Image.fromarray(stored[..., 3]).save(folder / frame["mask_path"], exif=turned)
            stored = stored[..., :3]
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=turned)

    views, _ = import_capture(edit(folder, lay_down), "auto", Context())
    np.testing.assert_allclose(views.rgba, want.rgba, atol=1e-6)


def test_pictures_with_several_frames_are_said_once(toy, tmp_path):
    _, pictures, matrices = toy
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())
    for path in sorted((folder / "images").iterdir()):
        image = Image.open(path)
        image.save(path, save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    context = Context()
    import_capture(folder, "auto", context)
    assert len(context.warnings) == 1
    assert "0000.png holds 2 frames or pages; only the first is used. So do 9 other" in context.warnings[0]
