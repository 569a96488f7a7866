"""Score, align and decode a corpus that is larger than memory, on all cores of one machine or on a cluster.

    python examples/score_corpus.py [CORPUS [RESULTS]] [--make N] [--decode BEAM] [--workers N | --scheduler ADDRESS]
        [--quick]

CORPUS is a folder of Parquet files with a row for each sequence and a row group for each partition. One thread reads,
scores (`ctc_loss`) and aligns (`ctc_align`) each partition, and writes its results to a file in RESULTS, which appears
only when it is complete. After a failure of a worker, of the machine or of this script, the same command therefore
resumes. Without CORPUS the script makes a small one from real speech emissions, in which one transcript in fifty is
deliberately wrong; the sequences with the highest loss per frame, which are printed at the end, are the wrong ones.
With `--decode` it also writes the most probable labels of each sequence (`ctc_beam_search`) and their confidences.

The script needs the extra `corpus`: python -m pip install ".[corpus]". docs/corpus.md describes the format and the use
of a cluster.
"""

import argparse
import heapq
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tqdm import tqdm

    import fastseqloss as fsl
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[corpus]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "speech_hama_real.npz"
NAMES = DATA.with_name("speech_austen.npz")  # of the same classes
KEY = b"fastseqloss"  # of the description in the metadata of a file, in JSON
RUN = "_run.json"  # description of the run in the folder of the results
BATCH_BYTES = 2 << 20  # size of a padded batch, which stays in the cache
IN_FLIGHT = 16  # partitions handed to the scheduler for each thread of its workers
WORST = 5


class Scores(NamedTuple):
    """Description of the emissions of a corpus, and of their decoding."""

    classes: int
    blank: int
    input: str  # "logits", "log_probs" or "probs"
    dtype: str  # of emissions stored as bytes
    vocabulary: dict[str, Any] | None = None  # arguments of fsl.Vocabulary, for texts of decoded labels
    decode: int = 0  # prefixes of the beam; 0 for no decoding


class Partition(NamedTuple):
    """A row group of a file, small enough for the memory of a worker."""

    file: str  # relative to the corpus
    group: int
    rows: int
    n_bytes: int

    @property
    def part(self) -> str:
        """Return the name of the file of its results, relative to the folder of results."""
        return f"{self.file}/{self.group:05d}.parquet"


def files_of(corpus: Path) -> list[Path]:
    """Return the Parquet files of a corpus, in order."""
    files = sorted(path for path in corpus.rglob("*.parquet") if path.is_file())
    if not files:
        raise SystemExit(f"{corpus} has no .parquet files")
    return files


def partitions_of(corpus: Path) -> Iterator[Partition]:
    """Yield the partitions of a corpus; reads only the ends of the files, which list the row groups."""
    for path in files_of(corpus):
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group)
            yield Partition(path.relative_to(corpus).as_posix(), group, rows.num_rows, rows.total_byte_size)


def scores_of(corpus: Path, options: argparse.Namespace) -> Scores:
    """Return the description of the emissions from the options, else from the metadata of the first file."""
    known = json.loads((pq.read_schema(files_of(corpus)[0]).metadata or {}).get(KEY, b"{}"))
    given = {name: value for name, value in vars(options).items() if name in Scores._fields and value is not None}
    known = {"input": "logits", "dtype": "float32"} | Scores._field_defaults | known | given
    missing = [f"--{name}" for name in Scores._fields if name not in known]
    if missing:
        raise SystemExit(f"the metadata of {corpus} do not say what its emissions are; give {', '.join(missing)}")
    scores = Scores(**{name: known[name] for name in Scores._fields})
    if scores.decode < 0:
        raise SystemExit(f"--decode is {scores.decode}; allowed: 0 or more")
    if scores.decode:
        vocabulary_of(scores)  # an error in it is told before the work begins
    return scores


