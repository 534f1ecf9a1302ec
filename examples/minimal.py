"""The whole road in Python: one photo in, one textured mesh out."""

import sys

from sv3d_pipe import Image2Mesh

photo = sys.argv[1] if len(sys.argv) > 1 else "examples/bird.png"

to_mesh = Image2Mesh.from_preset("draft")
result = to_mesh(photo)

print(result.mesh_path)
for record in result.records:
    print(record.stage, record.seconds, record.metrics)
