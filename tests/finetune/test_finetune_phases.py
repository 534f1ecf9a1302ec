import pytest
import torch
from training_fakes import tiny_sv3d, toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.phases import choose_trained, fit_phase, start_model
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sv3d")
    for kind in ("u", "p"):
        tiny_sv3d(place, kind)
    return place


def ask(unet, azimuth: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    sample = torch.randn(1, 3, 8, 8, 8, generator=generator)
    tokens = torch.randn(1, 1, unet.config.cross_attention_dim, generator=generator)
    ids = torch.tensor([[[1e-5, 1.4, azimuth * k] for k in range(3)]])
    return unet(sample, 0.3, tokens, ids)[0]


def test_u_grown_to_p_paints_what_u_did_and_can_learn_angles(folder):
    unet = start_model(str(folder / "sv3d-u"), "u", "cpu", folder).unet
    with torch.no_grad():
        before = ask(unet, 0.0)
    fit_phase(unet, "p")
    assert unet.widths == (256, 512, 512)
    assert unet.config.projection_class_embeddings_input_dim == 1280
    after = ask(unet, 0.7)
    assert (after - before).abs().max().item() < 1e-6 * before.abs().max().item()
    after.square().mean().backward()
    new = unet.add_embedding.linear_1.weight.grad[:, 256:]
    assert (new.abs().amax(0) > 0).all()


@pytest.mark.parametrize(
    "model, phase, sentence",
    [
        ("sv3d-p", "u", "Phase u trains without camera angles"),
        ("sv3d-u", "c", "continues with --phase p"),
        ("new", "u", "Phase u trains without camera angles"),
    ],
)
def test_phases_that_a_model_cannot_start(folder, model, phase, sentence):
    with pytest.raises(UserError, match=sentence):
        start_model(model if model == "new" else str(folder / model), phase, "cpu", folder)


def test_new_is_mini_with_random_weights(tmp_path):
    torch.manual_seed(7)
    pipeline = start_model("new", "p", "cpu", tmp_path)
    assert isinstance(pipeline.unet, VolumeDenoiser)
    assert (pipeline.config.steps, pipeline.config.guidance) == (1, 1.0)


def test_an_svd_file_starts_phase_u_and_c_but_not_p(tmp_path):
    import sv3d_tiny
    from test_orbit_convert import svd

    path = sv3d_tiny.write(tmp_path / "svd_xt.safetensors", svd(sv3d_tiny.weights(sv3d_tiny.numbers())))
    for phase, widths in (("u", (256,)), ("c", (256, 512, 512))):
        place = tmp_path / phase
        pipeline = start_model(str(path), phase, "cpu", place, heads=sv3d_tiny.HEADS)
        assert pipeline.unet.widths == widths
    with pytest.raises(UserError, match="train --phase u or --phase c from SVD"):
        start_model(str(path), "p", "cpu", tmp_path / "p", heads=sv3d_tiny.HEADS)


def test_temporal_training_leaves_every_picture_layer_alone(folder):
    unet = start_model(str(folder / "sv3d-p"), "p", "cpu", folder).unet
    choose_trained(unet, toy_recipe(train="temporal"))
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert trained and not any(".transformer_blocks." in n or ".spatial_res_block" in n for n in trained)
    layers = {name.split(".")[0] for name in trained}
    assert layers == {"add_embedding", "down_blocks", "mid_block", "up_blocks"}
    assert any("time_mixer.mix_factor" in name for name in trained)
    with pytest.raises(UserError, match="no layers over time"):
        choose_trained(toy_pipeline().unet, toy_recipe(train="temporal"))


def test_recomputed_activations_change_no_gradient(folder):
    unet = start_model(str(folder / "sv3d-p"), "p", "cpu", folder).unet
    unet.zero_grad()
    ask(unet, 0.5).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}
    unet.zero_grad()
    choose_trained(unet, toy_recipe(checkpointing=True))
    ask(unet, 0.5).square().mean().backward()
    assert unet.is_gradient_checkpointing
    for name, parameter in unet.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name])
    with pytest.raises(UserError, match="leave out --checkpointing"):
        choose_trained(toy_pipeline().unet, toy_recipe(checkpointing=True))
