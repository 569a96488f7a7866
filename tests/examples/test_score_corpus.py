"""A corpus is scored once and wholly, whatever dies on the way."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.corpus
pa = pytest.importorskip("pyarrow", reason="the extra `corpus` installs it")
distributed = pytest.importorskip("distributed", reason="the extra `corpus` installs it")
pq = pytest.importorskip("pyarrow.parquet")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "score_corpus.py"
DATA = SCRIPT.parents[1] / "tests" / "data"
PATIENCE = 240  # seconds until a test gives up waiting for another process


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def corpus(example, tmp_path_factory):
    """1200 sequences, each with a loss of its own, in 150 partitions of three files."""
    folder = tmp_path_factory.mktemp("corpus") / "speech"
    example["make_corpus"](folder, 1200, per_partition=8, per_file=400)
    return folder


def rows_of(folder):
    """The rows of all files of a folder, in order."""
    files = sorted(path for path in folder.rglob("[!.]*.parquet") if path.is_file())
    return [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]


@pytest.fixture(scope="module")
def expected(corpus):
    """Results of the library's functions for each sequence separately."""
    results = []
    for row in rows_of(corpus):
        emissions = np.frombuffer(row["emissions"], np.float32).reshape(-1, 191)
        loss = fsl.ctc_loss(emissions, row["labels"], blank=190, input="log_probs", reduction="none")
        alignment = fsl.ctc_align(emissions, row["labels"], blank=190, input="log_probs")
        results.append((row["id"], len(emissions), float(loss), float(alignment.log_prob), alignment.spans()))
    return results


def check(results, expected):
    """Every sequence is there once, with the results that it has by itself, to the bit."""
    rows = rows_of(results)
    assert [row["id"] for row in rows] == [each[0] for each in expected]
    for row, (_, frames, loss, log_prob, spans) in zip(rows, expected, strict=True):
        assert (row["frames"], row["loss"], row["log_prob"]) == (frames, loss, log_prob)
        assert row["starts"] == [span.start for span in spans]
        assert row["ends"] == [span.end for span in spans]
        np.testing.assert_allclose(row["log_probs"], [span.log_prob for span in spans], rtol=1e-6, atol=1e-30)
        assert row["error"] is None
    assert not list(results.rglob(".*.parquet.*"))


def parts_in(results):
    return {path.relative_to(results).as_posix() for path in results.rglob("[!.]*.parquet") if path.is_file()}


def summary_of(part):
    return json.loads(pq.read_schema(part).metadata[b"fastseqloss"])


@pytest.fixture
def start():
    """A function that starts a Python process, in a group of its own; none outlives the test."""
    processes = []

    def start(*arguments, **options):
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, start_new_session=True, **pipes, **options))
        return processes[-1]

    yield start
    for process in processes:
        stop(process)


def stop(process):
    """Kill a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def wait_until(condition, *processes):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        ended = [p for p in processes if p.poll() is not None]
        assert not ended, ended[0].communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def finish(process):
    """Wait for the end of a run that should succeed; return its output."""
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    return printed


@pytest.fixture
def cluster(start, tmp_path):
    """A scheduler, and two workers with a nanny each, as on a cluster: by Dask's own commands."""
    about = tmp_path / "scheduler.json"
    common = "--scheduler-file", about, "--no-dashboard"
    scheduler = start("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", *common)
    workers = start("-m", "dask", "worker", *common, "--nworkers", "2", "--nthreads", "1", cwd=tmp_path)
    wait_until(about.exists, scheduler, workers)
    with distributed.Client(scheduler_file=str(about)) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client


def stop_in_the_middle(client, results, process):
    """Stop a worker that has done some work and has more in its hands; return its process id and the latter."""
    pids = client.run(os.getpid)
    while True:
        for address, pid in pids.items():
            os.kill(pid, signal.SIGSTOP)
            keys = client.processing(workers=[address])[address]
            unwritten = {key.split("-", 3)[3] for key in keys} - parts_in(results)
            if unwritten and pid in {summary_of(results / part)["pid"] for part in parts_in(results)}:
                return pid, unwritten
            os.kill(pid, signal.SIGCONT)
        assert process.poll() is None, process.communicate()[0]


