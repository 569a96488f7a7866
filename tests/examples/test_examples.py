"""The examples run and print the results that their pages give."""

import ast
import contextlib
import csv
import io
import re
import runpy
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastseqloss as fsl
from thoroughness import thorough

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SHIPPED_WITH = {"PIL": "matplotlib", "distributed": "dask"}  # packages that install modules of other names
WITHOUT = """if True:
    import runpy, sys
    package, *sys.argv = sys.argv[1:]
    class Missing:
        def find_spec(self, name, *_):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Missing())
    program = runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module
    program(sys.argv[0], run_name="__main__")
"""


def run_without(package, *command, folder):
    """Run a script or a module while a package is missing; return its message."""
    command = [sys.executable, "-c", WITHOUT, package, *map(str, command)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def imported(path):
    """The packages that an example imports, at its top or later, beside the standard library."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return sorted(names - set(sys.stdlib_module_names))


@pytest.mark.parametrize(
    ("path", "package"),
    [
        (thorough if place else pytest.param)(path, package)  # one of each example; the others are imported beside it
        for path in sorted(EXAMPLES.glob("*.py"))
        for place, package in enumerate(sorted(imported(path), key="numpy".__ne__))
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_a_missing_package_is_a_line_that_names_the_extra(path, package, tmp_path):
    said = run_without(package, path, folder=tmp_path)
    line = re.fullmatch(r'this example needs ([\w.]+): python -m pip install "\.\[(\w+)\]" in .*\n', said)
    assert line, said
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + project["optional-dependencies"][line[2]]
    installed = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements} | {"fastseqloss"}
    assert {SHIPPED_WITH.get(name, name) for name in imported(path)} <= installed


@pytest.mark.parametrize(
    ("package", "command", "said"),
    [
        thorough("torch", [ROOT / "bench" / "compare.py", "ctc"], 'this needs torch: python -m pip install ".[peers]"'),
        thorough("torch", [ROOT / "bench" / "scaling.py", "grow", "PyTorch", 1, 2, 3, 1], '[peers]"'),
        thorough("matplotlib", [ROOT / "bench" / "scaling.py", "draw"], 'matplotlib: python -m pip install ".[plot]"'),
        thorough(
            "sklearn", ["fastseqloss", "demo"], "the demo needs sklearn, of the extra `demo`: python -m pip install"
        ),
        ("torch", ["fastseqloss.torch"], "fastseqloss.torch needs torch, of the extra `torch`"),
        thorough("jax", ["fastseqloss.jax"], "fastseqloss.jax needs jax, of the extra `jax`"),
    ],
    ids=["compare", "grow", "draw", "demo", "torch", "jax"],
)
def test_all_else_that_needs_a_package_names_the_extra(package, command, said, tmp_path):
    assert said in run_without(package, *command, folder=tmp_path).splitlines()[-1]


def intervals(lines):
    """The intervals of each tier of a TextGrid, by name."""
    tiers = {}
    values = [line.split("=", 1)[1].strip() for line in lines if "=" in line]
    names = [line.split("=")[0].strip() for line in lines if "=" in line]
    for i, name in enumerate(names):
        if name == "name":
            current = tiers.setdefault(values[i].strip('"'), [])
        if name == "text":
            current.append((float(values[i - 2]), float(values[i - 1]), values[i].strip('"')))
    return tiers


class Aligned(NamedTuple):
    """The names that the example defines, its output folder, its output, and the delay that it has found."""

    names: dict[str, Any]
    folder: Path
    printed: str
    delay: float


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    names, folder = names_of("align_speech.py"), tmp_path_factory.mktemp("align")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        delay = names["main"](["--output", str(folder)])
    return Aligned(names, folder, printed.getvalue(), delay)


def test_align_speech_prints_and_writes(aligned):
    folder, printed = aligned.folder, aligned.printed
    assert "mean difference of 25 onsets from the reference: 74 ms" in printed
    assert len(printed.split("\n\n")[0].splitlines()) == 33  # a head and 32 tokens
    assert (folder / "speech.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split("\t") for line in (folder / "speech.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["start", "end", "token"]
    assert len(rows) == 33


def test_align_speech_textgrid(aligned):
    tiers = intervals((aligned.folder / "speech.TextGrid").read_text(encoding="utf-8").splitlines())
    assert list(tiers) == ["words", "phones"]
    for tier in tiers.values():
        assert tier[0][0] == 0
        assert tier[-1][1] == 3.0
        assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(tier))
    words = [text for _, _, text in tiers["words"] if text]
    assert " ".join(words) == "he was not an ill disposed young man"
    assert len([text for _, _, text in tiers["phones"] if text]) == 25


def test_align_speech_boundaries(aligned):
    """The model is late by a constant; less that it agrees with the other aligner to about a frame."""
    names = aligned.names
    recording = names["read"](names["DATA"])
    spans = fsl.ctc_align(recording.log_probs, recording.labels, blank=recording.blank, input="log_probs").spans()
    onsets = np.array([s.start for s in spans if recording.names[s.label] != "<wb>"]) * recording.frame_seconds
    delays = onsets - [phone.start for phone in recording.reference]
    assert np.all((delays > 0) & (delays < 0.15))
    assert np.abs(delays - np.median(delays)).mean() < 0.03


def test_priors_reduce_the_delay(aligned, tmp_path):
    with_priors = aligned.names["main"](["--output", str(tmp_path), "--prior-scale", "1"])
    assert with_priors < aligned.delay


def test_read_words(tmp_path, capsys):
    names = names_of("read_words.py")
    tables = names["main"](["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert [word.text for word in tables["print"]] == ["Alice", "was", "beginning", "to", "get", "very", "tired"]
    assert [word.text for word in tables["text"]] == ["he", "was", "not", "an", "ill", "disposed", "young", "man"]
    assert [word.text for word in tables["speech"]][-2:] == ["jʌŋ", "mæn"]
    assert re.search(r"words begin \d+ ms after those of another aligner, give or take \d+ ms", printed)
    assert len(re.findall(r"^\S+ +[\d.]+ +[\d.]+ +[01]\.\d\d +[01]\.\d\d", printed, re.MULTILINE)) == 22
    for title, path, widest in (("speech: 32 labels, 8 words", 5, 4), ("print: 37 labels, 7 words", 1, 0)):
        found = re.search(rf"{title}\n.*\nbest path +(\d+) +(\d+) .*\n(beam .*\n)*beam 100 +(\d+) +(\d+) ", printed)
        assert [int(found[1]), int(found[4])] == [path, widest]
    with (tmp_path / "read_words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", *fsl.WordSpan._fields]
    assert [row[1] for row in rows[1:]] == [word.text for words in tables.values() for word in words]
    assert (tmp_path / "read_words.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("found", "correct", "distance"),
    [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("abc", "abc", 0), ("flaw", "lawn", 2)],
)
def test_edit_distance(found, correct, distance):
    assert names_of("read_words.py")["edit_distance"](found, correct) == distance


def test_searched_words_are_greedy_ones_or_better():
    """A beam finds labels at least as probable as the best path's, and the confidences are those of the beam."""
    names = names_of("read_words.py")
    for scores in (names["read_speech"](), names["read_print"]()):
        greedy, found = names["decode"](scores), names["search"](scores, 100)
        assert found.log_prob > greedy.log_prob
        assert all(0 < word.least_confidence <= word.mean_confidence <= 1 for word in found.words)
    assert "getvery" in [word.text for word in greedy.words]
    assert names["search"](scores, 1).log_prob <= found.log_prob


def test_words_begin_with_their_phonemes():
    """Beside the spans of the phonemes, counted by hand."""
    names = names_of("read_words.py")
    speech = names["read_speech"]()
    words = names["align"](speech)
    starts = np.array([word.start_seconds for word in words])
    first = [0, 2, 5, 8, 10, 12, 19, 22]  # of h, w, n, ʌ, ɪ, d, j, m among the phonemes
    expected = float(np.abs(starts - speech.onsets[first]).mean())
    assert names["report_onsets"](speech, words) == pytest.approx(expected, rel=1e-12)


def names_of(name):
    """Names that an example defines, without running it; `.ci/run` runs the short form, which checks the learning."""
    return runpy.run_path(str(EXAMPLES / name))


def test_forecast_targets_are_what_comes_next():
    names = names_of("forecast_series.py")
    for series in names["load"]()[:2]:
        targets, steps = series.targets(), series.values.shape[1]
        assert targets.shape[1:3] == (steps - series.horizon, series.horizon)
        for t, h in ((0, 1), (3, series.horizon), (targets.shape[1] - 1, series.horizon)):
            np.testing.assert_array_equal(targets[:, t, h - 1], series.values[:, t + h])


def test_forecast_learns_from_nothing_after_the_cut():
    """Neither the network, nor the regression, nor its errors depend on it."""
    names = names_of("forecast_series.py")
    series = names["load"]()[0]
    changed = series._replace(values=series.values.copy())
    changed.values[:, series.cut :] += 7
    models = []
    for one in (series, changed):
        with names["tqdm"](disable=True) as bar:
            models.append(names["train"](one._replace(hidden=4), "normal", 3, np.random.default_rng(0), bar))
    for key, array in models[0].parameters.items():
        np.testing.assert_array_equal(array, models[1].parameters[key])
    before = slice(series.past - 1, series.cut - series.horizon)
    first, second = (names["regression"](one) for one in (series, changed))
    np.testing.assert_allclose(first.forecasts[:, before], second.forecasts[:, before], rtol=1e-6)
    np.testing.assert_allclose(first.errors, second.errors, rtol=1e-6, atol=1e-7)


def test_forecasts_start_as_linear_regression():
    """Networks without training have its errors, its losses and its coverage, all by direct sums."""
    names = names_of("forecast_series.py")
    series = names["load"]()[1]
    series = series._replace(values=series.values[:16])
    models = {kind: names["Forecaster"](series, kind, np.random.default_rng(0)) for kind in names["KINDS"]}
    report, line = names["evaluate"](series, models), names["regression"](series)
    assert report.skill("GRU", "linear") == pytest.approx(0, abs=1e-6)
    assert report.skill() > 0.5
    for results in (report.losses, report.coverage):
        assert all(both["GRU"] == pytest.approx(both["linear"], rel=1e-6) for both in results.values())
    errors = series.targets()[:, series.cut - 1 :] - line.forecasts[:, series.cut - 1 :]
    variance = (line.errors.astype(float) ** 2).mean(axis=(0, 1))
    expected = 0.5 * (np.log(2 * np.pi * variance) + errors**2 / variance).mean()
    assert report.losses["normal"]["linear"] == pytest.approx(expected, rel=1e-5)
    inside = np.abs(errors) <= 1.959964 * np.sqrt(variance)
    assert report.coverage["normal"]["linear"][2] == pytest.approx(inside.mean(), abs=1e-4)
    low, high = (np.quantile(line.errors, q, axis=(0, 1)) for q in (0.1, 0.9))
    inside = (low <= errors) & (errors <= high)
    assert report.coverage["quantiles"]["linear"][1] == pytest.approx(inside.mean(), abs=1e-4)


def test_gradients_of_forecasts():
    """Gradients of each kind, compared with central differences."""
    names = names_of("forecast_series.py")
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(2, 3, 4, 2))
    for kind, outputs in (("mean", 1), ("quantiles", 9), ("normal", 2)):
        forecasts = rng.normal(size=(*targets.shape, outputs))
        gap = fsl.check_grad(lambda x, kind=kind: names["loss_and_gradient"](kind, x, targets), forecasts)
        assert gap < 1e-8


