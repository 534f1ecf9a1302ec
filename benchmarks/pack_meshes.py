"""Triangle meshes as few symbols: every triangle is told from the edge over which it is reached.

The walk is that of the cut-border machine (Gumhold and Strasser, SIGGRAPH 1998) and of Edgebreaker (Rossignac,
TVCG 1999). The edges between the triangles told so far and the rest are open; over an open edge a -> b lies a new
vertex c, the neighbor of b or of a along the border, one that must be named, or nothing. Positions and texture
coordinates are told as differences to the fourth corner of a parallelogram (Touma and Gotsman, GI 1998).

A place is a position on a grid; a vertex is a place with a texture coordinate. A place knows the vertices met there
so far, so that a seam of the texture costs no second position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from pack_border import empty_border, open_first, open_next

NOTHING, NEW, RIGHT, LEFT, NAMED = range(5)  # what lies over an open edge
SAME, ANOTHER, LISTED = range(
    3
)  # a corner's vertex: the expected one, a new one, LISTED + k: k-th latest there
MOST_LISTED = 250


@dataclass(frozen=True)
class GridMesh:
    """A mesh on integer grids.

    Attributes:
        faces: [F, 3] int32 into vertices; no triangle has a place twice.
        place_of: [V] int32, the place of each vertex.
        places: [P, 3] int32. uv: [V, 2] int32.
    """

    faces: np.ndarray
    place_of: np.ndarray
    places: np.ndarray
    uv: np.ndarray


@dataclass(frozen=True)
class Told:
    """A mesh told triangle by triangle.

    Attributes:
        steps: [S] uint8, what lies over each open edge, or where the corners of a first triangle lie.
        corners: [C] uint8, which vertex of its place each corner is, unless the place is new.
        named: [N] int32, how many places ago a named one was new.
        places: [P, 3] int32, uv: [V, 2] int32, differences to what was guessed.
        n_faces: number of triangles.
    """

    steps: np.ndarray
    corners: np.ndarray
    named: np.ndarray
    places: np.ndarray
    uv: np.ndarray
    n_faces: int


def tell(mesh: GridMesh) -> Told:
    """The mesh as symbols; :func:`rebuild` gives it back with triangles, vertices and places in another order."""
    n_faces, corner_places = len(mesh.faces), mesh.place_of[mesh.faces]  # [F, 3]
    starts, ends = corner_places.astype(np.int64), np.roll(corner_places, -1, 1)
    keys = (starts * len(mesh.places) + ends).ravel()
    order = np.argsort(keys, kind="stable")
    steps, corners, named = (np.empty(6 * n_faces, kind) for kind in (np.uint8, np.uint8, np.int32))
    place_order, vertex_order = np.empty(len(mesh.places), np.int32), np.empty(3 * n_faces, np.int32)
    edges = keys[order], order
    counts = _tell(mesh.faces, corner_places, *edges, steps, corners, named, place_order, vertex_order)
    steps, corners, named, place_order, vertex_order = (
        values[:count] for values, count in zip((steps, corners, named, place_order, vertex_order), counts)
    )
    _, _, place_guess, uv_guess = _walk(steps, corners, named, n_faces, len(place_order), len(vertex_order))
    places, uv = mesh.places[place_order], mesh.uv[vertex_order]
    return Told(steps, corners, named, _differences(places, place_guess), _differences(uv, uv_guess), n_faces)


def rebuild(told: Told) -> GridMesh:
    """The mesh that was told."""
    sizes = told.n_faces, len(told.places), len(told.uv)
    faces, place_of, place_guess, uv_guess = _walk(told.steps, told.corners, told.named, *sizes)
    return GridMesh(faces, place_of, _sums(told.places, place_guess), _sums(told.uv, uv_guess))


def _differences(values: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """What is left of values [N, C] after guessing v[i] + v[j] - v[k] for rows (i, j, k) [N, 3]; row -1 is 0."""
    padded = np.concatenate([values, np.zeros_like(values[:1])])
    first, second, third = (padded[guess[:, i]] for i in range(3))
    return values - (first + second - third)


@njit(cache=True)
def _sums(rest, guess):
    """The inverse of _differences: a row's guess needs only rows before it."""
    values = np.zeros((len(rest) + 1, rest.shape[1]), np.int32)
    for n in range(len(rest)):
        i, j, k = guess[n]
        for axis in range(rest.shape[1]):
            values[n, axis] = rest[n, axis] + values[i, axis] + values[j, axis] - values[k, axis]
    return values[:-1]


