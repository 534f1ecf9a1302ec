"""The conversion, on a miniature checkpoint in the original layout."""

import json

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file
from sv3d_tiny import HEADS, converted, load

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.sv3d.convert import conversion as convert_module
from sv3d_pipe.orbit.sv3d.convert import to_file, to_folder
from sv3d_pipe.orbit.sv3d.convert.checkpoint import SvdAsSv3d
from sv3d_pipe.orbit.sv3d.convert.layout import UNET, UNUSED, unet_config
from sv3d_pipe.orbit.sv3d.photo_input import sinusoid


def used(key: str) -> bool:
    return not any(pattern.match(key) for pattern in UNUSED)


def test_there_and_back_gives_every_used_tensor_bit_by_bit(state, tiny_folder, tmp_path):
    to_file(tiny_folder, tmp_path / "back.safetensors", "fp32")
    back = load_file(tmp_path / "back.safetensors")
    assert set(back) == {key for key in state if used(key)}
    for key, value in back.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float()), key


def test_two_groups_are_ignored_and_nothing_else(state):
    ignored = {key for key in state if not used(key)}
    assert {
        key.split(".")[-2] if "ln_final" in key else key.split(".")[-1]
        for key in ignored
        if "embedders.0" in key
    } >= {
        "ln_final",
        "logit_scale",
        "positional_embedding",
        "text_projection",
    }
    vae = {
        key.removeprefix("conditioner.embedders.1.encoder.").split(".")[0]
        for key in ignored
        if "embedders.1" in key
    }
    assert vae == {"decoder", "post_quant_conv"}
    assert used("conditioner.embedders.0.open_clip.model.visual.positional_embedding")


def test_dtype_of_every_network(tiny_checkpoint, tmp_path):
    to_folder(tiny_checkpoint, tmp_path / "half", "fp16", heads=HEADS)
    kinds = {
        name: {
            value.dtype
            for path in (tmp_path / "half" / name).glob("*.safetensors")
            for value in load_file(path).values()
        }
        for name in ("unet", "vae", "image_encoder")
    }
    assert kinds == {"unet": {torch.float16}, "vae": {torch.float32}, "image_encoder": {torch.float16}}


def test_shards_load_as_one(tiny_checkpoint, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "SHARD_BYTES", 2**21)
    to_folder(tiny_checkpoint, tmp_path / "shards", "fp32", heads=HEADS)
    assert len(list((tmp_path / "shards" / "unet").glob("*.safetensors"))) > 3
    whole, parts = load(tiny_folder), load(tmp_path / "shards")
    for name in ("unet", "vae", "image_encoder"):
        there = getattr(parts, name).state_dict()
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(value, there[key])
    to_file(tmp_path / "shards", tmp_path / "back.safetensors", "fp16")
    assert (tmp_path / "back.safetensors").stat().st_size > 0


def test_progress_ends_at_the_total(tiny_checkpoint, tmp_path):
    seen = []
    to_folder(
        tiny_checkpoint,
        tmp_path / "out",
        "fp16",
        heads=HEADS,
        on_bytes=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1] and all(a[0] < b[0] for a, b in zip(seen, seen[1:]))


def test_nothing_is_overwritten(tiny_checkpoint, tiny_folder, tmp_path):
    with pytest.raises(UserError, match="already exists"):
        to_folder(tiny_checkpoint, tiny_folder)
    with pytest.raises(UserError, match="already exists"):
        to_file(tiny_folder, tiny_checkpoint)
    with pytest.raises(UserError, match="not a diffusers folder"):
        to_file(tmp_path, tmp_path / "new.safetensors")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_a_stop_midway_leaves_nothing(tiny_checkpoint, tmp_path, stop):
    def on_bytes(done, total):
        if done > total / 2:
            raise stop

    with pytest.raises((KeyboardInterrupt, OSError)):
        to_folder(tiny_checkpoint, tmp_path / "out", heads=HEADS, on_bytes=on_bytes)
    assert list(tmp_path.iterdir()) == []


def svd(state: dict) -> dict:
    """The same weights as an SVD checkpoint: three numbers as condition, its own frame VAE."""
    generator = torch.Generator().manual_seed(3)
    renamed = {}
    for key, value in state.items():
        if key.startswith("first_stage_model."):
            continue
        renamed[key.replace("embedders.1.encoder.", "embedders.3.encoder.")] = value
    renamed["first_stage_model.encoder.conv_in.weight"] = torch.zeros(1)
    renamed["first_stage_model.decoder.time_conv_out.weight"] = torch.zeros(1)
    width = state[f"{UNET}label_emb.0.0.weight"].shape[0]
    renamed[f"{UNET}label_emb.0.0.weight"] = torch.randn(width, 768, generator=generator) * 0.05
    return renamed


def test_svd_is_not_taken_for_sv3d(state, tmp_path):
    with pytest.raises(UserError, match="SVD checkpoint, which paints videos"):
        converted(svd(state), tmp_path)
    with pytest.raises(UserError, match="already sv3d-p"):
        converted(state, tmp_path, start="p")


