"""Models from the Hugging Face hub: asked for, fetched with resume, checked, converted, cleaned up."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sv3d_pipe.errors import UserError, is_foreseen
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store.known import MODELS, Model

Say = Callable[[str], None]


@dataclass(frozen=True)
class HubFile:
    """A file on the hub at one commit: where it is, its size and the SHA-256 that the hub states."""

    url: str
    commit: str
    size: int
    sha256: str


def download(name: str, dtype: str = "fp16", keep: bool = False, say: Say = cache.say) -> Path:
    """Bring a model into the cache. What is there already is not fetched again.

    Args:
        name: sv3d-u or sv3d-p, which become a diffusers folder; or svd-xt, which stays one file.
        dtype: fp16, bf16 or fp32, of the folder; a folder of another dtype is replaced.
        keep: keep the original file too.
        say: is told, in sentences, the license's consequences (once) and what was done.
    Returns:
        the folder, or svd-xt's file.
    Raises:
        UserError: no such model, no access, no network, no room, or a damaged download.
    """
    model = _on_hub(name)
    with cache.held(name):
        return _folder(model, dtype, keep, say) if model.runs else _starting_point(model, say)


def show_licence(model: Model, say: Say) -> None:
    """Say what the license asks for, unless it has been said on this machine before."""
    if model.licence_url not in cache.recall("licences"):
        say(f"License of {model.name}: {model.licence}, {model.licence_url}\n{model.consequences}")
        cache.remember("licences", model.licence_url, True)


def look_up(repository: str, file: str) -> HubFile:
    """Ask the hub for a file's size and SHA-256. Raises huggingface_hub's errors."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(repository, file))
    if not re.fullmatch("[0-9a-f]{64}", found.etag or "") or found.commit_hash is None or found.size is None:
        raise UserError(
            f"The answer for {file} did not come from a Hugging Face hub; check HF_ENDPOINT and the proxy settings."
        )
    url = hf_hub_url(repository, file, revision=found.commit_hash)
    return HubFile(url, found.commit_hash, found.size, found.etag)


def _on_hub(name: str) -> Model:
    models = {model.name: model for model in MODELS if model.repository}
    if name == "mini":
        raise UserError("mini is built in; there is nothing to download.")
    if name not in models:
        raise UserError(f"There is no model {name!r} to download; choose one of {', '.join(models)}.")
    return models[name]


def _folder(model: Model, dtype: str, keep: bool, say: Say) -> Path:
    target = cache.model_folder(model.name)
    if cache.is_model(target) and cache.folder_dtype(target) == dtype:
        size = cache.gigabytes(cache.folder_bytes(target))
        say(f"{model.name} is here already: {target}, {dtype}, {size}.")
        return target
    original = _original(model)
    if not original.is_file():
        original = _fetch(model, {f"converted to {dtype}": model.elements * cache.ITEM_BYTES[dtype]}, say)
    cache.convert_into(original, model.name, dtype)
    size = cache.gigabytes(original.stat().st_size)
    if original != _original(model):
        rest = f"the original stays in the hub's cache, {original}, {size}"
    elif keep:
        rest = f"the original is kept as {original}, {size}"
    else:
        cache.remove(original)
        rest = f"the original, {size}, was deleted"
    say(f"{model.name} is ready: {target}, {dtype}, {cache.gigabytes(cache.folder_bytes(target))}; {rest}.")
    return target


def _starting_point(model: Model, say: Say) -> Path:
    original, state = _original(model), "here already"
    if not original.is_file():
        original, state = _fetch(model, {}, say), "ready"
    say(f"{model.name} is {state}: {original}, {cache.gigabytes(original.stat().st_size)}.")
    say(
        f"Turn it into a starting point for fine-tuning with `img2mesh models convert {original} OUT --start p`."
    )
    return original


def _original(model: Model) -> Path:
    """Place of the original file; only a whole, checked one gets this name."""
    return cache.cache_folder() / "downloads" / model.file


