"""Original SV3D checkpoint <-> diffusers folder, both ways, strict, a gigabyte of memory at a time."""

from sv3d_pipe.orbit.sv3d.convert.conversion import DTYPES, to_file, to_folder

__all__ = ["DTYPES", "to_file", "to_folder"]
