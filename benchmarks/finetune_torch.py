"""The recipe of `tlqa finetune-spans` in Transformers on PyTorch: the reference its EM and F1 stand beside.

    python benchmarks/finetune_torch.py ENCODER train.json dev.json --out predictions.json --seed 0
    tlqa evaluate predictions.json --questions dev.json

Features, loop and answers are written against Transformers' own tokenizer and offsets; nothing of tlqa_jax is used.
The environment is that of with_torch.py.
"""

import argparse
import json
import time

import numpy as np
import torch
from transformers import AutoTokenizer, BertForQuestionAnswering, get_linear_schedule_with_warmup


def read_squad(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        articles = json.load(file)["data"]
    return [dict(qa, context=p["context"]) for article in articles for p in article["paragraphs"] for qa in p["qas"]]


def windows_of(tokenizer, examples, length: int, stride: int):
    """Rows of ids, which example each is of, and the character span of every context token (None elsewhere)."""
    encoded = tokenizer(
        [example["question"].strip() for example in examples], [example["context"] for example in examples],
        truncation="only_second", max_length=length, stride=stride, padding="max_length",
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    spans = [
        [span if segment == 1 else None for span, segment in zip(offsets, encoded.sequence_ids(row))]
        for row, offsets in enumerate(encoded["offset_mapping"])
    ]
    inputs = {name: torch.tensor(encoded[name]) for name in ("input_ids", "token_type_ids", "attention_mask")}
    return inputs, encoded["overflow_to_sample_mapping"], spans


def target(spans, answer) -> tuple[int, int]:
    """First and last token of the answer, or [CLS] twice where the window does not hold all of it."""
    begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    own = [i for i, span in enumerate(spans) if span]
    if not own or spans[own[0]][0] > begin or spans[own[-1]][1] < end:
        return 0, 0
    covered = [i for i in own if spans[i][1] > begin and spans[i][0] < end]
    return (covered[0], covered[-1]) if covered else (0, 0)


def best_answers(start, end, examples, example_of, spans, longest: int) -> dict[str, str]:
    best = {}
    for row, example in enumerate(example_of):
        own = [i for i, span in enumerate(spans[row]) if span]
        first = np.array(own)[:, None]
        last = np.array(own)[None]
        score = np.where((last >= first) & (last < first + longest), start[row][first] + end[row][last], -np.inf)
        i, j = np.unravel_index(score.argmax(), score.shape)
        if score[i, j] > best.get(example, (-np.inf,))[0]:
            best[example] = score[i, j], examples[example]["context"][spans[row][own[i]][0] : spans[row][own[j]][1]]
    return {example["id"]: best[number][1] for number, example in enumerate(examples)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a directory with config.json, model.safetensors and vocab.txt")
    parser.add_argument("train")
    parser.add_argument("dev")
    parser.add_argument("--out", required=True, help="predictions, {id: answer}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--stride", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)

    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    model = BertForQuestionAnswering.from_pretrained(options.encoder)
    train, dev = read_squad(options.train), read_squad(options.dev)
    inputs, example_of, spans = windows_of(tokenizer, train, options.length, options.stride)
    targets = torch.tensor([target(spans[row], train[example]["answers"][0]) for row, example in enumerate(example_of)])
    steps = options.epochs * -(-len(targets) // options.batch)
    decay = lambda name: not name.endswith("bias") and "LayerNorm" not in name
    groups = [
        {"params": [p for name, p in model.named_parameters() if decay(name) == decays], "weight_decay": 0.01 * decays}
        for decays in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * steps), steps)
    began, step = time.perf_counter(), 0
    model.train()
    for _ in range(options.epochs):
        for rows in np.array_split(random.permutation(len(targets)), -(-len(targets) // options.batch)):
            batch = {name: array[rows] for name, array in inputs.items()}
            loss = model(**batch, start_positions=targets[rows, 0], end_positions=targets[rows, 1]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % 50 == 0:
                print(f"step {step}/{steps}  loss {loss.item():.3f}  {time.perf_counter() - began:.0f} s", flush=True)
    model.eval()
    inputs, example_of, spans = windows_of(tokenizer, dev, options.length, options.stride)
    logits = []
    with torch.no_grad():
        for first in range(0, len(spans), 32):
            output = model(**{name: array[first : first + 32] for name, array in inputs.items()})
            logits.append((output.start_logits.numpy(), output.end_logits.numpy()))
    start, end = (np.concatenate(parts) for parts in zip(*logits))
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(best_answers(start, end, dev, example_of, spans, longest=30), file, ensure_ascii=False)
    print(f"{len(targets)} windows, {steps} steps, {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
