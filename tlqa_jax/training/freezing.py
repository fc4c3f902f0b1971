"""Parameters that training leaves as they are: all of the encoder (feature-based transfer), or a part of the model.

    trained, frozen = partition(params, ["encoder/embeddings", "encoder/layer_[0-3]"])
    gradients = jax.grad(lambda trained: loss(combine(trained, frozen)))(trained)

The gradient is taken with respect to the trained part only. So the backward pass ends where nothing below is trained,
the optimizer keeps no state for the rest, and neither it nor weight decay can change a bit of it.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import Params


def partition(params: Params, freeze: Sequence[str], above: str = "") -> tuple[Params, Params]:
    """(trained, frozen): two nested dicts; each array of `params` is in one of them.

    An array is frozen if a pattern of `freeze` matches it or a dict that holds it. Names are joined with "/"; "*", "?"
    and "[0-3]" mean what they mean in file names. ("encoder_*" is all of a T5's encoder but the embedding.)
    """
    trained, frozen = {}, {}
    for name, part in params.items():
        if any(fnmatchcase(above + name, pattern) for pattern in freeze):
            frozen[name] = part
        elif isinstance(part, dict):
            for whole, some in zip((trained, frozen), partition(part, freeze, f"{above}{name}/")):
                if some:
                    whole[name] = some
        else:
            trained[name] = part
    return trained, frozen


def combine(trained: Params, frozen: Params) -> Params:
    """The parameters that `partition` has taken apart."""
    both = trained.keys() & frozen.keys()
    return trained | frozen | {name: combine(trained[name], frozen[name]) for name in both}


def check_freeze(params: Params, freeze: Sequence[str]) -> str:
    """How many parameters are trained, in a line for the user.

    Raises UserError for a pattern that matches nothing, and if nothing is left to train.
    """
    for pattern in freeze:
        if not partition(params, [pattern])[1]:
            raise UserError(f"--freeze {pattern} matches no parameters; there are {', '.join(parts(params))}")
    trained, _ = partition(params, freeze)
    if not trained:
        raise UserError(f"--freeze {','.join(freeze)} leaves nothing to train")
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    return f"training {count(trained):,} of {count(params):,} parameters; the rest is frozen"


def parts(params: Params) -> list[str]:
    """The first two names of each path: what one may want to freeze."""
    return list(dict.fromkeys("/".join(path.split("/")[:2]) for path in flatten(params)))
