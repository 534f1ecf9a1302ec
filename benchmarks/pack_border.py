"""The border between the told and the untold triangles of a mesh, see pack_meshes.py: loops of linked edges."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def empty_border(n_places, n_faces):
    """A border, the stack of the edges to be looked over, and the numbers of edges and of those on the stack.

    A border is: edges [E, 6], see _open_edge; the edges before and after each [E, 2]; which are open [E]; the
    latest edge that ended at each place [P].
    """
    most = 3 * n_faces
    edges, links = np.empty((most, 6), np.int32), np.empty((most, 2), np.int32)
    border = (edges, links, np.zeros(most, np.bool_), np.full(n_places, -1, np.int32))
    return border, np.empty(most, np.int32), np.zeros(2, np.int32)


@njit(cache=True)
def _open_edge(edge, border, stack, size):
    """Put an edge (its ends and the place beyond it, then the vertices there) on the border; its number is size[0]."""
    edges, _, is_open, ending = border
    number = size[0]
    edges[number], is_open[number], ending[edge[1]] = edge, True, number
    stack[size[1]] = number
    size[0], size[1] = number + 1, size[1] + 1
    return number


@njit(cache=True)
def _link(first, second, border):
    border[1][first, 1], border[1][second, 0] = second, first


@njit(cache=True)
def open_first(places, vertices, border, stack, size):
    """The three edges of a triangle reached over no edge are a border."""
    first = size[0]
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        edge = (places[i], places[j], places[k], vertices[i], vertices[j], vertices[k])
        _open_edge(edge, border, stack, size)
        _link(first + i, first + j, border)


@njit(cache=True)
def open_next(gate, places, vertices, border, stack, size):
    """The border takes in the triangle b, a, c over its edge a -> b: it runs a -> c -> b now, and closes where it
    ran along these edges already; if it touches itself at c, it falls in two there.

    Args:
        places, vertices: [3] of b, a, c.
    """
    edges, links, is_open, ending = border
    b, a, c = places
    at_b, at_a, at_c = vertices
    before, after = links[gate]
    is_open[gate] = False
    right, left = edges[after, 1] == c, edges[before, 0] == c
    touched = -1 if right or left else ending[c]
    if right:
        is_open[after] = False
        after = links[after, 1]
    if left:
        is_open[before] = False
        before = links[before, 0]
    inward = before if left else _open_edge((a, c, b, at_a, at_c, at_b), border, stack, size)
    outward = after if right else _open_edge((c, b, a, at_c, at_b, at_a), border, stack, size)
    if not left:
        _link(before, inward, border)
    if not right:
        _link(outward, after, border)
    if touched >= 0 and is_open[touched]:
        _link(inward, links[touched, 1], border)
        _link(touched, outward, border)
    else:
        _link(inward, outward, border)