def test_taggers_start_with_the_commonest_tags():
    names = names_of("tag_words.py")
    training, held_out, vocabulary, tagset = names["load"](np.random.default_rng(0))
    counts = names["count_tags"](training, len(vocabulary) + 1, len(tagset))
    few = training.take(np.arange(40))
    valid = np.arange(few.words.shape[1]) < few.lengths[:, None]
    pairs = list(zip(few.words[valid].tolist(), few.tags[valid].tolist(), strict=True))
    counted = names["count_tags"](few, *counts.shape)
    assert all(counted[pair] == pairs.count(pair) for pair in pairs)
    assert counted.sum() == len(pairs)
    assert counts.sum() == training.lengths.sum()
    network = names["Network"](counts, "word", np.random.default_rng(0))
    tagger = names["Tagger"](network, len(tagset), False)
    shares = names["accuracy"](tagger.tag(held_out), held_out)
    expected = names["accuracy"](counts.argmax(axis=1)[held_out.words], held_out)
    assert shares == pytest.approx(expected, abs=0.003)  # a tie of counts goes to the tag that is commoner elsewhere


@pytest.fixture(scope="module")
def recommender():
    """The names that the example defines, its training and held-out sessions, and the number of its items."""
    names = names_of("recommend_next.py")
    training, held_out, items = names["load"](np.random.default_rng(0))
    return names, training, held_out, len(items)