def vocabulary_of(scores: Scores) -> fsl.Vocabulary | None:
    """Return the vocabulary of decoded texts, or None."""
    if scores.vocabulary is None:
        return None
    try:
        vocabulary = fsl.Vocabulary(**scores.vocabulary, blank=scores.blank)
    except (TypeError, ValueError) as error:
        raise SystemExit(f"the vocabulary in the metadata is of no use: {error}") from None
    if len(vocabulary) != scores.classes:
        raise SystemExit(f"the vocabulary has {len(vocabulary)} tokens; allowed: {scores.classes}, the classes")
    return vocabulary


# Work of a worker on a partition.


NULL = "emissions or labels are null"
Row = np.ndarray | str  # contents of a row, or the reason why it cannot be read


def arrays_of(column: pa.ChunkedArray) -> list[Row]:
    """Return an array for each row of a column of bytes ("S1"), of lists [N] or of lists of lists [T, V].

    Rows with contiguous numbers are views. A row that cannot be read is replaced by the reason.
    """
    return [row for chunk in column.chunks for row in rows_of(chunk)]


def rows_of(chunk: pa.Array) -> list[Row]:
    """Return an array, or the reason why it cannot be read, for each row of one chunk of a column."""
    chunk = storage_of(chunk)
    if pa.types.is_binary_view(chunk.type):
        chunk = chunk.cast(pa.large_binary())
    valid = chunk.is_valid().to_numpy(zero_copy_only=False)
    if is_bytes(chunk.type):
        starts, ends, values = spans_of_bytes(chunk)
        return [values[a:b] if there else NULL for a, b, there in zip(starts, ends, valid, strict=True)]
    if not is_list(chunk.type):
        return [f"a column has type {chunk.type}; allowed: binary, lists of numbers, lists of lists of numbers"] * len(
            chunk
        )
    starts, ends, values = spans_of(chunk)
    read = read_numbers if not is_list(values.type) else read_frames
    return read(starts, ends, values, valid)


def storage_of(array: pa.Array) -> pa.Array:
    """Return the storage of an array of an extension type, such as tensors of one shape."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def is_bytes(kind: pa.DataType) -> bool:
    """Return True for binary types."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def is_list(kind: pa.DataType) -> bool:
    """Return True for types of lists."""
    types = pa.types
    known = types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
    return any(is_kind(kind) for is_kind in known)


