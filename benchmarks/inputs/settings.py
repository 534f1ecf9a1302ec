"""Settings, names and folders on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inputs.case import Case
from inputs.pictures import disc, is_the_disc


def _toml(content: str | bytes):
    def make(here: Path) -> None:
        (here / "my.toml").write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def _photo(here: Path) -> None:
    disc().save(here / "photo.png")


def cases() -> Iterator[Case]:
    def toml(name, content, says="", right=None):
        arguments = ("prep", "{here}/photo.png", "-o", "{here}/out", "--config", "{here}/my.toml")
        return Case("settings", name, arguments, lambda h: (_photo(h), _toml(content)(h)), says, right)

    def option(name, *given, says="", right=None):
        arguments = ("prep", "{here}/photo.png", "-o", "{here}/out", *given)
        return Case("settings", name, arguments, _photo, says, right)

    yield toml("a settings file", "[prep]\nsize = 128\n", right=is_the_disc())
    yield toml(
        "a settings file with a byte order mark", b"\xef\xbb\xbf[prep]\nsize = 128\n", right=is_the_disc()
    )
    yield toml("a settings file with Windows line ends", b"[prep]\r\nsize = 128\r\n", right=is_the_disc())
    yield toml("an empty settings file", "", right=is_the_disc())
    yield toml("a settings file of latin-1", "# Größe\n[prep]\n".encode("latin-1"), "UTF-8|TOML")
    yield toml("a settings file of NUL bytes", bytes(100), "TOML")
    yield toml("a settings file that is a picture", b"\x89PNG\r\n\x1a\n\xff\xfe", "UTF-8")
    yield toml("a table that does not exist", "[nope]\nsize = 1\n", "nope")
    yield toml("a setting that does not exist", "[prep]\nsice = 128\n", "sice")
    yield toml("a stage that is no table", "prep = 3\n", "table")
    yield toml("text for a number", '[prep]\nsize = "large"\n', "size")
    yield toml("a list for a number", "[prep]\nsize = [128]\n", "size")
    yield toml("a fraction for a whole number", "[prep]\nsize = 128.5\n", "size")
    yield toml("a number below its range", "[prep]\nsize = 1\n", "size")
    yield toml("10^400 for a number", "[prep]\nsize = 1" + "0" * 400 + "\n", "size")
    yield toml("a number of 10,000 digits", "[prep]\nsize = " + "9" * 10_000 + "\n")
    yield toml("nan for a number", "[prep]\nfill = nan\n", "fill")
    yield toml("inf for a number", "[refine]\nlearning_rate = inf\n", "learning_rate")
    yield toml("100,000 brackets deep", "[prep]\nsize = " + "[" * 100_000 + "\n")
    yield option("a settings file that is not there", "--config", "{here}/gone.toml", says="gone.toml")
    yield option("a settings file that is a folder", "--config", "{here}", says="is a folder")
    yield option("a preset that does not exist", "--preset", "best", says="draft")
    yield option("--set without a value", "--set", "prep.size", says="=")
    yield option("--set of an unknown setting", "--set", "prep.sice=3", says="sice")
    yield option("--set with text for a number", "--set", "prep.size=large", says="size")
    yield option("--set with nan", "--set", "prep.fill=nan", says="fill")
    yield option("--size below its range", "--size", "3")
    yield option("a seed of 10^26", "--seed", "1" + "0" * 26, says="seed")
    yield option("a negative seed", "--seed", "-1", says="seed")
    yield option("a device that does not exist", "--device", "tpu", says="device|cuda")
    yield option("a card that is not there", "--device", "cuda:7")
    yield option("an option that does not exist", "--sice", "3", says="option")
    yield Case(
        "settings",
        "an output that is a file",
        ("prep", "{here}/photo.png", "-o", "{here}/taken"),
        lambda h: (_photo(h), (h / "taken").touch()),
        "taken",
    )
    yield Case(
        "settings",
        "an output below a file",
        ("prep", "{here}/photo.png", "-o", "{here}/taken/out"),
        lambda h: (_photo(h), (h / "taken").touch()),
        "taken",
    )
    yield Case("settings", 'an output called ""', ("prep", "{here}/photo.png", "-o", ""), _photo)
    yield Case(
        "settings",
        "an output of a user who does not exist",
        ("prep", "{here}/photo.png", "-o", "~nosuchuser/out"),
        _photo,
        right=lambda here: (
            None if (here / "~nosuchuser/out/1-prep/photo.png").is_file() else "no such folder"
        ),
    )
    yield Case("settings", "an output on /proc", ("prep", "{here}/photo.png", "-o", "/proc/out"), _photo)
    yield Case(
        "settings",
        "an output name of 300 letters",
        ("prep", "{here}/photo.png", "-o", "{here}/" + "o" * 300),
        _photo,
    )
    yield Case(
        "settings",
        "a photo of a user who does not exist",
        ("prep", "~nosuchuser/photo.png", "-o", "{here}/out"),
        lambda h: None,
        "no file",
    )
    yield Case("settings", "a verb with a slip", ("bacth", "{here}"), lambda h: None, "batch")
    yield Case(
        "settings",
        "a model that does not exist",
        ("orbit", "{here}/photo.png", "-o", "{here}/out", "--model", "sv4d"),
        _photo,
    )
    yield Case(
        "settings",
        "a model folder that is empty",
        ("run", "{here}/photo.png", "-o", "{here}/out", "--until", "orbit", "--model", "{here}/model"),
        lambda h: (_photo(h), (h / "model").mkdir()),
        "model",
    )
    yield Case(
        "settings",
        "a model file that is text",
        (
            "run",
            "{here}/photo.png",
            "-o",
            "{here}/out",
            "--until",
            "orbit",
            "--model",
            "{here}/m.safetensors",
        ),
        lambda h: (_photo(h), (h / "m.safetensors").write_text("x" * 64)),
    )
    yield Case(
        "settings",
        "a model file that is a pickle",
        ("run", "{here}/photo.png", "-o", "{here}/out", "--until", "orbit", "--model", "{here}/m.ckpt"),
        lambda h: (_photo(h), (h / "m.ckpt").write_bytes(b"\x80\x04cos\nsystem\n")),
    )
    yield Case(
        "settings",
        "a model folder that brings its own code",
        ("run", "{here}/photo.png", "-o", "{here}/out", "--until", "orbit", "--model", "{here}/model"),
        _own_code,
        "names Evil of evil",
        harm=lambda here: "its code ran" if (here / "executed").exists() else None,
    )


def _own_code(here: Path) -> None:
    _photo(here)
    (here / "model").mkdir()
    (here / "model" / "evil.py").write_text("import os; os.mkdir('executed')\nclass Evil: pass\n")
    (here / "model" / "model_index.json").write_text(
        '{"_class_name": "MiniPipeline", "unet": ["evil", "Evil"]}'
    )
