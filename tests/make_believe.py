"""A make-believe GPU: tensors that say ``cuda:N`` or ``mps:0``, keep their numbers on the CPU and are as strict as CUDA's.

Mixed devices, ``.numpy()`` and generators of another device raise; launches, waits and copied bytes are counted. A
launch is an operation of ATen: a foreach or fused one (Adam) counts once, as on CUDA, where it is one kernel over many
tensors; so do ``nonzero``, ``cumsum`` and mean losses, which are two to four kernels there. It cannot know of missing
kernels, races, or speed. Import it before the process's first backward pass: autograd counts devices once.
"""

from __future__ import annotations

import collections
import types
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

CARDS = 2
MEMORY = 80 * 10**9
torch.utils.backend_registration._setup_privateuseone_for_python_backend("make_believe")
BACKEND = torch.device("make_believe", 0)  # what autograd takes the tensors for

VIEWS = (
    "view _unsafe_view reshape _reshape_alias expand permute transpose t slice select unsqueeze squeeze detach alias"
    " unbind split split_with_sizes as_strided unfold lift_fresh view_as_real diagonal movedim set_ is_pinned"
    " empty empty_like empty_strided new_empty new_empty_strided _local_scalar_dense"
).split()  # no kernel runs
WAITS = (
    "_local_scalar_dense nonzero masked_select _unique2 unique_dim unique_consecutive is_nonzero equal"
).split()  # the host needs the answer
INDEXING = "index index_put index_put_ _index_put_impl_ _unsafe_index _unsafe_index_put".split()


class OnCard(torch.Tensor):
    """A tensor of the make-believe device; ``numbers`` holds them, ``card`` its place."""

    @staticmethod
    def __new__(cls, real: torch.Tensor, card: int):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, real.shape, strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype,
            device=BACKEND,
        )  # fmt: skip
        tensor.numbers, tensor.card = real, card
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Card.present.run(func, args, kwargs or {})

    def __repr__(self, **_) -> str:
        return f"OnCard({self.numbers!r}, card={self.card})"

    device = property(lambda self: torch.device(Card.present.kind, self.card))
    is_cuda = property(lambda self: Card.present.kind == "cuda")
    is_mps = property(lambda self: Card.present.kind == "mps")
    is_cpu = is_meta = property(lambda self: False)

    def get_device(self) -> int:
        return self.card

    def numpy(self, *_, **__):
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self):
        Card.present.waits["tolist"] += 1
        return self.numbers.tolist()


class CardGenerator(torch.Generator):
    """A generator that says where it belongs."""

    places: dict[int, torch.device] = {}

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")

    def __init__(self, device="cpu"):
        self.place = torch.device(device)
        if self.place.type != "cpu" and self.place.index is None:
            self.place = torch.device(self.place.type, 0)
        self.places[self._cdata] = self.place

    @property
    def device(self) -> torch.device:
        return self.place

    def get_state(self) -> torch.Tensor:
        """A card's is of another length, so that no generator of another kind takes it."""
        state = super().get_state()
        return state if self.place.type == "cpu" else torch.cat([state, state.new_zeros(16)])

    def set_state(self, state: torch.Tensor) -> torch.Generator:
        if len(state) != len(self.get_state()):
            raise RuntimeError("RNG state is wrong size")
        return super().set_state(state if self.place.type == "cpu" else state[:-16])


