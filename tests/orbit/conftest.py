"""The miniature sv3d-p, converted once and loaded as a user would load it; a small model; an empty model cache."""

import functools

import pytest
import sv3d_tiny
from orbit_fakes import formula_pipeline

from sv3d_pipe.orbit.sv3d import convert
from sv3d_pipe.orbit.sv3d.convert import to_folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """The original single file."""
    path = tmp_path_factory.mktemp("original") / "sv3d_p.safetensors"
    return sv3d_tiny.write(path, sv3d_tiny.weights(sv3d_tiny.numbers()))


@pytest.fixture(scope="session")
def tiny_folder(tiny_checkpoint, tmp_path_factory):
    """Its diffusers folder, in float32."""
    folder = tmp_path_factory.mktemp("converted") / "sv3d-p"
    assert to_folder(tiny_checkpoint, folder, "fp32", heads=sv3d_tiny.HEADS) == "sv3d-p"
    return folder


@pytest.fixture
def tiny_pipeline(tiny_folder):
    return sv3d_tiny.load(tiny_folder)


@pytest.fixture(scope="session")
def tiny_u_folder(shared_dir, tmp_path_factory):
    """The same for sv3d-u, from the shared numbers."""
    from safetensors.torch import load_file

    state = sv3d_tiny.weights(sv3d_tiny.numbers())
    state |= sv3d_tiny.weights(load_file(shared_dir / "sv3d" / "golden_unet_u.safetensors"))
    place = tmp_path_factory.mktemp("u")
    path = sv3d_tiny.write(place / "sv3d_u.safetensors", state)
    assert to_folder(path, place / "sv3d-u", "fp32", heads=sv3d_tiny.HEADS) == "sv3d-u"
    return place / "sv3d-u"


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """An empty model cache, and the head widths of the miniature checkpoint."""
    home = tmp_path_factory.mktemp("home") / "cache"
    monkeypatch.setenv("IMG2MESH_CACHE", str(home))
    tiny = functools.partial(convert.to_folder, heads=sv3d_tiny.HEADS)
    monkeypatch.setattr(convert, "to_folder", tiny)
    return home


@pytest.fixture
def folder(tmp_path):
    formula_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def state():
    """The tensors of the original single file, to be changed."""
    return dict(sv3d_tiny.weights(sv3d_tiny.numbers()))
