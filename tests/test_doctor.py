"""What the doctor says of cards, memory and what is missing, on a machine with a faked card and without one."""

import pytest
import torch

from sv3d_pipe import doctor
from sv3d_pipe.doctor import examine
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.sv3d import sv3d_painter

GB = 10**9


@pytest.fixture
def card(monkeypatch):
    """One card; set its free memory in bytes."""
    memory = {"free": 78 * GB}
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "NVIDIA H100",
        "get_device_capability": lambda device=None: (9, 0),
        "mem_get_info": lambda device=None: (memory["free"], 80 * GB),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: "580.1")
    monkeypatch.setattr(sv3d_painter, "is_accelerate_available", lambda: True)
    doctor.prefers_bfloat16.cache_clear()
    yield memory
    doctor.prefers_bfloat16.cache_clear()


def test_it_names_card_memory_and_driver(card, tmp_path):
    found = examine(tmp_path)
    assert found["machine"]["cuda:0"] == "NVIDIA H100, 80.0 GB, 78.0 GB free, compute capability 9.0"
    assert found["machine"]["NVIDIA driver"] == "580.1"
    assert found["machine"]["device"].startswith("cuda ")
    assert found["operations"]["hash grid"].endswith(" on cuda")


def test_plans_follow_the_memory_that_is_free(card, tmp_path):
    said = {}
    for gb in (78, 8, 6.5, 2):
        card["free"] = int(gb * GB)
        said[gb] = examine(tmp_path)["plans"]["SV3D orbit, 576 px"]
    assert said[78].startswith(str(Plan())) and "of 78.0 GB free)" in said[78]
    assert said[8].startswith(str(Plan(together=False, chunk=1)))
    assert said[6.5].startswith(str(Plan(together=False, offload=True, chunk=1)))
    assert "tiles" in said[2] and said[2].endswith("TOO LITTLE MEMORY)")


def test_distillation_never_decodes(card, tmp_path):
    plan = examine(tmp_path)["plans"]["SV3D distillation"]
    assert "1 frame per decode" in plan and "distills 40 times" in plan


def test_a_card_that_pytorch_cannot_use_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: "580.1")
    assert "pytorch.org" in examine(tmp_path)["more"]["PyTorch for CUDA"]
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: None)
    assert "PyTorch for CUDA" not in examine(tmp_path)["more"]


def test_what_is_missing_is_told_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(
        doctor, "EXTRAS", {"no-such-package": ("wonders", "no-such-package"), "numpy": ("", "")}
    )
    assert examine(tmp_path)["more"] == {"no-such-package": "wonders: pip install no-such-package"}