def test_sessions_held_out_are_unseen(recommender):
    names, training, held_out, n_items = recommender
    assert len(held_out.lengths) == names["HELD_OUT"]
    known = [{row[:n].tobytes() for row, n in zip(*part, strict=True)} for part in (training, held_out)]
    assert len(known[1]) == names["HELD_OUT"]
    assert not known[0] & known[1]
    assert np.bincount(training.items.ravel(), minlength=n_items).min() > 5


def test_ranks_and_measures(recommender):
    """Beside sorting, with ties."""
    names, *_ = recommender
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 60, (40, 90)).astype(float), rng.integers(1, 90, 40)
    found = names["Result"](names["ranks"](scores, targets))
    expected = []
    for row, target in zip(scores, targets, strict=True):
        order = sorted(row[1:], reverse=True)
        places = [place for place, score in enumerate(order, 1) if score == row[target]]
        expected.append(np.mean(places))
    np.testing.assert_array_equal(found.ranks, expected)
    within = [rank for rank in expected if rank <= 20]
    assert found.recall() == pytest.approx(len(within) / 40)
    assert found.reciprocal() == pytest.approx(sum(1 / rank for rank in within) / 40)


def test_item_counts(recommender):
    """Beside plain counting."""
    names, *_ = recommender
    rng = np.random.default_rng(1)
    parts = [names["Sessions"](rng.integers(0, 5, (rows, 6)), np.full(rows, 6)) for rows in (20, 7)]
    found = names["count_scores"](*parts, 5)
    pairs = [pair for row in parts[0].items.tolist() for pair in pairwise(row) if pair[1]]
    tested = [pair for row in parts[1].items.tolist() for pair in pairwise(row) if pair[1]]
    popular, after = [], []
    for last, target in tested:
        p = sum(b == target for _, b in pairs) / len(pairs)
        followers = [b for a, b in pairs if a == last]
        popular.append(p)
        after.append((followers.count(target) + len(set(followers)) * p) / (len(followers) + len(set(followers))))
    place = np.arange(len(tested)), [target for _, target in tested]
    np.testing.assert_allclose(found["popularity"][place], popular, rtol=1e-12)
    np.testing.assert_allclose(found["pairs"][place], after, rtol=1e-12)


