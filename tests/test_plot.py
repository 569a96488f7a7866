"""fastseqloss.plot draws its arguments on the given axes."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fastseqloss as fsl
from cases import JUNK
from thoroughness import spread, thorough

SPANS = [fsl.TokenSpan(1, 2, 5, -0.3), fsl.TokenSpan(2, 6, 7, -0.1), fsl.TokenSpan(1, 7, 12, -9.0)]


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    pyplot.close("all")


def pixels(ax):
    """Pixels of the figure: [H, W, 4]."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def is_coloured(ax):
    """Return True if anything but grey was drawn."""
    rgb = pixels(ax)[..., :3].astype(int)
    return np.any(rgb.max(axis=-1) - rgb.min(axis=-1) > 60)


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.fixture(scope="module")
def posteriors():
    return fsl.ctc_posteriors(np.random.default_rng(0).normal(size=(30, 5)), [1, 2, 1, 4])


@pytest.mark.parametrize("kind", ["auto", "curves", "image"])
def test_posteriors(posteriors, kind):
    ax = fsl.plot.plot_posteriors(posteriors, [1, 2, 1, 4], names="-abcd", kind=kind)
    assert isinstance(ax, Axes)
    assert is_coloured(ax)
    written = [label.get_text() for label in ax.get_yticklabels()] if kind == "image" else texts(ax)
    assert written == ["a", "b", "a", "d"]
    assert ax.get_xlim() == (0, 30)


def test_posteriors_of_many_labels_are_an_image():
    labels = np.arange(60) % 4 + 1
    posteriors = fsl.ctc_posteriors(np.random.default_rng(0).normal(size=(1001, 5)), labels)
    ax = fsl.plot.plot_posteriors(posteriors, labels, frame_seconds=0.01)
    assert len(ax.images) == 1
    assert is_coloured(ax)
    assert ax.get_xlim() == pytest.approx((0, 10.01))
    assert ax.get_xlabel() == "time, s"


def test_posterior_curves_follow_the_posteriors(posteriors):
    ax = fsl.plot.plot_posteriors(posteriors, [1, 2, 1, 4])
    steps = [patch.get_data() for patch in ax.patches]
    np.testing.assert_allclose(steps[0].values, posteriors[:, ::2].sum(axis=1))
    np.testing.assert_allclose(sum(data.values.sum() for data in steps[1::2]), posteriors[:, 1::2].sum(), atol=0.1)


@pytest.mark.parametrize(("shape", "kind"), spread([(0, 1), (0, 3), (4, 1), (4, 7)], ["curves", "image"], every=2))
def test_posteriors_of_little(shape, kind):
    labels = [] if shape[1] == 1 else [1]
    pixels(fsl.plot.plot_posteriors(np.zeros(shape), labels, kind=kind))


def test_alignment():
    ax = fsl.plot.plot_alignment(SPANS, names={1: "one"}, frames=20, frame_seconds=0.5)
    assert texts(ax) == ["one", "2", "one"]
    assert ax.get_xlim() == (0, 10)
    assert is_coloured(ax)
    boxes = [patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches]
    np.testing.assert_allclose([(box.x0, box.x1) for box in boxes], [(1.0, 2.5), (3.0, 3.5), (3.5, 6.0)])
    assert ax.patches[1].get_alpha() > ax.patches[2].get_alpha()
    assert ax.patches[0].get_facecolor()[:3] == ax.patches[2].get_facecolor()[:3]


@pytest.mark.parametrize("samples", [0, 1, 12, 16000])
def test_alignment_over_a_waveform(samples):
    plain = pixels(fsl.plot.plot_alignment(SPANS)).copy()
    ax = fsl.plot.plot_alignment(SPANS, waveform=np.sin(np.arange(samples)))
    assert np.any(pixels(ax) != plain) == (samples > 1)


@pytest.mark.parametrize("shape", [(8, 24), (8, 24, 3)])
def test_alignment_over_an_image(shape):
    ax = fsl.plot.plot_alignment(SPANS, image=np.random.default_rng(0).random(shape))
    assert len(ax.images) == 1
    assert ax.get_xlim() == (0, 12)
    pixels(ax)


def test_alignment_without_spans():
    pixels(fsl.plot.plot_alignment([], frames=0))
    pixels(fsl.plot.plot_alignment([]))


def test_close_labels_are_written_in_two_rows():
    ax = fsl.plot.plot_alignment([fsl.TokenSpan(10000, t, t + 1, -0.1) for t in range(100)])
    assert {text.xyann[1] for text in ax.texts} == {3, 15}
    ax = fsl.plot.plot_alignment(SPANS)
    assert {text.xyann[1] for text in ax.texts} == {3}


