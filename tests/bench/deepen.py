"""A model of many layers from one of a single layer, whose numbers each layer holds: as heavy as the real one, and made at the speed of a copy."""

import json
import re
import struct
import sys

# Of T5, the first layer's alone: the table of distances, which all layers read.
ONCE = "relative_attention_bias"
CHUNK = 1 << 24


def halved(numbers):
    """f32 as bf16: the upper half of each."""
    half = bytearray(len(numbers) // 2)
    half[0::2], half[1::2] = numbers[2::4], numbers[3::4]
    return half


def deepened(directory, out, layers, halves=False):
    """Writes `directory`, a T5 with one layer in the encoder and one in the decoder, to `out` with so many of each; with `halves`,
    what is f32 becomes bf16."""
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((directory / "config.json").read_text())
    config["num_layers"] = config["num_decoder_layers"] = layers
    with open(directory / "model.safetensors", "rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(length))
        metadata = header.pop("__metadata__", None)
        begin = 8 + length
        plan, at = {}, 0
        # Numbers of four bytes first: then all are aligned.
        for name, of in sorted(header.items(), key=lambda it: (it[1]["dtype"] != "F32", it[0])):
            first, last = (n // (2 if halves else 1) for n in of["data_offsets"])
            copies = layers if ".block.0." in name and ONCE not in name else 1
            for layer in range(copies):
                place = at + layer * (last - first)
                plan[re.sub(r"\.block\.0\.", f".block.{layer}.", name)] = (of, place)
            at += copies * (last - first)
        head = {"__metadata__": metadata} if metadata else {}
        head |= {
            name: {
                "dtype": "BF16" if halves else of["dtype"], "shape": of["shape"],
                "data_offsets": [place, place + (of["data_offsets"][1] - of["data_offsets"][0]) // (2 if halves else 1)],
            }
            for name, (of, place) in plan.items()
        }
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with open(out / "model.safetensors.part", "wb") as to:
            to.write(struct.pack("<Q", len(text)) + text)
            for number, (of, _) in enumerate(sorted(plan.values(), key=lambda it: it[1])):
                first, last = of["data_offsets"]
                source.seek(begin + first)
                for offset in range(first, last, CHUNK):
                    numbers = source.read(min(CHUNK, last - offset))
                    to.write(halved(numbers) if halves else numbers)
                if number % 100 == 0:
                    print(f"    {to.tell() >> 30} of {at >> 30} GiB", end="\r", file=sys.stderr, flush=True)
    (out / "model.safetensors.part").rename(out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2))
