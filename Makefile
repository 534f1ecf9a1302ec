# Everything happens in a virtual environment in .venv; only Python 3.10+ and make are needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test goldens kills validate fuzz inputs lowest install lint mini matte gpu clean

demo: install  ## make a textured mesh from a photo, about two minutes
	$(BIN)/img2mesh examples/bird.png --preset draft
	@echo "Open out/bird/5-export/mesh.glb in any 3D viewer, or look at contact_sheet.png beside it."

test: install .venv/node  ## the test suite, in as many processes as there are processors
	$(BIN)/python -m pytest

goldens: install  ## whole orbits at full size beside SV3D's released code, which `make test` leaves out
	$(BIN)/python -m pytest -n 0 -s -m slow tests/orbit

kills: install  ## 30 runs and batches killed at random moments, gone on with, and compared byte by byte
	$(BIN)/python -m pytest -n 0 -s -m slow tests/road

validate: install .venv/node  ## check 20 exported files with the Khronos glTF validator; needs npm
	$(BIN)/python -m pytest -rs tests/export/test_export_validator.py

FUZZ_SECONDS ?= 120
fuzz: install  ## throw damaged files at every reader, FUZZ_SECONDS each
	$(BIN)/python tests/fuzz/fuzz_reader.py --seconds $(FUZZ_SECONDS) --seed $$(date +%s)

inputs: install  ## try over two hundred odd, damaged and hostile inputs, and write docs/tried_inputs.md
	$(BIN)/python benchmarks/try_inputs.py --out docs/tried_inputs.md

lowest:  ## the tests, with the oldest versions that pyproject.toml allows (of PyTorch, the one of constraints.txt)
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q $$(grep -o '^torch==[0-9.]*' constraints.txt)
	.venv-lowest/bin/python benchmarks/lowest.py | .venv-lowest/bin/python -m pip install -q -r /dev/stdin
	.venv-lowest/bin/python -m pip install -q --no-deps -e .
	.venv-lowest/bin/python -m pip install -q pytest pytest-xdist hypothesis
	.venv-lowest/bin/python -m pytest

.venv/node: .venv/installed  # the validator, if npm can fetch it; otherwise its test is skipped
	-npm install --silent --no-audit --no-fund --fetch-retries 0 --fetch-timeout 20000 --prefix $@ gltf-validator@2.0.0-dev.3.10

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: install  ## style, and which room may import which (pyproject.toml)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

OBJECTS ?= objects
BACKGROUNDS ?= backgrounds
MINI_VIEWS := --orbit random --distance sphere --views 32 --photos 6
MINI_PHOTOS := --orbit photos --size 448
mini: install  ## train the built-in model again from OBJECTS/train and OBJECTS/val
	$(BIN)/img2mesh render $(OBJECTS)/train --procedural 500 --textures keep -o data/train/plain $(MINI_VIEWS)
	$(BIN)/img2mesh render $(OBJECTS)/train --seed 1 -o data/train/dressed $(MINI_VIEWS)
	$(BIN)/img2mesh render $(OBJECTS)/val --seed 1 --textures keep -o data/val $(MINI_VIEWS)
	$(BIN)/img2mesh finetune data/train -o checkpoints/mini --model new --validation data/val --minutes 350
	$(BIN)/img2mesh render $(OBJECTS)/train --seed 4 -o data/photos/dressed $(MINI_PHOTOS) --views 8
	$(BIN)/img2mesh render $(OBJECTS)/train --seed 2 --textures keep --lighting none -o data/photos/plain $(MINI_PHOTOS) --views 12
	$(BIN)/img2mesh render $(OBJECTS)/val --seed 3 --textures keep --lighting none -o data/val-photos $(MINI_PHOTOS) --views 4
	$(BIN)/img2mesh finetune-depth data/photos -o checkpoints/mini --validation data/val-photos

matte: install  ## train the network that cuts objects out of photos, from OBJECTS/train and photographs in BACKGROUNDS
	$(BIN)/img2mesh render $(OBJECTS)/train --seed 11 --textures keep -o data/cutouts --orbit photos --size 448 --views 6
	$(BIN)/img2mesh finetune-matte data/cutouts --backgrounds $(BACKGROUNDS) -o checkpoints/matte --minutes 180

gpu:  ## on a machine with a CUDA card: its tests and the table of performance; needs no .venv, only the dependencies
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py $(GPU)

clean:
	rm -rf .venv .venv-lowest out data
