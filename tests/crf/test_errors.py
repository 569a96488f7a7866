"""Invalid arguments of the CRF raise an exception with position, value and allowed values; nothing is written."""

import re

import numpy as np
import pytest

import fastseqloss as fsl

B, T, K = 3, 6, 5
RNG = np.random.default_rng(0)
VALID = {
    "emissions": RNG.normal(size=(B, T, K)),
    "tags": RNG.integers(0, K, (B, T)),
    "transitions": RNG.normal(size=(K, K)),
    "lengths": np.array([6, 5, 4]),
    "start": RNG.normal(size=K),
    "end": RNG.normal(size=K),
}
MASK = np.arange(T) < VALID["lengths"][:, None]


def changed(name, position, value):
    array = np.array(VALID[name])
    array[position] = value
    return {name: array}


def assert_raises(kind, *said, **wrong):
    """Every entry point that takes them raises, says all of `said` in order, and writes nothing."""
    arguments = VALID | wrong
    pattern = ".*".join(re.escape(str(word)) for word in said)
    losses = (fsl.crf_loss, fsl.structured_hinge_loss)
    if "grad_out" not in wrong and isinstance(arguments["emissions"], np.ndarray):
        arguments = arguments | {"grad_out": np.full_like(arguments["emissions"], 7)}
    for function in losses:
        with pytest.raises(kind, match=f"(?s){pattern}"):
            function(**arguments)
    if "grad_out" in arguments and "grad_out" not in wrong:
        assert np.all(arguments["grad_out"] == 7)
    taken = {name: arguments[name] for name in arguments if name not in ("tags", "grad_out")}
    if not {"tags", "grad_out", "reduction", "sample_weight", "normalizer"} & wrong.keys():
        for function in (fsl.crf_decode, fsl.crf_marginals, fsl.crf_log_partition):
            with pytest.raises(kind, match=f"(?s){pattern}"):
                function(**taken)
    if not {"grad_out", "reduction", "sample_weight", "normalizer"} & wrong.keys():
        with pytest.raises(kind, match=f"(?s){pattern}"):
            fsl.crf_score(**taken, tags=arguments["tags"])


def test_the_valid_call_is_valid():
    assert np.isfinite(fsl.crf_loss(**VALID))
    assert np.isfinite(fsl.structured_hinge_loss(**VALID))
    without = {name: value for name, value in VALID.items() if name != "lengths"}
    assert fsl.crf_loss(**without, mask=MASK) == fsl.crf_loss(**VALID)


@pytest.mark.parametrize(("position", "value"), [((1, 4), 5), ((0, 0), -1), ((2, 3), 2**40)])
def test_tag_out_of_range(position, value):
    where = f"tags[{position[0]}, {position[1]}] is {value}; allowed: 0 to 4"
    assert_raises(ValueError, where, **changed("tags", position, value))


def test_tag_of_a_single_sequence_out_of_range():
    wrong = {"emissions": VALID["emissions"][0], "tags": [0, 1, 9, 0, 0, 0], "lengths": None}
    assert_raises(ValueError, "tags[2] is 9; allowed: 0 to 4", **wrong)


def test_tags_in_the_padding_are_never_read():
    assert fsl.crf_loss(**VALID | changed("tags", (1, 5), 99)) == fsl.crf_loss(**VALID)


@pytest.mark.parametrize("tags", [np.zeros((B, T + 1), int), np.zeros((B,), int), np.zeros((T, B), int)])
def test_tags_of_a_wrong_shape(tags):
    assert_raises(ValueError, f"tags has shape {tags.shape}; allowed: (3, 6)", tags=tags)


@pytest.mark.parametrize("dtype", [float, bool, "U1"])
def test_tags_of_a_wrong_dtype(dtype):
    tags = VALID["tags"].astype(dtype)
    assert_raises(TypeError, f"tags has dtype {tags.dtype}; allowed: any integer dtype", tags=tags)


@pytest.mark.parametrize("value", [-1, T + 1])
def test_length_out_of_range(value):
    assert_raises(ValueError, f"lengths[1] is {value}; allowed: 0 to 6", lengths=[6, value, 4])


def test_lengths_of_a_wrong_shape():
    assert_raises(ValueError, "lengths has shape (2,); allowed: (3,)", lengths=[6, 5])


def test_mask_and_lengths():
    assert_raises(ValueError, "lengths and mask are both given", mask=MASK)


def test_mask_of_a_wrong_dtype_or_shape():
    assert_raises(TypeError, "mask has dtype float64; allowed: bool", mask=MASK.astype(float), lengths=None)
    assert_raises(ValueError, "mask has shape (6, 3); allowed: (3, 6)", mask=MASK.T, lengths=None)


