import io
import json
import tarfile
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from sv3d_pipe.dataset.orbit_set import OrbitSet
from sv3d_pipe.dataset.shards import About, AboutPhotos, _about, read_shard, sample_bytes, write_shard
from sv3d_pipe.errors import UserError


def sample(name: str, views: int = 3, size: int = 16, textured: bool = True):
    rgba = np.random.default_rng(len(name)).integers(0, 256, (views, size, size, 4)).astype(np.uint8)
    angles = np.linspace(0, 300, views).tolist()
    white = [1.0, 1.0, 1.0]
    return About(
        name, size, angles, [10.25] * views, 2.5, 33.8, "static", textured, white, [0.5] * views
    ), rgba


def test_records_come_back_as_they_were_written(tmp_path):
    samples = [sample("cup"), sample("a chair", views=5, textured=False)]
    write_shard(tmp_path / "00000.tar", [sample_bytes(*one) for one in samples])
    orbits = OrbitSet(tmp_path)
    assert len(orbits) == 2
    assert orbits.textured.tolist() == [True, False]
    for record, (about, rgba) in zip(orbits, samples):
        np.testing.assert_array_equal(record.rgba.numpy(), rgba)  # colors below alpha 0 included
        assert record.rgba.dtype == torch.uint8 and record.azimuth_deg.dtype == torch.float32
        assert record.name == about.name and record.textured == about.textured
        assert record.azimuth_deg.tolist() == about.azimuth_deg
        assert record.elevation_deg.tolist() == about.elevation_deg
        assert record.depth.tolist() == about.depth
        assert (record.radius, record.orbit, record.background) == (2.5, "static", (1.0, 1.0, 1.0))


def test_any_tar_and_png_reader_understands_a_shard(tmp_path):
    about, rgba = sample("cup")
    write_shard(tmp_path / "00000.tar", [sample_bytes(about, rgba)])
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames() == ["cup.png", "cup.json"]
        strip = np.asarray(Image.open(io.BytesIO(tar.extractfile("cup.png").read())))
        assert json.load(tar.extractfile("cup.json"))["radius"] == 2.5
        assert {(member.mtime, member.uid, member.uname) for member in tar.getmembers()} == {(0, 0, "")}
    np.testing.assert_array_equal(strip.reshape(3, 16, 16, 4), rgba)


def test_several_data_sets_below_one_folder_are_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "00000.tar", [sample_bytes(*sample(name))])
    assert [record.name for record in OrbitSet(tmp_path)] == ["a", "b"]


def test_pictures_are_kept_up_to_the_memory_given(tmp_path):
    write_shard(tmp_path / "00000.tar", [sample_bytes(*sample(name)) for name in ("a", "b")])
    room_for_one = 1.5 * 3 * 16 * 16 * 4 / 2**30
    orbits = OrbitSet(tmp_path, keep_gb=room_for_one)
    assert orbits[0] is orbits[0]
    assert orbits[1] is not orbits[1]


@pytest.mark.parametrize("length", [700, 1800, 2600])
def test_a_shard_cut_short_is_a_user_error(tmp_path, length):
    path = tmp_path / "00000.tar"
    write_shard(path, [sample_bytes(*sample("cup")), sample_bytes(*sample("cap"))])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="00000.tar"):
        read_shard(path)


def test_a_damaged_picture_is_a_user_error(tmp_path):
    path = tmp_path / "00000.tar"
    write_shard(path, [sample_bytes(*sample("cup"))])
    content = bytearray(path.read_bytes())
    content[512:560] = bytes(48)
    path.write_bytes(content)
    with pytest.raises(UserError, match="cup"):
        OrbitSet(tmp_path)[0]


def test_photos_come_back_one_by_one(tmp_path):
    about, rgba = sample("cup")
    photos = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 4)).astype(np.uint8)
    shots = AboutPhotos(24, [0.5, 90.25], [10.0, -5.0], [0.75, 1.5])
    write_shard(tmp_path / "00000.tar", [sample_bytes(replace(about, photos=shots), rgba, photos)])
    record = OrbitSet(tmp_path)[0]
    np.testing.assert_array_equal(record.rgba.numpy(), rgba)
    assert len(record.photos) == 2 and len(OrbitSet(tmp_path)[0].photos) == 2
    np.testing.assert_array_equal(record.photos[1].numpy(), photos[1])
    np.testing.assert_array_equal(record.photos[0].numpy(), photos[0])
    assert record.photos.azimuth_deg.tolist() == shots.azimuth_deg
    assert record.photos.elevation_deg.tolist() == shots.elevation_deg
    assert record.photos.depth.tolist() == shots.depth


def test_a_data_set_without_photos_has_none(tmp_path):
    about, rgba = sample("cup")
    document = json.loads(json.dumps(asdict(about)))
    del document["photos"], document["depth"]  # as earlier versions wrote it
    assert _about(document).photos == AboutPhotos()
    write_shard(tmp_path / "00000.tar", [sample_bytes(about, rgba)])
    assert len(OrbitSet(tmp_path)[0].photos) == 0