@pytest.mark.parametrize("count", [0, thorough(1), 3, thorough(500)])
@pytest.mark.parametrize("validation", [None, [], [3.0, 2.0]])
def test_loss(count, validation):
    losses = 5 / np.arange(1, count + 1)
    ax = fsl.plot.plot_loss(losses, validation=validation)
    assert is_coloured(ax) or not count
    assert ax.get_yscale() == ("log" if count or validation else "linear")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), losses)


def test_loss_that_is_not_always_positive_or_finite():
    ax = fsl.plot.plot_loss([3.0, np.inf, np.nan, 0.0, -1.0], smooth=2)
    assert ax.get_yscale() == "linear"
    pixels(ax)


def test_running_mean():
    ax = fsl.plot.plot_loss([1.0, 2.0, 3.0, 4.0], smooth=2)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[2, 1.5], [3, 2.5], [4, 3.5]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["each step", "mean of 2"]


def test_room_for_texts_is_that_of_the_axes_in_a_subfigure():
    """At a tenth of the width, names that were side by side need two rows."""
    figure = Figure(figsize=(20, 2))
    left, _ = figure.subfigures(1, 2, width_ratios=[1, 9])
    ax = fsl.plot.plot_alignment([fsl.TokenSpan(10**6, t, t + 1, -0.1) for t in range(6)], ax=left.subplots())
    assert {text.xyann[1] for text in ax.texts} == {3, 15}
    FigureCanvasAgg(figure).draw()


def test_axes_of_the_caller():
    figure = Figure()
    above, below, last = figure.subplots(3)
    assert fsl.plot.plot_alignment(SPANS, ax=above) is above
    assert fsl.plot.plot_posteriors(np.full((4, 3), 1 / 3), [1], ax=below) is below
    assert fsl.plot.plot_loss([1, 2], ax=last) is last
    assert not pyplot.get_fignums()
    pixels(above)


@pytest.mark.parametrize("shape", [(30, 40), (3, 2), (1000, 7)])
def test_alignment_path(shape):
    x, y = (np.sin(np.linspace(0, 6, n))[:, None] for n in shape)
    posteriors = fsl.soft_dtw_posteriors(x, y, gamma=0.1)
    path = np.argwhere(fsl.soft_dtw_posteriors(x, y, gamma=0))
    ax = fsl.plot.plot_alignment_path(posteriors, path)
    assert is_coloured(ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), path[:, ::-1] + 0.5)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, shape[1]), (0, shape[0]))
    # The first pair is at the bottom left, whatever the orientation of the image.
    image = ax.images[0].get_array()
    assert image[-1, 0] == pytest.approx(1)
    assert not fsl.plot.plot_alignment_path(np.zeros((3, 0))).lines


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fsl.plot.plot_alignment_path([0.5]), r"posteriors has shape \(1,\); allowed: \[N, M\]"),
        (lambda: fsl.plot.plot_alignment_path([[0.5, 2]]), r"posteriors\[0, 1\] is 2.0; allowed: probabilities"),
        (lambda: fsl.plot.plot_alignment_path([[0.5]], [0]), r"path has shape \(1,\); allowed: \[K, 2\]"),
        (lambda: fsl.plot.plot_alignment_path([[0.5]], [[0, 1]]), r"path\[0, 1\] is 1; allowed: 0 to 0"),
        (lambda: fsl.plot.plot_posteriors(np.zeros((4, 3)), [1, 2]), r"posteriors has shape \(4, 3\); .* 5\]"),
        (lambda: fsl.plot.plot_posteriors(np.zeros(4), [1]), "posteriors has shape"),
        (lambda: fsl.plot.plot_posteriors(np.zeros((4, 3)), [[1]]), "labels has shape"),
        (lambda: fsl.plot.plot_posteriors(np.zeros((4, 3)), [1], kind="bars"), "kind is 'bars'"),
        (lambda: fsl.plot.plot_posteriors(np.zeros((4, 3)), [1], frame_seconds=-1), "frame_seconds is -1"),
        (lambda: fsl.plot.plot_alignment(SPANS, frames=11), "frames is 11; allowed: 12 or more"),
        (lambda: fsl.plot.plot_alignment(SPANS, waveform=[0.0], image=[[0.0]]), "both given"),
        (lambda: fsl.plot.plot_alignment(SPANS, frame_seconds=0), "frame_seconds is 0; allowed: finite, above 0"),
        (lambda: fsl.plot.plot_alignment(SPANS, waveform=[[0.0]]), "waveform has shape"),
        (lambda: fsl.plot.plot_alignment(SPANS, waveform=[0.0, np.nan]), r"waveform\[1\] is nan; allowed: finite"),
        (lambda: fsl.plot.plot_alignment(SPANS, image=[0.0]), "image has shape"),
        (lambda: fsl.plot.plot_loss([[1.0]]), "losses has shape"),
        (lambda: fsl.plot.plot_loss([1.0], validation=[[1.0]]), "validation has shape"),
        (lambda: fsl.plot.plot_loss([1.0], smooth=0), "smooth is 0; allowed: 1 or more"),
    ],
)
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
    assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fsl.plot.plot_alignment([SPANS]), r"spans\[0\] is a list; allowed: TokenSpan, .*spans\(\)\[b\]"),
        (lambda: fsl.plot.plot_alignment(SPANS, frames=12.5), "frames must be an integer, got float"),
        (lambda: fsl.plot.plot_loss([1.0], smooth=1.5), "smooth must be an integer, got float"),
    ],
)
def test_wrong_types(call, said):
    with pytest.raises(TypeError, match=said):
        call()
    assert not pyplot.get_fignums()


