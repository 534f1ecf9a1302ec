import sys

import pytest
import torch
from torch import nn
from training_fakes import tiny_sv3d, toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.lora import add_lora, merged
from sv3d_pipe.finetune.phases import choose_trained


def test_without_peft_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'img2mesh\[train\]'"):
        add_lora(nn.Linear(2, 2), 1)


def test_merging_by_hand():
    """W + B A, under the old names; what has no LoRA stays."""
    state = {
        "a.base_layer.weight": torch.eye(2),
        "a.base_layer.bias": torch.tensor([5.0, 6.0]),
        "a.lora_A.default.weight": torch.tensor([[1.0, 2.0]]),
        "a.lora_B.default.weight": torch.tensor([[10.0], [0.0]]),
        "b.weight": torch.tensor([3.0]),
    }
    plain = merged(state)
    assert sorted(plain) == ["a.bias", "a.weight", "b.weight"]
    assert plain["a.weight"].tolist() == [[11, 20], [0, 1]]


def test_lora_starts_at_the_model_and_merges_to_what_it_learned(tmp_path):
    pytest.importorskip("peft")
    unet = tiny_sv3d(tmp_path).unet
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 3, 8, 8, 8, generator=generator)
    token = torch.randn(1, 1, unet.config.cross_attention_dim, generator=generator)
    ids = torch.rand(1, 3, 3, generator=generator)
    ask = lambda net: net(sample, 0.2, token, ids)[0]  # noqa: E731
    with torch.no_grad():
        expected = ask(unet)
    choose_trained(unet, toy_recipe(train="lora", rank=2))
    torch.testing.assert_close(ask(unet).detach(), expected, rtol=1e-4, atol=1e-4)
    trained = [name for name, p in unet.named_parameters() if p.requires_grad]
    assert all("lora_" in name or name.startswith("add_embedding.") for name in trained)
    optimizer = torch.optim.SGD([p for p in unet.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        ask(unet).square().mean().backward()
        optimizer.step()
    plain = type(unet).from_config(unet.config)
    plain.load_state_dict(merged(unet.state_dict()))
    with torch.no_grad():
        learned, again = ask(unet), ask(plain)
    assert (learned - expected).abs().max() > 1e-3
    torch.testing.assert_close(again, learned, rtol=1e-4, atol=1e-5)
    changed = {n for n, p in plain.named_parameters() if not torch.equal(p, before[n])}
    assert changed and not any("conv" in name for name in changed)


def test_lora_of_mini_reaches_its_attention():
    pytest.importorskip("peft")
    unet = toy_pipeline().unet
    choose_trained(unet, toy_recipe(train="lora", rank=2))
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert any(name.startswith("blocks.0.qkv.lora_A") for name in trained)
