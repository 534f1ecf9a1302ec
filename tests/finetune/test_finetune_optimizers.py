import types

import pytest
import torch
from accelerate.utils import DistributedType
from training_fakes import toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune import muon
from sv3d_pipe.finetune.muon import Muon, orthogonalized
from sv3d_pipe.finetune.optimizers import MUON_RATE, make_optimizers
from sv3d_pipe.finetune.trainer import Trainer


def test_muon_takes_the_weights_of_linear_layers_and_adamw_everything_else():
    net = toy_pipeline().unet
    rest, matrices = make_optimizers(net, toy_recipe(optimizer="muon"))
    assert type(rest) is torch.optim.AdamW and type(matrices) is Muon
    taken = [[id(p) for group in o.param_groups for p in group["params"]] for o in (rest, matrices)]
    names = {id(p): name for name, p in net.named_parameters()}
    assert sorted(taken[0] + taken[1]) == sorted(names)
    assert "blocks.0.qkv.weight" in {names[i] for i in taken[1]}
    assert not {"place", "blocks.0.qkv.bias", "mid_in.0.conv.weight"} & {names[i] for i in taken[1]}


def test_frozen_weights_are_left_alone_and_adamw_takes_all_others():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False))
    net[0].requires_grad_(False)
    (only,) = make_optimizers(net, toy_recipe(optimizer="adamw"))
    assert [p is net[1].weight for p in only.param_groups[0]["params"]] == [True]
    (only,) = make_optimizers(net, toy_recipe(optimizer="muon"))
    assert type(only) is Muon


def test_a_matrix_moves_equally_far_along_all_its_directions():
    """The first update is 0.2 sqrt(larger side) rate U V^T, for a gradient U S V^T with any S (2502.16982, eq. 4)."""
    layer = torch.nn.Linear(8, 8, bias=False)
    layer.weight.data.zero_()  # nothing to decay
    (optimizer,) = make_optimizers(layer, toy_recipe(optimizer="muon"))
    rate = 1e-2 * MUON_RATE
    optimizer.param_groups[0]["lr"] = rate
    layer.weight.grad = torch.diag(torch.tensor([1.0, 0.8, -0.6, 0.5, 0.5, 0.4, 0.3, 0.3]))
    optimizer.step()
    moved = layer.weight.detach() / (-0.2 * 8**0.5 * rate)
    signs = torch.tensor([1.0, 1, -1, 1, 1, 1, 1, 1])
    assert moved.diagonal().mul(signs).tolist() == pytest.approx(
        [1.0] * 8, abs=0.35
    )  # five Newton-Schulz steps
    assert (moved - torch.diag(moved.diagonal())).abs().max() < 1e-2


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4)])
def test_muon_moves_weights_as_torch_does(shape, monkeypatch):
    """torch.optim.Muon is the twin; it works in bfloat16, so ours must for the comparison."""
    monkeypatch.setattr(muon, "work_dtype", lambda device: torch.bfloat16)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(5):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1 + step))
        for weights, optimizer in zip((ours, theirs), optimizers):
            weights.grad = gradient.clone()
            optimizer.step()
    assert (theirs - start).abs().max() > 0.02
    torch.testing.assert_close(ours, theirs)


def test_float32_and_bfloat16_move_weights_alike():
    matrix = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))
    full, half = (orthogonalized(matrix, dtype).float() for dtype in (torch.float32, torch.bfloat16))
    assert (full - half).norm() < 0.03 * full.norm()
    values = torch.linalg.svdvals(full)
    assert 0.68 < values.min() and values.max() < 1.21


def test_only_matrices_can_be_moved_by_muon():
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1, weight_decay=0.0)


def test_muon_is_refused_where_matrices_are_split():
    split = types.SimpleNamespace(num_processes=1, distributed_type=DistributedType.FSDP)
    with pytest.raises(UserError, match="use --optimizer adamw"):
        Trainer(toy_pipeline().unet, None, toy_recipe(optimizer="muon"), None, split, None, None)