def test_every_sampled_item_is_a_target_or_a_negative(recommender):
    names, training, _, n_items = recommender
    _, targets = training.take(np.arange(30)).steps()
    columns = names["sample"](targets, n_items, np.random.default_rng(0))
    assert (np.diff(columns) > 0).all()
    assert columns[0] > names["UNKNOWN"]
    assert columns[-1] < n_items
    assert set(targets.tolist()) < set(columns.tolist())


@pytest.mark.parametrize("method", ["BPR-max", thorough("TOP1-max"), thorough("cross-entropy")])
def test_gradients_of_the_recommender(recommender, method):
    """Gradients of every layer, compared with central differences."""
    names, training, _, n_items = recommender

    class Everything:
        def random(self, shape, dtype):
            return np.ones(shape, dtype)

    model = names["Recommender"](n_items, np.random.default_rng(0))
    model.rng = Everything()
    batch = training.take(np.arange(6))
    columns = names["sample"](batch.steps()[1], n_items, np.random.default_rng(0))
    loss = names["OBJECTIVES"][method].loss
    _, gradients = model.learn(batch, loss, columns)
    assert gradients.keys() == model.parameters.keys()
    for name, parameter in model.parameters.items():
        place = np.unravel_index(np.abs(gradients[name]).argmax(), parameter.shape)
        kept, losses = parameter[place].copy(), []
        for step in (1e-2, -1e-2):
            parameter[place] = kept + step
            losses.append(model.learn(batch, loss, columns)[0])
        parameter[place] = kept
        assert gradients[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=2e-2)


