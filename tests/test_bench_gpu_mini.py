"""What the training of mini on a GPU is made of."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from gpu_mini import deepened

from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser


def test_more_blocks_change_nothing_until_they_are_trained():
    torch.manual_seed(0)
    net = VolumeDenoiser(size=16, grid=8, channels=(8, 8), width=32, depth=2, knows=True)
    torch.nn.init.normal_(net.head.leave.weight, std=0.1)
    given = torch.randn(1, 2, 8, 16, 16), torch.tensor(1.6), None, torch.rand(1, 2, 3)
    grown = deepened(net, depth=5, mid_depth=3)
    assert len(grown.blocks) == grown.config.depth == 5 and len(grown.mid_out) == grown.config.mid_depth == 3
    torch.testing.assert_close(grown.eval()(*given)[0], net.eval()(*given)[0])
    grown(*given)[0].square().mean().backward()
    for layer in (grown.blocks[4].out, grown.blocks[3].mlp[-1], grown.mid_in[2].mix, grown.mid_out[2].mix):
        assert layer.weight.grad.abs().max() > 0


def test_a_network_that_grew_is_loaded_as_it_was_saved(tmp_path):
    grown = deepened(VolumeDenoiser(size=16, grid=8, channels=(8, 8), width=32, depth=1), 3, 4)
    grown.save_pretrained(tmp_path)
    loaded = VolumeDenoiser.from_pretrained(tmp_path)
    assert loaded.config.depth == 3 and loaded.config.mid_depth == 4
    for name, value in grown.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