@pytest.mark.parametrize("start", ["u", "p"])
@torch.no_grad()
def test_a_start_from_svd_paints_what_svd_would(state, tmp_path, start):
    """With SVD's default fps and motion, and for p whatever the angles: their columns are zero."""
    original = {key: value.float() for key, value in svd(state).items()}
    assert converted(svd(state), tmp_path, start=start) == f"sv3d-{start}"
    ours = load(tmp_path / "out")
    config = {k: v for k, v in ours.unet.config.items() if not k.startswith("_")}
    torch.manual_seed(0)
    stock = UNetSpatioTemporalConditionModel(**config | {"projection_class_embeddings_input_dim": 768}).eval()
    renamed = {
        key: value
        for key, value in ours.unet.state_dict().items()
        if not key.startswith("add_embedding.linear_1")
    }
    renamed["add_embedding.linear_1.weight"] = original[f"{UNET}label_emb.0.0.weight"]
    renamed["add_embedding.linear_1.bias"] = original[f"{UNET}label_emb.0.0.bias"]
    stock.load_state_dict(renamed)
    for here, there in zip(stock.modules(), ours.unet.modules()):
        if hasattr(here, "eps"):
            here.eps = there.eps
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 5, 8, 8, 8, generator=generator)
    tokens = torch.randn(1, 1, config["cross_attention_dim"], generator=generator)
    ids = torch.tensor([[[0.02, 1.2, 0.1 * k] for k in range(5)]])
    expected = stock(sample, 0.3, tokens, torch.tensor([[6.0, 127.0, 0.02]]), return_dict=False)[0]
    velocity = ours.unet(sample, 0.3, tokens, ids)[0]
    assert (velocity - expected).abs().max() < 2e-5
    assert ours.vae.post_quant_conv is not None


def test_svds_constants_by_hand():
    """Two outputs: fps reaches the first, motion the second; noise keeps its columns."""
    weight = torch.zeros(2, 768)
    weight[0, 0], weight[1, 256 + 128], weight[0, 512] = 2.0, 3.0, 5.0
    shapes = {f"{UNET}label_emb.0.0.weight": (2, 768), f"{UNET}label_emb.0.0.bias": (2,)}

    class Two:
        def __init__(self):
            self.shapes = shapes

        def read(self, key, rows=None):
            return weight if key.endswith("weight") else torch.tensor([0.5, 0.25])

    ours = SvdAsSv3d(Two(), pose=True)
    assert ours.shapes[f"{UNET}label_emb.0.0.weight"] == (2, 1280)
    new = ours.read(f"{UNET}label_emb.0.0.weight")
    assert new[0, 0] == 5 and new.count_nonzero() == 1
    # cos(6 * 1) at fps' first cosine, sin(127 * 1) at motion's first sine
    expected = torch.tensor([0.5 + 2 * 0.960170, 0.25 + 3 * 0.972630])
    torch.testing.assert_close(ours.read(f"{UNET}label_emb.0.0.bias"), expected, rtol=1e-4, atol=1e-4)
    assert sinusoid(torch.tensor(6.0), 256)[0] == pytest.approx(0.960170, abs=1e-5)


def full_size_shapes() -> dict[str, list[int]]:
    """Without tensors: the shapes that say how large SV3D's UNet is."""
    shapes = {
        f"{UNET}input_blocks.0.0.weight": (320, 8, 3, 3),
        f"{UNET}out.2.weight": (4, 320, 3, 3),
        f"{UNET}label_emb.0.0.weight": (1280, 1280),
        f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, 1024),
    }
    for block, width in {1: 320, 2: 320, 4: 640, 5: 640, 7: 1280, 8: 1280, 10: 1280, 11: 1280}.items():
        shapes[f"{UNET}input_blocks.{block}.0.in_layers.0.weight"] = (width,)
        shapes[f"{UNET}input_blocks.{block}.0.out_layers.0.weight"] = (width,)
        if block < 9:
            shapes[f"{UNET}input_blocks.{block}.1.norm.weight"] = (width,)
    return shapes | {f"{UNET}input_blocks.{block}.0.op.weight": (1, 1, 3, 3) for block in (3, 6, 9)}


def test_the_released_size_is_read_from_the_shapes():
    config = unet_config(full_size_shapes(), 64)
    assert config["block_out_channels"] == [320, 640, 1280, 1280]
    assert config["num_attention_heads"] == [5, 10, 20, 20]
    assert config["layers_per_block"] == 2 and config["cross_attention_dim"] == 1024
    assert [name.startswith("Cross") for name in config["down_block_types"]] == [True, True, True, False]
    assert [name.startswith("Cross") for name in config["up_block_types"]] == [False, True, True, True]


@pytest.mark.parametrize("model", ["u", "p"])
def test_all_tensors_of_the_released_files_are_accounted_for(shared_dir, model):
    """Key by key and shape by shape, at full size, without any weights."""
    from sv3d_pipe.orbit.sv3d.convert.conversion import _check, empty_modules
    from sv3d_pipe.orbit.sv3d.convert.layout import configs, kind_of

    keys = json.loads((shared_dir / "sv3d" / f"keys_sv3d_{model}.json").read_text())
    shapes = {key: tuple(shape) for key, (shape, _) in keys.items()}
    assert kind_of(shapes) == f"sv3d-{model}"
    modules = empty_modules(configs(shapes), torch.float16)
    _check(shapes, modules.values(), shared_dir)
    places = [tensor.key for module in modules.values() for tensor in module.tensors]
    assert len(set(places)) == 1428 + 392 + 108 + 138
    assert sum(key not in set(places) for key in shapes) == 6 + 140


def test_sources_keep_safetensors_metadata_out_of_the_way(state, tmp_path):
    save_file(state, tmp_path / "model.safetensors", {"format": "pt", "anything": "else"})
    assert to_folder(tmp_path / "model.safetensors", tmp_path / "out", heads=HEADS) == "sv3d-p"