def test_recordings_are_the_same_for_both_distances():
    """The table of warped distances has the Euclidean ones as bounds, and pairs of equal recordings at 0."""
    names = names_of("compare_series.py")
    training, test = names["load"]()
    assert training.series.shape == test.series.shape == (100, 275, 1)
    a, b = training.series[:5], training.series[3:9]
    plain, warped = (names["distances"](a, b, by_time) for by_time in (False, True))
    assert (warped <= plain * (1 + 1e-6) + 1e-9).all()
    assert warped[3, 0] == warped[4, 1] == 0
    some = training._replace(series=training.series[:40], classes=training.classes[:40])
    assert all(names["accuracy"](some, some, by_time) == 1 for by_time in (False, True))


def test_soft_dtw_averages_have_less_loss_than_means():
    names = names_of("compare_series.py")
    training, _ = names["load"]()
    group = training.series[training.classes == 2]
    with names["tqdm"](disable=True) as bar:
        average = names["soft_dtw_average"](group, 8, bar)
    losses = [
        np.mean([names["fsl"].soft_dtw_loss(center, one, gamma=names["GAMMA"], band=names["BAND"]) for one in group])
        for center in (group.mean(axis=0), average)
    ]
    assert losses[1] < 0.8 * losses[0]


def witten_bell(training, held_out, size, order):
    """The probability of each held-out number but the first two, by plain counting."""
    found = []
    for t in range(2, len(held_out)):
        p = 1 / size
        for length in range(order):
            context = tuple(held_out[t - length : t])
            after = [
                training[i + length]
                for i in range(len(training) - length)
                if tuple(training[i : i + length]) == context
            ]
            if after:
                p = (after.count(held_out[t]) + len(set(after)) * p) / (len(after) + len(set(after)))
        found.append(p)
    return found


@pytest.mark.parametrize("order", [1, 2, 3])
def test_character_counts(order):
    names = names_of("model_characters.py")
    rng = np.random.default_rng(0)
    training, held_out = rng.integers(0, 4, 50), rng.integers(0, 5, 30)
    text = names["Text"](training, held_out, "abcde")
    expected = np.exp(-np.log(witten_bell(training.tolist(), held_out.tolist(), 5, order)).mean())
    assert names["count_perplexity"](text, order) == pytest.approx(expected, rel=1e-12)


def test_characters_held_out_are_unread():
    text = names_of("model_characters.py")["load"]()
    training, held_out = ("".join(text.alphabet[i] for i in part) for part in (text.training, text.held_out))
    read = set(training.split("\n\n"))
    long = [part for part in held_out.split("\n\n") if len(part) > 60]
    assert len(long) > 100
    assert not [part for part in long if part in read]


