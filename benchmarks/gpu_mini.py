"""Train the next edition of mini on one large GPU in minutes: `benchmarks/gpu_mini.sh` runs it.

    python benchmarks/gpu_mini.py DATA -o OUT --seconds 420

DATA holds meshes that `pack_objects.py unpack` wrote, in DATA/training and DATA/held_out; of the latter only those that
the present mini never saw are used, to measure on. They are drawn by all processors; the finished pictures lie on the
device. The present mini gets more blocks, as many as the time allows, which at first change nothing, and is trained in
all its weights; then the network that guesses depths is trained anew on the same photos. OUT receives the model, after
every minute, and run.jsonl: what was measured, and what took how long.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from sv3d_pipe.dataset.orbit_set import OrbitSet
from sv3d_pipe.finetune import depth_training
from sv3d_pipe.finetune.assembly import make_trainer, save_model
from sv3d_pipe.finetune.monitor import Monitor, held_out
from sv3d_pipe.finetune.phases import start_model
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.finetune.resident_views import ResidentExamples, ResidentViews, readers
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser
from sv3d_pipe.orbit.store.find import find_model

VIEWS = ("--orbit", "random", "--distance", "sphere")
LOOKS = {  # data sets in the order in which they are drawn
    "held": ("--textures", "keep", "--seed", "1"),
    "real": ("--textures", "keep", "--seed", "2"),
    "stretched": ("--stretch", "1.6", "--seed", "3"),
    "dressed": ("--seed", "4"),
}
SIZES = ((12, 4), (8, 3), (4, 2))  # blocks of the transformer and of convolutions, the largest first
ENOUGH = 150_000  # examples that a size must be able to see in the time
RATED = 6  # steps from which its speed is told
AT_THE_END = 45.0  # seconds for the depth network and for saving
VALIDATION = 7.0  # seconds every minute, saving included


@dataclass(frozen=True)
class Scale:
    """How much of everything: the real run, or a rehearsal on a CPU."""

    views: int = 32
    photos: int = 5
    batch: int = 128
    sizes: tuple[tuple[int, int], ...] = SIZES
    enough: int = ENOUGH
    depth_steps: int = 2000
    precision: str = "bfloat16"


REHEARSAL = Scale(views=6, photos=2, batch=4, enough=10, depth_steps=20, precision="auto")


class Log:
    """Lines of JSON with the second at which they were written, to a file and to the terminal."""

    def __init__(self, path: Path, began: float):
        self.path, self.began = path, began

    def __call__(self, **row: object) -> None:
        line = json.dumps({"at_s": round(time.monotonic() - self.began, 1)} | row)
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def draw(meshes: Path, out: Path, scale: Scale, *more: str) -> subprocess.Popen:
    """`img2mesh render` in processes of its own; `out/manifest.json` is there when it is done."""
    command = [
        sys.executable,
        "-c",
        "from sv3d_pipe.cli import app; app()",
        "render",
        str(meshes),
        "-o",
        str(out),
    ]
    out.parent.mkdir(exist_ok=True)
    counts = ["--views", str(scale.views), "--photos", str(scale.photos)]
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen([*command, *VIEWS, *counts, *more], stdout=log, stderr=log)


def deepened(net: VolumeDenoiser, depth: int, mid_depth: int) -> VolumeDenoiser:
    """The network with more blocks; the new ones add nothing until they are trained."""
    config = {name: value for name, value in net.config.items() if not name.startswith("_")}
    grown = VolumeDenoiser(**config | {"depth": depth, "mid_depth": mid_depth}).to(net.device)
    for block in grown.blocks[len(net.blocks) :]:
        _silence(block.out, block.mlp[-1])
    for theirs, ours in ((grown.mid_in, net.mid_in), (grown.mid_out, net.mid_out)):
        for block in theirs[len(ours) :]:
            _silence(block.mix)
    grown.load_state_dict(grown.state_dict() | net.state_dict())
    return grown.train()


@functools.cache
def trained_on() -> set[str]:
    """Names of the objects that the present mini was trained on."""
    with (find_model("mini") / "TRAINING_DATA.csv").open() as file:
        return {row["id"] for row in csv.DictReader(file)}


def _silence(*layers: nn.Module) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def chosen_size(pipeline, examples, recipe: Recipe, scale: Scale, seconds: float, log: Log) -> VolumeDenoiser:
    """The largest network that sees enough examples in the seconds that are left."""
    accelerator = Accelerator(mixed_precision="bf16" if recipe.precision == "bfloat16" else "no")
    start = pipeline.unet
    for depth, mid_depth in scale.sizes:
        pipeline.unet = deepened(start, depth, mid_depth)
        trainer = make_trainer(pipeline, examples, replace(recipe, steps=2, minutes=0), None, accelerator)
        trainer.run()
        _wait(accelerator.device)
        began = time.monotonic()
        trainer.recipe = replace(trainer.recipe, steps=2 + RATED)
        trainer.run()
        _wait(accelerator.device)
        rate = RATED * recipe.batch / (time.monotonic() - began)
        memory = torch.cuda.max_memory_allocated() / 1e9 if accelerator.device.type == "cuda" else 0.0
        log(what="size", depth=depth, mid_depth=mid_depth, examples_per_s=round(rate, 1), gb=round(memory, 2))
        if rate * seconds >= scale.enough:
            break
    return deepened(start, depth, mid_depth)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Growing:
    """After every minute: the model is saved and measured, and more data are added as soon as they are drawn."""

    def __init__(self, trainer, monitor: Monitor, coming: list[Path], out: Path, log: Log):
        self.trainer, self.monitor, self.coming, self.out, self.log = trainer, monitor, coming, out, log
        self.reader: threading.Thread | None = None

    def __call__(self, step: int) -> dict[str, float]:
        examples = self.trainer.examples
        if self.reader is not None and not self.reader.is_alive():
            self.reader = None
            self.trainer.examples = ResidentExamples(examples.source, self.trainer.recipe, in_order=False)
            self.log(what="more data", objects=len(self.trainer.examples.objects))
        if self.reader is None and self.coming and (self.coming[0] / "manifest.json").exists():
            add = (OrbitSet(self.coming.pop(0)), self.trainer.recipe.frames, readers())
            self.reader = threading.Thread(target=examples.source.add, args=add, daemon=True)
            self.reader.start()
        save_model(self.monitor.pipeline, self.trainer.net.state_dict(), self.out)
        return self.monitor(step)


def train_depth(
    pipeline, source: ResidentViews, count: int, held: ResidentViews, steps: int, log: Log
) -> None:
    """Give the pipeline depth networks trained on the photos of the first objects; the old ones are measured too."""
    photos, unseen = features(source, count), features(held, len(held.photos))
    before = depth_training.errors(pipeline.depth.to(source.device), unseen).abs().mean()
    guesser = DepthGuesser().to(source.device)
    losses = []
    depth_training.train(guesser, photos, steps, 0, lambda step, loss: losses.append(loss))
    after = depth_training.errors(guesser, unseen).abs().mean()
    pipeline.register_modules(depth=guesser)
    log(what="depth", photos=len(photos), held_out_before=round(float(before), 4),
        held_out=round(float(after), 4), loss=round(sum(losses[-100:]) / len(losses[-100:]), 4))  # fmt: skip


def features(views: ResidentViews, count: int) -> depth_training.PhotoFeatures:
    """What is seen in the photos of the first objects, as they are and mirrored."""
    angles = [height[places] for height, places in zip(views.elevation_deg[:count], views.photos)]
    elevation = torch.cat([torch.from_numpy(part) for part in angles])
    fine, whole = (part[:, : len(elevation)].flatten(0, 1) for part in (views.fine, views.whole))
    target = views.depth[: len(elevation)].cpu().log()
    return depth_training.PhotoFeatures(fine, whole, elevation.repeat(2), target.repeat(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420, help="from the start to the last file")
    parser.add_argument("--rehearse", action="store_true", help="little of everything, for a CPU")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    began, scale = time.monotonic(), REHEARSAL if options.rehearse else Scale()
    options.out.mkdir(parents=True, exist_ok=True)
    log = Log(options.out / "run.jsonl", began)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, held = options.data / "training", options.data / "held_out"
    for path in held.glob("*.glb"):
        if path.stem in trained_on():
            path.unlink()
    sets = [options.data / "drawn" / name for name in LOOKS]
    drawing = [draw(meshes, data, scale, *LOOKS[data.name]) for meshes, data in zip((held, train), sets)]
    pipeline = start_model("mini", "p", device, options.out)
    log(what="start", device=torch.cuda.get_device_name() if device == "cuda" else device, torch=torch.__version__,
        objects=len(list(train.glob("*.glb"))), held=len(list(held.glob("*.glb"))), processors=os.cpu_count())  # fmt: skip
    for process in drawing:
        if process.wait():
            raise SystemExit("Drawing failed:\n" + sets[1].with_suffix(".log").read_text()[-2000:])
    log(what="drawn", objects=len(OrbitSet(sets[1])))

    def draw_the_rest() -> None:
        for data in sets[2:]:
            draw(train, data, scale, *LOOKS[data.name]).wait()

    codec = type(pipeline.vae).from_config(pipeline.vae.config)
    views, unseen = (ResidentViews(codec, torch.device(device), seed=0) for _ in range(2))
    recipe = Recipe(batch=scale.batch, learning_rate=options.learning_rate, save_minutes=1.0, precision=scale.precision,
                    steps=10**9, warmup=300)  # fmt: skip
    views.add(OrbitSet(sets[1]), recipe.frames, readers())
    unseen.add(OrbitSet(sets[0]), recipe.frames, readers())
    log(
        what="read",
        objects=len(views.photos),
        gb=round(views.frames.nbytes / 1e9 + views.fine.nbytes / 1e9, 2),
    )
    torch.backends.cudnn.benchmark = True  # from here on shapes never change
    real = len(views.photos)  # objects of real proportions
    threading.Thread(target=draw_the_rest, daemon=True).start()
    examples = ResidentExamples(views, recipe, in_order=False)
    left = options.seconds - (time.monotonic() - began) - AT_THE_END
    pipeline.unet = chosen_size(pipeline, examples, recipe, scale, left, log)
    left = options.seconds - (time.monotonic() - began) - AT_THE_END
    left -= VALIDATION * (left / 60)  # the recipe's minutes are those of training
    recipe = replace(recipe, minutes=max(left, 10) / 60)
    accelerator = Accelerator(mixed_precision="bf16" if recipe.precision == "bfloat16" else "no")
    trainer = make_trainer(pipeline, examples, recipe, options.out / "training", accelerator)
    (options.out / "training").mkdir(exist_ok=True)
    judged = held_out(ResidentExamples(unseen, recipe, in_order=False), accelerator.device)
    growing = Growing(trainer, Monitor(pipeline, judged, 1, None), sets[2:], options.out / "mini", log)
    with trainer.averaged():
        log(what="before", **growing.monitor(0))
    trainer.run(lambda row: log(**row), growing)
    log(what="trained", steps=trainer.step, examples=trainer.step * recipe.batch)
    state = trainer.averaged_state()
    save_model(pipeline, state, options.out / "mini")
    train_depth(pipeline, views, real, unseen, scale.depth_steps, log)
    save_model(pipeline, state, options.out / "mini")
    log(what="saved")


if __name__ == "__main__":
    main()
