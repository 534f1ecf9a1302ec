import math

import pytest
import torch
from orbit_fakes import half_disc

from sv3d_pipe.cameras import orbit_angles
from sv3d_pipe.orbit.mini.denoiser import SOLID, VolumeDenoiser
from sv3d_pipe.orbit.mini.knowledge import TOKEN, Knowledge, knowledge_token, stretch, with_depths
from sv3d_pipe.orbit.mini.mini_painter import solid_masks
from sv3d_pipe.orbit.mini.voxels import CAMERA_DISTANCE, FOCAL, voxel_centers
from sv3d_pipe.orbit.store.load import load_pipeline


def tiny(knows: bool = True) -> VolumeDenoiser:
    torch.manual_seed(0)
    return VolumeDenoiser(size=64, grid=32, channels=(8, 16), width=32, depth=1, knows=knows).eval()


def token(*depths: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn((1, 120, 12, 12), generator=generator)
    whole = torch.rand((1, 1280), generator=generator)
    return with_depths(knowledge_token(fine, whole, torch.ones(1)), torch.tensor(depths))


def inputs(batch: int = 1, frames: int = 3):
    generator = torch.Generator().manual_seed(1)
    noisy = 5 * torch.randn((batch, frames, 4, 64, 64), generator=generator)
    photo = torch.rand((batch, 4, 64, 64), generator=generator) * 2 - 1
    pose = torch.rand((batch, frames, 2), generator=generator) + 0.5
    return noisy, torch.full((batch,), 5.0), photo, pose


def test_a_token_holds_what_is_seen_and_the_depths_logarithm():
    fine, whole = torch.rand(2, 120, 12, 12), torch.rand(2, 1280)
    made = knowledge_token(fine, whole, torch.tensor([0.5, 2.0]))
    assert made.shape == (2, 1, TOKEN)
    torch.testing.assert_close(made[:, 0, : 120 * 144].view(2, 120, 12, 12), fine)
    torch.testing.assert_close(made[:, 0, 120 * 144 : -1], whole)
    torch.testing.assert_close(made[:, 0, -1], torch.tensor([-math.log(2), math.log(2)]))


def test_the_volume_is_as_deep_as_told_with_a_quarter_to_spare_within_limits():
    extents = stretch(token(0.4, 0.8, 0.01, 5.0))
    assert extents.shape == (4, 1, 1, 3)
    torch.testing.assert_close(extents[:, 0, 0, 2], torch.tensor([0.5, 1.0, 0.4, 1.25]))
    assert (extents[..., :2] == 1).all()
    assert (stretch(torch.zeros(1, 1, TOKEN)) == 1).all()


def test_a_network_that_has_not_learned_to_listen_paints_as_if_nothing_were_told():
    told, deaf = tiny(), tiny(knows=False)
    told.load_state_dict(deaf.state_dict(), strict=False)
    with torch.no_grad():
        plain = deaf.denoise(*inputs())
        torch.testing.assert_close(told.denoise(*inputs()), plain)
        torch.testing.assert_close(told.denoise(*inputs(), token(0.8)), plain)
        assert not torch.allclose(told.denoise(*inputs(), token(0.4)), plain, atol=1e-3)


@pytest.mark.parametrize("layer", ["leave", "tell"])
def test_what_is_seen_and_what_is_told_reach_the_frames(layer):
    net = tiny()
    torch.nn.init.normal_(getattr(net.knowledge, layer).weight, std=0.1)
    with torch.no_grad():
        one, other = (net.denoise(*inputs(), token(0.8, seed=seed)) for seed in (0, 1))
    assert (one - other).abs().mean() > 1e-4


def test_what_is_not_known_adds_no_features():
    knowledge = Knowledge(16, 8).eval()
    for layer in (knowledge.leave, knowledge.tell):
        torch.nn.init.normal_(layer.weight)
    told, seen = knowledge(torch.cat([torch.zeros(1, 1, TOKEN), token(0.5)]), 8)
    assert seen.shape == (2, 16, 8, 8) and told.shape == (2, 8)
    assert not seen[0].any() and seen[1].any()


def ball(monkeypatch, net: VolumeDenoiser) -> float:
    """Makes every volume a ball of half the extents, solid as likely as not at its surface; returns the share of a
    frame that its disc covers."""
    distance = voxel_centers(32, torch.device("cpu")).norm(dim=-1).view(1, 1, 32, 32, 32)
    density = -SOLID * torch.log2(1 - ((0.5 - distance) * 16 + 0.5).clamp(0, 0.999))
    monkeypatch.setattr(net, "_volume", lambda noise, *_: density.expand(len(noise), 8, -1, -1, -1))
    sine = 0.5 / CAMERA_DISTANCE
    return math.pi / 4 * (FOCAL * sine) ** 2 / (1 - sine**2)


LEVEL = [[math.pi / 2, math.pi / 2], [math.pi / 2, 0.0]]  # from the side, and the photo's own view


def test_the_silhouette_is_as_deep_as_the_volume(monkeypatch):
    """Seen from the side, the ball in a volume half as deep is half as wide; from the front it is as it was."""
    net = tiny()
    disc, photo = ball(monkeypatch, net), inputs()[2]
    side, front = net.silhouettes(photo, torch.tensor(LEVEL), token(0.4)).mean((1, 2))
    assert front == pytest.approx(disc, rel=0.08)
    assert side == pytest.approx(disc / 2, rel=0.1)


def test_of_several_depths_the_solid_is_what_more_than_half_of_them_have(monkeypatch):
    net = tiny()
    disc, photo = ball(monkeypatch, net), inputs()[2]
    for depths, share in (((0.4, 0.8, 0.8), 1.0), ((0.4, 0.4, 0.8), 0.5)):
        side, _ = net.silhouettes(photo, torch.tensor(LEVEL), token(*depths)).mean((1, 2))
        assert side == pytest.approx(share * disc, rel=0.1)


def test_mini_is_told_its_guess_and_cuts_its_solid_by_all_that_is_possible(monkeypatch):
    pipeline, photo, asked = load_pipeline("mini", "cpu"), half_disc(96), []
    known = pipeline.encode_photo(photo, 20.0)
    told, guess = known.token, known.guess
    assert told.shape == (1, 1, TOKEN) and told[0, 0, -1].exp().item() == pytest.approx(guess.depth, rel=1e-5)

    def silhouettes(self, photo, pose, tokens):
        asked.append(tokens)
        return torch.ones(len(pose), 64, 64)

    monkeypatch.setattr(VolumeDenoiser, "silhouettes", silhouettes)
    solid_masks(pipeline, photo, orbit_angles("sine", 20.0, 30.0))
    torch.testing.assert_close(asked[0][:, 0, -1].exp(), guess.possible())
    torch.testing.assert_close(asked[0][:, 0, :-1], told[0, :, :-1].expand(5, -1))