@njit(cache=True)
def _tell(faces, corner_places, edge_keys, edge_order, steps, corners, named, place_order, vertex_order):
    """Fills the outputs and says how much of each was used; places and vertices are numbered as they are met."""
    n_places, n_faces = len(place_order), len(faces)
    border, stack, size = empty_border(n_places, n_faces)
    edges, links, is_open, _ = border
    latest = np.full(n_places, -1, np.int32)
    older = np.empty(3 * n_faces, np.int32)
    place_number, vertex_number = np.full(n_places, -1, np.int32), np.full(faces.max() + 1, -1, np.int32)
    told = np.zeros(n_faces, np.bool_)
    places, vertices, expected = np.empty(3, np.int32), np.empty(3, np.int32), np.empty(3, np.int32)
    n_steps = n_corners = n_named = n_met = n_vertices = first = 0
    while True:
        face, turn, known = -1, 0, 0
        if size[1] > 0:
            size[1] -= 1
            gate = stack[size[1]]
            if not is_open[gate]:
                continue
            a, b, _, at_a, at_b, _ = edges[gate]
            key = np.int64(place_order[b]) * n_places + place_order[a]
            place = np.searchsorted(edge_keys, key)
            while face < 0 and place < len(edge_keys) and edge_keys[place] == key:
                if not told[edge_order[place] // 3]:
                    face, turn = edge_order[place] // 3, edge_order[place] % 3
                place += 1
            if face < 0:
                steps[n_steps] = NOTHING
                n_steps += 1
                continue
            places[0], places[1], expected[0], expected[1], known = b, a, at_b, at_a, 2
        else:
            while first < n_faces and told[first]:
                first += 1
            if first == n_faces:
                break
            face, expected[0], expected[1] = first, -1, -1
        told[face] = True
        for j in range(3):
            corner = (turn + j) % 3
            place, vertex = corner_places[face, corner], faces[face, corner]
            new = place_number[place] < 0
            if new:
                place_number[place], place_order[n_met] = n_met, place
                n_met += 1
            number = place_number[place]
            if j >= known:
                if new:
                    step = NEW
                elif known and edges[links[gate, 1], 1] == number:
                    step = RIGHT
                elif known and edges[links[gate, 0], 0] == number:
                    step = LEFT
                else:
                    step, named[n_named] = NAMED, n_met - number
                    n_named += 1
                steps[n_steps] = step
                n_steps += 1
                places[j], expected[j] = number, latest[number]
            if not new:
                symbol, back = ANOTHER, latest[number]
                for k in range(MOST_LISTED):
                    if back < 0:
                        break
                    if back == vertex_number[vertex]:
                        symbol = SAME if back == expected[j] else LISTED + k
                        break
                    back = older[back]
                corners[n_corners] = symbol
                n_corners += 1
            if new or symbol == ANOTHER:
                vertex_number[vertex], vertex_order[n_vertices] = n_vertices, vertex
                older[n_vertices], latest[number] = latest[number], n_vertices
                n_vertices += 1
            vertices[j] = vertex_number[vertex]
        if known:
            open_next(gate, places, vertices, border, stack, size)
        else:
            open_first(places, vertices, border, stack, size)
    return n_steps, n_corners, n_named, n_met, n_vertices


@njit(cache=True)
def _walk(steps, corners, named, n_faces, n_places, n_vertices):
    """The mesh's triangles, the places of its vertices, and from which others places and vertices are guessed."""
    border, stack, size = empty_border(n_places, n_faces)
    edges, links, is_open, _ = border
    latest = np.full(n_places, -1, np.int32)
    older = np.empty(n_vertices, np.int32)
    faces, place_of = np.empty((n_faces, 3), np.int32), np.empty(n_vertices, np.int32)
    place_guess, uv_guess = np.empty((n_places, 3), np.int32), np.empty((n_vertices, 3), np.int32)
    places, vertices, expected = np.empty(3, np.int32), np.empty(3, np.int32), np.empty(3, np.int32)
    i_step = i_corner = i_named = n_met = met_vertices = n_told = 0
    while n_told < n_faces:
        known, opposite, at_opposite = 0, -1, -1
        if size[1] > 0:
            size[1] -= 1
            gate = stack[size[1]]
            if not is_open[gate]:
                continue
            a, b, opposite, at_a, at_b, at_opposite = edges[gate]
            if steps[i_step] == NOTHING:
                i_step += 1
                continue
            places[0], places[1], expected[0], expected[1], known = b, a, at_b, at_a, 2
        for j in range(3):
            new = False
            if j >= known:
                step = steps[i_step]
                i_step += 1
                new = step == NEW
                if new:
                    number = n_met
                    n_met += 1
                    nearby = places[j - 1] if j > 0 else number - 1
                    place_guess[number] = (
                        (places[0], places[1], opposite) if known else (nearby, nearby, nearby)
                    )
                elif step == RIGHT:
                    number = edges[links[gate, 1], 1]
                elif step == LEFT:
                    number = edges[links[gate, 0], 0]
                else:
                    number = n_met - named[i_named]
                    i_named += 1
                places[j], expected[j] = number, latest[number]
            symbol = ANOTHER
            if not new:
                symbol = corners[i_corner]
                i_corner += 1
            if symbol == SAME:
                vertices[j] = expected[j]
            elif symbol == ANOTHER:
                vertex = met_vertices
                met_vertices += 1
                nearby = vertices[j - 1] if j > 0 else vertex - 1
                guess = (nearby, nearby, nearby)
                if known and j == 0:
                    guess = (expected[0], expected[0], expected[0])
                elif known and j == 1:
                    guess = (expected[1], vertices[0], expected[0])
                elif known and vertices[0] == expected[0] and vertices[1] == expected[1]:
                    guess = (expected[0], expected[1], at_opposite)
                uv_guess[vertex], place_of[vertex] = guess, places[j]
                older[vertex], latest[places[j]] = latest[places[j]], vertex
                vertices[j] = vertex
            else:
                vertices[j] = latest[places[j]]
                for _ in range(symbol - LISTED):
                    vertices[j] = older[vertices[j]]
        faces[n_told] = vertices
        n_told += 1
        if known:
            open_next(gate, places, vertices, border, stack, size)
        else:
            open_first(places, vertices, border, stack, size)
    return faces, place_of, place_guess, uv_guess
