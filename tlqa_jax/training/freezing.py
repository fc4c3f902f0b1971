"""Parameters that fine-tuning leaves as they are: all of the encoder (feature-based transfer) or a part of the model.

    trained, frozen = split(params, ["encoder/embeddings", "encoder/layer_[0-3]"])
    gradients = jax.grad(lambda trained: loss(merged(trained, frozen)))(trained)

The gradient is taken with respect to the trained part alone. So the backward pass ends where nothing below is trained,
the optimizer keeps no memory of the rest, and neither it nor weight decay can touch a bit of it.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import Params


def split(params: Params, freeze: Sequence[str], above: str = "") -> tuple[Params, Params]:
    """(trained, frozen): two nested dicts that hold each array of `params` once.

    Frozen is what a pattern of `freeze` matches: an array, or all that is in a dict. Names are joined with "/"; "*",
    "?" and "[0-3]" in a pattern are those of file names. ("encoder_*" is all of a T5's encoder but the embedding.)
    """
    trained, frozen = {}, {}
    for name, part in params.items():
        if any(fnmatchcase(above + name, pattern) for pattern in freeze):
            frozen[name] = part
        elif isinstance(part, dict):
            for whole, some in zip((trained, frozen), split(part, freeze, f"{above}{name}/")):
                if some:
                    whole[name] = some
        else:
            trained[name] = part
    return trained, frozen


def merged(trained: Params, frozen: Params) -> Params:
    """The parameters that `split` has taken apart."""
    both = trained.keys() & frozen.keys()
    return trained | frozen | {name: merged(trained[name], frozen[name]) for name in both}


def trained_part(params: Params, freeze: Sequence[str], *, quiet: bool = False) -> Params:
    """The parameters that `freeze` leaves to be trained; says how many they are.

    Raises UserError for a pattern that matches nothing, and where nothing is left.
    """
    for pattern in freeze:
        if not split(params, [pattern])[1]:
            raise UserError(f"--freeze {pattern} matches no parameters; there are {', '.join(parts(params))}")
    trained, _ = split(params, freeze)
    if not trained:
        raise UserError(f"--freeze {','.join(freeze)} leaves nothing to train")
    if freeze and not quiet:
        count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
        print(f"training {count(trained):,} of {count(params):,} parameters, frozen is the rest")
    return trained


def parts(params: Params) -> list[str]:
    """The first two names of each path: what one may want to freeze."""
    return list(dict.fromkeys("/".join(path.split("/")[:2]) for path in flatten(params)))