@dataclass(eq=False)
class Card(TorchDispatchMode):
    """The device while it is there; also what was counted on it.

    Attributes:
        kind: what it calls itself, "cuda" or "mps".
        launches, waits: how often, by operation. copied: bytes between host and device, by direction.
    """

    kind: str = "cuda"
    launches: collections.Counter = field(default_factory=collections.Counter)
    waits: collections.Counter = field(default_factory=collections.Counter)
    copied: collections.Counter = field(default_factory=collections.Counter)
    last: int = 0
    present = None

    def __post_init__(self):
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def reset(self) -> None:
        for counter in (self.launches, self.waits, self.copied):
            counter.clear()

    def run(self, func, args: tuple, kwargs: dict):
        """An operation, on whichever device it belongs to."""
        name = func._schema.name.removeprefix("aten::")
        leaves = tree_leaves((args, kwargs))
        there = [leaf for leaf in leaves if isinstance(leaf, OnCard)]
        place = self._place(kwargs.get("device"), there)
        generators = [leaf for leaf in leaves if isinstance(leaf, torch._C.Generator)]
        for generator in generators:
            known = CardGenerator.places.get(generator._cdata, torch.device("cpu"))
            if known != place:
                raise RuntimeError(f"Expected a {place} generator but found one of {known} in {name}")
        if not there and place.type != self.kind:
            return func(*args, **kwargs)
        if name == "_to_copy":
            return self._to_copy(func, args[0], kwargs, place)
        if name == "copy_":
            return self._copy(func, *args)
        self._check(name, args, leaves, there)
        if name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.waits[name] += 1
        if name not in VIEWS:
            self.launches[name] += 1
        plain = {
            key: torch.device("cpu") if key == "device" and value is not None else value
            for key, value in kwargs.items()
        }
        args, plain = tree_map_only(OnCard, lambda tensor: tensor.numbers, (args, plain))
        out = func(*args, **plain)
        if name == "_local_scalar_dense" or place.type != self.kind:
            return out
        known = {id(tensor.numbers): tensor for tensor in there}  # in-place work gives back what it was given
        return tree_map_only(
            torch.Tensor, lambda t: known[id(t)] if id(t) in known else self._wrap(t, place.index), out
        )

    def _place(self, asked, there: list[OnCard]) -> torch.device:
        """Where the result lies. What PyTorch makes for itself lies where it worked last."""
        asked = None if asked is None else torch.device(asked)
        if there:
            self.last = there[0].card
        if asked is None and not there:
            return torch.device("cpu")
        if asked is None or asked.type == BACKEND.type:
            return torch.device(self.kind, self.last)
        return torch.device(self.kind, asked.index or 0) if asked.type == self.kind else asked

    def _wrap(self, real: torch.Tensor, card: int) -> OnCard:
        if real.dtype == torch.float64 and self.kind == "mps":
            raise TypeError(
                "Cannot convert a tensor to a MPS Tensor as the MPS framework doesn't support float64."
            )
        return OnCard(real, card)

    def _to_copy(self, func, source: torch.Tensor, kwargs: dict, place: torch.device):
        real = source.numbers if isinstance(source, OnCard) else source
        options = {key: value for key, value in kwargs.items() if key != "device"}
        out = func(real, **options)
        before = source.device
        if before.type != place.type:
            self.copied["to the card" if place.type == self.kind else "to the host"] += real.nbytes
            if place.type != self.kind:
                self.waits["to the host"] += 1
        else:
            self.launches["_to_copy"] += 1
        return self._wrap(out, place.index) if place.type == self.kind else out

    def _copy(self, func, target: torch.Tensor, source: torch.Tensor, *rest):
        pair = [t.numbers if isinstance(t, OnCard) else t for t in (target, source)]
        if target.device.type != source.device.type:
            self.copied["to the card" if isinstance(target, OnCard) else "to the host"] += pair[1].nbytes
        else:
            self.launches["copy_"] += 1
        func(*pair, *rest)
        return target

    def _check(self, name: str, args: tuple, leaves: list, there: list[OnCard]) -> None:
        """Raise what CUDA would for tensors that do not lie together."""
        cards = {tensor.card for tensor in there}
        strangers = [
            t for t in leaves if isinstance(t, torch.Tensor) and not isinstance(t, OnCard) and t.dim()
        ]
        if name in INDEXING and there:
            if not isinstance(args[0], OnCard):
                raise RuntimeError(f"indices should be on the CPU like the tensor they index, in {name}")
            if any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]):
                self.waits["indexing by a mask"] += 1
            by_host = [t for t in args[1] if t is not None and not isinstance(t, OnCard)]
            if by_host:
                self.copied["to the card"] += sum(t.nbytes for t in by_host)
            strangers = [t for t in strangers if not any(t is index for index in by_host)]
        if len(cards) > 1 or (cards and strangers):
            shapes = [tuple(t.shape) for t in strangers]
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda {sorted(cards)} and cpu {shapes} in {name}"
            )


class FirstCard(TorchFunctionMode):
    """The device without a number is the first card; PyTorch would ask a driver."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.device:
            return func(*args, **kwargs or {})
        args, kwargs = tree_map(self._numbered, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _numbered(self, value):
        known = isinstance(value, (str, torch.device)) and str(value) == Card.present.kind
        return torch.device(Card.present.kind, 0) if known else value


def _scheduler_torch() -> types.SimpleNamespace:
    """Torch for diffusers' Euler scheduler, which builds a tensor of the legacy kind that no subclass can follow."""

    class Kind(type):
        def __instancecheck__(cls, thing) -> bool:
            return isinstance(thing, torch.Tensor)

        def __call__(cls, values) -> torch.Tensor:
            return torch.tensor([float(value) for value in values])

    return types.SimpleNamespace(
        **{name: getattr(torch, name) for name in dir(torch)} | {"Tensor": Kind("Tensor", (), {})}
    )


def make_believe_cuda():
    """CUDA is there, as ``cuda:0`` and ``cuda:1``, inside the ``with`` block; yields the :class:`Card`."""
    begun = []

    def reset_peak(device=None) -> None:
        if not begun:
            raise RuntimeError("Invalid device argument: did you call init?")

    answers = {
        "is_available": lambda: True, "device_count": lambda: CARDS, "init": lambda: begun.append(True),
        "_lazy_init": lambda: None, "is_initialized": lambda: True, "current_device": lambda: 0,
        "reset_peak_memory_stats": reset_peak, "max_memory_allocated": lambda *_: 0,
        "mem_get_info": lambda *_: (MEMORY, MEMORY), "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0, "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "make-believe", "empty_cache": lambda: None, "synchronize": lambda *_: None,
    }  # fmt: skip
    return _there("cuda", [mock.patch.object(torch.cuda, name, answer) for name, answer in answers.items()])


def make_believe_mps():
    """One of Apple's is there, as ``mps:0``, without float64, inside the ``with`` block; yields the :class:`Card`."""
    return _there("mps", [mock.patch.object(torch.backends.mps, "is_available", lambda: True)])


@contextmanager
def _there(kind: str, patches: list):
    import diffusers.schedulers.scheduling_euler_discrete as euler

    card = Card(kind)
    patches += [
        mock.patch.object(torch, "Generator", CardGenerator),
        mock.patch.object(euler, "torch", _scheduler_torch()),
        mock.patch.object(Card, "present", card),
    ]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        with card, FirstCard():
            yield card
