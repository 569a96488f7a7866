"""Greedy decoding of transducers."""

import numpy as np
import pytest

import fastseqloss as fsl

V = 6


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class Model:
    """A predictor that remembers all labels in its state, and a joiner that counts its calls."""

    def __init__(self, seed=0, durations=None, scale=2.0):
        rng = np.random.default_rng(seed)
        self.table = scale * rng.normal(size=(V, V))
        self.to_classes = scale * rng.normal(size=(4, V))
        self.to_durations = None if durations is None else rng.normal(size=(4, len(durations)))
        self.calls = []

    def predict(self, labels, states):
        states = [(*(state or ()), int(label)) for state, label in zip(states, labels, strict=True)]
        return np.array([sum(self.table[v] for v in state) / len(state) for state in states]), states

    def join(self, frames, predictions):
        self.calls.append(len(frames))
        logits = frames @ self.to_classes + predictions
        return logits if self.to_durations is None else (logits, frames @ self.to_durations + predictions[:, :1])


def decoded_alone(model, frames, blank, most, durations=None):
    """The definition, one node after another."""
    labels, at, of_labels, log_prob, t, here = [], [], [], 0.0, 0, 0
    prediction, state = model.predict(np.array([blank]), [None])
    while t < len(frames):
        joined = model.join(frames[t : t + 1], prediction)
        logits, of_durations = joined if durations else (joined, None)
        best = blank if here == most else int(logits[0].argmax())
        log_prob += log_softmax(logits)[0, best]
        step = int(best == blank)
        if durations:
            allowed = [k for k, d in enumerate(durations) if d or best != blank]
            k = max(allowed, key=lambda k: of_durations[0, k])
            step, log_prob = durations[k], log_prob + log_softmax(of_durations)[0, k]
        if best != blank:
            labels.append(best)
            at.append(t)
            of_labels.append(log_softmax(logits)[0, best])
            prediction, state = model.predict(np.array([best]), state)
        t, here = t + step, 0 if step else here + 1
    return labels, at, of_labels, log_prob


@pytest.mark.parametrize("durations", [None, [0, 1, 2], [1, 3]])
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("most", [0, 1, 3])
def test_batch_matches_one_after_another(durations, blank, most):
    model = Model(1, durations)
    frames = np.random.default_rng(2).normal(size=(5, 7, 4))
    lengths = np.array([7, 0, 3, 7, 5])
    frames[np.arange(7) >= lengths[:, None]] = np.nan
    found = fsl.rnnt_greedy_decode(
        frames, model.predict, model.join, lengths, blank=blank, durations=durations, max_symbols=most
    )
    assert max(model.calls) == 4
    assert found.labels.shape == found.frames.shape == (5, found.label_lengths.max())
    for b, n in enumerate(lengths):
        labels, at, of_labels, log_prob = decoded_alone(model, frames[b, :n], blank, most, durations)
        count = found.label_lengths[b]
        assert found.labels[b, :count].tolist() == labels
        assert found.frames[b, :count].tolist() == at
        np.testing.assert_allclose(found.label_log_probs[b, :count], of_labels, rtol=1e-13)
        np.testing.assert_allclose(found.confidences[b, :count], np.exp(of_labels), rtol=1e-13)
        assert not found.label_log_probs[b, count:].any()
        assert not found.confidences[b, count:].any()
        spans = found.spans()[b]
        assert [(span.label, span.start, span.end) for span in spans] == [
            (label, t, t + 1) for label, t in zip(labels, at, strict=True)
        ]
        assert [span.log_prob for span in spans] == found.label_log_probs[b, :count].tolist()
        assert (found.labels[b, count:] == -1).all()
        assert (found.frames[b, count:] == -1).all()
        assert found.log_prob[b] == pytest.approx(log_prob, rel=1e-13)
        one = fsl.rnnt_greedy_decode(
            frames[b, :n], model.predict, model.join, blank=blank, durations=durations, max_symbols=most
        )
        assert (one.labels.tolist(), one.label_lengths, one.frames.tolist()) == (labels, count, at)
        np.testing.assert_allclose(one.label_log_probs, of_labels, rtol=1e-13)
        np.testing.assert_allclose([span.mean_log_prob for span in one.spans()], of_labels, rtol=1e-13)
        assert isinstance(one.label_lengths, int)
        assert isinstance(one.log_prob, float)


