import pytest
from toy_capture import COUNT, OPTICS, cameras_around, poses, shoot

from sv3d_pipe.dataset.invented.toys import procedural


@pytest.fixture(scope="module")
def toy():
    obj = procedural(125)
    cameras = cameras_around(COUNT)
    return obj, shoot(obj, cameras, OPTICS), poses(cameras)
