"""The verbs about orbit models: list, download, convert, licences."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from sv3d_pipe.cli.guard import at_work
from sv3d_pipe.errors import UserError

app = typer.Typer(help="The orbit models.", no_args_is_help=True)


Dtype = Literal["fp16", "bf16", "fp32"]


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the models: size, license, where they come from, whether they are here."""
    from sv3d_pipe.orbit.store import cache
    from sv3d_pipe.orbit.store.find import list_models as known

    if as_json:
        typer.echo(json.dumps(known(), indent=1))
        return
    for model in known():
        typer.echo(f"{model['name']}: {model['about']}")
        for name in ("size", "licence", "source", "available"):
            typer.echo(f"  {name:<10}{model[name]}")
    root = cache.cache_folder()
    used = cache.gigabytes(cache.folder_bytes(root)) if root.is_dir() else "empty"
    typer.echo(f"The model cache is {root}, {used}; set IMG2MESH_CACHE to use another folder.")


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="sv3d-u, sv3d-p or svd-xt.")],
    dtype: Annotated[Dtype, typer.Option(help="Number format of the model that is kept.")] = "fp16",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloaded original file too.")] = False,
) -> None:
    """Download a model from the Hugging Face hub, check it and convert it into the model cache.

    An interrupted download continues where it stopped. If you are logged in to the hub, that login is used.
    """
    from sv3d_pipe.orbit.store import cache
    from sv3d_pipe.orbit.store.download import download as fetch

    with at_work(cache.cache_folder()):
        typer.echo(fetch(name, dtype, keep, say=lambda sentence: typer.echo(sentence, err=True)))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file, or a diffusers folder.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder, or new .safetensors file if FILE is a folder.")
    ],
    dtype: Annotated[Dtype, typer.Option(help="Number format of the weights that are written.")] = "fp16",
    start: Annotated[
        Literal["u", "p"] | None,
        typer.Option(
            help="Turn an SVD file into a starting point for fine-tuning sv3d-u or sv3d-p.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Convert an original SV3D file into a diffusers folder, or such a folder into one file."""
    from sv3d_pipe.orbit.store import cache

    if out.exists():
        raise UserError(f"{out} already exists; choose another name.")
    began = time.monotonic()
    with cache.slow_bar(f"Converting {source.name}") as on_bytes:
        what = _convert(source, out, dtype, start, on_bytes)
    size = cache.folder_bytes(out) if out.is_dir() else out.stat().st_size
    seconds = time.monotonic() - began
    typer.echo(f"{out}: {what}, {dtype}, {cache.gigabytes(size)}, converted in {seconds:.1f} s.")


def _convert(source: Path, out: Path, dtype: str, start: str | None, on_bytes) -> str:
    """The kind of model, for the closing line."""
    from sv3d_pipe.orbit.store import cache
    from sv3d_pipe.orbit.sv3d.convert import to_file, to_folder

    if source.is_dir():
        if start is not None:
            raise UserError("--start is for SVD's single .safetensors file, not for a folder.")
        if not cache.is_model(source):
            raise UserError(f"{source} holds no model_index.json, so it is not a diffusers model folder.")
        if out.suffix != ".safetensors":
            raise UserError(
                f"A folder becomes one .safetensors file; choose a name with that ending, not {out}."
            )
        files = list(source.rglob("*.safetensors"))
    elif source.is_file():
        files = [source]
    else:
        raise UserError(f"There is no file or folder {source}; check the path.")
    cache.check_disk(
        {"to write": sum(cache.converted_bytes(f, dtype) for f in files)}, source.name, out.parent
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        to_file(source, out, dtype, on_bytes)
        return "one file in the original layout"
    kind = to_folder(source, out, dtype, start, on_bytes)
    return f"a start for fine-tuning as {kind}" if start else kind


@app.command()
def licences(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this model.", show_default=False)
    ] = None,
) -> None:
    """Print the models' licenses and what they require of you."""
    from sv3d_pipe.orbit.store.known import MODELS

    chosen = [model for model in MODELS if name in (None, model.name)]
    if not chosen:
        raise UserError(f"There is no model {name!r}; choose one of {', '.join(m.name for m in MODELS)}.")
    for model in chosen:
        typer.echo(f"{model.name}: {model.licence}\n  {model.licence_url}\n  {model.consequences}")
