"""Another engine behind the protocol of the Rust worker (services/shared/engine/examples/bench.rs): jobs in, measurements out.

    peer.py ctranslate2 DIR int8|float32 THREADS       DIR holds a converted model
    peer.py transformers DIR float32|bfloat16 THREADS
    peer.py convert DIR OUT int8|float32               writes a CTranslate2 model and nothing else
"""

import json
import resource
import sys
import time


def say(**value):
    print(json.dumps(value), flush=True)


class Ids:
    """Stands for a tokenizer: every id is a word of its own."""

    bos_token, pad_token, eos_token, unk_token = "<s>", "<pad>", "</s>", "<unk>"
    bos_token_id, pad_token_id, eos_token_id, unk_token_id = 0, 1, 2, 3
    additional_special_tokens = []

    def __init__(self, vocab):
        self.words = ["<s>", "<pad>", "</s>", "<unk>"] + [f"t{i}" for i in range(4, vocab)]

    def get_vocab(self):
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def convert_ids_to_tokens(self, ids):
        return self.words[ids] if isinstance(ids, int) else [self.words[i] for i in ids]


def vocab_of(directory):
    with open(f"{directory}/config.json") as file:
        return json.load(file)["vocab_size"]


def convert(directory, out, quantisation):
    from ctranslate2.converters import transformers
    from transformers import BartConfig

    # Names that the converter reads and newer configurations have dropped; these are BART's values.
    for key, value in (("normalize_before", False), ("add_final_layer_norm", False), ("normalize_embedding", True),
                       ("static_position_embeddings", False), ("add_bias_logits", False), ("extra_pos_embeddings", 2)):
        if not hasattr(BartConfig, key):
            setattr(BartConfig, key, value)
    converter = transformers.TransformersConverter(directory)
    converter.load_tokenizer = lambda *_, **__: Ids(vocab_of(directory))
    converter.convert(out, quantization=None if quantisation == "float32" else quantisation, force=True)
    with open(f"{out}/words.json", "w") as file:
        json.dump(Ids(vocab_of(directory)).words, file)


def ctranslate2(directory, kind, threads):
    import ctranslate2 as library

    model = library.Translator(directory, device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1)
    with open(f"{directory}/words.json") as file:
        words = json.load(file)
    place = {word: i for i, word in enumerate(words)}

    def run(prompts, new, beams, exact):
        source = [[words[i] for i in ids] for ids in prompts]
        results = model.translate_batch(
            source, max_batch_size=0, beam_size=beams, max_decoding_length=new,
            min_decoding_length=new if exact else 1, return_end_token=True, disable_unk=False,
        )
        return [[place[word] for word in r.hypotheses[0]] for r in results]

    return run, f"CTranslate2 {library.__version__} {kind}"


def transformers(directory, kind, threads):
    import torch
    import transformers as library

    torch.set_num_threads(threads)
    model = library.AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=getattr(torch, kind)).eval()

    def run(prompts, new, beams, exact):
        longest = max(map(len, prompts))
        pad = model.config.pad_token_id
        ids = torch.tensor([p + [pad] * (longest - len(p)) for p in prompts])
        mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts])
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=mask, num_beams=beams, do_sample=False, max_new_tokens=new,
                min_new_tokens=new if exact else None,
            )
        return [row[1:].tolist() for row in out]

    return run, f"transformers {library.__version__}, torch {torch.__version__.split('+')[0]}, {kind}"


def main():
    name, *rest = sys.argv[1:]
    if name == "convert":
        return convert(*rest)
    directory, kind, threads = rest
    begun = time.perf_counter()
    run, about = {"ctranslate2": ctranslate2, "transformers": transformers}[name](directory, kind, int(threads))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    say(ready=about, load_s=time.perf_counter() - begun, peak_mib=peak())
    for line in sys.stdin:
        job = json.loads(line)
        wall, busy = time.perf_counter(), time.process_time()
        ids = run(job["prompts"], job["new"][0], job["beams"], job["exact"])
        say(
            seconds=time.perf_counter() - wall, cpu=time.process_time() - busy, tokens=sum(map(len, ids)),
            peak_mib=peak(), ids=ids,
        )


main()
