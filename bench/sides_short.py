"""Short calls of each family, whose time is mostly the fixed cost of a call, beside those of the peers."""

from functools import partial

from bench import sides_align, sides_crf, sides_ctc, sides_policy, sides_soft_dtw, sides_steps, sides_transducer
from bench.contest import OURS, TORCH, Call

CTC = (1, 20, 10, 5)  # B, T, V, S
CRF = (1, 20, 10)  # B, T, K
GRID = (1, 20, 5, 10)  # B, T, U, V
PAIR = (1, 20, 20, 1.0)  # B, N, M, gamma
CLASSES = (20, 10)  # N, V
NUMBERS = (1, 20)  # B, T

Sides = dict[str, list[Call]]  # of PyTorch two calls, of which the faster one counts


def calls() -> dict[tuple[str, str], Sides]:
    """List the calls by function and shape: losses with their gradients, in a given array if the side has one."""
    aligned = sides_ctc.random_batch(CTC)
    made: dict[tuple[str, tuple], Sides] = {
        ("ctc_loss", CTC): _both(sides_ctc, sides_ctc.random_batch(CTC)),
        ("ctc_align", CTC): {OURS: [partial(sides_align.our_align, aligned, "logits", num_threads=1)]},
        ("rnnt_loss", GRID): _both(sides_transducer, sides_transducer.random_batch(GRID)),
        ("soft_dtw_cost", PAIR): {OURS: [sides_soft_dtw.our_calls(PAIR, 1)["gradient"]]},
    }
    tagged = sides_crf.random_batch(CRF)
    ours, peers = sides_crf.our_calls(tagged, 1), sides_crf.torchcrf_calls(tagged, 1)
    for name, mode in (("crf_loss", "gradient"), ("crf_decode", "decode")):
        made[name, CRF] = {OURS: [ours[mode]], sides_crf.TORCHCRF: [peers[mode]]}
    losses = {"softmax_cross_entropy": sides_steps.ENTROPY, "clipped_policy_loss": sides_policy.LOSS}
    for name, loss in (losses | sides_steps.LOSSES).items():
        shape = CLASSES if loss.targets is sides_steps.classes else NUMBERS
        made[name, shape] = _both_of_steps(loss, loss.batch(shape))
    return {(name, ",".join(map(str, shape))): sides for (name, shape), sides in made.items()}


def _both(module, batch) -> Sides:
    peers = module.torch_calls(batch, 1)
    return {OURS: [module.our_calls(batch, 1)["grad_out"]], TORCH: [peers["grad_out"], peers["fresh"]]}


def _both_of_steps(loss: sides_steps.Loss, batch: sides_steps.Batch) -> Sides:
    ours: Sides = {OURS: [sides_steps.our_calls(loss, batch, 1)["grad_out"]]}
    peers = sides_steps.torch_calls(loss, batch, 1) if loss.torch else {}
    return ours | ({TORCH: [peers["grad_out"], peers["fresh"]]} if peers else {})
