"""Stands in for Blender: runs the real scene script on a bpy made of mocks, drawing with the built-in renderer.

What the script sets on scene, camera and lamps is written to $FAKE_BLENDER_LOG.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np


class Matrix(np.ndarray):
    def __new__(cls, rows):
        return np.asarray(rows, float).view(cls)

    def to_3x3(self):
        return self[:3, :3]


class Vector(Matrix):
    def to_track_quat(self, track, up):
        assert (track, up) == ("Z", "Y")  # a sun shines along its -Z
        return MagicMock(to_euler=lambda: tuple(np.asarray(self, float)))


def matmul(matrix, vector):
    return (np.asarray(matrix) @ np.asarray(vector)).view(type(vector))


Matrix.__matmul__ = matmul
bpy, mathutils = MagicMock(), ModuleType("mathutils")
mathutils.Matrix, mathutils.Vector = Matrix, Vector
made, scene = {}, bpy.context.scene


def new_object(name, data):
    made[name] = MagicMock(data=data)
    made[name].name = name
    return made[name]


def import_gltf(filepath):
    from sv3d_pipe.render.objects import load_object

    scene.mesh = load_object(Path(filepath))


def draw(write_still):
    from sv3d_pipe.cameras import Cameras
    from sv3d_pipe.pictures import save_png
    from sv3d_pipe.render.draw import render_views

    assert write_still and scene.camera is made["camera"]
    to_gltf = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # z up to y up
    c2w = (to_gltf @ np.asarray(scene.camera.matrix_world))[None].astype(np.float32)
    cameras = Cameras(c2w, float(np.degrees(scene.camera.data.angle)))
    save_png(Path(scene.render.filepath), render_views(scene.mesh, cameras, scene.render.resolution_x)[0])


bpy.data.objects.new = new_object
bpy.data.lights.new = lambda name, type: MagicMock(kind=type)
bpy.data.materials = []
bpy.ops.import_scene.gltf = import_gltf
bpy.ops.render.render = draw
bpy.ops.import_scene.fbx = lambda filepath: setattr(scene, "source", filepath)
bpy.ops.export_scene.gltf = lambda filepath, export_format: Path(filepath).write_bytes(
    Path(scene.source).read_bytes()
)
sys.modules |= {"bpy": bpy, "mathutils": mathutils}

assert sys.argv[1:3] == ["--background", "--factory-startup"]
if os.environ.get("FAKE_BLENDER_FAILS"):
    sys.exit("Error: out of memory")
script = sys.argv[sys.argv.index("--python") + 1]
runpy.run_path(script, run_name="__main__")
lamps = [
    {"toward": list(thing.rotation_euler), "energy": thing.data.energy, "color": list(thing.data.color)}
    for name, thing in made.items()
    if name.startswith("lamp")
]
if "FAKE_BLENDER_LOG" in os.environ:
    log = {"lamps": lamps, "transparent": scene.render.film_transparent}
    Path(os.environ["FAKE_BLENDER_LOG"]).write_text(json.dumps(log))