@pytest.fixture(scope="module")
def language_model():
    """The names that the example defines, the texts and their tokens, and an untrained model."""
    names = names_of("evaluate_language_model.py")
    parts = names["split"]()
    words = names["vocabulary"](parts[0])
    documents = names["tokenize"](parts[1], words)
    model = names["Model"](names["START"] + 1 + len(words), np.random.default_rng(0))
    with names["threadpool_limits"](1, user_api="blas"):  # as in the example
        yield names, parts, words, documents, model


def test_tokens_spell_the_texts(language_model):
    names, parts, words, documents, _ = language_model
    spelled = {number: piece.encode() for piece, number in words.items()} | {i: bytes([i]) for i in range(256)}
    for name, tokens, n_bytes in zip(*documents, strict=True):
        text = b"".join(spelled[token] for token in tokens)
        assert text == parts[1][name].encode()
        assert len(text) == n_bytes
    unseen = names["tokenize"]({"": "naïve ¤ zyzzyva"}, {})
    assert bytes(unseen.tokens[0].tolist()).decode() == "naïve ¤ zyzzyva"


def test_language_model_reads_nothing_twice(language_model):
    training, held_out = language_model[1]
    paragraphs = [{part for text in half.values() for part in text.split("\n\n")} for half in (training, held_out)]
    assert not paragraphs[0] & paragraphs[1]
    assert len(paragraphs[1]) > 100


def test_bits_per_byte_by_plain_loops(language_model):
    names, _, _, documents, model = language_model
    few = names["Documents"](documents.names[2:4], documents.tokens[2:4], documents.n_bytes[2:4])
    found, expected = names["evaluate"](model, few), []
    for tokens in few.tokens:
        total, context = 0.0, np.concatenate([[names["START"]], tokens])
        for first in range(0, len(tokens), names["WINDOW"]):
            part = context[first : first + names["WINDOW"] + 1]
            scores = (model.states(part[None, :-1])[0] @ model.head["weight"].T + model.head["bias"]).astype(float)
            log_probs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
            total += log_probs[np.arange(len(part) - 1), part[1:]].sum()
        expected.append(total)
    total, n_tokens = sum(expected), sum(map(len, few.tokens))
    np.testing.assert_allclose(found.each, -np.array(expected) / np.log(2) / few.n_bytes, rtol=1e-6)
    assert found.bits_per_byte == pytest.approx(-total / np.log(2) / few.n_bytes.sum(), rel=1e-6)
    assert found.perplexity == pytest.approx(np.exp(-total / n_tokens), rel=1e-5)


def test_three_ways_to_score(language_model):
    names, _, _, documents, model = language_model
    few = names["Documents"](documents.names[:4], documents.tokens[:4], documents.n_bytes[:4])
    plain, with_scores, without = names["compare"](model, few).values()
    for log_prob, _, _ in (plain, with_scores):
        np.testing.assert_allclose(log_prob, without[0], rtol=1e-5)
    assert without[2] < 0.3 * with_scores[2]


def test_gradients_of_the_language_model(language_model):
    """Gradients of every layer, compared with central differences."""
    names, _, words, _, _ = language_model
    size = names["START"] + 1 + len(words)
    model, tokens = names["Model"](size, np.random.default_rng(1)), np.random.default_rng(2).integers(0, size, (3, 6))
    tokens[1, 2] = names["START"]
    _, gradients = model.learn(tokens)
    assert gradients.keys() == model.parameters.keys()
    for name, parameter in model.parameters.items():
        place = np.unravel_index(np.abs(gradients[name]).argmax(), parameter.shape)
        kept, losses = parameter[place].copy(), []
        for step in (1e-2, -1e-2):
            parameter[place] = kept + step
            losses.append(model.learn(tokens)[0])
        parameter[place] = kept
        assert gradients[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=2e-2)


