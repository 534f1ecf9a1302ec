"""Where compiled code goes on machines that forbid the usual places."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sv3d_pipe import compiled_code
from sv3d_pipe.compiled_code import can_be_written, compiled_code_folder, keep_compiled_code, private_folder

NOWHERE = Path("/proc/nowhere")  # not even root can make it


@pytest.fixture
def locked(monkeypatch):
    """Neither package nor home can be written."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # so that what is set is taken back
    monkeypatch.setattr(compiled_code, "usual_folders", lambda: [NOWHERE / "package", NOWHERE / "home"])


def test_the_usual_places_are_left_to_numba(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    keep_compiled_code()
    assert "NUMBA_CACHE_DIR" not in os.environ and compiled_code_folder().name == "__pycache__"


@pytest.mark.skipif(not NOWHERE.parent.is_dir(), reason="needs a folder that not even root can write to")
def test_a_folder_of_the_users_own_takes_their_place(locked, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_code.tempfile, "gettempdir", lambda: str(tmp_path))
    assert compiled_code_folder() is None
    keep_compiled_code()
    folder = compiled_code_folder()
    assert folder.parent == tmp_path and stat.S_IMODE(folder.stat().st_mode) == 0o700
    keep_compiled_code()  # the same one again
    assert compiled_code_folder() == folder and list(tmp_path.iterdir()) == [folder]


def test_nobody_else_can_plant_compiled_code(tmp_path):
    usual = private_folder(tmp_path)
    usual.chmod(0o777)
    assert private_folder(tmp_path) != usual
    usual.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    usual.symlink_to(tmp_path / "elsewhere")
    assert private_folder(tmp_path).resolve() not in (usual, tmp_path / "elsewhere")


def test_without_a_home_no_folder_named_tilde_is_made(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert [path.name for path in compiled_code.usual_folders()] == ["__pycache__"]


def test_what_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert can_be_written(tmp_path / "new" / "deep") and not can_be_written(tmp_path / "file" / "below")


@pytest.mark.skipif(not NOWHERE.parent.is_dir(), reason="needs a folder that not even root can write to")
def test_compiled_functions_load_on_a_locked_machine(tmp_path):
    code = (
        "from pathlib import Path; from sv3d_pipe import compiled_code as c;"
        f"c.usual_folders = lambda: [Path({str(NOWHERE)!r})]; c.keep_compiled_code();"
        "from numba.core.caching import InTreeCacheLocator, UserWideCacheLocator;"
        "none = classmethod(lambda *_: None);"
        "InTreeCacheLocator.from_function = UserWideCacheLocator.from_function = none;"
        "import sv3d_pipe.geometry.raster, os; print(os.listdir(os.environ['NUMBA_CACHE_DIR']))"
    )
    env = os.environ | {"TMPDIR": str(tmp_path)}
    env.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "geometry_" in done.stdout
