"""Runs inside Blender: reads FOLDER/scene.json and draws FOLDER/mesh.glb from its cameras, or converts a file.

    blender --background --python blender_scene.py -- FOLDER

Blender has +z up where glTF has +y up; its glTF importer turns the mesh by this, we turn cameras and lamps.
Cycles is used because it needs neither a display nor a GPU.
"""

import json
import math
import sys
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

TO_BLENDER = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1)))  # y up to z up
SAMPLES = 64
IMPORTERS = {
    ".fbx": lambda path: bpy.ops.import_scene.fbx(filepath=path),
    ".usd": lambda path: bpy.ops.wm.usd_import(filepath=path),
    ".usda": lambda path: bpy.ops.wm.usd_import(filepath=path),
    ".usdc": lambda path: bpy.ops.wm.usd_import(filepath=path),
    ".usdz": lambda path: bpy.ops.wm.usd_import(filepath=path),
    ".blend": lambda path: bpy.ops.wm.open_mainfile(filepath=path),
}


def convert(path, folder):
    IMPORTERS[Path(path).suffix.lower()](path)
    bpy.ops.export_scene.gltf(filepath=str(folder / "mesh.glb"), export_format="GLB")


def draw(document, folder):
    bpy.ops.import_scene.gltf(filepath=str(folder / "mesh.glb"))
    scene = bpy.context.scene
    set_up(scene, document["size"])
    if document["studio"] is None:
        show_bare_colors()
    else:
        add_studio(scene, document["studio"])
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle = math.radians(document["fov_deg"])
    camera.data.clip_start, camera.data.clip_end = 0.01, 100.0
    scene.collection.objects.link(camera)
    scene.camera = camera
    for number, c2w in enumerate(document["c2w"]):
        camera.matrix_world = TO_BLENDER @ Matrix(c2w)
        scene.render.filepath = str(folder / f"{number:03d}.png")
        bpy.ops.render.render(write_still=True)


def set_up(scene, size):
    scene.render.engine = "CYCLES"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_denoising = False  # not every build brings the denoiser
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "8"
    scene.view_settings.view_transform = "Standard"


def add_studio(scene, studio):
    """Suns and a two-colored sky. A sun of strength pi on a white matte surface gives 1."""
    for number, lamp in enumerate(studio["lamps"]):
        light = bpy.data.lights.new(f"lamp{number}", type="SUN")
        light.energy, light.color = math.pi * max(lamp[3:]), [value / max(lamp[3:]) for value in lamp[3:]]
        sun = bpy.data.objects.new(f"lamp{number}", light)
        toward = TO_BLENDER.to_3x3() @ Vector(lamp[:3])
        sun.rotation_euler = toward.to_track_quat("Z", "Y").to_euler()
        scene.collection.objects.link(sun)
    world = bpy.data.worlds.new("studio")
    scene.world = world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    nodes.clear()
    place, parts = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
    height, ramp = nodes.new("ShaderNodeMath"), nodes.new("ShaderNodeValToRGB")
    height.operation = "MULTIPLY_ADD"
    height.inputs[1].default_value = height.inputs[2].default_value = 0.5
    for element, color in zip(ramp.color_ramp.elements, studio["ambient"]):
        element.color = (*color, 1)
    background, output = nodes.new("ShaderNodeBackground"), nodes.new("ShaderNodeOutputWorld")
    links.new(place.outputs["Generated"], parts.inputs[0])
    links.new(parts.outputs["Z"], height.inputs[0])
    links.new(height.outputs[0], ramp.inputs[0])
    links.new(ramp.outputs["Color"], background.inputs["Color"])
    links.new(background.outputs[0], output.inputs["Surface"])


def show_bare_colors():
    """Every material glows in its base color."""
    for material in bpy.data.materials:
        tree = material.node_tree
        textures = [node for node in tree.nodes if node.type == "TEX_IMAGE"] if tree else []
        output = next((node for node in tree.nodes if node.type == "OUTPUT_MATERIAL"), None) if tree else None
        if textures and output:
            glow = tree.nodes.new("ShaderNodeEmission")
            tree.links.new(textures[0].outputs["Color"], glow.inputs["Color"])
            tree.links.new(glow.outputs[0], output.inputs["Surface"])


def main():
    folder = Path(sys.argv[sys.argv.index("--") + 1])
    document = json.loads((folder / "scene.json").read_text())
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if "convert" in document:
        convert(document["convert"], folder)
    else:
        draw(document, folder)


main()
