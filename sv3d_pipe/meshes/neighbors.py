"""The files beside a mesh that it names: materials, pictures, buffers; regular ones in its own folder, of bounded size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

from sv3d_pipe.errors import UserError
from sv3d_pipe.inputs import MOST_BYTES, read_file, require_file
from sv3d_pipe.picture_kinds import BROKEN, FOREIGN, FORMATS, SUFFIXES, not_recognized

MARK = (73, 77, 71)
MOST_MATERIAL_BYTES = 16 * 2**20  # of an MTL file


class Neighbors:
    """What trimesh asks for a mesh file's neighbors (its "resolver"), and what was refused.

    Attributes:
        given: name -> content of what is in memory already, besides the files.
        trouble: a sentence for every name that could not be read.
        pictures: those found, undecoded. trimesh, which copies and so decodes them, is given two pixels in their
            place: MARK, and one whose color is the number.
    """

    def __init__(self, path: Path, size: int, holds_pictures: bool):
        """
        Args:
            path: the mesh file. size: its own, in bytes; all that it names must fit in what MOST_BYTES leaves.
            holds_pictures: whether pictures are among what is asked for.
        """
        self.path, self.left, self.holds_pictures = path, MOST_BYTES - size, holds_pictures
        self.pictures: list[bytes] = []
        self.given: dict[str, bytes | memoryview] = {}
        self.trouble: list[str] = []

    def get(self, name: str) -> bytes | memoryview:
        """The content of a file. Raises UserError, and keeps its sentence, if it is not to be had."""
        if name not in self.given:
            try:
                data = self._read(name)
                self.given[name] = self._stand_in(name, data) if self.holds_pictures else data
            except UserError as error:
                if str(error) not in self.trouble:
                    self.trouble.append(str(error))
                raise
        return self.given[name]

    __getitem__ = get

    def number_of(self, stand_in: Image.Image | None) -> int | None:
        """Which of the pictures a material's two pixels stand for; None if they stand for none."""
        if stand_in is None or stand_in.size != (1, 2):
            return None
        mark, (red, green, blue) = (stand_in.convert("RGB").getpixel((0, row)) for row in (0, 1))
        return red * 65536 + green * 256 + blue if mark == MARK else None

    def picture(self, number: int) -> Image.Image:
        """A picture, not decoded yet."""
        return Image.open(io.BytesIO(self.pictures[number]), formats=FORMATS)

    def _stand_in(self, name: str, data: bytes) -> bytes:
        """A picture's two pixels; other files as they are. Raises UserError for a picture that cannot be read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Image.open(io.BytesIO(data), formats=FORMATS).close()
        except Image.DecompressionBombError:
            raise UserError(f"{self.path.parent / name} has too many pixels; shrink it.") from None
        except (UnidentifiedImageError, *BROKEN):
            if Path(name).suffix.lower() in SUFFIXES + FOREIGN:
                raise UserError(not_recognized(self.path.parent / name, data)) from None
            return data
        number, stream = len(self.pictures), io.BytesIO()
        self.pictures.append(data)
        stand_in = Image.new("RGB", (1, 2), MARK)
        stand_in.putpixel((0, 1), (number >> 16, number >> 8 & 255, number & 255))
        stand_in.save(stream, "PNG")
        return stream.getvalue()

    def _read(self, name: str) -> bytes:
        folder = self.path.parent.resolve()
        plain = unquote(name).strip().strip('"').replace("\\", "/")
        outside = False
        for candidate in (name.strip(), plain, plain.rsplit("/", 1)[-1]):
            try:
                found = (folder / candidate).resolve()
                there = candidate not in ("", ".", "..") and found.exists()
            except (OSError, ValueError, RuntimeError):  # too long, a null character, a circle of links
                continue
            inside = found.is_relative_to(folder)
            outside |= there and not inside
            if there and inside:
                return self._within_bounds(found)
        where = "lies outside of its folder" if outside else "is not there"
        raise UserError(f"{self.path} names {name[:100]}, which {where}; put it beside the mesh.")

    def _within_bounds(self, file: Path) -> bytes:
        require_file(file)
        most = self.left if file.suffix.lower() != ".mtl" else min(self.left, MOST_MATERIAL_BYTES)
        if file.stat().st_size > most:
            raise UserError(f"{file} is too large for a part of {self.path.name}; make it smaller.")
        data = read_file(file)
        self.left -= len(data)
        return data
