"""Reward-weighted losses of rows of logits, loss and gradient, one row at a time.

A row is one step, p its softmax, a the action taken. The loss is

    surrogate(log p_a) - entropy_coef H(p) + kl_coef (exp(r) - r - 1),  r = log q_a - log p_a

with the entropy H and the reference's probability q_a of the action. If -w is the derivative of the first and last term
with respect to log p_a, then

    d loss / d x_c = w (p_c - [c = a]) + entropy_coef p_c (log p_c + H)

With e = exp(x - m), the sum s of e and the sum d of e (x - m): log p_c = x_c - m - log s and H = log s - d / s.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.simd.elements cimport FLOAT64, Held, let_go, store
from fastseqloss._kernels.simd.rows cimport load_max, row_dot, row_exp
from fastseqloss._kernels.simd.step_rows cimport StepRows, gradient_of, hold_rows, scale_of, scores_of
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.simd.softmax cimport exp64, log64
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product


cdef extern from "rewards/policy.h" nogil:
    void policy_gradient_f32 "fsl_policy_gradient_f32"(const float *x, const float *e, Py_ssize_t n, float m,
                                                       double factor, double slope, float *out) noexcept
    void policy_gradient_f64 "fsl_policy_gradient_f64"(const double *x, const double *e, Py_ssize_t n, double m,
                                                       double factor, double slope, double *out) noexcept


# Values of `estimator`: of the divergence from the reference, from the action alone.
cdef enum:
    K1
    K2
    K3

ESTIMATORS = {K1: "k1", K2: "k2", K3: "k3"}

# Values of `form`: the ratio of each step, the ratio of a sequence, which is given, and a ratio that is a weight.
cdef enum:
    PPO
    GSPO
    CISPO

FORMS = {PPO: "ppo", GSPO: "gspo", CISPO: "cispo"}

cdef double MOST = 1.7976931348623157e308
cdef double MOST_ENTROPY = 1e300  # bound of coefficient times scale, which keeps sums with it finite


cdef struct Job:
    StepRows rows  # targets are the actions
    const double *advantages
    const double *old  # log-probabilities of the actions when they were taken, or logarithms of given ratios; or NULL
    const double *reference  # log-probabilities of the actions, or NULL
    const uint8_t *with_entropy  # steps whose entropy counts, or NULL for all
    double *log_probs  # of the actions, output, or NULL
    double *entropies  # output, or NULL
    double entropy, kl, least, most  # coefficients; bounds of the ratio
    double most_of_losses, most_log  # bound of the ratio for negative advantages; of logarithms of ratios
    int form, estimator
    Workspace scratch  # two rows for each worker


cdef inline double bounded(double x) noexcept nogil:
    """Clamp to finite numbers, so that infinities of opposite sign cannot cancel to NaN; NaN stays NaN."""
    return MOST if x > MOST else -MOST if x < -MOST else x


cdef inline double times(double a, double b) noexcept nogil:
    """a b, 0 if a is 0; finite unless b is infinite."""
    if a == 0:
        return 0
    return bounded(a * b) if -MOST <= b <= MOST else a * b


cdef inline bint is_bounded(double *x, double most) noexcept nogil:
    """Bound x to the numbers from -most to most; return True if that changes it."""
    if x[0] > most:
        x[0] = most
    elif x[0] < -most:
        x[0] = -most
    else:
        return False
    return True


cdef double divergence(const Job *job, double r, double *weight) noexcept nogil:
    """Estimate, times its coefficient, for r = log q_a - log p_a; adds minus its derivative by log p_a to weight."""
    cdef bint beyond = is_bounded(&r, job.most_log)
    cdef double value
    if job.estimator == K3:
        if not beyond:
            weight[0] += bounded(job.kl * (exp64(r) - 1))
        # For small r, exp(r) - 1 - r is a difference of nearly equal numbers; its Taylor series is accurate.
        if -0.01 < r < 0.01:
            return job.kl * r * r * (0.5 + r * (1 / 6.0 + r * (1 / 24.0 + r * (1 / 120.0 + r * (1 / 720.0)))))
        return INFINITY if r > 1e300 else job.kl * (exp64(r) - 1 - r)
    value = r if job.estimator == K2 else -1  # minus the derivative
    if not beyond:
        weight[0] += bounded(job.kl * value)
    return job.kl * r * r * 0.5 if job.estimator == K2 else bounded(-job.kl * r)


cdef double surrogate(const Job *job, Py_ssize_t n, double log_prob, double *weight) noexcept nogil:
    """Loss of step n as a function of the log-probability of its action; sets weight to minus its derivative."""
    cdef double advantage = job.advantages[n], ratio, loss, r
    cdef bint clipped
    if job.old == NULL:
        weight[0] = bounded(advantage)
        loss = -times(advantage, log_prob)
    else:
        r = job.old[n] if job.form == GSPO else log_prob - job.old[n]
        clipped = is_bounded(&r, job.most_log)
        ratio = exp64(r)
        if job.form == CISPO:
            ratio = job.least if ratio < job.least else job.most if ratio > job.most else ratio
            weight[0] = bounded(times(advantage, ratio))
            loss = -times(weight[0], log_prob)
        else:
            if advantage > 0:
                if ratio > job.most:
                    ratio, clipped = job.most, True
            elif ratio < job.least:
                ratio, clipped = job.least, True
            elif ratio > job.most_of_losses:
                ratio, clipped = job.most_of_losses, True
            loss = -times(advantage, ratio)
            weight[0] = 0 if clipped else -bounded(loss)
    if job.reference != NULL and job.kl:
        r = divergence(job, job.reference[n] - log_prob, weight)
        loss = r if r == INFINITY else loss + r
    return loss


cdef inline void keep(const Job *job, Py_ssize_t n, double log_prob, double entropy) noexcept nogil:
    if job.log_probs != NULL:
        job.log_probs[n] = log_prob
    if job.entropies != NULL:
        job.entropies[n] = entropy


cdef void run_row(const Job *job, Py_ssize_t n, floating *buffer) noexcept nogil:
    """Loss of step n and its row of the gradient; `buffer` holds two rows."""
    cdef const StepRows *rows = &job.rows
    cdef Py_ssize_t b = n // rows.n_rows, t = n % rows.n_rows, v = rows.n_classes, a = rows.targets[n]
    cdef const char *from_ = scores_of(rows, b, t)
    cdef char *to = gradient_of(rows, b, t)
    cdef const floating *x = <const floating *> from_ if rows.native else buffer + v
    cdef floating *out = <floating *> to if rows.native else buffer
    cdef double scale = scale_of(rows, b, n), bonus = job.entropy, entropy, m, total, dot = 0
    cdef double log_prob, weight, w, at_action, p
    if a < 0 or scale == 0:
        rows.loss[n] = 0
        if to != NULL:
            memset(to, 0, v * rows.size)
        return
    if job.with_entropy != NULL and not job.with_entropy[n]:
        bonus = 0
    entropy = min(scale * bonus, MOST_ENTROPY)
    m = load_max(rows.x.kind, from_, v, buffer + v)
    total = row_exp(x, v, <floating> m, buffer, from_ + rows.x.strides[1], to, rows.size)
    if total == 0:  # all logits are -inf: all probabilities are 0
        rows.loss[n] = surrogate(job, n, -INFINITY, &weight)
        keep(job, n, -INFINITY, 0)
        if to != NULL:
            memset(to, 0, v * rows.size)
        return
    if bonus or job.entropies != NULL:
        dot = row_dot(x, v, <floating> m, buffer) / total
    log_prob = (<double> x[a] - m) - log64(total)
    if log_prob == -INFINITY and x[a] != -INFINITY:  # improbable, not impossible
        log_prob = -MOST
    rows.loss[n] = surrogate(job, n, log_prob, &weight)
    keep(job, n, log_prob, log64(total) - dot)
    if bonus:
        rows.loss[n] -= times(bonus, log64(total) - dot)
    if x[a] != -INFINITY:  # kept finite, so that sums over steps cannot mix infinities of both signs
        rows.loss[n] = bounded(rows.loss[n])
    if to == NULL:
        return
    w = bounded(scale * weight)
    # The weight of the action's probability may be large, and p - 1 needs more digits than float32 has.
    p = exp64(log_prob)
    at_action = w * (p - 1)
    if bonus and p:
        at_action += entropy * p * ((<double> x[a] - m) - dot)
    if floating is float:
        policy_gradient_f32(x, buffer, v, <float> m, (w - entropy * dot) / total, entropy / total, out)
    else:
        policy_gradient_f64(x, buffer, v, m, (w - entropy * dot) / total, entropy / total, out)
    out[a] = <floating> at_action
    if not rows.native:
        store(rows.x.kind, out, 1.0, v, to, rows.size)


cdef void run_worker(const Job *job, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, n
    cdef uintptr_t scratch = part_of(&job.scratch, worker)
    while next_items(loop, worker, &first, &last):
        for n in range(first, last):
            if job.rows.x.kind == FLOAT64:
                run_row(job, n, <double *> scratch)
            else:
                run_row(job, n, <float *> scratch)


cdef Status run_steps(Job *job, int num_threads) noexcept nogil:
    """Run all steps. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    if not allocate(&job.scratch, 0, size_product(2, job.rows.row), num_threads, False):
        return NO_MEMORY
    begin(&loop, job.rows.n_steps, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(job, &loop, threadid())
    release(&job.scratch)
    return loop.status


def policy_loss(object logits, int kind, const int64_t[::1] actions, const double[::1] scale,
                const double[::1] class_weight, double[::1] loss, object grad, int num_threads,
                const double[::1] advantages, const double[::1] old_log_probs, const double[::1] ref_log_probs,
                double entropy_coef, double kl_coef, double least, double most, double most_of_losses, double most_log,
                int form, int estimator, const uint8_t[::1] with_entropy, double[::1] log_probs, double[::1] entropies):
    """Losses and, unless grad is None, gradients times scale, of checked steps.

    IN   logits [B, R, A], class axis contiguous; actions [B R], -1 where a step does not count; scale [B] or [B R];
         class_weight None; advantages [B R]; old_log_probs [B R], or None for the loss with the logarithm instead of
         the clipped ratio; ref_log_probs [B R] or None; least and most, the bounds of the ratio; most_of_losses, its
         bound for negative advantages, and most_log, that of logarithms of ratios; with_entropy [B R], or None for all.
    OUT  loss [B R], not scaled, which may share the memory of the actions; grad [B, R, A], which may be logits;
         log_probs and entropies [B R], of steps that count, or None.
    """
    cdef Held held
    cdef Job job
    cdef Status status
    memset(&job, 0, sizeof(Job))
    held.n = 0
    try:
        hold_rows(&job.rows, &held, logits, kind, actions, scale, class_weight, loss, grad)
        job.advantages = &advantages[0]
        job.old = &old_log_probs[0] if old_log_probs is not None else NULL
        job.reference = &ref_log_probs[0] if ref_log_probs is not None else NULL
        job.entropy, job.kl, job.least, job.most = entropy_coef, kl_coef, least, most
        job.most_of_losses, job.most_log, job.form, job.estimator = most_of_losses, most_log, form, estimator
        job.with_entropy = &with_entropy[0] if with_entropy is not None else NULL
        job.log_probs = &log_probs[0] if log_probs is not None else NULL
        job.entropies = &entropies[0] if entropies is not None else NULL
        with nogil:
            status = run_steps(&job, num_threads)
        check(status, job.scratch.size)
    finally:
        let_go(&held)