def _fetch(model: Model, also: dict[str, int], say: Say) -> Path:
    """The original file, checked: from the hub's own cache if another program put it there, else fetched.

    Args:
        also: disk needed besides, purpose -> bytes.
    """
    from huggingface_hub import try_to_load_from_cache

    with _plain_errors(model):
        there = look_up(model.repository, model.file)
    shared = try_to_load_from_cache(model.repository, model.file, revision=there.commit)
    if isinstance(shared, str):
        cache.check_disk(also, model.name)
        show_licence(model, say)
        _check(Path(shared), model, there)
        return Path(shared)
    partial = _original(model).with_name(f".{model.file}.{there.sha256[:16]}.partial")
    arrived = partial.stat().st_size if partial.exists() else 0
    cache.check_disk({"to download": max(0, there.size - arrived)} | also, model.name)
    show_licence(model, say)
    before = f", {cache.gigabytes(arrived)} of it here already" if arrived else ""
    say(f"Downloading {model.file}, {cache.gigabytes(there.size)}{before}.")
    with _plain_errors(model):
        _transfer(there, partial, model.file)
    try:
        _check(partial, model, there)
    except UserError:
        cache.remove(partial)
        raise
    cache.flush(partial)
    cache.move_hashed(partial, _original(model))
    return _original(model)


def _transfer(there: HubFile, partial: Path, file: str) -> None:
    """Fetch what is missing of ``partial``; whatever stops it, what has arrived stays.

    The hub's own download function begins again after every interruption, so this uses the one below
    it. Its address is the hub's, not the storage's, because the latter expires within the hour.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    partial.parent.mkdir(parents=True, exist_ok=True)
    for other in partial.parent.glob(f".{file}.*.partial"):  # of an older commit, or longer than it should be
        if other != partial or other.stat().st_size > there.size:
            other.unlink()
    with partial.open("ab") as stream:
        while True:
            arrived = stream.tell()
            try:
                http_get(
                    there.url,
                    stream,
                    resume_size=arrived,
                    headers=build_hf_headers(),
                    expected_size=there.size,
                    displayed_filename=file,
                )
                return
            except (_transport_error(), OSError) as error:  # which hubs before 2.0 do not take up again
                if isinstance(error, HfHubHTTPError) or is_foreseen(error) or stream.tell() == arrived:
                    raise


def _check(path: Path, model: Model, there: HubFile) -> None:
    if cache.content_sha256(path, f"Checking {model.file}") != there.sha256:
        raise UserError(
            f"{model.file} does not have the SHA-256 that the hub states, so it was not used; download it again."
        )


@contextmanager
def _plain_errors(model: Model):
    """The hub's errors as sentences for the user."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except OfflineModeIsEnabled:
        raise UserError(
            f"{model.name} cannot be downloaded in offline mode; unset HF_HUB_OFFLINE and run this again."
        ) from None
    except EntryNotFoundError:
        raise UserError(
            f"The hub's repository {model.repository} no longer has the file {model.file}; "
            "if you have it, give its path as the model."
        ) from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        if isinstance(error, GatedRepoError) or code in (401, 403):
            raise UserError(_gate(model)) from None
        if isinstance(error, RepositoryNotFoundError):
            raise UserError(
                f"The hub no longer has the repository {model.repository}; if you have {model.file}, give its path."
            ) from None
        raise UserError(
            f"The Hugging Face hub answered with error {code}; try again later. What has arrived is kept."
        ) from None
    except (_transport_error(), OSError) as error:
        if is_foreseen(error):
            raise
        raise UserError(
            f"The connection to the Hugging Face hub failed ({type(error).__name__}); "
            "check the network and run this again. What has arrived is kept."
        ) from None


def _transport_error() -> type[Exception]:
    """What a broken connection raises: of requests, httpx or httpx2, by the hub's version."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


def _gate(model: Model) -> str:
    return (
        f"{model.name} must be unlocked once: log in at https://huggingface.co/{model.repository} and accept the "
        "conditions there, then run `hf auth login` here with a token from "
        "https://huggingface.co/settings/tokens, then run this command again."
    )