def test_a_killed_worker(start, cluster, corpus, expected, tmp_path):
    results = tmp_path / "results"
    process = start(SCRIPT, corpus, results, "--scheduler", cluster.scheduler.address)
    wait_until(lambda: len(parts_in(results)) >= 5, process)
    victim, unwritten = stop_in_the_middle(cluster, results, process)
    before = parts_in(results)
    os.kill(victim, signal.SIGKILL)
    printed = finish(process)

    assert 5 <= len(before) < 150
    assert "150 are to be scored" in printed
    assert "1200 sequences, 109200 frames, 0 with an error" in printed
    check(results, expected)
    writers = {part: summary_of(results / part)["pid"] for part in parts_in(results)}
    assert victim in {writers[part] for part in before}  # it had done some, which still count
    assert all(writers[part] != victim for part in unwritten)  # and other workers scored the rest


def test_a_killed_run_goes_on_where_it_stopped(start, corpus, expected, tmp_path):
    results = tmp_path / "results"
    process = start(SCRIPT, corpus, results, "--workers", 2)
    wait_until(lambda: len(parts_in(results)) >= 5, process)
    stop(process)
    before = {part: (results / part).stat() for part in parts_in(results)}
    assert 5 <= len(before) < 150
    # What a writer leaves that was killed while it wrote.
    whole = next(iter(before))
    (results / whole).with_name(".00007.parquet.1-1").write_bytes((results / whole).read_bytes()[:100])

    printed = finish(start(SCRIPT, corpus, results, "--workers", 2))
    assert f"{len(before)} partitions have results, {150 - len(before)} are to be scored" in printed
    check(results, expected)
    for part, stat in before.items():
        now = (results / part).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)  # not written again

    printed = finish(start(SCRIPT, corpus, results, "--workers", 0))
    assert "150 partitions have results, 0 are to be scored" in printed
    assert "1200 sequences, 109200 frames, 0 with an error" in printed


def test_without_a_cluster(example, corpus, expected, tmp_path, capsys):
    example["main"]([str(corpus), str(tmp_path / "results"), "--workers", "0"])
    check(tmp_path / "results", expected)
    assert pq.read_table(tmp_path / "results").num_rows == 1200  # as docs/corpus.md says
    worst = capsys.readouterr().out.split("right?):\n")[1].splitlines()
    assert len(worst) == 5
    assert all(line.endswith("-wrong") for line in worst)


def test_decoding_goes_on_where_it_stopped(example, corpus, tmp_path):
    """The most probable labels of each sequence, as if it were alone; those of another beam are not mixed in."""
    results = tmp_path / "decoded"
    arguments = [str(corpus), str(results), "--workers", "0", "--decode", "5"]
    example["main"](arguments)
    before = rows_of(results)
    for part in sorted(parts_in(results))[::7]:
        (results / part).unlink()
    example["main"](arguments)
    assert rows_of(results) == before
    with np.load(DATA / "speech_austen.npz") as file:
        vocabulary = fsl.Vocabulary(file["names"], blank=190, separator="<wb>")
    for given, row in list(zip(rows_of(corpus), before, strict=True))[::50]:
        emissions = np.frombuffer(given["emissions"], np.float32).reshape(-1, 191)
        beams = fsl.ctc_beam_search(emissions, blank=190, input="log_probs", beam=5, align=True)
        labels = beams.labels[0, : beams.label_lengths[0]]
        assert (row["decoded"], row["decoded_log_prob"]) == (labels.tolist(), beams.log_prob[0])
        np.testing.assert_allclose(row["confidences"], beams.confidences[0, : len(labels)], rtol=1e-6)
        assert row["text"] == vocabulary.decode(labels)
    for others in ("--decode", "6"), ():
        with pytest.raises(SystemExit, match="has results with decode 5, not"):
            example["main"]([*arguments[:4], *others])


def test_corpus_without_a_vocabulary(example):
    """Labels are decoded, and sequences that cannot be scored have none; without the option there are no columns."""
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    rows = {"id": ["a", "b"], "emissions": [*map(np.ndarray.tobytes, x)], "labels": [[1], [7]]}
    table = pa.table(rows)
    plain = example["Scores"](3, 0, "logits", "float32")
    assert "decoded" not in example["score_table"](table, plain).column_names
    found = example["score_table"](table, plain._replace(decode=10))
    assert "text" not in found.column_names
    first, second = found.to_pylist()
    beams = fsl.ctc_beam_search(x[0], beam=10)
    assert first["decoded"] == beams.labels[0].tolist()
    assert second["decoded"] == []
    assert "is 7; allowed: 0 to 2, except 0" in second["error"]
    for wrong, said in (({"tokens": "ab"}, "2 tokens; allowed: 3"), ({"token": "abc"}, "of no use")):
        with pytest.raises(SystemExit, match=said):
            example["vocabulary_of"](plain._replace(vocabulary=wrong))


