"""Goldens of the transducers: small problems whose paths were enumerated."""

from typing import NamedTuple

import numpy as np

A = np.log(np.array([[[1, 2, 1], [3, 1, 1]], [[2, 3, 1], [1, 1, 2]]], float))
A_LABELS = [1]
A_LOSS = 2.241960471177611  # P = 17/160
A_GRADIENT = np.array(
    [[[-3 / 68, -7 / 34, 1 / 4], [-24 / 85, 12 / 85, 12 / 85]], [[5 / 51, -5 / 34, 5 / 102], [-3 / 4, 1 / 4, 1 / 2]]]
)
A_LABEL_AT_ONCE = 12 / 17  # occupancy of the label's arc out of (0, 0)

_T, _U, _V = np.indices((4, 4, 5))
B = 2 * np.sin(1 + 20 * _T + 5 * _U + _V)
B_LABELS = [1, 3, 3]
B_BLANK_0 = [0.78137975, 0.20030422, 0.00337885, 0.01493718]  # occupancies out of (0, u)
B_LABEL_0 = [0.21862025, 0.01831603, 0.01493718, 0.0]


class Golden(NamedTuple):
    """Options, the number of paths, the loss, the gradient of the first node, and the sum of its sizes."""

    options: dict
    paths: int
    loss: float
    first: list[float] | None
    size: float | None


RANGES = np.array([0, 0, 1, 2])
GOLDENS = {
    "plain": Golden(
        {}, 20, 11.513371094083356, [-0.37486140, 0.24695883, 0.10017585, 0.01662790, 0.01109882], 9.290430887626911
    ),
    "FastEmit": Golden(
        {"fastemit": 0.5},
        20,
        11.513371094083356,
        [-0.33042483, 0.18854121, 0.11112608, 0.01844550, 0.01231203],
        11.697431686546855,
    ),
    "HAT": Golden(
        {"blank_model": "hat"},
        20,
        9.182501760630052,
        [0.58554567, -0.15996439, 0.12528731, 0.02079608, 0.01388100],
        6.686611873578206,
    ),
    "modified": Golden({"topology": "modified"}, 4, 8.837991271403455, None, None),
    "pruned": Golden({"ranges": RANGES}, 2, 14.686208214884850, None, 10.696984088705715),
}


def scores(options: dict) -> np.ndarray:
    """B, or the rows of B that `ranges` keeps."""
    if "ranges" not in options:
        return B
    return np.stack([B[t, s : s + 2] for t, s in enumerate(options["ranges"])])


DURATIONS = [0, 1, 2]
DURATION_LOGITS = np.cos(1 + 12 * _T[..., :3] + 3 * _U[..., :3] + _V[..., :3])
TDT_PATHS = 145


class GoldenTDT(NamedTuple):
    """Loss, gradients of the first node, sums of their sizes; None where none is printed."""

    sigma: float
    loss: float
    first: list[float]
    size: float
    first_durations: list[float] | None
    size_durations: float | None


TDT = (
    GoldenTDT(
        0.0,
        9.767424720658449,
        [0.40393777, -0.53184034, 0.10017585, 0.01662790, 0.01109882],
        6.182406116070208,
        [-0.34046893, 0.21057347, 0.12989546],
        3.599484108380536,
    ),
    GoldenTDT(0.05, 9.970747728639774, [0.40408103, -0.53198360], 6.179338489469293, None, None),
)

AM = np.sin(1 + 5 * _T[:, 0] + _V[:, 0])
LM = np.cos(1 + 5 * _U[0] + _V[0])
SIMPLE_LOSS = 10.981931288355057
SIMPLE_FIRST = [-0.24193369, 0.03065471, 0.09150313, 0.04019645, 0.07957940]  # gradient of am[0]
SIMPLE_SIZES = (6.344217329069958, 8.399897802844219)  # of am and lm
