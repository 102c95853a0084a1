#!/usr/bin/env python3
"""train.py CORPUS [--unseen-only] [--tool PATH] [--model FILE]: trains the forests of src/extract/content/model.bin.

CORPUS holds sets (folders) with gold.jsonl (id, url, text, and perhaps type) and pages/ID.html.gz, as `tidemill-bench-extract dump`
reads them; that program (built with `cargo build --release` here) computes the features, so training and use cannot differ.

Each block of a page is labelled with the share of its words that an alignment with the marked text finds. Two rounds: first the
pages whose sha256(id) begins with a byte that 5 divides, and all pages of their sites, are left out, and the forests are judged
on those pages (unseen) and by cross-validation on the others; then the forests are trained on all pages and written.
Needs some 15 CPU minutes and 3 GB.
"""
import argparse, hashlib, json, re, subprocess, tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse
import lightgbm as lgb
import numpy as np
from rapidfuzz.distance import LCSseq

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent.parent / "src/extract/content/model.bin"
KINDS = ["article", "collection", "documentation", "forum", "listing", "product", "service"]  # PageKind::ALL
WORD = re.compile(r"\w+")
FOLDS = 5
COMMON = dict(num_threads=1, verbose=-1, seed=1, bagging_fraction=0.7, bagging_freq=1, force_col_wise=True)
KIND = dict(COMMON, objective="multiclass", num_class=len(KINDS), learning_rate=0.1, num_leaves=6, min_data_in_leaf=8,
            feature_fraction=0.3, lambda_l2=3)
# Thresholds at random instead of the best ones: with so few pages the best ones fit chance.
TREES = dict(COMMON, objective="cross_entropy", min_data_in_leaf=40, extra_trees=True)
FIRST = dict(TREES, learning_rate=0.09, num_leaves=16, feature_fraction=0.5, lambda_l2=5)
SECOND = dict(TREES, learning_rate=0.06, num_leaves=14, feature_fraction=0.4, lambda_l2=10)
ROUNDS = dict(kind=30, first=180, second=160)


def rows_of(hexed, width):
    return np.frombuffer(bytes.fromhex(hexed), np.uint8).reshape(-1, width or 1)


def site(url):
    labels = (urlparse(url).hostname or "").split(".")
    return ".".join(labels[-3:] if len(labels) > 2 and len(labels[-2]) < 4 and len(labels[-1]) == 2 else labels[-2:])


