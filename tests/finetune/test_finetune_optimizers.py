import types

import pytest
import torch
from accelerate.utils import DistributedType
from training_fakes import toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.optimizers import MUON_RATE, make_optimizers
from sv3d_pipe.finetune.trainer import Trainer


def test_muon_takes_the_weights_of_linear_layers_and_adamw_everything_else():
    net = toy_pipeline().unet
    rest, matrices = make_optimizers(net, toy_recipe(optimizer="muon"))
    assert type(rest) is torch.optim.AdamW and type(matrices) is torch.optim.Muon
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
    assert type(only) is torch.optim.Muon


def test_a_matrix_moves_equally_far_along_all_its_directions():
    """The first update is 0.2 sqrt(larger side) rate U V^T, for a gradient U S V^T with any S (2502.16982, eq. 4)."""
    layer = torch.nn.Linear(8, 8, bias=False)
    layer.weight.data.zero_()  # nothing to decay
    (muon,) = make_optimizers(layer, toy_recipe(optimizer="muon"))
    rate = 1e-2 * MUON_RATE
    muon.param_groups[0]["lr"] = rate
    layer.weight.grad = torch.diag(torch.tensor([1.0, 0.8, -0.6, 0.5, 0.5, 0.4, 0.3, 0.3]))
    muon.step()
    moved = layer.weight.detach() / (-0.2 * 8**0.5 * rate)
    signs = torch.tensor([1.0, 1, -1, 1, 1, 1, 1, 1])
    assert moved.diagonal().mul(signs).tolist() == pytest.approx(
        [1.0] * 8, abs=0.35
    )  # five Newton-Schulz steps
    assert (moved - torch.diag(moved.diagonal())).abs().max() < 1e-2


def test_muon_is_refused_where_matrices_are_split():
    split = types.SimpleNamespace(num_processes=1, distributed_type=DistributedType.FSDP)
    with pytest.raises(UserError, match="use --optimizer adamw"):
        Trainer(toy_pipeline().unet, None, toy_recipe(optimizer="muon"), None, split, None, None)
