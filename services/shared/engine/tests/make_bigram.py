"""Makes fixtures/bigram.json: what Hugging Face's `generate` says of a model that is two tables.

    pip install torch==2.15.0 transformers==5.23.0
    python make_bigram.py

A real tiny T5 runs, but its logits are replaced: a row of a random table by the last token plus a row of another by the
position (without it, two orders of the same words would tie). So the Rust side needs no model to follow it, and hundreds
of random settings are cheap. Seeded. Fields:

    table     [vocab][vocab] by the last token
    drift     [positions][vocab] by the number of decoder ids before the last one
    cases     settings: keyword arguments of `generate`; eos: its EOS ids; outputs: num_return_sequences times
              {"ids": produced ids without the decoder start and padding, "score": sequences_scores or null}
"""

import json
import pathlib
import random

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.utils import logging

logging.set_verbosity_error()
torch.set_num_threads(1)
VOCAB, PAD = 32, 31


def build(table, drift):
    config = T5Config(vocab_size=VOCAB, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_decoder_layers=1, num_heads=2,
                      decoder_start_token_id=0, pad_token_id=PAD, eos_token_id=1)
    model = T5ForConditionalGeneration(config).eval()
    plain = model.forward

    def forward(*args, decoder_input_ids=None, **kwargs):
        past = kwargs["past_key_values"].get_seq_length()
        out = plain(*args, decoder_input_ids=decoder_input_ids, **kwargs)
        assert decoder_input_ids.shape[1] == 1
        out.logits = table[decoder_input_ids] + drift[past]
        return out

    model.forward = forward
    return model


def settings(rng):
    s = {"max_new_tokens": rng.choice([1, 2, 5, 9, 20, 30])}
    s["num_beams"] = rng.choice([1, 2, 3, 5, 5, 5, 8])
    if s["num_beams"] > 1:
        s["num_return_sequences"] = rng.choice([1, 1, 2, s["num_beams"]])
        s["length_penalty"] = rng.choice([1.0, 1.0, 0.0, 0.6, 2.0, -1.0])
        s["early_stopping"] = rng.choice([True, False, False, "never"])
    if rng.random() < 0.4:
        s["repetition_penalty"] = rng.choice([1.2, 2.0, 0.8])
    if rng.random() < 0.4:
        s["no_repeat_ngram_size"] = rng.choice([1, 2, 3])
    if rng.random() < 0.3:
        s["min_new_tokens"] = rng.randint(1, s["max_new_tokens"])
    if rng.random() < 0.2:
        s["forced_bos_token_id"] = rng.randint(2, 30)
    if rng.random() < 0.2:
        s["forced_eos_token_id"] = 1
    if rng.random() < 0.3:
        s["bad_words_ids"] = [[rng.randint(1, 30) for _ in range(rng.randint(1, 3))] for _ in range(4)]
    if rng.random() < 0.2:
        s["suppress_tokens"] = rng.sample(range(2, 31), 3)
    if rng.random() < 0.2:
        s["begin_suppress_tokens"] = rng.sample(range(2, 31), 3)
    return s


def main():
    rng = random.Random(7)
    generator = torch.Generator().manual_seed(7)
    table = torch.round(torch.randn(VOCAB, VOCAB, generator=generator) * 2.0, decimals=4)
    table[:, 1] += 1.0  # ends are not rare
    table[:, PAD] -= 1000.0  # so that padding in an output is padding
    drift = torch.round(torch.randn(30, VOCAB, generator=generator) * 0.5, decimals=4)
    model = build(table, drift)
    cases = []
    while len(cases) < 400:
        s = settings(rng)
        eos = [1] if rng.random() < 0.8 else [1, 2]
        if "forced_bos_token_id" in s and s["forced_bos_token_id"] in s.get("suppress_tokens", []):
            continue
        with torch.no_grad():
            out = model.generate(input_ids=torch.tensor([[5, 6, 1]]), eos_token_id=eos, do_sample=False,
                                 return_dict_in_generate=True, output_scores=True, **s)
        outputs = []
        for i, row in enumerate(out.sequences.tolist()):
            score = None if s["num_beams"] == 1 else out.sequences_scores[i].item()
            outputs.append({"ids": [t for t in row[1:] if t != PAD], "score": score})
        if any(o["score"] is not None and not o["score"] > -1e6 for o in outputs):
            continue  # constraints left fewer live continuations than beams: the reference fills up with dead ones
        cases.append({"settings": s, "eos": eos, "outputs": outputs})
    path = pathlib.Path(__file__).resolve().parent / "fixtures" / "bigram.json"
    lines = ",\n".join(json.dumps(c) for c in cases)
    table, drift = (",\n".join(json.dumps([float(f"{x:.4f}") for x in r]) for r in t.tolist()) for t in (table, drift))
    path.write_text(f'{{"table": [\n{table}\n],\n"drift": [\n{drift}\n],\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
