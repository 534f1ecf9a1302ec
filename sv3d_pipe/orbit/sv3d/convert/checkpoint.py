"""Reading checkpoints piece by piece: nothing is held but the tensor asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from sv3d_pipe.errors import UserError
from sv3d_pipe.inputs import read_json
from sv3d_pipe.orbit.sv3d.convert.layout import (
    DECODER,
    ENCODER,
    NUMBER_WIDTH,
    P_WIDTH,
    STRANGE,
    SVD_ENCODER,
    UNET,
)
from sv3d_pipe.orbit.sv3d.photo_input import sinusoid

REOPEN_BYTES = 2**29  # pages of a mapped file count as memory until it is closed
PICKLES = (b"\x80", b"PK\x03\x04")  # torch.save before and after version 1.6
SVD_FPS, SVD_MOTION = 6.0, 127.0  # what SVD's sampling script passes by default


class TensorSource(Protocol):
    """Named tensors with known shapes, read one at a time."""

    shapes: dict[str, tuple[int, ...]]

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor: ...


class OriginalFile:
    """One or several safetensors files as one set of tensors.

    Args:
        paths: files whose keys do not overlap.
    Attributes:
        shapes: of all tensors, by key.
    Raises:
        UserError: a file is not a whole safetensors file.
    """

    def __init__(self, *paths: Path):
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._home: dict[str, Path] = {}
        self._open: tuple[Path, safe_open] | None = None
        self._bytes = 0
        for path in paths:
            with open_safetensors(path) as file:
                for key in file.keys():
                    self.shapes[key] = tuple(file.get_slice(key).get_shape())
                    self._home[key] = path

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor:
        """A tensor, or those rows of it, in the file's own type. It may share memory with the file."""
        path = self._home[key]
        if self._open is None or self._open[0] != path or self._bytes > REOPEN_BYTES:
            self.close()
            self._open, self._bytes = (path, open_safetensors(path)), 0
        part = self._open[1].get_slice(key)
        if not self.shapes[key]:
            return self._open[1].get_tensor(key)
        tensor = part[:] if rows is None else part[rows]
        self._bytes += tensor.nbytes
        return tensor

    def close(self) -> None:
        """Let go of the mapped file."""
        self._open = None


def folder_checkpoint(folder: Path) -> OriginalFile:
    """The weights of one module of a diffusers folder: a single file or the shards of an index."""
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        index = read_json(indexes[0])
        parts = index.get("weight_map") if isinstance(index, dict) else None
        names = set(map(str, parts.values())) if isinstance(parts, dict) else {""}
        if any(Path(name).name != name or not name for name in names):
            raise UserError(f"{indexes[0]} does not name the parts of the model beside it; get it again.")
        return OriginalFile(*(folder / name for name in sorted(names)))
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        found = "no safetensors file" if not files else f"{len(files)} safetensors files without an index"
        raise UserError(f"{folder} holds {found}; give a complete diffusers folder.")
    return OriginalFile(files[0])


class SvdAsSv3d:
    """An SVD image-to-video checkpoint under SV3D's names, as a starting point for fine-tuning.

    The conditions fps and motion, which SV3D dropped, are folded into the bias at the values SVD's
    script uses; columns for the angles of ``p`` are zero. So the new UNet paints what SVD would.

    Args:
        source: the SVD checkpoint.
        pose: True for the layout of sv3d-p, False for sv3d-u.
    """

    def __init__(self, source: TensorSource, pose: bool):
        self.source = source
        self.width = P_WIDTH if pose else NUMBER_WIDTH
        self.head = f"{UNET}label_emb.0.0."
        self._there = {self._renamed(key): key for key in source.shapes if self._renamed(key)}
        self.shapes = {ours: source.shapes[key] for ours, key in self._there.items()}
        head = self.shapes.get(f"{self.head}weight", ())
        if len(head) != 2:
            raise UserError(STRANGE)
        self.shapes[f"{self.head}weight"] = (head[0], self.width)

    @staticmethod
    def _renamed(key: str) -> str | None:
        """SV3D's name; None for SVD's own frame VAE, which SV3D does not have."""
        if key.startswith("first_stage_model."):
            return None
        for old, new in (
            (f"{SVD_ENCODER}decoder.", DECODER),
            (f"{SVD_ENCODER}post_quant_conv.", f"{DECODER}post_quant_conv."),
            (SVD_ENCODER, ENCODER),
        ):
            if key.startswith(old):
                return new + key.removeprefix(old)
        return key

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor:
        if not key.startswith(self.head):
            return self.source.read(self._there[key], rows)
        weight = self.source.read(f"{self.head}weight").float()  # [E, 3 * 256]: fps, motion, noise
        fps, motion, noise = weight.split(NUMBER_WIDTH, 1)
        if key.endswith("weight"):
            return torch.nn.functional.pad(noise, (0, self.width - NUMBER_WIDTH))
        constants = sinusoid(torch.tensor([SVD_FPS, SVD_MOTION]), NUMBER_WIDTH)  # [2, 256]
        return self.source.read(key).float() + fps @ constants[0] + motion @ constants[1]


def open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file.

    Raises:
        UserError: it is missing, cut short, or something else under that name.
    """
    try:
        return safe_open(path, framework="pt")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except SafetensorError:
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(PICKLES):
            raise UserError(
                f"{path} is a pickle with another name; pickles can run code and are never loaded,"
                " so get the model's .safetensors file."
            ) from None
        raise UserError(
            f"{path} is not a whole safetensors file; perhaps its download was cut short, so get it again."
        ) from None
