"""The examples that train models: their data, gradients, measures and baselines."""

from itertools import pairwise

import numpy as np
import pytest

import fastseqloss as fsl
from example_names import names_of
from thoroughness import thorough


def check_largest_slopes(model, learn, rel):
    """Compare the largest gradient of each parameter with a central difference of the loss."""
    _, gradients = learn()
    assert gradients.keys() == model.parameters.keys()
    for name, parameter in model.parameters.items():
        place = np.unravel_index(np.abs(gradients[name]).argmax(), parameter.shape)
        kept, losses = parameter[place].copy(), []
        for step in (1e-2, -1e-2):
            parameter[place] = kept + step
            losses.append(learn()[0])
        parameter[place] = kept
        assert gradients[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=rel)


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
    check_largest_slopes(model, lambda: model.learn(batch, loss, columns), rel=2e-2)


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
    check_largest_slopes(model, lambda: model.learn(tokens), rel=2e-2)


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

    check_largest_slopes(model, lambda: model.learn(strings, Everything()), rel=1e-2)
