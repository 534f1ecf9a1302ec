"""Where the matting network's weights lie, and how they are read and written."""

from __future__ import annotations

from pathlib import Path

import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import write_atomically
from sv3d_pipe.prep.matting.network import MattingNet

NAME, FILE = "matte", "matte.safetensors"  # of the folder of the built-in network, and of its weights


def save_network(network: MattingNet, folder: Path) -> None:
    """Write the weights in half precision; there whole or not at all."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    write_atomically(folder / FILE, save(weights))


def load_network(folder: Path) -> MattingNet:
    """The network of a folder, in single precision on the CPU, for use.

    Raises:
        UserError: there is none, or it is of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / FILE
    network = MattingNet()
    try:
        weights = load_file(path)
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path} is no matting network of this version: {str(error).splitlines()[0]}"
        ) from None
    return network.eval().to(memory_format=torch.channels_last)