class Page:
    def __init__(self, gold, dumped):
        self.set, self.id, self.site = dumped["set"], gold["id"], site(gold["url"])
        self.kind = gold.get("type") or "article"
        self.gold = WORD.findall(gold["text"].lower())
        self.blocks = [WORD.findall(text.lower()) for text in dumped["texts"]]
        self.words = np.array([len(block) for block in self.blocks], float)
        self.rows = rows_of(dumped["rows"], dumped["width"]) if self.blocks else None
        self.head = rows_of(dumped["page"], len(dumped["page"]) // 2)[0]
        self.label = self.align()
        self.weight = (self.words**0.8 + 0.5) / (len(self.gold) ** 0.8 + 20)
        self.unseen = hashlib.sha256(self.id.encode()).digest()[0] % 5 == 0
        self.fold = hashlib.md5(self.site.encode()).digest()[0] % FOLDS

    def align(self):
        """The share of each block's words in the longest common subsequence with the marked text."""
        numbers, hit = {}, np.zeros(len(self.blocks))
        number = lambda words: [numbers.setdefault(word, len(numbers)) for word in words]
        owner = np.repeat(np.arange(len(self.blocks)), self.words.astype(int))
        mine = number(word for block in self.blocks for word in block)
        for kind, start, end, _, _ in LCSseq.opcodes(mine, number(self.gold)):
            if kind == "equal":
                np.add.at(hit, owner[start:end], 1)
        return hit / np.maximum(self.words, 1)


def kept(page, scores, kind):
    """As content::find in Rust."""
    scores = scores ** (0.7 + 0.8 * kind[0])
    order = np.argsort(-scores, kind="stable")
    hit, words = np.cumsum((scores * page.words)[order]), np.cumsum(page.words[order])
    f1 = 2 * hit / (words + (scores * page.words).sum() + 1e-9)
    return scores >= scores[order][f1.argmax()]


def overlap(want, got):
    return sum((want & got).values()), sum(want.values()), sum(got.values())


def judge(tag, pages, scores, kinds):
    texts = [[w for b, k in zip(p.blocks, kept(p, s, kind)) if k for w in b] if len(s) else [] for p, s, kind in zip(pages, scores, kinds)]
    grams = lambda w: Counter(tuple(w[i : i + 4]) for i in range(max(1, len(w) - 3)) if w[i : i + 4])
    precision, recall, by_kind = [], [], {}
    for page, text in zip(pages, texts):
        if page.set == "seb":
            hit, want, got = overlap(grams(page.gold), grams(text))
            recall.append(hit / max(want, 1))
            precision += [hit / got] if got else []
        else:
            hit, want, got = overlap(Counter(page.gold), Counter(text))
            by_kind.setdefault(page.kind, []).append(2 * hit / (want + got))
    if recall:
        p, r = np.mean(precision), np.mean(recall)
        print(f"{tag}: seb F1 {2 * p * r / (p + r):.4f} (precision {p:.3f}, recall {r:.3f}, {len(recall)} pages)")
    if by_kind:
        every = [f1 for some in by_kind.values() for f1 in some]
        print(f"{tag}: wcxb F1 {np.mean(every):.4f} ({len(every)} pages)", {k: round(float(np.mean(v)), 3) for k, v in sorted(by_kind.items())}, flush=True)


def fit(params, rounds, pages, inputs):
    some = [i for i, page in enumerate(pages) if inputs[i] is not None]
    weight = np.concatenate([pages[i].weight for i in some])
    data = lgb.Dataset(np.concatenate([inputs[i] for i in some]), np.concatenate([pages[i].label for i in some]), weight=weight / weight.mean())
    return lgb.train(params, data, rounds)


def fit_kind(params, rounds, pages, heads):
    weight = [0.5 if page.set == "seb" else 1.0 for page in pages]
    return lgb.train(params, lgb.Dataset(np.array(heads), [KINDS.index(page.kind) for page in pages], weight=weight), rounds)


def out_of_fold(fit, params, rounds, pages, inputs, others, other_inputs):
    """Scores of `pages` by forests that did not see their sites; of `others` by the forest of all `pages`, which is returned too."""
    predict = lambda model, rows: np.zeros(0) if rows is None else model.predict(np.atleast_2d(rows))
    scores = [None] * len(pages)
    for fold in range(FOLDS):
        inside = [i for i, page in enumerate(pages) if page.fold != fold]
        model = fit(params, rounds, [pages[i] for i in inside], [inputs[i] for i in inside])
        for i, page in enumerate(pages):
            if page.fold == fold:
                scores[i] = predict(model, inputs[i])
    model = fit(params, rounds, pages, inputs)
    return scores, [predict(model, rows) for rows in other_inputs], model


def as_bytes(scores):
    return (np.clip(scores, 0, 1) * 255).astype(np.uint8)


def second_rows(dump, pages, scores):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for page, score in zip(pages, scores):
            file.write(json.dumps({"id": page.id, "scores": as_bytes(score).tolist()}) + "\n")
        file.flush()
        return {d["id"]: rows_of(d["rows"], d["width"]) for d in dump(file.name)}


def train(dump, pages, others):
    both = pages + others
    kinds_of = lambda shares: [np.ravel(share) for share in shares]
    kinds, other_kinds, kind = out_of_fold(fit_kind, KIND, ROUNDS["kind"], pages, [p.head for p in pages], others, [p.head for p in others])
    put = lambda page, kind: None if page.rows is None else np.hstack([page.rows, np.repeat(as_bytes(kind), len(page.rows), 0)])
    inputs = [put(page, kind) for page, kind in zip(both, kinds + other_kinds)]
    scores, other_scores, first = out_of_fold(fit, FIRST, ROUNDS["first"], pages, inputs[: len(pages)], others, inputs[len(pages) :])
    more = second_rows(dump, both, scores + other_scores)
    inputs = [None if rows is None else np.hstack([rows, more[page.id]]) for page, rows in zip(both, inputs)]
    firsts, other_firsts = scores, other_scores
    scores, other_scores, second = out_of_fold(fit, SECOND, ROUNDS["second"], pages, inputs[: len(pages)], others, inputs[len(pages) :])
    mean = lambda some, more: [(a + b) / 2 for a, b in zip(some, more)]
    judge("cross-validation", pages, mean(firsts, scores), kinds_of(kinds))
    judge("unseen", others, mean(other_firsts, other_scores), kinds_of(other_kinds))
    return kind, first, second


def written(model):
    """A forest as src/extract/content/forest.rs reads it."""
    dumped = model.dump_model()
    outputs = dumped["num_tree_per_iteration"]
    out = np.uint16(dumped["max_feature_idx"] + 1).tobytes() + bytes([outputs])
    out += np.zeros(outputs, np.float32).tobytes() + np.uint16(len(dumped["tree_info"])).tobytes()
    for tree in dumped["tree_info"]:
        nodes, leaves = [], []

        def place(node):
            if "leaf_value" in node:
                leaves.append(node["leaf_value"])
                return 128 + len(leaves) - 1
            at = len(nodes)
            nodes.append(None)
            below, above = place(node["left_child"]), place(node["right_child"])
            nodes[at] = np.uint16(node["split_feature"]).tobytes() + bytes([int(node["threshold"]), below, above])
            return at

        place(tree["tree_structure"])
        out += bytes([len(nodes)]) + b"".join(nodes) + np.array(leaves, np.float32).tobytes()
    return out


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("corpus", type=Path)
    args.add_argument("--tool", default=str(HERE / "target/release/tidemill-bench-extract"))
    args.add_argument("--unseen-only", action="store_true")
    args.add_argument("--model", type=Path, default=MODEL)
    args = args.parse_args()
    dump = lambda *more: map(json.loads, subprocess.run([args.tool, "dump", args.corpus, *more], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines())
    gold = {(s.parent.name, g["id"]): g for s in sorted(args.corpus.glob("*/gold.jsonl")) for g in map(json.loads, open(s, encoding="utf8"))}
    pages = [Page(gold[d["set"], d["id"]], d) for d in dump()]
    unseen = [page for page in pages if page.unseen]
    sites = {page.site for page in unseen}
    train(dump, [page for page in pages if page.site not in sites], unseen)
    if not args.unseen_only:
        models = train(dump, pages, [])
        args.model.write_bytes(b"TMF1" + bytes([len(models)]) + b"".join(map(written, models)))
        print(f"{args.model}: {args.model.stat().st_size} bytes")


main()
