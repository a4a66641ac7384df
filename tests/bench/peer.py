"""Another engine behind the protocol of the Rust worker (services/shared/engine/examples/bench.rs): jobs in, measurements out.

    peer.py ctranslate2 DIR int8|float32 THREADS       DIR holds a converted model
    peer.py transformers DIR float32|bfloat16 THREADS
    peer.py onnx DIR int8|float32 THREADS              DIR holds exported graphs
    peer.py transformers DIR bfloat16 THREADS cuda:0  on a GPU
    peer.py convert DIR OUT int8|float32               writes a CTranslate2 model and nothing else
    peer.py export DIR OUT int8|float32                writes ONNX graphs (encoder, first decoder step, later steps)

`onnx` and `export` need the exporter's own transformers in front on PYTHONPATH: it lags behind the newest.
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


def export(directory, out, quantisation):
    from pathlib import Path

    from optimum.onnxruntime import ORTModelForSeq2SeqLM, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    exact = out if quantisation == "float32" else f"{out}-exact"
    ORTModelForSeq2SeqLM.from_pretrained(directory, export=True, use_merged=False).save_pretrained(exact)
    if quantisation == "float32":
        return
    # What the library calls the configuration for AVX-512 VNNI: int8 weights a channel, activations as they come.
    how = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    for file in sorted(Path(exact).glob("*.onnx")):
        ORTQuantizer.from_pretrained(exact, file_name=file.name).quantize(save_dir=out, quantization_config=how, file_suffix="")
    for file in Path(exact).glob("*.json"):
        (Path(out) / file.name).write_bytes(file.read_bytes())


def onnx(directory, kind, threads):
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForSeq2SeqLM.from_pretrained(directory, use_merged=False, session_options=options)
    return generating(model), f"ONNX Runtime {onnxruntime.__version__} {kind}"


def transformers(directory, kind, threads, device="cpu"):
    import torch
    import transformers as library

    torch.set_num_threads(threads)
    model = library.AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=getattr(torch, kind)).to(device).eval()
    about = f"transformers {library.__version__}, torch {torch.__version__.split('+')[0]}, {kind} on {device}"
    return generating(model), about


def generating(model):
    """Runs whatever has transformers' `generate`."""
    import torch

    def run(prompts, new, beams, exact):
        longest = max(map(len, prompts))
        pad = model.config.pad_token_id
        ids = torch.tensor([p + [pad] * (longest - len(p)) for p in prompts])
        mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts])
        with torch.inference_mode():
            out = model.generate(
                ids.to(model.device), attention_mask=mask.to(model.device), num_beams=beams, do_sample=False, max_new_tokens=new,
                min_new_tokens=new if exact else None,
            )
        return [row[1:].tolist() for row in out]

    return run


def main():
    name, *rest = sys.argv[1:]
    if name in ("convert", "export"):
        return {"convert": convert, "export": export}[name](*rest)
    directory, kind, threads, *device = rest
    begun = time.perf_counter()
    run, about = {"ctranslate2": ctranslate2, "onnx": onnx, "transformers": transformers}[name](directory, kind, int(threads), *device)
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
