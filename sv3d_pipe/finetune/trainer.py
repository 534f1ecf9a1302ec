"""The training loop: on one device or many, and with the same result if it is killed and resumed."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import write_atomically
from sv3d_pipe.finetune.examples import Batch, Examples, OneExample
from sv3d_pipe.finetune.loss import DrawSigma, Noise, draw_noise
from sv3d_pipe.finetune.optimizers import make_optimizers
from sv3d_pipe.finetune.recipe import Recipe

LOG_EVERY = 10  # steps in a row of the log
LEAST_RATE = 0.05  # of the largest learning rate, at the end
Loss = Callable[[torch.nn.Module, Batch, Noise], torch.Tensor]


class Trainer:
    """One training run, resumed from its checkpoint if there is one.

    Batches and noise are functions of (seed, step) alone, so with a budget in steps a run that was
    killed and resumed computes what an unbroken one does, and N processes what one does.

    Args:
        unet: the denoiser, trained in place; only parameters that require gradients.
        examples: training examples by global number.
        recipe: see :class:`Recipe`.
        folder: where checkpoint and log are kept; None keeps nothing.
        accelerator: knows device, number format and processes.
        loss: of (network, batch, noise), a mean over the batch.
        draw_sigma: gives the noise level of one example.
    Attributes:
        net: the network without its wrappers; ``average``: its averaged weights by name.
        step, seconds: of training so far.
    Raises:
        UserError: the batch cannot be shared out evenly, or Muon is to work under FSDP.
    """

    def __init__(
        self,
        unet: torch.nn.Module,
        examples: Examples | OneExample,
        recipe: Recipe,
        folder: Path | None,
        accelerator: Accelerator,
        loss: Loss,
        draw_sigma: DrawSigma,
    ):
        self.examples, self.recipe, self.folder, self.accelerator = examples, recipe, folder, accelerator
        self.loss, self.draw_sigma = loss, draw_sigma
        parts = accelerator.num_processes * recipe.accumulate
        if recipe.batch % parts:
            raise UserError(
                f"A batch of {recipe.batch} objects cannot be shared out evenly: --batch must be a multiple of"
                f" processes times --accumulate, here {parts}."
            )
        if recipe.optimizer == "muon" and accelerator.distributed_type == DistributedType.FSDP:
            raise UserError("Muon needs whole matrices, and FSDP splits them; use --optimizer adamw.")
        self.wrapped, *self.optimizers = accelerator.prepare(unet, *make_optimizers(unet, recipe))
        self.net = accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=True)
        self.average = {name: p.detach().clone() for name, p in self._trained()}
        self.step, self.seconds, self.losses = 0, 0.0, []
        if folder is not None:
            if self._checkpoint.exists():
                self._resume()
            self._trim_log()

    @property
    def share_spent(self) -> float:
        """How much of the budget is used: 1 means done."""
        of_time = self.seconds / (60 * self.recipe.minutes) if self.recipe.minutes else 0.0
        return min(1.0, max(self.step / self.recipe.steps, of_time))

    def run(
        self,
        on_log: Callable[[dict], None] = lambda row: None,
        validate: Callable[[int], dict] | None = None,
    ) -> None:
        """Train until the budget is spent.

        Args:
            on_log: called with each row of the log: step, loss (mean of the last steps), minutes, and
                after validation what it measured.
            validate: called at each checkpoint, with the step, while the network has its averaged weights.
        Raises:
            KeyboardInterrupt: after Ctrl-C, once the step is finished and kept.
            UserError: the loss is no longer a number.
        """
        saved = time.monotonic()
        with ThreadPoolExecutor(1) as pool, _stop_after_step() as stop:
            coming = pool.submit(self._draw, self.step, 0)
            while self.share_spent < 1:
                start = time.monotonic()
                self._set_rate()
                for part in range(self.recipe.accumulate):
                    batch, noise = coming.result()
                    last = part == self.recipe.accumulate - 1
                    coming = pool.submit(self._draw, *((self.step + 1, 0) if last else (self.step, part + 1)))
                    self._backward(batch, noise, last)
                self._update()
                now = time.monotonic()
                self.seconds, since, stopped = self._agree(self.seconds + now - start, now - saved, len(stop))
                if self.step % LOG_EVERY == 0:
                    self._log(on_log)
                if since > 60 * self.recipe.save_minutes or self.share_spent >= 1 or stopped:
                    if not stopped:
                        self._validate(on_log, validate)
                    if self.folder is not None:
                        self.save()
                    saved = time.monotonic()
                if stopped:
                    raise KeyboardInterrupt

    def _draw(self, step: int, part: int) -> tuple[Batch, Noise]:
        """This process's share of a part of a step's examples."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        count = self.recipe.batch // (world * self.recipe.accumulate)
        first = step * self.recipe.batch + (part * world + rank) * count
        numbers = range(first, first + count)
        batch = self.examples.batch(numbers)
        shape, device = tuple(batch.clean.shape[1:]), batch.clean.device
        return batch, draw_noise(self.recipe, self.draw_sigma, numbers, shape, device)

    def _set_rate(self) -> None:
        wave = 0.5 + 0.5 * math.cos(math.pi * self.share_spent)
        rate = self.recipe.learning_rate * (LEAST_RATE + (1 - LEAST_RATE) * wave)
        rate *= min(1.0, (self.step + 1) / max(self.recipe.warmup, 1))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]

    def _backward(self, batch: Batch, noise: Noise, last: bool) -> None:
        device = self.accelerator.device
        with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
            with self.accelerator.autocast():
                loss = self.loss(self.wrapped, batch.to(device), noise.to(device)) / self.recipe.accumulate
            self.accelerator.backward(loss)
        self.losses.append(loss.detach())

    def _update(self) -> None:
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        averages, weights = list(self.average.values()), [p for _, p in self._trained()]
        with torch.no_grad():
            torch._foreach_mul_(averages, keep)
            torch._foreach_add_(averages, weights, alpha=1 - keep)

    def _trained(self):
        return ((name, p) for name, p in self.net.named_parameters() if p.requires_grad)

    def _agree(self, *values: float) -> list[float]:
        """What the first process says: all must stop and save after the same step."""
        if self.accelerator.num_processes == 1:
            return list(values)
        return broadcast(torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)).tolist()

    def _log(self, on_log: Callable[[dict], None]) -> None:
        loss = self._sum_losses() / LOG_EVERY
        self.losses = []
        self._write({"step": self.step, "minutes": self.seconds / 60, "loss": loss}, on_log)

    def _sum_losses(self) -> float:
        """Since the last row of the log, over all processes; each is a part of its step's mean."""
        if not self.losses:
            return 0.0
        total = self.accelerator.reduce(torch.stack(self.losses).sum(), "mean").item()
        if not math.isfinite(total):
            raise UserError(f"The loss is no longer a number at step {self.step}; lower --learning-rate.")
        return total

    def _validate(self, on_log: Callable[[dict], None], validate: Callable[[int], dict] | None) -> None:
        if validate is not None:
            with self.averaged():
                row = validate(self.step)
            self._write({"step": self.step, "minutes": self.seconds / 60} | row, on_log)

    def _write(self, row: dict, on_log: Callable[[dict], None]) -> None:
        if self.accelerator.is_main_process and self.folder is not None:
            with self._log_file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        on_log(row)

    @contextmanager
    def averaged(self):
        """A context in which the network has its averaged weights."""
        kept = {name: p.detach().clone() for name, p in self._trained()}
        self._load(self.average)
        try:
            yield
        finally:
            self._load(kept)

    @torch.no_grad()
    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        for module in self.net.modules():  # FSDP leaves some weights whole after a forward pass alone
            if hasattr(module, "reshard"):
                module.reshard()
        for name, parameter in self._trained():
            parameter.copy_(weights[name])

    def averaged_state(self) -> dict[str, torch.Tensor]:
        """All weights with the averages in place, whole and on the CPU, in the first process."""
        return self._averaged_state(WHOLE)

    def _averaged_state(self, options: StateDictOptions) -> dict[str, torch.Tensor]:
        with self.averaged():  # on the CPU the state shares memory with the network, hence the copies
            state = get_model_state_dict(self.net, options=options)
            return {name: value.clone() for name, value in state.items()}

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "training.pt"

    @property
    def _log_file(self) -> Path:
        return self.folder / "log.jsonl"

    def save(self) -> None:
        """Keep everything needed to continue, whole or not at all. Raises UserError if the loss is not a number."""
        self._sum_losses()
        average = self._averaged_state(TRAINED)
        net, optimizer = get_state_dict(self.net, self._bare_optimizers(), options=TRAINED)
        losses = self.accelerator.gather(torch.stack(self.losses)).tolist() if self.losses else []
        if self.accelerator.is_main_process:
            state = {"net": net, "optimizer": optimizer, "average": average, "losses": losses}
            partial = self._checkpoint.with_suffix(".partial")
            torch.save(state | {"step": self.step, "seconds": self.seconds}, partial)
            partial.replace(self._checkpoint)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        set_model_state_dict(self.net, state["average"], options=TRAINED)
        self.average = {name: p.detach().clone() for name, p in self._trained()}
        set_state_dict(
            self.net,
            self._bare_optimizers(),
            model_state_dict=state["net"],
            optim_state_dict=state["optimizer"],
            options=TRAINED,
        )
        self.step, self.seconds = state["step"], state["seconds"]
        shares = torch.tensor(state["losses"]).chunk(self.accelerator.num_processes)
        if state["losses"]:
            self.losses = list(shares[self.accelerator.process_index].to(self.accelerator.device))

    def _bare_optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer.optimizer for optimizer in self.optimizers]

    def _trim_log(self) -> None:
        """Drop what a killed run wrote after its last checkpoint: it will be written again."""
        if self.accelerator.is_main_process and self._log_file.exists():
            rows = self._log_file.read_text().splitlines(keepends=True)
            whole = (row for row in rows if row.endswith("\n"))
            write_atomically(
                self._log_file, "".join(row for row in whole if json.loads(row)["step"] <= self.step)
            )


@contextmanager
def _stop_after_step():
    """A list that is empty until Ctrl-C, which then waits for the step; a second one does not."""
    stop: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield stop
        return

    def note(*_):
        stop.append(1)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
TRAINED = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