def test_the_scheduler_asks_twice(example, corpus, tmp_path):
    """A partition whose worker died after writing, before reporting, is done again: it must not be."""
    scores = example["scores_of"](corpus, example["parse"]([]))
    part = tmp_path / "part.parquet"
    first = example["score_partition"](str(corpus / "00000000.parquet"), 3, str(part), scores)
    written = part.stat()
    again = example["score_partition"](str(corpus / "00000000.parquet"), 3, str(part), scores)
    assert json.dumps(first) == json.dumps(again)
    assert (part.stat().st_ino, part.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def small(folder, emissions, labels, kind, metadata=True):
    """A corpus of a few sequences with 3 classes, in one partition."""
    about = {"classes": 3, "blank": 0, "input": "logits", "dtype": "float32"}
    schema = pa.schema(
        [("id", pa.string()), ("emissions", kind), ("labels", pa.list_(pa.int64()))],
        metadata={b"fastseqloss": json.dumps(about)} if metadata else None,
    )
    rows = [{"id": str(i), "emissions": x, "labels": y} for i, (x, y) in enumerate(zip(emissions, labels, strict=True))]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "corpus.parquet")
    return folder


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("large", [False, True])
def test_lists_of_numbers(example, tmp_path, dtype, large):
    rng = np.random.default_rng(1)
    emissions = [rng.normal(size=(t, 3)).astype(dtype) for t in (7, 0, 4, 9, 2)]
    labels = [[1, 2, 2], [], [], [2, 1, 2, 1], [1]]
    kind = (pa.large_list if large else pa.list_)(pa.from_numpy_dtype(dtype))
    folder = small(tmp_path / "corpus", [x.ravel() for x in emissions], labels, kind, metadata=False)
    results = tmp_path / "results"
    with pytest.raises(SystemExit, match="give --classes, --blank"):
        example["main"]([str(folder), str(results), "--workers", "0"])
    example["main"]([str(folder), str(results), "--workers", "0", "--classes", "3", "--blank", "0"])
    losses = [fsl.ctc_loss(x, np.array(y, int), reduction="none") for x, y in zip(emissions, labels, strict=True)]
    assert [row["loss"] for row in rows_of(results)] == losses


def test_bad_sequences_do_not_take_the_others_with_them(example, tmp_path, capsys):
    rng = np.random.default_rng(2)
    emissions = [rng.normal(size=(6, 3)).astype("<f4") for _ in range(8)]
    rows = [x.tobytes() for x in emissions]
    labels = [[1, 2], [1, 7], [2], [1], [1, 1, 1, 1], [1], None, [2, 2]]
    rows[3] = None
    rows[5] = rows[5][:-3]
    folder = small(tmp_path / "corpus", rows, labels, pa.binary())
    example["main"]([str(folder), str(tmp_path / "results"), "--workers", "0"])
    assert "8 sequences, 41 frames, 4 with an error" in capsys.readouterr().out
    found = rows_of(tmp_path / "results")
    for i in (0, 2, 7):
        assert found[i]["loss"] == fsl.ctc_loss(emissions[i], labels[i], reduction="none")
        assert found[i]["error"] is None
    assert found[4]["loss"] == np.inf  # too short for its labels, which is not an error
    assert found[4]["starts"] == []
    errors = {i: row["error"] for i, row in enumerate(found) if row["error"]}
    assert sorted(errors) == [1, 3, 5, 6]
    assert "is 7" in errors[1]
    assert errors[3] == errors[6] == "emissions or labels are null"
    assert all(np.isnan(found[i]["loss"]) for i in errors)


FLOAT = pa.float32()
FLAT = {
    "list": pa.list_(FLOAT),
    "large": pa.large_list(FLOAT),
    "fixed": pa.list_(FLOAT, 18),
    "view": pa.list_view(FLOAT),
    "large_view": pa.large_list_view(FLOAT),
    "bytes": pa.binary(),
    "large_bytes": pa.large_binary(),
    "fixed_bytes": pa.binary(72),
    "bytes_view": pa.binary_view(),
}
FRAMES = {
    "list_of_list": pa.list_(pa.list_(FLOAT)),
    "list_of_fixed": pa.list_(pa.list_(FLOAT, 3)),
    "fixed_of_fixed": pa.list_(pa.list_(FLOAT, 3), 6),
    "large_of_view": pa.large_list(pa.list_view(FLOAT)),
    "view_of_large": pa.list_view(pa.large_list(FLOAT)),
}
LABELS = {
    "list": pa.list_(pa.int64()),
    "large": pa.large_list(pa.int32()),
    "fixed": pa.list_(pa.uint8(), 2),
    "view": pa.list_view(pa.int16()),
    "large_view": pa.large_list_view(pa.uint64()),
}


