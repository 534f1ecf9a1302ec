"""Two processes on the CPU compute what one does with the same batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file
from training_fakes import cpu, record, toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import make_examples, make_trainer, save_model
from sv3d_pipe.finetune.monitor import Monitor, held_out
from sv3d_pipe.finetune.optimizers import make_optimizers
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

CODE = """
import sys
sys.path.insert(0, {here!r})
import test_finetune_gloo as t
t.part_of_a_run(t.Path({folder!r}) / "copied")
t.part_of_a_run(t.Path({folder!r}) / "sharded", sharded=True)
"""


def part_of_a_run(folder: Path, sharded: bool = False) -> None:
    """Train in this process, which may be one of several."""
    folder.mkdir(exist_ok=True)
    recipe = toy_recipe(steps=10, batch=4)
    pipeline, accelerator = toy_pipeline(), cpu()
    assert accelerator.num_processes == int(os.environ.get("WORLD_SIZE", 1))
    if sharded:
        accelerator.prepare = shard
    examples = make_examples([record(k) for k in range(4)], pipeline, recipe, accelerator, folder)
    monitor = Monitor(pipeline, held_out(examples, accelerator.device)[:1], 0, None)
    trainer = make_trainer(pipeline, examples, recipe, folder, accelerator)
    trainer.run(validate=monitor)
    state = trainer.averaged_state()
    again = make_trainer(toy_pipeline(), examples, recipe, folder, accelerator)
    assert again.step == 10 and again.share_spent == 1
    if accelerator.is_main_process:
        save_model(pipeline, state, folder)


def shard(unet, *optimizers):
    """What accelerate does under FSDP, which it offers on GPUs only: every process keeps a part of each weight."""
    from torch.distributed.fsdp import fully_shard

    for block in unet.mid_in:
        fully_shard(block)
    fully_shard(unet)
    return unet, *map(AcceleratedOptimizer, make_optimizers(unet, toy_recipe()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the same run by one process, by two with copies of the network, and by two with parts of it."""
    folder = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = CODE.format(here=os.path.dirname(__file__), folder=str(folder))
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | world | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    part_of_a_run(folder / "alone")
    for rank in ranks:
        _, said = rank.communicate(timeout=300)
        assert rank.returncode == 0, said
    return folder


@pytest.mark.parametrize("way", ["copied", "sharded"])
def test_two_processes_compute_what_one_does(folder, way):
    alone, together = folder / "alone", folder / way
    one, two = (torch.load(f / "training.pt", weights_only=True) for f in (alone, together))
    assert one["step"] == two["step"] == 10
    rows = [list(map(json.loads, (f / "log.jsonl").read_text().splitlines())) for f in (alone, together)]
    assert rows[1][0]["loss"] == pytest.approx(rows[0][0]["loss"], rel=1e-5)
    assert rows[1][1]["val_psnr_db"] == pytest.approx(rows[0][1]["val_psnr_db"], abs=1e-3)
    saved = load_file(together / "unet" / "diffusion_pytorch_model.safetensors")
    for name, value in two["average"].items():
        torch.testing.assert_close(saved[name], value, rtol=0, atol=0, msg=name)
    assert_alike(one["net"], two["net"])
    assert_alike(one["average"], two["average"])


def assert_alike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Every tensor went the same way from the start: what differs is less than a hundredth of that way.

    Not number by number: where a gradient is next to nothing, Adam scales its rounding up. Softmax ignores the keys'
    bias, whose gradient is nothing but rounding.
    """
    for name, start in toy_pipeline().unet.state_dict().items():
        way, other = one[name] - start, two[name] - start
        if name.endswith("qkv.bias"):
            way, other = (change.view(3, -1)[[0, 2]] for change in (way, other))
        assert (other - way).norm() < 0.01 * way.norm(), name


@pytest.mark.parametrize("way, kind", [("ddp", "MULTI_GPU"), ("fsdp", "FSDP")])
def test_the_shipped_configurations_are_read_by_accelerate(way, kind):
    path = Path(__file__).parents[2] / "examples" / "accelerate" / f"{way}.yaml"
    config = load_config_from_file(str(path))
    assert config.distributed_type == kind and config.num_processes == 8
    if way == "fsdp":
        wrapped = config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
        blocks = StableVideo3DUNet(
            block_out_channels=(32, 64, 64, 64), num_attention_heads=(1, 2, 2, 2)
        ).modules()
        assert set(wrapped) <= {type(block).__name__ for block in blocks}


def test_a_step_worked_on_in_parts_is_the_step_in_one(tmp_path):
    weights = []
    for parts in (1, 2):
        recipe, pipeline = toy_recipe(steps=3, batch=4, accumulate=parts), toy_pipeline()
        examples = make_examples([record(k) for k in range(4)], pipeline, recipe, cpu(), tmp_path)
        trainer = make_trainer(pipeline, examples, recipe, None, cpu())
        trainer.run()
        weights.append(trainer.net.state_dict())
    assert_alike(*weights)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    recipe = toy_recipe(batch=4, accumulate=3)
    pipeline = toy_pipeline()
    examples = make_examples([record(0)], pipeline, recipe, cpu(), tmp_path)
    with pytest.raises(UserError, match="--batch must be a multiple of processes times --accumulate, here 3"):
        make_trainer(pipeline, examples, recipe, tmp_path, cpu())
