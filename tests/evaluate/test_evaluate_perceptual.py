"""LPIPS and CLIP-S are computed only from what is here; what is missing is named, nothing is downloaded."""

import socket

import numpy as np
import pytest
import torch

from sv3d_pipe.evaluate import perceptual


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No weights anywhere, and a network that must not be touched."""

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(perceptual, "CLIP_MODEL", "nobody/has-this")
    for measure in (perceptual.lpips_score, perceptual.clip_score):
        measure.cache_clear()
    yield tmp_path
    for measure in (perceptual.lpips_score, perceptual.clip_score):
        measure.cache_clear()


def test_without_weights_nothing_is_computed_and_the_reason_is_given(bare):
    reasons = perceptual.availability()
    assert (
        reasons["lpips"].startswith("not computed: vgg16-397923af.pth or alexnet")
        and str(bare) in reasons["lpips"]
    )
    assert reasons["clip_s"].startswith("not computed: model.safetensors of nobody/has-this")
    picture = np.zeros((1, 64, 64, 3), np.float32)
    assert perceptual.perceptual_scores(picture, picture) == {}


def test_scores_are_per_picture_and_small_pictures_have_no_lpips(monkeypatch):
    def distance(a, b):
        return (a - b).abs().mean((1, 2, 3))

    monkeypatch.setattr(perceptual, "lpips_score", lambda: (distance, "a distance"))
    monkeypatch.setattr(perceptual, "clip_score", lambda: (None, "not computed: no"))
    a = np.zeros((2, 64, 64, 3), np.float32)
    b = np.stack([a[0], a[0] + 0.5])
    assert perceptual.perceptual_scores(a, b) == {"lpips": [0.0, 0.5]}
    assert perceptual.perceptual_scores(a[:, :32], b[:, :32]) == {}


def test_clip_input_is_standardized():
    gray = torch.full((1, 3, 96, 96), 0.48145466)
    pixels = perceptual.clip_input(gray)
    assert pixels.shape == (1, 3, 224, 224)
    torch.testing.assert_close(pixels[:, 0], torch.zeros(1, 224, 224), atol=1e-5, rtol=0)
    assert pixels[0, 2, 0, 0] == pytest.approx((0.48145466 - 0.40821073) / 0.27577711, abs=1e-5)