def test_word_scores():
    """Beside sets of words, for cuts at random."""
    names = names_of("learn_from_reward.py")
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 200)
    cuts, ends = rng.integers(0, 2, (2, 200, 8))
    scores = names["f1_score"](cuts, ends, lengths)

    def words(row, length):
        places = [-1, *np.flatnonzero(row[: length - 1]).tolist(), length - 1]
        return set(pairwise(places))

    for cut, end, length, score in zip(cuts, ends, lengths, scores, strict=True):
        made, true = words(cut, length), words(end, length)
        assert score == pytest.approx(2 * len(made & true) / (len(made) + len(true)), rel=1e-12)
    np.testing.assert_array_equal(names["f1_score"](ends, ends, lengths), 1)


def test_sentences_held_out_are_unseen():
    names = names_of("learn_from_reward.py")
    training, held_out, alphabet = names["load"](np.random.default_rng(0))
    assert len(held_out.lengths) == names["HELD_OUT"]
    assert alphabet[0] == "¤"
    kept = [
        {(row[:n].tobytes(), ends[:n].tobytes()) for row, ends, n in zip(*part, strict=True) if (row[:n] > 0).all()}
        for part in (training, held_out)
    ]
    assert len(kept[1]) > 100
    assert not kept[0] & kept[1]


def test_advantages_add_up_to_nothing():
    """Each draw is compared with the others of its sentence."""
    names = names_of("learn_from_reward.py")
    rng = np.random.default_rng(0)
    batch = names["load"](rng)[0].take(np.arange(12))
    scores = rng.normal(size=(*batch.ends.shape, 2)).astype(np.float32)
    drawn = names["draw_cuts"](scores, batch, rng)
    advantages = drawn.advantages.reshape(12, names["DRAWS"])
    np.testing.assert_allclose(advantages.sum(axis=1), 0, atol=1e-12)
    assert np.ptp(advantages) > 0
    assert (drawn.log_probs <= 0).all()


def test_transducer_reads_as_a_stream():
    """The output up to a column does not depend on later columns, nor on other strings."""
    names = names_of("transduce_digits.py")
    rng = np.random.default_rng(0)
    strings = names["demo"].make_strings(names["demo"].split_digits(rng)[1], 6, rng)
    model = names["Transducer"](names["Encoder"](rng), rng)
    model.output.parameters["weight"] *= 20  # best classes that differ from column to column
    model.output.parameters["bias"][:] = 0
    whole = model.decode(strings)
    assert whole.label_lengths.sum() > 10
    for b, n in enumerate(strings.lengths):
        one = names["first"](strings, b)
        for cut in (1, n // 2, n):
            part = model.decode(one._replace(columns=one.columns[:, :cut], lengths=np.array([cut])))
            seen = whole.frames[b, : whole.label_lengths[b]] < cut
            np.testing.assert_array_equal(part.labels[0], whole.labels[b, : whole.label_lengths[b]][seen])


def test_gradients_of_the_transducer():
    """Gradients of every layer, compared with central differences."""
    names = names_of("transduce_digits.py")
    rng = np.random.default_rng(0)
    strings = names["demo"].make_strings(names["demo"].split_digits(rng)[0], 2, rng)
    model = names["Transducer"](names["Encoder"](rng), rng)

    class Everything:
        def random(self, shape, dtype):
            return np.ones(shape, dtype)

    _, gradients = model.learn(strings, Everything())
    assert gradients.keys() == model.parameters.keys()
    for name, parameter in model.parameters.items():
        place = np.unravel_index(np.abs(gradients[name]).argmax(), parameter.shape)
        kept, losses = parameter[place].copy(), []
        for step in (1e-2, -1e-2):
            parameter[place] = kept + step
            losses.append(model.learn(strings, Everything())[0])
        parameter[place] = kept
        assert gradients[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=1e-2)
