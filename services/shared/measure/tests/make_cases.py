"""Makes cases/*.json: texts of ours and what published implementations say of them.

    pip install rouge-score==0.1.2 sacrebleu==2.6.0 rouge==1.0.1
    python make_cases.py            # rewrites cases/ beside this file

BLEU is sacrebleu's (no smoothing, no tokenising of its own), ROUGE that of `rouge_score` (no stemming), the set-based
ROUGE and the beta = P/R ROUGE-L those of `rouge`, whose code descends from the one PETER's evaluation uses. USR, FMR, FCR,
DIV and Distinct-n have no library: they are computed here as they are defined, pair by pair.
"""

import itertools
import json
import pathlib
import random
import warnings

import sacrebleu
from rouge import rouge_score as sets
from rouge_score import rouge_scorer

HERE = pathlib.Path(__file__).parent / "cases"
WORDS = ("the a film like heist drama both and because you liked it is by same director lead cast story of war love "
         "old new york 1995 cold slow fast funny music price room service staff breakfast").split()


def texts(seed, count):
    rng = random.Random(seed)
    pairs = []
    for n in range(count):
        reference = [rng.choice(WORDS) for _ in range(rng.randint(1, 24))]
        text = [w if rng.random() < 0.7 else rng.choice(WORDS) for w in reference]
        cut = rng.random()
        if cut < 0.2:
            text = text[: rng.randint(0, len(text))]
        elif cut < 0.4:
            text += [rng.choice(WORDS) for _ in range(rng.randint(1, 6))]
        elif cut < 0.5:
            rng.shuffle(text)
        pairs.append((" ".join(text), " ".join(reference)))
    return pairs


WRITTEN = [
    ("Because you liked Heat, try Collateral.", "Because you liked Heat (1995), you may like Collateral."),
    ("Like Amélie, it's set in Paris; a love story.", "It is set in Paris, like Amélie: a love-story!"),
    ("", "Something was expected."),
    ("Something was said.", ""),
    ("…", "!!"),
    ("Same same same same", "same different same"),
    ("7 Seven Se7en", "se7en is seven, not 7"),
    ("İstanbul ẞ K", "istanbul ss k"),
]


def prf(p, r, f):
    return {"precision": p, "recall": r, "f": f}


def lcs_by_ratio(text, reference):
    if not text or not reference:
        return prf(0.0, 0.0, 0.0)
    common = sets._len_lcs(text, reference)
    p, r = common / len(text), common / len(reference)
    if common == 0:
        return prf(p, r, 0.0)
    beta = p / r
    return prf(p, r, (1 + beta**2) * r * p / (r + beta**2 * p))


def n_of_sets(text, reference, n):
    if len(text) < n or len(reference) < n:
        return prf(0.0, 0.0, 0.0)
    found = sets.rouge_n([" ".join(text)], [" ".join(reference)], n=n, exclusive=True)
    return prf(found["p"], found["r"], found["f"])


def pair_cases():
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    cases = []
    for text, reference in WRITTEN + texts(1, 60):
        ours, theirs = text.split(), reference.split()
        found = {name: prf(s.precision, s.recall, s.fmeasure) for name, s in scorer.score(reference, text).items()}
        cases.append({
            "text": text, "reference": reference, "ascii": found,
            "spaces": {"sets1": n_of_sets(ours, theirs, 1), "sets2": n_of_sets(ours, theirs, 2),
                       "by_ratio": lcs_by_ratio(ours, theirs)},
        })
    return cases


def bleu_cases():
    corpora = [texts(seed, count) for seed, count in ((2, 1), (3, 5), (4, 40), (5, 300))]
    corpora += [[("", "a b c d e")], [("a b c", "a b c d e f")], [("a b c d e f", "a b c")], [("x y z", "a b c")]]
    cases = []
    for pairs in corpora:
        case = {"pairs": pairs}
        for order in (1, 4):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = sacrebleu.BLEU(smooth_method="none", tokenize="none", force=True, max_ngram_order=order)
                score = found.corpus_score([t for t, _ in pairs], [[r for _, r in pairs]]).score
            case[f"bleu{order}"] = score
        cases.append(case)
    return cases


def set_cases():
    cases = []
    vocabulary = ["price", "room", "service", "staff", "breakfast", "new york", "old", "heist", "never said"]
    for seed, count in ((6, 2), (7, 9), (8, 60)):
        said = [t for t, _ in texts(seed, count)]
        said.append(said[0])
        wanted = [random.Random(seed + n).choice(vocabulary) for n in range(len(said))]
        cut = [t.split() for t in said]

        def has(words, feature):
            f = feature.split()
            return any(words[i:i + len(f)] == f for i in range(len(words)))

        features = [{f for f in vocabulary if has(words, f)} for words in cut]
        pairs = list(itertools.combinations(features, 2))
        grams = {n: [tuple(w[i:i + n]) for w in cut for i in range(len(w) - n + 1)] for n in (1, 2)}
        cases.append({
            "texts": said, "features": wanted, "vocabulary": vocabulary,
            "usr": len({tuple(w) for w in cut}) / len(cut),
            "fmr": sum(f in fs for f, fs in zip(wanted, features)) / len(cut),
            "fcr": len(set().union(*features)) / len(vocabulary),
            "div": sum(len(a & b) for a, b in pairs) / len(pairs),
            "distinct1": len(set(grams[1])) / len(grams[1]), "distinct2": len(set(grams[2])) / len(grams[2]),
        })
    return cases


for name, cases in (("pairs", pair_cases()), ("bleu", bleu_cases()), ("sets", set_cases())):
    HERE.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
