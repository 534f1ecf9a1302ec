"""The known models: what they are, where they come from, what their licenses require."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """One known model.

    Attributes:
        consequences: what the license requires of the user, in plain sentences.
        repository, file: where the original single file is on the Hugging Face hub; empty if built in.
        elements: numbers in the original file.
        runs: False for a starting point for fine-tuning, which paints no orbits itself.
    """

    name: str
    about: str
    size: str
    licence: str
    licence_url: str
    consequences: str
    repository: str = ""
    file: str = ""
    elements: int = 0
    runs: bool = True

    @property
    def source(self) -> str:
        if not self.repository:
            return "part of img2mesh (checkpoints/mini)"
        return f"{self.file} of {self.repository} on the Hugging Face hub"


COMMUNITY = (
    "Free for research and other non-commercial use; commercial use is free up to US $1,000,000 of yearly revenue, "
    "after registering at https://stability.ai/community-license, and needs an enterprise license above. "
    "What you make with it is yours as far as the law permits, must keep to https://stability.ai/use-policy, and may "
    "not serve to create or improve other foundational generative models. "
    "Whoever passes on the weights, weights fine-tuned from them, or a product or service that uses them must add the "
    'license and its notice and show "Powered by Stability AI".'
)
SV3D_LICENCE = "Stability AI Community License, 5 July 2024 (the page's tag still names the non-commercial one of March 2024)"

MODELS = (
    Model(
        "mini",
        "small pose-conditioned model trained by this project, for trying the pipeline",
        "64 px RGBA, 21 frames",
        "Apache-2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
        "Free for any use. Whoever passes it on must add the license and say what was changed.",
    ),
    Model(
        "sv3d-u",
        "Stable Video 3D, static orbits without pose",
        "576 px, 21 frames, 9.36 GB to download, 4.7 GB in fp16",
        SV3D_LICENCE,
        "https://huggingface.co/stabilityai/sv3d/blob/main/LICENSE.md",
        COMMUNITY,
        "stabilityai/sv3d",
        "sv3d_u.safetensors",
        2_340_911_829,
    ),
    Model(
        "sv3d-p",
        "Stable Video 3D, any orbit, conditioned on pose",
        "576 px, 21 frames, 9.37 GB to download, 4.7 GB in fp16",
        SV3D_LICENCE,
        "https://huggingface.co/stabilityai/sv3d/blob/main/LICENSE.md",
        COMMUNITY,
        "stabilityai/sv3d",
        "sv3d_p.safetensors",
        2_342_222_549,
    ),
    Model(
        "svd-xt",
        "Stable Video Diffusion, a starting point for fine-tuning: it paints videos, not orbits",
        "1024 x 576 px, 25 frames, 9.56 GB to download",
        "Stability AI Community License, 5 July 2024",
        "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt/blob/main/LICENSE.md",
        COMMUNITY,
        "stabilityai/stable-video-diffusion-img2vid-xt",
        "svd_xt.safetensors",
        runs=False,
    ),
)
