"""Workers of several engines as processes: each is one engine on one core, jobs in and measurements out as lines of JSON."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deepen import deepened

FILES = Path(os.environ["REFRACT_BENCH_FILES"])
# Absent where another worker is measured (ranker.py).
WORKER, PYTHON = os.environ.get("REFRACT_BENCH_WORKER"), os.environ["REFRACT_BENCH_PYTHON"]
PEER = [PYTHON, str(Path(__file__).parent / "peer.py")]
# The exporter to ONNX needs an older transformers than the newest, in front of it.
EXPORTER = {"PYTHONPATH": str(FILES / "onnx")}
# Of FLAN-T5-XXL's shape in bytes, its `wo` in f32: what is on disk, and what it takes at work.
XXL_GIB = 18
# What libraries say of themselves.
NOISE = open(FILES / "peers.log", "w")


class Engine:
    """A worker process on one core."""

    def __init__(self, name, command, environment):
        pin = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if Path("/usr/bin/taskset").exists() else []
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | environment
        self.name = name
        self.process = subprocess.Popen(
            [*pin, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=NOISE, text=True, env=environment
        )
        self.about = self._read()
        print(f"    {name}: {self.about['ready']}, loaded in {self.about['load_s']:.1f} s", file=sys.stderr)

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(self.name)
        return json.loads(line)

    def run(self, prompts, new, beams=1, exact=True, **more):
        """`more` is for Refract's worker alone: together, padded, arrive."""
        new = new if isinstance(new, list) else [new]
        return self.ask({"prompts": prompts, "new": new, "beams": beams, "exact": exact} | more)

    def ask(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start(name, command, environment={}):
    try:
        return Engine(name, command, environment)
    except (ChildProcessError, OSError) as error:
        print(f"    SKIPPED, LOUDLY: {name} does not start here ({error})", file=sys.stderr)
        return None


def refract(name, directory, precision="int8", drafts=0, running=32):
    return start(name, [WORKER, directory, precision, 1, drafts, running])


def peers(directory, kinds=("int8", "float32")):
    """CTranslate2, ONNX Runtime and transformers on the same weights, as far as they are there."""
    found = []
    if has("ctranslate2") and has("transformers"):
        for kind in kinds:
            made = made_once("convert", directory, "ctranslate2", kind, "model.bin")
            if made:
                found.append(start(f"CTranslate2 {kind}", [*PEER, "ctranslate2", made, kind, 1]))
    if has("onnxruntime") and has("optimum.onnxruntime", EXPORTER):
        for kind in kinds:
            made = made_once("export", directory, "onnx", kind, "encoder_model.onnx", EXPORTER)
            if made:
                found.append(start(f"ONNX Runtime {kind}", [*PEER, "onnx", made, kind, 1], EXPORTER))
    if has("transformers"):
        found.append(start("transformers float32", [*PEER, "transformers", directory, "float32", 1]))
    return [engine for engine in found if engine]


def has(module, environment={}):
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    found = subprocess.run([PYTHON, "-c", probe], env=os.environ | environment, stderr=subprocess.DEVNULL, check=False)
    if found.returncode:
        print(f"    SKIPPED, LOUDLY: {module} is not there", file=sys.stderr)
    return not found.returncode


def random_model(*shape):
    directory = FILES / "-".join(["random", *map(str, shape)])
    if not (directory / "config.json").is_file():
        print(f"    making {directory.name} (random weights)", file=sys.stderr)
        name, *layers = map(str, shape)
        subprocess.run([WORKER, "random", name, directory, *layers], check=True)
    return directory


def whole_xxl():
    """FLAN-T5-XXL's shape in bytes, all 24 + 24 layers; None where the machine has no room for it."""
    out = FILES / "random-flan-t5-xxl-int8"
    if free_gib() < XXL_GIB:
        print(f"    {free_gib()} GiB of memory are free and {XXL_GIB} needed for the whole of XXL's shape: scaling samples up", file=sys.stderr)
        return None
    if not (out / "model.safetensors").is_file():
        if shutil.disk_usage(FILES).free >> 30 < XXL_GIB:
            print(f"    {XXL_GIB} GiB of disk are needed for the whole of XXL's shape: scaling samples up", file=sys.stderr)
            return None
        print(f"    making {out.name} ({XXL_GIB} GiB; minutes)", file=sys.stderr)
        one = FILES / "random-flan-t5-xxl-1-int8"
        shutil.rmtree(one, ignore_errors=True)
        subprocess.run([WORKER, "bytes", random_model("flan-t5-xxl", 1), one], check=True)
        deepened(one, out, 24)
        shutil.rmtree(one)
    return out


def free_gib():
    with open("/proc/meminfo") as lines:
        found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return int(found[0]) >> 20 if found else 0


def made_once(how, directory, engine, kind, file, environment={}):
    """The model in another engine's format; None where that engine's tools cannot make it."""
    out = FILES / f"{directory.name}-{engine}-{kind}"
    if not (out / file).is_file():
        print(f"    making {out.name}", file=sys.stderr)
        done = subprocess.run(
            [*PEER, how, directory, out, kind], env=os.environ | environment, stdout=sys.stderr, stderr=NOISE, check=False
        )
        if done.returncode:
            print(f"    SKIPPED, LOUDLY: {engine} {kind}: its converter failed (see {NOISE.name})", file=sys.stderr)
            return None
    return out


def close(engines):
    for engine in engines:
        engine.close()