def as_stored(x, kind):
    """Emissions [T, V] as a value of a column of that type."""
    if kind in FRAMES.values():
        return x.tolist()
    return (
        x.tobytes()
        if kind in (FLAT["bytes"], FLAT["large_bytes"], FLAT["fixed_bytes"], FLAT["bytes_view"])
        else (x.ravel())
    )


@pytest.mark.parametrize("kind", [*FLAT.values(), *FRAMES.values()], ids=[*FLAT, *FRAMES])
def test_every_type_of_emissions(example, tmp_path, kind):
    """Nulls between the rows, and a table that begins in the middle of its memory."""
    rng = np.random.default_rng(3)
    emissions = [rng.normal(size=(6, 3)).astype("<f4") for _ in range(5)]
    rows = [None if i == 2 else as_stored(x, kind) for i, x in enumerate(emissions)]
    folder = small(tmp_path / "corpus", rows, [[1, 2], [2], [1], [], [2, 2]], kind)
    example["main"]([str(folder), str(tmp_path / "results"), "--workers", "0"])
    found = rows_of(tmp_path / "results")
    scores = example["Scores"](3, 0, "logits", "float32")
    part = example["score_table"](pq.read_table(folder / "corpus.parquet").slice(1, 3), scores).to_pylist()
    for i, labels in enumerate([[1, 2], [2], None, [], [2, 2]]):
        assert found[i]["error"] == ("emissions or labels are null" if i == 2 else None)
        if i != 2:
            assert found[i]["loss"] == fsl.ctc_loss(emissions[i], np.array(labels, int), reduction="none")
            assert found[i]["frames"] == 6
    assert [row["id"] for row in part] == ["1", "2", "3"]
    assert [row["loss"] for row in part[::2]] == [found[1]["loss"], found[3]["loss"]]


@pytest.mark.parametrize("kind", LABELS.values(), ids=LABELS)
def test_every_type_of_labels(example, kind):
    rng = np.random.default_rng(4)
    emissions = [rng.normal(size=(6, 3)).astype("<f4") for _ in range(4)]
    labels = [[1, 2], [2, 1], None, [2, 2]]
    columns = {
        "id": ["a", "b", "c", "d"],
        "emissions": pa.array([x.tobytes() for x in emissions]),
        "labels": pa.array(labels, kind),
    }
    scores = example["Scores"](3, 0, "logits", "float32")
    for first in (0, 1):
        found = example["score_table"](pa.table(columns).slice(first), scores).to_pylist()
        for row, x, y in zip(found, emissions[first:], labels[first:], strict=True):
            assert (row["error"] is None) == (y is not None)
            assert y is None or row["loss"] == fsl.ctc_loss(x, y, reduction="none")


