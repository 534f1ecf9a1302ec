"""img2mesh: one photo in, one textured mesh out (an open SV3D pipeline).

The public names are imported on first use, so that ``import sv3d_pipe`` stays cheap.
"""

import importlib
import os

from sv3d_pipe.compiled_code import keep_compiled_code

# Two OpenMP pools (torch's and numba's) spin against each other on small machines; a waiting
# thread must sleep. Read by the OpenMP runtimes when they load, hence before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What PyTorch cannot do on Apple's GPUs, such as sampling volumes, it then does on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
keep_compiled_code()

__version__ = "0.1.0"

_PUBLIC = {
    "Image2Mesh": "sv3d_pipe.pipeline",
    "Image2Scene": "sv3d_pipe.scenes",
    "Config": "sv3d_pipe.config",
    "View": "sv3d_pipe.further_photos",
    "Photo": "sv3d_pipe.artifacts",
    "Views": "sv3d_pipe.artifacts",
    "Field": "sv3d_pipe.artifacts",
    "Mesh": "sv3d_pipe.artifacts",
    # Saved models name these classes and this package, so files may move without breaking them.
    "StableVideo3DPipeline": "sv3d_pipe.orbit.sv3d.diffusion_pipeline",
    "MiniPipeline": "sv3d_pipe.orbit.mini.pixel_pipeline",
    "StableVideo3DUNet": "sv3d_pipe.orbit.sv3d.unet",
    "VolumeDenoiser": "sv3d_pipe.orbit.mini.denoiser",
    "DepthGuesser": "sv3d_pipe.orbit.mini.depth_guess",
    "PixelCodec": "sv3d_pipe.orbit.mini.pixel_codec",
}
__all__ = list(_PUBLIC)
_PUBLIC["ModelMixin"] = (
    "diffusers"  # by which diffusers recognizes networks, in the package that a saved model names
)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