def test_matplotlib_is_only_imported_to_draw():
    """If matplotlib is missing, the message names the package to install."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import fastseqloss as fsl\n"
        "try: fsl.plot.plot_loss([1.0])\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the extra `plot`: python -m pip install matplotlib" in done.stdout


# ---- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["abc", [[1], [2, 3]], [1j], [None]])
def test_pictures_of_what_is_no_number(value):
    with pytest.raises((ValueError, TypeError), match=r"^losses (has dtype|is not an array)"):
        fsl.plot.plot_loss(value)
    with pytest.raises((ValueError, TypeError), match=r"^posteriors (has dtype|is not an array)"):
        fsl.plot.plot_posteriors(value, [1])
    with pytest.raises((ValueError, TypeError), match=r"^waveform (has dtype|is not an array)"):
        fsl.plot.plot_alignment([], waveform=value)


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf, 1e308])
def test_pictures_of_what_is_no_probability(value):
    posteriors = np.zeros((2, 3))
    posteriors[1, 2] = value
    with pytest.raises(ValueError, match=r"posteriors\[1, 2\] is .*; allowed: probabilities"):
        fsl.plot.plot_posteriors(posteriors, [1])


def test_frames_longer_than_axes():
    with pytest.raises(ValueError, match=r"frame_seconds is 1e\+300; allowed: finite, above 0, 1e\+09 or less"):
        fsl.plot.plot_alignment([], frame_seconds=1e300)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e308])
def test_waveforms_beyond_axes(value):
    with pytest.raises(ValueError, match=r"waveform\[1\] is .*; allowed: finite numbers"):
        fsl.plot.plot_alignment([], waveform=[0.0, value])


def test_picture_of_objects():
    with pytest.raises(TypeError, match="image has dtype object"):
        fsl.plot.plot_alignment([], image=np.full((2, 2), None))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 4, 3)])
def test_picture_without_pixels(shape):
    with pytest.raises(ValueError, match=r"image has shape .*; allowed: a pixel or more"):
        fsl.plot.plot_alignment([], image=np.zeros(shape))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((1, 0, 2**60, 0.0), r"spans\[0\]\.end is 1152921504606846976; allowed: 2\*\*53 or less"),
        ((1, 0, 2, np.nan), r"spans\[0\]\.log_prob is nan; allowed: -inf, or finite"),
        ((1, 0, 2, np.inf), r"spans\[0\]\.log_prob is inf"),
    ],
)
def test_pictures_of_spans_that_are_none(span, said):
    with pytest.raises(ValueError, match=said):
        fsl.plot.plot_alignment([fsl.TokenSpan(*span)])


@pytest.mark.parametrize("spans", [None, 0.5, JUNK, np.zeros(2), SPANS[0]])
def test_pictures_of_no_spans(spans):
    with pytest.raises(TypeError, match="spans is a "):
        fsl.plot.plot_alignment(spans)


@pytest.mark.parametrize("losses", [[1e308, 1e308], [1e-310, 1.0], [np.nan, 1.0], [ml_dtypes.bfloat16(1)]])
def test_pictures_of_extreme_losses(losses):
    fsl.plot.plot_loss(losses, ax=Figure().subplots())