def test_log_prob_is_that_of_the_alignment():
    model = Model(3)
    frames = np.random.default_rng(4).normal(size=(6, 4))
    found = fsl.rnnt_greedy_decode(frames, model.predict, model.join)
    state, predictions = None, []
    for label in (0, *found.labels):
        prediction, (state,) = model.predict(np.array([label]), [state])
        predictions.append(prediction[0])
    logits = frames[:, None] @ model.to_classes + np.array(predictions)
    best = fsl.rnnt_align(logits, found.labels)
    assert found.label_lengths > 1
    assert best.log_prob >= found.log_prob - 1e-12
    assert fsl.rnnt_loss(logits, found.labels) <= -found.log_prob


def test_words_of_a_transducer():
    """Labels that share a frame, and words with times and confidences."""
    letters = fsl.Vocabulary("-abc|", separator="|")
    probs = np.full((7, 5), 0.05)
    probs[range(7), [0, 0, 1, 3, 0, 2, 0]] = 0.8

    after = -20.0 * np.eye(5)  # no label twice; "a" is followed by a separator, and this by the next frame
    after[0, 0], after[1, 4], after[4, 1] = 0, 20, -20
    decoded = fsl.rnnt_greedy_decode(np.log(probs), lambda y, states: (after[y], states), lambda x, y: x + y)
    assert decoded.labels.tolist() == [1, 4, 3, 2]
    assert decoded.frames.tolist() == [2, 2, 3, 5]
    words = fsl.words_from_spans(decoded.spans(), letters, frame_seconds=0.04)
    assert [(word.text, word.start, word.end) for word in words] == [("a", 2, 3), ("cb", 3, 6)]
    assert words[1].start_seconds == pytest.approx(0.12)
    assert words[1].mean_confidence == pytest.approx(decoded.confidences[2:].mean())
    assert words[1].least_confidence == pytest.approx(decoded.confidences[2:].min())
    given = fsl.words_from_spans(decoded.spans(), letters, confidences=decoded.confidences)
    assert given.to_dict()["mean_confidence"].tolist() == words.to_dict()["mean_confidence"].tolist()


def test_padding_is_not_passed_on_and_states_are_those_of_the_sequence():
    seen = []

    def predict(labels, states):
        seen.append((labels.tolist(), list(states)))
        return labels[:, None].astype(float), [f"{state}{label}" for state, label in zip(states, labels, strict=True)]

    def join(frames, predictions):
        assert not np.isnan(frames).any()
        logits = np.zeros((len(frames), 3))
        logits[:, 1] = np.where((frames[:, 0] == 1) & (predictions[:, 0] != 1), 1, -1)
        return logits

    frames = np.array([[[0.0], [1], [0]], [[1], [np.nan], [np.nan]]])
    found = fsl.rnnt_greedy_decode(frames, predict, join, [3, 1])
    assert found.labels.tolist() == [[1], [1]]
    assert found.frames.tolist() == [[1], [0]]
    assert seen == [([0, 0], [None, None]), ([1], ["None0"]), ([1], ["None0"])]


def test_nan_and_zero_probabilities():
    table = np.array([[[5.0, 0, 0], [0, 5, 0]], [[np.nan, 0, 0]] * 2, [[np.inf, 0, 0]] * 2, [[-np.inf] * 3] * 2])
    found = fsl.rnnt_greedy_decode(
        table,
        lambda labels, states: (-9.0 * np.eye(3)[labels] * (labels > 0)[:, None], states),
        lambda frames, predictions: frames + predictions,
    )
    assert found.label_lengths.tolist() == [1, 0, 0, 0]
    assert np.isnan(found.log_prob).tolist() == [False, True, True, False]
    assert found.log_prob[3] == -np.inf
    assert [len(spans) for spans in found.spans()] == [1, 0, 0, 0]