def test_rows_that_cannot_be_read_are_counted_and_explained(example, tmp_path, capsys):
    whole = np.arange(6, dtype=float).reshape(2, 3).tolist()
    rows = [whole, [[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4]], [[1, None, 3]], [[1, 2, 3], None], whole, [], whole]
    labels = [[1], [1], [1], [1], [1], [1, None], [], [2]]
    folder = small(tmp_path / "corpus", rows, labels, pa.list_(pa.list_(pa.float64())))
    example["main"]([str(folder), str(tmp_path / "results"), "--workers", "0"])
    said = {
        1: "emissions have frames of 2 numbers; allowed: 3, the classes",
        2: "emissions: frame 1 has 1 numbers and frame 0 has 3; allowed: as many in each",
        3: "emissions: frame 0: a list holds a null at position 1; allowed: numbers",
        4: "emissions: frame 1: it is null",
        5: "labels: a list holds a null at position 1; allowed: numbers",
    }
    found = rows_of(tmp_path / "results")
    assert {i: row["error"] for i, row in enumerate(found) if row["error"]} == said
    assert [found[i]["loss"] for i in (0, 6, 7)] == [
        fsl.ctc_loss(np.array(x, float).reshape(-1, 3), np.array(y, int))
        for x, y in ((whole, [1]), ([], []), (whole, [2]))
    ]
    printed = capsys.readouterr().out
    assert "8 sequences, 9 frames, 5 with an error" in printed
    assert all(f"  {i}: {reason}\n" in printed for i, reason in said.items())


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (pa.string(), "abc", "emissions: a column has type string; allowed: binary, lists"),
        (pa.list_(pa.string()), ["a"], "emissions: a list holds string; allowed: numbers"),
        (pa.list_(pa.int32()), [1, 2, 3], "logits has dtype int32; allowed: float16"),
        (pa.list_(pa.list_(pa.list_(FLOAT))), [[[1, 2, 3]]], "emissions: frame 0: a list holds list<"),
        (pa.list_(FLOAT), [1, 2], "emissions have 2 numbers; allowed: multiples of 3, the classes"),
        (pa.binary(), b"abcd", "emissions have 4 bytes; allowed: multiples of 3 x 4"),
    ],
    ids=str,
)
def test_emissions_of_no_use(example, kind, value, said):
    """Each row says why, and nothing is lost but them."""
    columns = {"id": ["a", "b"], "emissions": pa.array([value, None], kind), "labels": pa.array([[1], [1]])}
    scores = example["Scores"](3, 0, "logits", "float32")
    found = example["score_table"](pa.table(columns), scores).to_pylist()
    assert found[0]["error"].startswith(said)
    assert found[1]["error"]
    assert np.isnan(found[0]["loss"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file(start, example, tmp_path, workers):
    """Its partitions fail and are named, the others are scored, and once mended it is scored too."""
    corpus, results = tmp_path / "corpus", tmp_path / "results"
    example["make_corpus"](corpus, 60, per_partition=10, per_file=30)
    damaged = corpus / "00000030.parquet"
    content = damaged.read_bytes()
    begin = pq.read_metadata(damaged).row_group(1).column(1).data_page_offset
    damaged.write_bytes(content[:begin] + b"\xff" * 64 + content[begin + 64 :])
    process = start(SCRIPT, corpus, results, "--workers", workers)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "1 partitions have no results" in printed
    assert "00000030.parquet/00001.parquet" in printed
    assert len(parts_in(results)) == 5

    damaged.write_bytes(content)
    options = [str(corpus), str(results), "--workers", "0"]
    with pytest.raises(SystemExit, match=r"00000030.parquet has changed since it was scored; remove .* to score it"):
        example["main"](options)
    for part in (results / damaged.name).iterdir():
        part.unlink()
    example["main"](options)
    assert [row["id"] for row in rows_of(results)] == [row["id"] for row in rows_of(corpus)]


def test_results_of_something_else_are_not_mixed_in(example, tmp_path):
    corpus, results = tmp_path / "corpus", tmp_path / "results"
    example["make_corpus"](corpus, 20, per_partition=10, per_file=10)
    options = [str(corpus), str(results), "--workers", "0"]
    example["main"](options)
    with pytest.raises(SystemExit, match="has results with input log_probs, not logits; give another folder"):
        example["main"]([*options, "--input", "logits"])
    with pytest.raises(SystemExit, match="cannot be inside the corpus"):
        example["main"]([str(corpus), str(corpus / "results"), "--workers", "0"])
    with pytest.raises(SystemExit, match=r"has no \.parquet files"):
        example["main"]([str(tmp_path / "nothing"), str(results), "--workers", "0"])
    example["make_corpus"](tmp_path / "more", 10)
    (tmp_path / "more" / "00000000.parquet").rename(corpus / "more.parquet")
    example["main"](options)  # a new file does not change the others
    assert len(parts_in(results)) == 3


def test_memory_is_bounded_by_the_partition(start, example, tmp_path):
    """Eight times the corpus, in partitions of the same size, takes the memory of one partition more at most."""
    peaks = []
    for count in (256, 2048):
        corpus, results = tmp_path / f"corpus{count}", tmp_path / f"results{count}"
        example["make_corpus"](corpus, count, per_partition=128)
        finish(start(SCRIPT, corpus, results, "--workers", 0))
        peaks.append(max(summary_of(results / part)["peak_bytes"] for part in parts_in(results)))
    partition = max(p.n_bytes for p in example["partitions_of"](corpus))
    assert partition < 10e6
    assert peaks[1] - peaks[0] < partition
