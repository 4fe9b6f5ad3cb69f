"""Example states for the tests of checkpoint files."""

import hashlib

import torch

from trainables.checkpoints import MAGIC, Checkpoint


def state(number):
    weights = torch.arange(6.0).reshape(2, 3) + number
    return {
        "weights": {"a": weights, "half": weights.bfloat16(), "queue": [torch.tensor(number)]},
        "points": [("pretrain", number, {"loss": 0.1 * number, "none": float("nan")})],
        "text": "tënsor",
        "nothing": None,
        "yes": True,
        "pair": (1, 2.5),
    }


def text(found):
    """A state as text, for bitwise comparison."""
    return None if found is None else (found.stage, found.step, repr(found.state))


def expected(stage, step, number):
    return text(Checkpoint(stage=stage, step=step, state=state(number)))


def forged(payload):
    """A forged file with a matching digest."""
    return MAGIC + hashlib.sha256(payload).digest() + payload