def test_nothing_to_decode():
    def never(*_):
        raise AssertionError

    for shape, lengths in (((0, 3, 2), None), ((2, 0, 2), None), ((2, 3, 2), [0, 0])):
        found = fsl.rnnt_greedy_decode(np.zeros(shape), never, never, lengths)
        assert found.labels.shape == found.frames.shape == (shape[0], 0)
        assert found.log_prob.tolist() == [0.0] * shape[0]


def _predict(labels, states):
    return np.zeros((len(labels), 2)), states


def _join(frames, predictions):
    return np.zeros((len(frames), 3))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"encoded": np.zeros(3)}, ValueError, r"encoded has shape \(3,\); allowed: \[B, T, D\]"),
        ({"encoded": np.zeros((2, 3, 4), complex)}, TypeError, "encoded has dtype complex128; allowed: real numbers"),
        ({"logit_lengths": [1, 4]}, ValueError, r"logit_lengths\[1\] is 4; allowed: 0 to 3"),
        ({"predict": None}, TypeError, "predict must be a function, got NoneType"),
        ({"predict": dict}, TypeError, "predict is the class dict; allowed: a function, such as an instance"),
        ({"join": 3}, TypeError, "join must be a function, got int"),
        ({"blank": -1}, ValueError, "blank is -1; allowed: 0 to 2147483647"),
        ({"blank": 3}, ValueError, r"join returned logits of shape \(2, 3\); allowed: \(2, V\) with V = 4 or more"),
        ({"max_symbols": -1}, ValueError, "max_symbols is -1; allowed: 0 to 10000"),
        ({"durations": [0]}, ValueError, r"durations is \[0\]; allowed: at least one above 0"),
        ({"durations": [0, 1]}, TypeError, "join returned an object of type ndarray; allowed: a tuple"),
        (
            {"durations": [0, 1], "join": lambda f, p: (np.zeros((2, 3)), np.zeros((2, 3)))},
            ValueError,
            r"join returned duration_logits of shape \(2, 3\); allowed: \(2, 2\)",
        ),
        ({"join": lambda f, p: None}, TypeError, r"^join returned None; allowed: logits of shape \(2, V\)"),
        ({"join": lambda f, p: np.zeros((1, 3))}, ValueError, r"join returned logits of shape \(1, 3\)"),
        ({"join": lambda f, p: np.zeros((2, 3), "U1")}, TypeError, "logits that join returned has dtype <U1"),
        ({"predict": lambda y, s: np.zeros((2, 2))}, TypeError, "predict returned an object of type ndarray; allowed"),
        (
            {"predict": lambda y, s: (np.zeros(3), s)},
            ValueError,
            r"predict returned predictions of shape \(3,\); allowed: \(2, ...\)",
        ),
        (
            {"predict": lambda y, s: (np.zeros((2, 2)), [1])},
            ValueError,
            "predict returned 1 states; allowed: 2, one for each sequence",
        ),
    ],
)
def test_errors(changes, error, message):
    arguments = {"encoded": np.zeros((2, 3, 4)), "predict": _predict, "join": _join} | changes
    with pytest.raises(error, match=message):
        fsl.rnnt_greedy_decode(**arguments)


def test_predictions_of_several_dtypes_are_not_rounded():
    rows = np.array([[0.0, 0, 0], [2, -9, 0], [2, 0, -9]])

    def decode(start):
        def predict(labels, states):
            chosen = [start if state is None else 0.55 * rows[k] for k, state in zip(labels, states, strict=True)]
            return np.stack(chosen), [1] * len(labels)

        return fsl.rnnt_greedy_decode(5.0 * np.eye(3)[[1, 0, 2, 2]], predict, lambda f, p: f + p)

    right = decode(np.zeros(3))
    for dtype in (int, np.float32, np.float16):
        assert decode(np.zeros(3, dtype)).log_prob == right.log_prob


def test_predict_without_states():
    with pytest.raises(TypeError, match="predict returned states of type NoneType; allowed: one for each sequence"):
        fsl.rnnt_greedy_decode(np.eye(3), lambda labels, states: (np.eye(3)[labels], None), lambda f, p: f + p)
