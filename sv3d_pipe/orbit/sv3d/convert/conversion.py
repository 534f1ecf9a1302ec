"""The two directions of the conversion."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.sv3d.convert.checkpoint import OriginalFile, SvdAsSv3d, TensorSource, folder_checkpoint
from sv3d_pipe.orbit.sv3d.convert.layout import RELEASED, STRANGE, UNUSED, HeadWidths, configs, kind_of
from sv3d_pipe.orbit.sv3d.convert.names import Tensor, clip_tensors, unet_tensors, vae_tensors

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SHARD_BYTES = 2**30
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "image_encoder": "model",
}
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Module:
    """One network of the pipeline, without its weights.

    Attributes:
        network: on the meta device.
        tensors: where each of its parameters lies in the official file.
        dtype: in which it is kept.
    """

    network: torch.nn.Module
    tensors: list[Tensor]
    dtype: torch.dtype

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.network.state_dict().items()}

    @property
    def bytes(self) -> int:
        return sum(value.numel() for value in self.network.state_dict().values()) * self.dtype.itemsize


def to_folder(
    source: Path,
    out: Path,
    dtype: str = "fp16",
    start: str | None = None,
    on_bytes: OnBytes | None = None,
    heads: HeadWidths = RELEASED,
) -> str:
    """Write an original SV3D checkpoint as a diffusers folder that ``StableVideo3DPipeline`` loads.

    Args:
        source: ``sv3d_u.safetensors``, ``sv3d_p.safetensors``, or with ``start`` an SVD checkpoint.
        out: new folder, written whole or not at all. The VAE is kept in float32, as it is run.
        dtype: of UNet and image encoder: fp16, bf16 or fp32.
        start: ``u`` or ``p`` turns an SVD checkpoint into the starting point of such a model, for fine-tuning.
        on_bytes: called with bytes done and bytes in all.
    Returns:
        ``sv3d-u`` or ``sv3d-p``.
    Raises:
        UserError: the file is not such a checkpoint, or lacks or adds tensors (they are named).
    """
    if out.exists():
        raise UserError(f"{out} already exists; choose another folder.")
    checkpoint: TensorSource = OriginalFile(source)
    kind = kind_of(checkpoint.shapes)
    if kind == "svd":
        if start is None:
            raise UserError(
                f"{source} is an SVD checkpoint, which paints videos, not orbits; convert it with"
                " --start u or --start p to fine-tune it, or give sv3d_u or sv3d_p."
            )
        kind, checkpoint = f"sv3d-{start}", SvdAsSv3d(checkpoint, pose=start == "p")
    elif start is not None:
        raise UserError(f"{source} is already {kind}; leave out --start {start}.")
    try:
        modules = empty_modules(configs(checkpoint.shapes, heads), DTYPES[dtype])
    except (ValueError, TypeError, IndexError, ArithmeticError, RuntimeError):  # sizes no network has
        raise UserError(STRANGE) from None
    _check(checkpoint.shapes, modules.values(), source)
    done, total = 0, sum(module.bytes for module in modules.values())
    with _whole(out) as partial:
        _write_settings(modules, partial)
        for name, module in modules.items():
            for tensor_bytes in _write_module(checkpoint, module, partial / name, WEIGHTS[name]):
                done += tensor_bytes
                if on_bytes is not None:
                    on_bytes(done, total)
    return kind


def to_file(folder: Path, out: Path, dtype: str = "fp16", on_bytes: OnBytes | None = None) -> None:
    """Write a diffusers folder of an SV3D model as one file in the original layout.

    The tensors that the original files hold but no network uses are left out.

    Args:
        folder: as :func:`to_folder` writes it.
        out: new file, written whole or not at all.
        dtype: of UNet and image encoder: fp16, bf16 or fp32; the VAE is written in float32.
    Raises:
        UserError: the folder is not such a model or is incomplete.
    """
    if out.exists():
        raise UserError(f"{out} already exists; choose another file.")
    modules = empty_modules(_read_configs(folder), DTYPES[dtype])
    total = sum(module.bytes for module in modules.values())
    state: dict[str, torch.Tensor] = {}
    done = 0
    for name, module in modules.items():
        part = folder_checkpoint(folder / name)
        _check_names(part.shapes, set(module.shapes()), (), folder / name)
        for tensor in sorted(module.tensors, key=lambda t: (t.key, t.change)):  # thirds in order
            ours = part.read(tensor.name).to(module.dtype, copy=True)
            official = to_official(ours, tensor.change)
            whole = state.get(tensor.key)
            state[tensor.key] = official if whole is None else torch.cat([whole, official])
            done += ours.nbytes
            if on_bytes is not None:
                on_bytes(done, total)
        part.close()
    with _whole(out) as partial:
        _save(state, partial)


def empty_modules(settings: dict[str, dict], dtype: torch.dtype) -> dict[str, Module]:
    """The networks of these settings on the meta device, with the places of their parameters."""
    from diffusers import AutoencoderKL
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

    with torch.device("meta"):
        unet = StableVideo3DUNet(**settings["unet"])
        vae = AutoencoderKL(**settings["vae"])
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings["image_encoder"]))
    return {
        "unet": Module(unet, unet_tensors(settings["unet"], unet.state_dict()), dtype),
        "vae": Module(vae, vae_tensors(settings["vae"], vae.state_dict()), torch.float32),
        "image_encoder": Module(clip, clip_tensors(clip.state_dict()), dtype),
    }


def to_ours(official: torch.Tensor, change: str) -> torch.Tensor:
    """An official tensor as diffusers has it; of a third, just its rows are given."""
    if change == "flat":
        return official[:, :, 0, 0]
    return official.T if change == "turned" else official


def to_official(ours: torch.Tensor, change: str) -> torch.Tensor:
    """The inverse of :func:`to_ours`."""
    if change == "flat":
        return ours[:, :, None, None]
    return ours.T.contiguous() if change == "turned" else ours


def official_shape(shape: tuple[int, ...], change: str) -> tuple[int, ...]:
    """Shape in the official file of a parameter that has ``shape`` in diffusers."""
    if change == "flat":
        return (*shape, 1, 1)
    if change == "turned":
        return shape[::-1]
    return (3 * shape[0], *shape[1:]) if change.startswith("third") else shape


def _check(shapes: dict[str, tuple[int, ...]], modules: Iterable[Module], source: Path) -> None:
    expected = {}
    for module in modules:
        ours = module.shapes()
        expected |= {t.key: official_shape(ours[t.name], t.change) for t in module.tensors}
    _check_names(shapes, set(expected), UNUSED, source)
    wrong = [key for key, shape in expected.items() if shapes[key] != shape]
    if wrong:
        key = wrong[0]
        raise UserError(
            f"{source}: {len(wrong)} tensors have unexpected shapes, first {key},"
            f" {list(shapes[key])} instead of {list(expected[key])}; this is another model."
        )


def _check_names(present: Iterable[str], needed: set[str], unused: tuple, source: Path) -> None:
    """Every needed tensor is there, and nothing else but the groups ``unused``."""
    missing = sorted(needed - set(present))
    if missing:
        raise UserError(f"{source} lacks {_some(missing)}; get it again.")
    extra = sorted(key for key in set(present) - needed if not any(p.match(key) for p in unused))
    if extra:
        raise UserError(f"{source} has tensors that no SV3D model has: {_some(extra)}.")


def _some(keys: list[str]) -> str:
    rest = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + rest


def _write_module(source: TensorSource, module: Module, folder: Path, name: str) -> Iterable[int]:
    """Write a module's weights shard by shard; yields the bytes of each tensor done."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {tensor.name: tensor for tensor in module.tensors}
    plan = split_state_dict_into_shards_factory(
        module.network.state_dict(),
        get_storage_size=lambda value: value.numel() * module.dtype.itemsize,
        filename_pattern=name + "{suffix}.safetensors",
        max_shard_size=SHARD_BYTES,
    )
    for filename, names in plan.filename_to_tensors.items():
        shard = {}
        for ours in names:
            shard[ours] = _read(source, places[ours], module).contiguous()
            yield shard[ours].nbytes
        _save(shard, folder / filename, {"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _save(state: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """safetensors writes files that only their owner may read; a model is often shared."""
    save_file(state, path, metadata)
    path.chmod(0o644)


def _read(source: TensorSource, tensor: Tensor, module: Module) -> torch.Tensor:
    rows = None
    if tensor.change.startswith("third"):
        third, count = int(tensor.change[-1]), source.shapes[tensor.key][0] // 3
        rows = slice(third * count, (third + 1) * count)
    return to_ours(source.read(tensor.key, rows).to(module.dtype, copy=True), tensor.change)


def _write_settings(modules: dict[str, Module], folder: Path) -> None:
    """model_index.json and every module's config, so that the pipeline can be loaded."""
    from sv3d_pipe.orbit.schedulers import euler_scheduler
    from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline

    networks = {name: module.network for name, module in modules.items()}
    pipeline = StableVideo3DPipeline(scheduler=euler_scheduler(), **networks)
    pipeline.save_config(folder)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    for name in ("unet", "vae"):
        networks[name].save_config(folder / name)
    networks["image_encoder"].config.save_pretrained(folder / "image_encoder")


def _read_configs(folder: Path) -> dict[str, dict]:
    from diffusers import AutoencoderKL
    from transformers import CLIPVisionConfig

    from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

    for part in WEIGHTS:
        if not (folder / part / "config.json").is_file():  # the libraries would invent it, or ask a hub
            raise UserError(
                f"{folder} is not a diffusers folder of an SV3D model: {part}/config.json is missing."
            )
    try:
        return {
            "unet": dict(StableVideo3DUNet.load_config(folder / "unet")),
            "vae": dict(AutoencoderKL.load_config(folder / "vae")),
            "image_encoder": CLIPVisionConfig.from_pretrained(folder / "image_encoder").to_dict(),
        }
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} is not a diffusers folder of an SV3D model: {reason}") from None


@contextmanager
def _whole(out: Path):
    """A temporary sibling of ``out`` that takes its place at the end, or vanishes."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
