"""The refine stage: from the field's coarse surface to a mesh that agrees with the pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.config import RefineConfig
from sv3d_pipe.contracts import Prior, Reconstruction
from sv3d_pipe.device import give_back, is_out_of_memory
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.mesh_tensors import face_normals, take_rows, vertex_normals
from sv3d_pipe.geometry.meshes import compact
from sv3d_pipe.geometry.raster import visible_faces
from sv3d_pipe.refine.dmtet import DeformableSolid, largest_components
from sv3d_pipe.refine.losses import anchor_loss, color_loss, mask_loss, normal_loss, smooth_loss
from sv3d_pipe.refine.mesh_picture import MeshPicture, draw, score, supersampling
from sv3d_pipe.refine.sds import distill, random_orbit, random_sigma, soft_mask_of
from sv3d_pipe.refine.shading import Lighting, illumination_loss, shade
from sv3d_pipe.refine.silhouette import Topology
from sv3d_pipe.refine.surface_hits import Hits
from sv3d_pipe.refine.targets import Target, Targets
from sv3d_pipe.refine.thin_parts import with_thin_parts
from sv3d_pipe.road.context import Context, resume_generator

ALBEDO_LEARNING_RATE = 1e-3
LIGHT_LEARNING_RATE = 1e-2
ANCHOR_WEIGHT = 0.01
LAST_RATE = 0.1  # share of the learning rate that is left at the end
SHOWN_EVERY = 10  # steps


def refine_mesh(
    config: RefineConfig,
    reconstruction: Reconstruction,
    views: Views,
    context: Context,
    load_prior: Callable[[], Prior] | None = None,
) -> tuple[Mesh, dict[str, Any]]:
    """Fit a deformable tetrahedral grid and the reconstruction's colors to the views.

    Args:
        reconstruction: gives the starting surface and the color of space; its parameters are fitted in place.
        views: the pictures to agree with; the last one is the photo's.
        load_prior: returns the orbit model for score distillation; called again when memory ran out, for a
            more economical one. None does without.
    Returns:
        The mesh with vertex colors, and the metrics: mask_iou over all views first. When the views' masks agree
        less with the result than with the starting surface, that surface is returned. To it come the thin parts
        that it lacks (``thin_faces``, see :mod:`sv3d_pipe.refine.thin_parts`).
    Raises UserError when there is no surface.
    """
    if len(reconstruction.mesh.faces) == 0:
        raise UserError("The field has no surface to refine; run nerf again with more steps.")
    colors = reconstruction.to(context.device).train()
    return refine_from(config, reconstruction.mesh, colors, views, context, load_prior)


def refine_from(
    config: RefineConfig,
    start: Mesh,
    albedo: torch.nn.Module,
    views: Views,
    context: Context,
    load_prior: Callable[[], Prior] | None = None,
) -> tuple[Mesh, dict[str, Any]]:
    """:func:`refine_mesh` from any closed mesh and any module with ``rgb(points [P, 3]) -> [P, 3]``."""
    fit = _Fit(config, start, albedo, views, context, load_prior if config.sds != "off" else None)
    fit.run()
    mesh, dropped = fit.mesh()
    size = min(views.size, config.render)
    before, after = (score(m, views, size, context.device) for m in (start, mesh))
    if after.mask_iou < before.mask_iou:
        context.warn(
            f"Refinement made the outline worse ({before.mask_iou:.3f} to {after.mask_iou:.3f} IoU); "
            "the unrefined surface is kept."
        )
        mesh, kept, dropped = start, before, 0
    else:
        kept = after
    whole, kept = with_thin_parts(mesh, kept, views, albedo, size, context.device)
    return whole, {
        "mask_iou": round(kept.mask_iou, 4),
        "mask_iou_before": round(before.mask_iou, 4),
        "color_psnr_db": round(kept.color_psnr_db, 2),
        "color_psnr_db_before": round(before.color_psnr_db, 2),
        "faces": len(whole.faces),
        "vertices": len(whole.vertices),
        "thin_faces": len(whole.faces) - len(mesh.faces),
        "components_dropped": dropped,
        "sds_steps": fit.sds_steps,
        "refined": mesh is not start,
    }


class _Fit:
    """The state of one refinement: shape, colors, optimizer, and what they are compared with."""

    def __init__(self, config: RefineConfig, start: Mesh, albedo, views: Views, context: Context, load_prior):
        self.config, self.context, self.load_prior = config, context, load_prior
        self.albedo = albedo
        self.solid = DeformableSolid(start, config.grid).to(context.device)
        self.cameras, self.photo_camera = views.cameras, views.photo_camera
        self.generator = context.generator("refine")
        self.targets = Targets(config, views, context, self.generator)
        self.light = Lighting().to(context.device) if config.lighting else None
        groups = [(self.solid, config.learning_rate), (albedo, ALBEDO_LEARNING_RATE)]
        if self.light is not None:
            groups.append((self.light, LIGHT_LEARNING_RATE))
        self.rates = [rate for _, rate in groups]
        self.optimizer = torch.optim.Adam([{"params": m.parameters(), "lr": rate} for m, rate in groups])
        self.prior: Prior | None = None
        self.sds_steps = 0
        self.step = 0

    def run(self) -> None:
        """All steps, from the last checkpoint if there is one."""
        self._resume()
        with self.context.bar("refine", self.config.steps) as bar:
            bar.update(self.step)
            while self.step < self.config.steps:
                iou = self._one_step()
                shown = self.step % SHOWN_EVERY == 0  # to read it is to wait for a GPU
                self.step += 1
                bar.update(1, f"{float(iou):.3f} IoU" if shown else None)
                self.context.checkpoint.save(self._state)

    def _one_step(self) -> torch.Tensor:
        """One step of Adam; returns the mask IoU [] of the pictures it looked at."""
        decay = LAST_RATE ** (self.step / max(self.config.steps - 1, 1))
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * decay
        self.optimizer.zero_grad()
        vertices, faces = self.solid.surface()
        if len(faces) == 0:
            raise UserError(
                "Refinement lost the surface; lower refine.learning_rate or raise refine.smooth_weight."
            )
        topology = Topology.of(faces, closed=True)
        loss, iou = self._picture_loss(vertices, faces, topology)
        config = self.config
        sdf = self.solid.sdf.view(self.solid.grid.shape)
        loss = loss + config.normal_weight * normal_loss(vertices, faces, topology)
        loss = loss + config.smooth_weight * smooth_loss(sdf)
        loss = loss + ANCHOR_WEIGHT * anchor_loss(self.solid.sdf, self.solid.start)
        if self._wants_sds():
            loss = loss + self._distillation_that_fits(vertices, faces, topology)
        loss.backward()
        self.optimizer.step()
        return iou

    def _brightness(self, hits: Hits, normals: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """[P] light on surface points; normals [V, 3] are the vertices'."""
        normal = (hits.barycentrics[..., None] * take_rows(normals, faces[hits.face_ids])).sum(1)
        return self.light.brightness(torch.nn.functional.normalize(normal, dim=-1))

    def _look(self, vertices: torch.Tensor, faces: torch.Tensor) -> Callable[[Hits], torch.Tensor]:
        """The color of surface points: albedo, lit if there is light."""
        if self.light is None:
            return lambda hits: self.albedo.rgb(hits.points)
        normals = vertex_normals(vertices, faces)
        return lambda hits: shade(self.albedo.rgb(hits.points), self._brightness(hits, normals, faces))

    def _picture_loss(self, vertices, faces, topology) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask and color losses of the photo and of some random views, and the IoU of all their masks."""
        look = self._look(vertices, faces)
        total, masks = 0.0, torch.zeros(2, device=vertices.device)  # smaller and larger of the two
        for together in self.targets.choose(self.step):
            cameras = functools.reduce(Cameras.followed_by, (group.cameras for group in together))
            picture = draw(vertices, faces, topology, look, cameras, together[0].rgba.shape[1])
            if self.light is not None:
                light_losses = self._light_losses(picture, together, vertices, faces)
            first = 0
            for n, group in enumerate(together):
                views = slice(first, first := first + len(group.cameras))
                coverage, alpha = picture.coverage[views], group.rgba[..., 3]
                mask = mask_loss(torch.where(group.seen, coverage, alpha), alpha) / self.targets.object_share
                color = color_loss(picture.rgb[views], coverage, group.rgba)
                weights = self.config.mask_weight, self.config.color_weight
                total = total + group.share * (weights[0] * mask + weights[1] * color)
                if self.light is not None:
                    total = total + group.share * self.config.light_weight * light_losses[n]
                covered = coverage.detach() * group.seen
                both = torch.minimum(covered, alpha).mean(), torch.maximum(covered, alpha).mean()
                masks = masks + group.share * torch.stack(both)
        return total, masks[0] / masks[1].clamp(min=1e-9)

    def _light_losses(
        self, picture: MeshPicture, targets: list[Target], vertices, faces
    ) -> list[torch.Tensor]:
        """What ties the light to each target's brightness, so that it does not all go into the albedo."""
        hits = picture.hits
        pixels = torch.cat([target.rgba for target in targets]).reshape(-1, 4)[hits.index]
        weight = picture.coverage.detach().flatten()[hits.index] * pixels[:, 3]
        brightness = self._brightness(hits, vertex_normals(vertices, faces), faces)
        losses, first = [], 0
        for target in targets:
            last = first + target.seen.numel()
            here = weight * ((hits.index >= first) & (hits.index < last))
            losses.append(illumination_loss(brightness, pixels[:, :3], here))
            first = last
        return losses

    def _wants_sds(self) -> bool:
        active = self.load_prior is not None and self.config.sds_weight > 0
        return active and self.step in self.config.distilled_steps

    def _distillation_that_fits(self, vertices, faces, topology) -> torch.Tensor:
        """:meth:`_distillation`, where memory runs out with a more economical prior."""
        before = self.generator.get_state()
        while True:
            if self.prior is None:
                self.prior = self.load_prior()
            try:
                return self._distillation(vertices, faces, topology)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            self.prior = None
            self.optimizer.zero_grad()  # of what the failed attempt added to the colors' gradient
            self.generator.set_state(before)
            give_back(self.context.device)

    def _distillation(self, vertices, faces, topology) -> torch.Tensor:
        """A scalar whose gradient in the vertices is the masked SDS; the colors' is added at once."""
        leaf = vertices.detach().requires_grad_()
        azimuth_deg, elevation_deg, cameras = random_orbit(
            self.photo_camera, self.prior.frames, self.generator
        )
        origins = self.cameras.on(leaf.device).origins
        seen = visible_faces(leaf, faces, cameras, self.prior.size * supersampling(self.prior.size))
        unit = torch.nn.functional.normalize(face_normals(leaf.detach(), faces), dim=-1)

        def render(chosen: list[int], masked: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
            look, size = self._look(leaf, faces), self.prior.size
            picture = draw(
                leaf, faces, topology, look, cameras[chosen], size, seen[chosen[0] : chosen[-1] + 1]
            )
            rgba = torch.cat([picture.rgb, picture.coverage[..., None]], -1)
            return rgba, soft_mask_of(picture, unit, origins) if masked else None

        sigma = random_sigma(self.generator)
        distill(
            render, self.prior, (azimuth_deg, elevation_deg), sigma, self.config.sds_weight, self.generator
        )
        self.sds_steps += 1
        pull = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return (vertices * pull).sum()

    @torch.no_grad()
    def mesh(self) -> tuple[Mesh, int]:
        """The surface with vertex colors, small pieces dropped, and how many those were."""
        vertices, faces = (x.cpu().numpy() for x in self.solid.surface())
        faces, dropped = largest_components(vertices, faces)
        used, faces = compact(faces)
        vertices = vertices[used]
        points = torch.from_numpy(vertices).to(self.context.device)
        rgb = torch.cat([self.albedo.rgb(part) for part in points.split(2**16)])
        if self.light is not None:
            corners = torch.from_numpy(faces).to(points.device)
            rgb = shade(rgb, self.light.brightness(vertex_normals(points, corners)))
        rgb = rgb.clamp(0, 1)
        return Mesh(vertices, faces, rgb.cpu().numpy()), dropped

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "sds_steps": self.sds_steps,
            "sdf": self.solid.sdf.detach(),
            "offsets": self.solid.offsets.detach(),
            "albedo": self.albedo.state_dict(),
            "light": None if self.light is None else self.light.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "chooser": self.targets.chooser.get_state(),
        }

    def _resume(self) -> None:
        state = self.context.checkpoint.load()
        if state is None or state["sdf"].shape != self.solid.sdf.shape:
            return
        self.step, self.sds_steps = state["step"], state["sds_steps"]
        with torch.no_grad():
            self.solid.sdf.copy_(state["sdf"])
            self.solid.offsets.copy_(state["offsets"])
        self.albedo.load_state_dict(state["albedo"])
        if self.light is not None:
            self.light.load_state_dict(state["light"])
        self.optimizer.load_state_dict(state["optimizer"])
        resume_generator(self.generator, state["generator"])
        resume_generator(self.targets.chooser, state.get("chooser", state["generator"]))