@pytest.mark.parametrize("shape", [(B, T, K, 1), (K,), ()])
def test_emissions_of_a_wrong_shape(shape):
    assert_raises(ValueError, f"emissions has shape {shape}; allowed: [B, T, K]", emissions=np.zeros(shape))


def test_no_tags():
    assert_raises(ValueError, "emissions has shape (3, 6, 0): no tags", emissions=np.zeros((B, T, 0)))


@pytest.mark.parametrize("name", ["emissions", "transitions", "start", "end"])
@pytest.mark.parametrize("dtype", [int, bool, complex])
def test_wrong_dtypes(name, dtype):
    array = np.ones_like(VALID[name]).astype(dtype)
    assert_raises(TypeError, f"{name} has dtype {array.dtype}; allowed: float16", **{name: array, "grad_out": None})


@pytest.mark.parametrize(("name", "allowed"), [("transitions", "(5, 5)"), ("start", "(5,)"), ("end", "(5,)")])
def test_parameters_of_a_wrong_shape(name, allowed):
    assert_raises(ValueError, f"{name} has shape (5, 4); allowed: {allowed}", **{name: np.zeros((5, 4))})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite(value):
    assert_raises(ValueError, f"transitions[2, 3] is {value}", "-inf", **changed("transitions", (2, 3), value))
    assert_raises(ValueError, f"start[1] is {value}", **changed("start", 1, value))
    assert_raises(ValueError, f"end[4] is {value}", **changed("end", 4, value))


def test_transitions_are_needed():
    assert_raises(TypeError, "transitions has dtype object", transitions=None)


def test_reductions_weights_and_threads():
    assert_raises(ValueError, "reduction is 'token_mean'; allowed: 'none'", reduction="token_mean")
    assert_raises(ValueError, "normalizer needs reduction='sum'", normalizer=2.0)
    assert_raises(ValueError, "sample_weight[1] is nan", sample_weight=[1, np.nan, 1])
    assert_raises(ValueError, "num_threads is 0", num_threads=0)


def outs(**changes):
    arrays = {name: np.full_like(VALID[name], 7) for name in fsl.CRFGradient._fields}
    return fsl.CRFGradient(**arrays | changes)


@pytest.mark.parametrize(
    ("kind", "said", "out"),
    [
        (ValueError, "grad_out has shape (3, 6)", np.zeros((B, T))),
        (TypeError, "grad_out has dtype float32", np.zeros((B, T, K), np.float32)),
        (TypeError, "grad_out must be a NumPy array, got list", [1]),
        (ValueError, "grad_out has 2 arrays; allowed:", (np.zeros((B, T, K)), None)),
        (ValueError, "grad_out.transitions has shape (5,); allowed: (5, 5)", outs(transitions=np.zeros(5))),
        (TypeError, "grad_out.start has dtype float32", outs(start=np.zeros(5, np.float32))),
        (TypeError, "grad_out.end must be a NumPy array, got float", outs(end=1.0)),
    ],
)
def test_wrong_grad_out(kind, said, out):
    assert_raises(kind, said, grad_out=out)
    if isinstance(out, fsl.CRFGradient):
        assert np.all(out.emissions == 7)


def test_read_only_grad_out():
    for name in ("emissions", "transitions"):
        array = np.zeros_like(VALID[name])
        array.flags.writeable = False
        said = "grad_out" if name == "emissions" else "grad_out.transitions"
        assert_raises(ValueError, f"{said} is read-only", grad_out=outs(**{name: array}))


def test_grad_out_of_a_parameter_that_was_left_out():
    said = "grad_out.start is given, but start is not; allowed: None"
    assert_raises(ValueError, said, start=None, grad_out=outs())


def test_gradients_that_share_memory():
    both = np.full(5, 7.0)
    said = "grad_out.end shares memory with grad_out.start; allowed: arrays apart"
    assert_raises(ValueError, said, grad_out=outs(start=both, end=both))
    within = np.full((B, T, K), 7.0)
    said = "grad_out.transitions shares memory with grad_out.emissions; allowed: arrays apart"
    assert_raises(ValueError, said, grad_out=outs(emissions=within, transitions=within[1, :5]))
    repeated = np.lib.stride_tricks.as_strided(both, (5, 5), (0, 8))
    said = "grad_out.transitions has strides (0, 8) for shape (5, 5): its elements must not share memory"
    assert_raises(ValueError, said, grad_out=outs(transitions=repeated))
    assert np.all(both == 7)
    assert np.all(within == 7)
