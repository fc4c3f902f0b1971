"""Which parameters are trained: `train` says how much of a model, `freeze` names parameters that are left out.

    freeze = frozen_names(params, "last:2")
    trained, frozen = partition(params, freeze)
    gradients = jax.grad(lambda trained: loss(combine(trained, frozen)))(trained)

The gradient is taken with respect to the trained part only. So the backward pass ends where nothing below is trained,
the optimizer keeps no state for the rest, and neither it nor weight decay can change a bit of it.

`train`, from the top of the model to its bottom:

    head        the parts above the layers: a BERT's pooler and the head of its task, a T5 1.1's output matrix
    last:N      these and the last N layers; of a T5, of the encoder and of the decoder
    gradual     these and one more layer in each stage, in the last stage everything (Howard & Ruder 2018, section 3.3)
    all         everything

and spread over all layers, always with the head of a BERT, which is new:

    bias        the bias vectors (Ben Zaken et al. 2022, "BitFit"). A T5 has none
    adapters:D  adapters of size D, which are new, and the scales and biases of the norms (Houlsby et al. 2019)
    lora:R      matrices of rank R beside the query and value projections (Hu et al. 2022)

Only `head` and `last:N` shorten the backward pass. The last three save the gradients of large matrices and the
optimizer's state, but the first layer has something to train, so the backward pass goes through all layers.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.errors import UserError
from tlqa_jax.models.adapters import is_trained_with
from tlqa_jax.models.bert_heads import TASK_HEADS
from tlqa_jax.models.functional import Params

TRAIN = re.compile(r"(all|head|gradual|bias)|(last|adapters|lora):([1-9]\d{0,5})")
LAYER = re.compile(r"(?:encoder/layer|encoder|decoder)_(\d+)/")
# a T5's relative biases are read by all layers
BOTTOM = re.compile(r"(encoder/embeddings|embedding|vectors|encoder_bias|decoder_bias)/")
BIAS = re.compile(r".*[/_]bias")


def read_train(train: str) -> tuple[str, int]:
    """("lora", 8) of "lora:8", ("all", 0) of "all". Raises UserError for anything else."""
    if not (found := TRAIN.fullmatch(train)):
        known = "all, head, last:N, gradual, bias, adapters:D or lora:R, with a whole number above 0 for the letter"
        raise UserError(f"--train is {train!r}: it has to be {known}")
    plain, kind, size = found.groups()
    return plain or kind, int(size or 0)


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


def depths(params: Params) -> dict[str, int]:
    """How far below the top each parameter is: 0 above the layers, 1 in the last layer of its stack, 2 in the next one.

    What is below all layers is one deeper than the first layer of the longest stack.
    """
    paths, layers = flatten(params), {}
    stack_and_number = lambda path: (found := LAYER.match(path)) and (path[: found.start(1)], int(found[1]))
    for stack, number in filter(None, map(stack_and_number, paths)):
        layers[stack] = max(layers.get(stack, 0), number + 1)

    def depth(path: str) -> int:
        if in_layer := stack_and_number(path):
            return layers[in_layer[0]] - in_layer[1]
        if BOTTOM.match(path):
            return max(layers.values(), default=0) + 1  # a bag of vectors has no layers
        return 1 if path.startswith("encoder_norm/") else 0  # between a T5's last encoder layer and its decoder

    return {path: depth(path) for path in paths}


def number_of_layers(params: Params) -> int:
    """The number of layers; of a T5, of its longer stack."""
    return max(depths(params).values()) - 1


def frozen_names(params: Params, train: str, freeze: Sequence[str] = ()) -> tuple[str, ...]:
    """The patterns of `freeze`, and the names of all parameters that `train` leaves as they are. For `partition`.

    Raises UserError if the model has not what `train` asks for, a pattern matches nothing, or nothing is left to train.
    """
    (kind, size), is_t5 = read_train(train), "decoder_norm" in params
    if kind == "last" and size > (layers := number_of_layers(params)):
        raise UserError(f"--train {train}: this model has {layers} layers")
    if kind == "bias" and is_t5:
        raise UserError("--train bias: a T5 has no bias vectors: give adapters:D or lora:R")
    if kind == "head" and is_t5 and "output" not in params:
        raise UserError("--train head: this T5's output matrix is its embedding, so it has no head: give last:N")

    def is_trained(path: str, depth: int) -> bool:
        match kind:
            case "head" | "last":
                return depth <= size
            case "bias":
                return bool(BIAS.fullmatch(path)) or path.startswith(TASK_HEADS)
            case "adapters" | "lora":
                return is_trained_with(kind, path)
            case _:
                return True

    names = tuple(path for path, depth in depths(params).items() if not is_trained(path, depth))
    check_freeze(params, freeze)
    if not partition(params, (*freeze, *names))[0]:
        raise UserError(f"--freeze {','.join(freeze)} leaves nothing to train of --train {train}")
    return (*freeze, *names)


def unfreezing_stages(params: Params) -> list[tuple[str, ...]]:
    """For `gradual`: the names of the parameters that are not trained yet, in each stage; there is one for each layer.

    Of a T5 the encoder and the decoder are unfrozen in parallel (Raffel et al. 2020, section 3.5.1). There the
    embedding is trained throughout; here it joins in the last stage, so that the earlier ones need not go back to it.
    """
    layers = number_of_layers(params)
    return [tuple(path for path, depth in depths(params).items() if depth > n) for n in range(1, layers)] + [()]


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
    some, whole = (sum(x.size for x in jax.tree.leaves(tree)) for tree in (trained, params))
    return f"training {some:,} of {whole:,} parameters ({some / whole:.1%})"


def parts(params: Params) -> list[str]:
    """The first two names of each path: what one may want to freeze."""
    return list(dict.fromkeys("/".join(path.split("/")[:2]) for path in flatten(params)))
