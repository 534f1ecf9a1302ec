"""The whole road in Python: one photo in, one textured mesh out."""

import sys

from sv3d_pipe import Image2Mesh

photo = sys.argv[1] if len(sys.argv) > 1 else "examples/bird.png"

to_mesh = Image2Mesh.from_preset("draft")
result = to_mesh(photo)

print(result.mesh)
for stage in result.stages:
    print(
        stage.record.stage, "kept" if stage.skipped else f"{stage.record.seconds:.1f} s", stage.record.metrics
    )