def spans_of_bytes(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first and last positions of each row in the bytes of all rows, and these bytes."""
    if pa.types.is_fixed_size_binary(chunk.type):
        width = chunk.type.byte_width
        starts = (np.arange(len(chunk)) + chunk.offset) * width
        return starts, starts + width, np.frombuffer(chunk.buffers()[1] or b"", "S1")
    wide = pa.types.is_large_binary(chunk.type)
    offsets = np.frombuffer(chunk.buffers()[1], np.int64 if wide else np.int32)
    offsets = offsets[chunk.offset : chunk.offset + len(chunk) + 1]
    return offsets[:-1], offsets[1:], np.frombuffer(chunk.buffers()[2] or b"", "S1")


def spans_of(lists: pa.Array) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Return the first and last positions of each list in the values of all lists, and these values."""
    values = storage_of(lists.values)
    if pa.types.is_fixed_size_list(lists.type):
        starts = (np.arange(len(lists)) + lists.offset) * lists.type.list_size
        return starts, starts + lists.type.list_size, values
    offsets = lists.offsets.to_numpy()
    if pa.types.is_list_view(lists.type) or pa.types.is_large_list_view(lists.type):
        return offsets, offsets + lists.sizes.to_numpy(), values
    return offsets[:-1], offsets[1:], values


def numbers_of(values: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Return numbers, and the mask of nulls if there are any."""
    if not values.null_count:
        return values.to_numpy(zero_copy_only=False), None
    return values.fill_null(0).to_numpy(zero_copy_only=False), values.is_null().to_numpy(zero_copy_only=False)


def read_numbers(starts: np.ndarray, ends: np.ndarray, values: pa.Array, valid: np.ndarray) -> list[Row]:
    """Return the rows of a column of lists of numbers."""
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return [f"a list holds {values.type}; allowed: numbers" if there else NULL for there in valid]
    numbers, nulls = numbers_of(values)
    rows: list[Row] = []
    for a, b, there in zip(starts.tolist(), ends.tolist(), valid, strict=True):
        if not there:
            rows.append(NULL)
        elif nulls is not None and nulls[a:b].any():
            rows.append(f"a list holds a null at position {nulls[a:b].argmax()}; allowed: numbers")
        else:
            rows.append(numbers[a:b])
    return rows


def read_frames(starts: np.ndarray, ends: np.ndarray, frames: pa.Array, valid: np.ndarray) -> list[Row]:
    """Return the rows of a column of lists of frames, each a list of numbers."""
    firsts, lasts, values = spans_of(frames)
    parts = read_numbers(firsts, lasts, values, frames.is_valid().to_numpy(zero_copy_only=False))
    flat = numbers_of(values)[0] if pa.types.is_primitive(values.type) else np.zeros(0)
    spans = zip(starts.tolist(), ends.tolist(), valid, strict=True)
    return [join(parts[a:b], firsts[a:b], lasts[a:b], flat) if there else NULL for a, b, there in spans]


def join(frames: list[Row], firsts: np.ndarray, lasts: np.ndarray, flat: np.ndarray) -> Row:
    """Return frames as one array [T, V], a view of `flat` if they are contiguous; or the reason why not."""
    for t, frame in enumerate(frames):
        if isinstance(frame, str):
            return f"frame {t}: {'it is null' if frame == NULL else frame}"
        if len(frame) != len(frames[0]):
            return f"frame {t} has {len(frame)} numbers and frame 0 has {len(frames[0])}; allowed: as many in each"
    if not frames:
        return flat[:0]
    if (firsts[1:] == lasts[:-1]).all():
        return flat[firsts[0] : lasts[-1]].reshape(len(frames), -1 if len(frames[0]) else 0)
    return np.stack(frames)


def as_frames(values: np.ndarray, scores: Scores) -> np.ndarray:
    """Return emissions [T, V] from the array of a row."""
    if values.dtype == "S1":
        item = np.dtype(scores.dtype).itemsize
        if len(values) % (scores.classes * item):
            raise ValueError(f"emissions have {len(values)} bytes; allowed: multiples of {scores.classes} x {item}")
        values = values.view(scores.dtype)
    if values.ndim == 2 and values.shape[1] != scores.classes:
        raise ValueError(f"emissions have frames of {values.shape[1]} numbers; allowed: {scores.classes}, the classes")
    if values.size % scores.classes:
        raise ValueError(f"emissions have {values.size} numbers; allowed: multiples of {scores.classes}, the classes")
    return values.reshape(-1, scores.classes)


def frames_in(row: Row, scores: Scores) -> int:
    """Return the number of frames of a row, 0 if it cannot be read."""
    if isinstance(row, str):
        return 0
    if row.ndim == 2:
        return len(row)
    return row.nbytes // (scores.classes * (np.dtype(scores.dtype).itemsize if row.dtype == "S1" else row.itemsize))


def batches(lengths: np.ndarray, frame_bytes: int) -> Iterator[np.ndarray]:
    """Yield positions of sequences of similar length that fit in a padded batch, or of a single one."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] * frame_bytes > BATCH_BYTES:
            yield order[begin:end]
            begin = end


class Result(NamedTuple):
    """Results of a sequence."""

    loss: float
    log_prob: float = np.nan  # of the best path
    starts: np.ndarray = np.zeros(0, np.int32)  # of each label, in frames
    ends: np.ndarray = np.zeros(0, np.int32)
    log_probs: np.ndarray = np.zeros(0)
    decoded: np.ndarray = np.zeros(0, np.int32)  # most probable labels
    decoded_log_prob: float = np.nan
    confidences: np.ndarray = np.zeros(0)  # of each of them
    text: str | None = None
    error: str | None = None


INTEGERS, FLOATS = pa.list_(pa.int32()), pa.list_(pa.float32())
KINDS = {
    **{"loss": pa.float64(), "log_prob": pa.float64(), "starts": INTEGERS, "ends": INTEGERS, "log_probs": FLOATS},
    **{"decoded": INTEGERS, "decoded_log_prob": pa.float64(), "confidences": FLOATS, "text": pa.string()},
    "error": pa.string(),
}


def columns_of(scores: Scores) -> list[str]:
    """Return the fields of the results that are written."""
    left_out = [] if scores.decode else ["decoded", "decoded_log_prob", "confidences", "text"]
    return [name for name in KINDS if name not in left_out and (name != "text" or scores.vocabulary is not None)]


def padded(emissions: list[np.ndarray], room: np.ndarray) -> np.ndarray:
    """Return sequences [T, V] as one array [B, T, V] in the given memory; the padding is not initialised.

    With Dask's settings the allocator returns a new array for each batch to the system, and the system clears its pages
    again for the next batch, which took as long as the scoring.
    """
    if len(emissions) == 1:
        return emissions[0][None]
    shape = len(emissions), max(len(x) for x in emissions), emissions[0].shape[1]
    batch = room.view(emissions[0].dtype)[: math.prod(shape)].reshape(shape)
    for row, sequence in zip(batch, emissions, strict=True):
        row[: len(sequence)] = sequence
    return batch


def score_batch(
    emissions: list[np.ndarray], labels: list[np.ndarray], scores: Scores, room: np.ndarray
) -> list[Result]:
    """Score and align sequences [T, V] on the calling thread."""
    lengths, label_lengths = [len(x) for x in emissions], [len(y) for y in labels]
    arguments = padded(emissions, room), np.concatenate(labels), lengths, label_lengths
    how: dict[str, Any] = {"blank": scores.blank, "input": scores.input, "num_threads": 1}
    losses = np.atleast_1d(fsl.ctc_loss(*arguments, reduction="none", **how))
    alignment = fsl.ctc_align(*arguments, **how)

    # Consecutive frames of the same label are its span, as in spans(), here for the whole batch at once.
    token, inside = alignment.token_index, alignment.token_index >= 0
    first, last = inside.copy(), inside.copy()
    first[:, 1:] &= token[:, 1:] != token[:, :-1]
    last[:, :-1] &= token[:, 1:] != token[:, :-1]
    starts, ends = np.nonzero(first)[1].astype(np.int32), np.nonzero(last)[1].astype(np.int32) + np.int32(1)
    span = (np.cumsum(first) - 1)[inside.ravel()]
    log_probs = np.bincount(span, alignment.frame_log_probs[inside], len(starts))
    cuts = np.cumsum([0, *first.sum(axis=1)]).tolist()
    own = (slice(a, b) for a, b in pairwise(cuts))
    rows = zip(losses.tolist(), np.atleast_1d(alignment.log_prob).tolist(), own, strict=True)
    results = [Result(loss, log_prob, starts[s], ends[s], log_probs[s]) for loss, log_prob, s in rows]
    return decoded(results, arguments[0], lengths, scores, how) if scores.decode else results


def decoded(
    results: list[Result], emissions: np.ndarray, lengths: list[int], scores: Scores, how: dict[str, Any]
) -> list[Result]:
    """Return the results with the most probable labels of each sequence."""
    beams = fsl.ctc_beam_search(emissions, lengths, beam=scores.decode, align=True, **how)
    counts, log_probs = beams.label_lengths[:, 0], beams.log_prob[:, 0]
    vocabulary = vocabulary_of(scores)
    texts = vocabulary.decode(beams.labels[:, 0], counts) if vocabulary else [None] * len(results)
    columns = zip(results, beams.labels[:, 0], beams.confidences[:, 0], counts, log_probs.tolist(), texts, strict=True)
    return [
        result._replace(decoded=labels[:n], decoded_log_prob=log_prob, confidences=confidences[:n], text=text)
        for result, labels, confidences, n, log_prob, text in columns
    ]


def score_or_explain(
    emissions: list[np.ndarray], labels: list[np.ndarray], scores: Scores, room: np.ndarray
) -> list[Result]:
    """Score sequences; after an error, one by one, so that an invalid one does not affect the others."""
    try:
        return score_batch([as_frames(x, scores) for x in emissions], labels, scores, room)
    except (ValueError, TypeError) as error:
        if len(emissions) == 1:
            return [Result(np.nan, error=str(error))]
        pairs = zip(emissions, labels, strict=True)
        return [result for x, y in pairs for result in score_or_explain([x], [y], scores, room)]


def reason_of(emissions: Row, labels: Row) -> str | None:
    """Return the reason why a row cannot be read, or None."""
    for name, row in (("emissions", emissions), ("labels", labels)):
        if isinstance(row, str):
            return row if row == NULL else f"{name}: {row}"
    assert not isinstance(labels, str)
    if labels.ndim != 1:
        return f"labels have shape {labels.shape}; allowed: one list of integers"
    return None


def score_table(table: pa.Table, scores: Scores) -> pa.Table:
    """Return a row of results for each row of a partition."""
    emissions, labels = arrays_of(table["emissions"]), arrays_of(table["labels"])
    frames = np.array([frames_in(x, scores) for x in emissions], np.int64)
    room = np.empty(BATCH_BYTES, np.uint8)
    results = [Result(np.nan, error=reason_of(x, y)) for x, y in zip(emissions, labels, strict=True)]
    complete = np.array([i for i, result in enumerate(results) if result.error is None], np.int64)
    itemsize = next((x.itemsize for x in emissions if isinstance(x, np.ndarray) and x.dtype != "S1"), 0)
    frame_bytes = scores.classes * (itemsize or np.dtype(scores.dtype).itemsize)
    for batch in batches(frames[complete], frame_bytes):
        chosen = complete[batch]
        scored = score_or_explain([emissions[i] for i in chosen], [labels[i] for i in chosen], scores, room)
        for i, result in zip(chosen, scored, strict=True):
            results[i] = result
    columns = {"id": table["id"], "frames": pa.array(frames, pa.int32())}
    for name in columns_of(scores):
        kind, values = KINDS[name], [getattr(result, name) for result in results]
        if pa.types.is_list(kind):
            offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
            flat = pa.array(np.concatenate([np.zeros(0), *values])).cast(kind.value_type)
            columns[name] = pa.ListArray.from_arrays(offsets, flat)
        else:
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


def peak_bytes() -> int:
    """Return the peak memory of this process, 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def summary_of(result: pa.Table, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    """Return a summary of the results of a partition."""
    ids, losses, frames = (result[name].to_numpy() for name in ("id", "loss", "frames"))
    per_frame = losses / np.maximum(frames, 1)
    known = np.flatnonzero(~np.isnan(losses))
    worst = heapq.nlargest(WORST, ((float(per_frame[i]), str(ids[i])) for i in known))
    return {
        "sequences": len(losses),
        "frames": int(frames.sum()),
        "errors": len(losses) - result["error"].null_count,
        "worst": worst,
        "reasons": reasons_in(ids, result["error"]),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "pid": os.getpid(),
        "peak_bytes": peak_bytes(),
    }


def reasons_in(ids: np.ndarray, errors: pa.ChunkedArray) -> list[tuple[str, str]]:
    """Return the first few sequences that could not be scored, with the reasons."""
    found = errors.is_valid().to_numpy().nonzero()[0][:WORST]
    return [(str(ids[i]), errors[i].as_py()) for i in found.tolist()]


def write_whole(table: pa.Table, target: Path) -> None:
    """Write a file under a temporary name, and rename it when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}-{time.time_ns()}")
    with partial.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def read_summary(part: str) -> dict[str, Any]:
    """Return the summary that is stored with the results of a partition."""
    summary: dict[str, Any] = json.loads(pq.read_schema(part).metadata[KEY])
    return summary


def score_partition(file: str, group: int, part: str, scores: Scores) -> dict[str, Any]:
    """Score a partition and write its results, unless they exist; return the summary.

    They exist if the worker that wrote them died before it returned the summary; the scheduler then reassigns the
    partition.
    """
    if Path(part).exists():
        return read_summary(part)
    began, began_cpu = time.perf_counter(), time.thread_time()
    with pq.ParquetFile(file) as corpus:
        table = corpus.read_row_group(group, columns=["id", "emissions", "labels"], use_threads=False)
    result = score_table(table, Scores(*scores))
    summary = summary_of(result, time.perf_counter() - began, time.thread_time() - began_cpu)
    write_whole(result.replace_schema_metadata({KEY: json.dumps(summary)}), Path(part))
    return summary


# The script.


def prepare(corpus: Path, results: Path, scores: Scores) -> None:
    """Check that existing results belong to this corpus; remove files of killed workers."""
    results.mkdir(parents=True, exist_ok=True)
    stamps = {path.relative_to(corpus).as_posix(): path.stat() for path in files_of(corpus)}
    files = {name: [stamp.st_size, stamp.st_mtime_ns] for name, stamp in stamps.items()}
    how = {"fastseqloss": fsl.__version__, **scores._asdict()}
    path = results / RUN
    before = json.loads(path.read_text()) if path.exists() else {"how": how, "files": {}}
    for name, value in how.items():
        was = before["how"].get(name)
        if was != value:
            raise SystemExit(f"{results} has results with {name} {was}, not {value}; give another folder")
    for name, stamp in before["files"].items():
        if files.get(name) != stamp and any((results / name).glob("[!.]*.parquet")):
            raise SystemExit(f"{name} has changed since it was scored; remove {results / name} to score it again")
    partial = path.with_name(f".{RUN}.{os.getpid()}")
    partial.write_text(json.dumps({"how": how, "files": files}))
    partial.replace(path)
    sweep(results)


def sweep(results: Path) -> None:
    """Remove half-written files."""
    for leftover in results.rglob(".*.parquet.*"):
        leftover.unlink(missing_ok=True)


Outcome = tuple[Partition, dict[str, Any] | BaseException]


def scored_here(todo: Iterable[Partition], corpus: Path, results: Path, scores: Scores) -> Iterator[Outcome]:
    """Score the partitions one after the other in this process, without Dask."""
    for partition in todo:
        where = str(corpus / partition.file), partition.group, str(results / partition.part)
        try:
            yield partition, score_partition(*where, scores)
        except (pa.ArrowException, OSError, LookupError, ValueError, TypeError) as error:
            yield partition, error


def scored_by(client: Any, todo: Iterable[Partition], corpus: Path, results: Path, scores: Scores) -> Iterator[Outcome]:
    """Score the partitions on a Dask cluster; yield each when it is done, with its summary or the error.

    Only a few partitions per thread are submitted at a time, so memory does not grow with the corpus, and workers that
    join later receive partitions.
    """
    from distributed import as_completed

    waiting = iter(todo)
    owner: dict[str, Partition] = {}
    unique = f"{os.getpid()}-{time.time_ns()}"
    running = as_completed()
    finished = 0
    while True:
        if finished % 32 == 0:
            room = IN_FLIGHT * max(1, sum(client.nthreads().values()))
        while len(owner) < room and (partition := next(waiting, None)) is not None:
            where = str(corpus / partition.file), partition.group, str(results / partition.part)
            key = f"score-{unique}-{partition.part}"
            owner[key] = partition
            running.add(client.submit(score_partition, *where, tuple(scores), key=key, pure=False, retries=2))
        if not owner:
            return
        future = next(running)
        error = future.exception()
        yield owner.pop(future.key), error if error is not None else future.result()
        finished += 1


def connect(stack: ExitStack, options: argparse.Namespace) -> Any:
    """Return a client of the given scheduler, or of single-threaded worker processes on this machine."""
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        needs = f'this example needs {error.name}: python -m pip install ".[corpus]" in the folder of the source'
        raise SystemExit(needs) from None

    address = options.scheduler
    if address is None:
        where: dict[str, Any] = {"dashboard_address": "127.0.0.1:0"}  # any free port, so that two runs do not collide
        address = stack.enter_context(LocalCluster(n_workers=options.workers, threads_per_worker=1, **where))
    client = stack.enter_context(Client(address))
    client.wait_for_workers(1)
    return client


def run(corpus: Path, results: Path, options: argparse.Namespace) -> dict[Partition, BaseException]:
    """Score the partitions without results; return those that could not be scored, with the errors."""
    scores = scores_of(corpus, options)
    prepare(corpus, results, scores)
    done = {path.relative_to(results).as_posix() for path in results.rglob("[!.]*.parquet") if path.is_file()}
    partitions = list(partitions_of(corpus))
    todo = [partition for partition in partitions if partition.part not in done]
    n_sequences, left = (sum(p.rows for p in some) for some in (partitions, todo))
    largest = max(p.n_bytes for p in partitions)
    print(f"{n_sequences} sequences in {len(partitions)} partitions of up to {largest / 1e6:.1f} MB")
    print(f"{len(partitions) - len(todo)} partitions have results, {len(todo)} are to be scored", flush=True)
    failed: dict[Partition, BaseException] = {}
    if not todo:
        return failed
    with ExitStack() as stack:
        if options.workers == 0 and options.scheduler is None:
            outcomes = scored_here(todo, corpus, results, scores)
            n_threads = 1
        else:
            client = connect(stack, options)
            n_threads = sum(client.nthreads().values())
            outcomes = scored_by(client, todo, corpus, results, scores)
        every = 0.1 if sys.stderr.isatty() else 10.0  # seconds
        progress = tqdm(total=n_sequences, initial=n_sequences - left, unit=" sequences", mininterval=every)
        bar = stack.enter_context(progress)
        began, summaries = time.perf_counter(), []
        for partition, outcome in outcomes:
            if isinstance(outcome, BaseException):
                failed[partition] = outcome
            else:
                summaries.append(outcome)
                bar.update(partition.rows)
        seconds = time.perf_counter() - began
    sweep(results)
    print_speed(summaries, seconds, n_threads)
    return failed


def print_speed(summaries: list[dict[str, Any]], seconds: float, n_threads: int) -> None:
    """Print the speed of this run, per thread and per second of CPU time."""
    sequences, frames, cpu = (sum(s[name] for s in summaries) for name in ("sequences", "frames", "cpu_seconds"))
    print(f"{sequences} sequences, {frames} frames in {seconds:.2f} s on {n_threads} thread(s)")
    for what, count in (("sequences", sequences), ("frames", frames)):
        rate, per_cpu = count / seconds, count / max(cpu, 1e-9)
        print(f"{what:>10}/s: {rate:.0f}, per thread {rate / n_threads:.0f}, per CPU second {per_cpu:.0f}")
    print(f"most memory of a worker: {max((s['peak_bytes'] for s in summaries), default=0) / 1e6:.0f} MB")


def check(corpus: Path, results: Path) -> dict[str, Any]:
    """Check that the results contain every sequence once; return totals, worst sequences and some errors."""
    total: dict[str, Any] = {"sequences": 0, "frames": 0, "errors": 0, "worst": [], "reasons": []}
    for partition in partitions_of(corpus):
        summary = read_summary(str(results / partition.part))
        if summary["sequences"] != partition.rows:
            raise SystemExit(f"{partition.part} has {summary['sequences']} results; expected: {partition.rows}")
        for name in ("sequences", "frames", "errors"):
            total[name] += summary[name]
        total["reasons"] = [*total["reasons"], *summary.get("reasons", [])][:WORST]
        total["worst"] = heapq.nlargest(WORST, [*total["worst"], *map(tuple, summary["worst"])])
    return total


def make_corpus(corpus: Path, count: int, *, per_partition: int = 256, per_file: int = 4096) -> None:
    """Write a corpus of `count` sequences: real ones repeated at different temperatures.

    Every fiftieth has the transcript of another recording, and a name that says so.
    """
    with np.load(DATA) as file:
        recordings = np.split(file["emissions"], np.cumsum(file["input_lengths"])[:-1])
        transcripts = np.split(file["labels"].astype(np.int32), np.cumsum(file["label_lengths"])[:-1])
        blank = int(file["blank"])
    with np.load(NAMES) as file:
        vocabulary = {"tokens": file["names"].tolist(), "separator": "<wb>"}
    about = Scores(recordings[0].shape[1], blank, "log_probs", "float32", vocabulary)._asdict()
    del about["decode"]  # which is up to the reader
    fields = [("id", pa.string()), ("emissions", pa.binary()), ("labels", pa.list_(pa.int32()))]
    schema = pa.schema(fields, metadata={KEY: json.dumps(about)})
    rng = np.random.default_rng(0)
    corpus.mkdir(parents=True)
    for begin in range(0, count, per_file):
        numbers = range(begin, min(begin + per_file, count))
        # Floats of real models compress poorly; dictionaries and statistics are useless for them.
        path = corpus / f"{begin:08d}.parquet"
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
            for first in range(0, len(numbers), per_partition):
                rows = [_row(n, recordings, transcripts, rng) for n in numbers[first : first + per_partition]]
                file.write_table(pa.Table.from_pylist(rows, schema))


def _row(
    number: int, recordings: list[np.ndarray], transcripts: list[np.ndarray], rng: np.random.Generator
) -> dict[str, Any]:
    which, wrong = number % len(recordings), number % 50 == 49
    scaled = recordings[which] * rng.uniform(0.8, 1.25)
    emissions = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    labels = transcripts[(which + wrong) % len(transcripts)]
    name = f"speech-{number:07d}{'-wrong' if wrong else ''}"
    return {"id": name, "emissions": emissions.astype("<f4").tobytes(), "labels": labels}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("corpus", type=Path, nargs="?", help="folder of Parquet files (default: a generated corpus)")
    parser.add_argument("results", type=Path, nargs="?", help="folder for the results (default: results)")
    parser.add_argument(
        "--make", type=int, metavar="N", help="make CORPUS first, with N sequences, if it does not exist"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, help="local worker processes (default: one per CPU); 0: without Dask")
    where.add_argument("--scheduler", metavar="ADDRESS", help="address of a Dask cluster, such as tcp://10.0.0.1:8786")
    parser.add_argument("--quick", action="store_true", help="a corpus of 600 sequences")
    parser.add_argument("--decode", type=int, metavar="BEAM", help="search for labels, with a beam of so many prefixes")
    for name, kind in (("classes", int), ("blank", int), ("input", str), ("dtype", str)):
        parser.add_argument(f"--{name}", type=kind, help="of the emissions, if the metadata do not give it")
    options = parser.parse_args(arguments)
    if options.corpus is None:
        options.corpus = Path("corpus")
        options.make = options.make or (600 if options.quick else 4096)
    options.results = options.results or Path("results")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Make the corpus if requested, score the remaining partitions, check, and print the totals."""
    options = parse(arguments)
    corpus, results = options.corpus.resolve(), options.results.resolve()
    if results.is_relative_to(corpus):
        raise SystemExit("the results cannot be inside the corpus")
    if options.make and not corpus.exists():
        make_corpus(corpus, options.make)
    failed = run(corpus, results, options)
    if failed:
        reasons = [f"{partition.part}: {error!r}" for partition, error in failed.items()]
        head = f"{len(failed)} partitions have no results; run again to try again"
        raise SystemExit("\n".join([head, *reasons[:10]]))
    total = check(corpus, results)
    print(f"\nin {results}: {total['sequences']} sequences, {total['frames']} frames, {total['errors']} with an error")
    if total["errors"]:
        print(f"could not be scored{', for example' if total['errors'] > len(total['reasons']) else ''}:")
        for name, reason in total["reasons"]:
            print(f"  {name}: {reason}")
    print("highest loss per frame, in nats (is the transcript right?):")
    for loss, name in total["worst"]:
        print(f"  {loss:8.3f}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
