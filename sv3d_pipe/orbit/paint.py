"""The orbit stage: the photo becomes frames with known cameras. And its model as a judge for refinement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.contracts import Prior
from sv3d_pipe.orbit.angles import camera_angles
from sv3d_pipe.orbit.elevation import seen_elevation
from sv3d_pipe.orbit.known_photos import facts, locate, taken_from, with_photos
from sv3d_pipe.orbit.memory_plan import Plan, first_that_fits
from sv3d_pipe.orbit.model import OrbitModel
from sv3d_pipe.orbit.store.load import load_model
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.prep.one_against_all import mended
from sv3d_pipe.road.context import Context

CONTRADICTS_DEG = 5.0  # frames that look painted from farther off than this are told of


def paint(
    config: OrbitConfig, photo: Photo, context: Context, model: OrbitModel | None = None
) -> tuple[Views, dict[str, Any]]:
    """Paint the views around the photo's object, as a surface can be fitted to them.

    Args:
        model: None loads the one that the settings name.
    Returns:
        the views of :func:`paint_frames` with the masks of :func:`sharpen`, the photo in the last one's place, and
        what one mask lacks against all others filled in, see :func:`sv3d_pipe.prep.one_against_all.mended`; and
        its metrics, with ``coverage``, the share of the pixels that show the object, ``mended``, the pictures that
        were filled in, and those of :func:`place_cameras`, which places the views'.
    Raises:
        UserError: angles or a size that the model cannot paint, or too little memory.
    """
    model, found = model or load_model(config, context.device), None
    shown = photo
    if photo.further:
        with context.bar("views", 1) as bar:
            found = locate(photo, config.photo_elevation_deg)
            bar.update(1)
        shown = taken_from(photo, config.photo_elevation_deg, found)
    with model.in_use():
        painted, metrics = paint_frames(config, shown, context, model)
        frames = sharpen(config, painted, shown, context, model)
    frames[-1] = resize_rgba(photo.rgba, frames.shape[1])
    cameras, seen = place_cameras(config, frames[..., 3], context, model.takes_pose)
    views = replace(painted, rgba=frames, cameras=cameras, photo_cameras=cameras[-1])
    if found is not None:
        if seen["elevation_deg"] != config.photo_elevation_deg:
            found = locate(photo, seen["elevation_deg"])
        views = with_photos(views, photo, found)
        seen |= {"views": facts(photo.further, found, context)}
    views, filled = mended(views)
    if filled:
        context.say(
            "Holes in the cut-out of single pictures, which all other views contradict, were filled in."
        )
    coverage = round(float(views.rgba[..., 3].mean()), 4)
    return views, metrics | {"coverage": coverage, "mended": filled} | seen


def place_cameras(
    config: OrbitConfig,
    alpha: np.ndarray,  # [N, S, S]
    context: Context,
    takes_pose: bool,
) -> tuple[Cameras, dict[str, Any]]:
    """The cameras of painted frames: as the settings say, or as the frames show where nobody was told the elevation.

    Args:
        alpha: masks of the frames. takes_pose: whether the model was told their cameras.
    Returns:
        the cameras; and of the photo, ``elevation_deg`` where its camera is, and as in
        :class:`sv3d_pipe.orbit.elevation.Seen` ``seen_elevation_deg`` (None where the frames show none),
        ``seen_elevation_margin_deg`` and ``seen_coverage``.
    """
    azimuth_deg, elevation_deg = painted_angles(config, context.seed, takes_pose)
    said, seen = float(elevation_deg[-1]), seen_elevation(alpha, azimuth_deg, elevation_deg)
    given = takes_pose or config.elevation_deg is not None
    shown = round(seen.elevation_deg, 1) if seen is not None and seen.clear else None
    used = said if given or shown is None else shown
    facts = {"elevation_deg": used, "seen_elevation_deg": shown}
    if seen is not None:
        margin = round(seen.margin_deg, 1) if np.isfinite(seen.margin_deg) else None
        facts |= {"seen_elevation_margin_deg": margin, "seen_coverage": round(seen.coverage, 4)}
    if not given and shown is None:
        context.say(
            f"The frames do not show from which elevation they are painted, so it is taken to be {said:g} degrees."
        )
    elif not given:
        context.say(
            f"The frames are painted from {shown:g} degrees of elevation; their cameras are placed there."
        )
    elif shown is not None and abs(shown - said) > max(seen.margin_deg, CONTRADICTS_DEG):
        context.warn(
            f"The frames look painted from {shown:g} degrees of elevation, not from {said:g}; if the photo was taken"
            f" from there, set orbit.elevation_deg to {shown:g}."
        )
    return orbit(azimuth_deg, elevation_deg + (used - said)), facts


def painted_angles(config: OrbitConfig, seed: int, takes_pose: bool) -> tuple[np.ndarray, np.ndarray]:
    """The angles [N] of :func:`camera_angles`, or of a static orbit for a model that takes no poses."""
    angles = camera_angles(config, seed)
    return angles if takes_pose else orbit_angles("static", config.photo_elevation_deg)


def paint_frames(
    config: OrbitConfig, photo: Photo, context: Context, model: OrbitModel | None = None
) -> tuple[Views, dict[str, Any]]:
    """The model's own pictures of the views around the photo's object; masks may be soft.

    Returns:
        Views at the model's resolution or ``config.size``, the last one from where the photo was taken; and
        metrics: ``photo_psnr_db``, the model's own picture of the photo's view against the photo, on white,
        and ``depth``, how deep it took the object for, if it guesses that.
    Raises:
        UserError: angles or a size that the model cannot paint, or too little memory.
    """
    model = model or load_model(config, context.device)
    angles = painted_angles(config, context.seed, model.takes_pose)
    config = model.settled(config)
    kind = "given" if config.azimuths or config.elevations else config.kind
    if not model.takes_pose and kind != "static":
        kind = "static"
        context.warn(f"The orbit model {config.model} takes no camera poses, so the orbit is static.")
    known = model.plans(config, context.device, len(angles[0]))
    model.brief(config, known[0], context)
    painted = first_that_fits(
        known, lambda plan: model.paint(photo, angles, config, plan, context), context.device, context.say
    )
    metrics = {
        "photo_psnr_db": round(painted.photo_psnr_db, 2),
        "frames": len(painted.rgba),
        "size": painted.rgba.shape[1],
        "kind": kind,
        "steps": config.steps,
        "guidance": config.guidance,
    }
    return Views(painted.rgba, orbit(*angles), photo.rgba[None]), metrics | painted.facts


def sharpen(
    config: OrbitConfig, painted: Views, photo: Photo, context: Context, model: OrbitModel | None = None
) -> np.ndarray:
    """The frames [N, S, S, 4] of :func:`paint_frames` with mask edges about one pixel wide."""
    model = model or load_model(config, context.device)
    angles = camera_angles(config, context.seed)
    return model.solid(painted.rgba, photo, angles, model.settled(config))


@contextmanager
def prior_loader(
    config: OrbitConfig, photo: Photo, context: Context, model: OrbitModel | None = None
) -> Iterator[Callable[[], Prior]]:
    """Around refinement: the model of the settings as a judge of orbits like theirs, loaded when it is asked for.

    Yields:
        a function. It returns the judge in the fastest way that fits into the device's memory; called again
        because memory ran out after all, in the next more economical one. Raises UserError when none is left.
    """
    _, elevation_deg = camera_angles(config, context.seed)
    untried: tuple[Plan, ...] | None = None
    used = model

    def load() -> Prior:
        nonlocal untried, used
        if used is None:
            used = load_model(config, context.device)
        settled, frames = used.settled(config), len(elevation_deg)
        if untried is None:
            work.enter_context(used.in_use())
            untried = used.plans(settled, context.device, frames, with_gradient=True)
        elif untried:
            context.say(f"The memory of {context.device} was not enough; distilling with {untried[0]}.")

        def attempt(plan: Plan) -> tuple[Plan, Prior]:
            prior = used.prior(photo, float(elevation_deg[-1]), frames, settled, plan, context.device)
            return plan, prior

        plan, prior = first_that_fits(untried, attempt, context.device, context.say)
        untried = untried[untried.index(plan) + 1 :]
        return prior

    with ExitStack() as work:
        yield load
