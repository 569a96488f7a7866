/* Log-probabilities of label sequences by all their alignments, for sequences that begin alike, as those of a beam do.
 *
 * The forward recursion of CTC runs over the tree of their prefixes, so a prefix in common is computed once. Masses are
 * float64 numbers with one exponent in common, and emissions of the classes that occur have the sum 1, so the mass of a
 * label sequence never grows from one frame to the next. Masses below FSL_RESCORE_LEAST are dropped. What is dropped in
 * T frames of n prefixes is at most 3 T n FSL_RESCORE_LEAST; a label sequence whose probability is not 2^40 times as
 * large has no result: NaN. */
#ifndef FASTSEQLOSS_CTC_BEAM_RESCORE_H
#define FASTSEQLOSS_CTC_BEAM_RESCORE_H

#include <stdlib.h>

#include "simd/math.h"

#define FSL_RESCORE_LEAST 0x1p-700
#define FSL_RESCORE_LEAST_EMISSION 0x1p-300 /* products of both are normal numbers */
#define FSL_RESCORE_LEAST_LOG2 -660.0       /* of a probability, plus log2(3 T n) */
#define FSL_RESCORE_LARGEST 5e8             /* frames times labels, about half a second, which no signal ends */

enum { FSL_RESCORE_GROUP = 64 }; /* label sequences of a tree, each of which is compared with those before */

typedef struct { /* a sequence, and label sequences for it */
    const char *x;
    ptrdiff_t frames, n_classes, blank, stride; /* bytes from one row to the next */
    int is_logits, is_probs, is_wide;           /* kind of the scores; float64 */
    const int64_t *counts;                      /* [n] numbers of labels */
    const int64_t *labels;                      /* [n, row] */
    ptrdiff_t n, row;
} fsl_rescore_task;

typedef struct { /* slot 0 is the empty prefix; a chain of prefixes begins with a slot for the masses of its parent */
    ptrdiff_t n, n_chains, used; /* slots, chains with such a slot, classes */
    int32_t *u, *end;            /* [slots] class of a prefix; [n] slot of a label sequence */
    int32_t *copy, *parent;      /* [n] slot of a chain for its parent, and slot of the parent */
    int32_t *place, *classes;    /* [V] index of a class; [V + 2] classes from index 1 on, the blank first */
    double *skip;                /* [slots] 1 if a label differs from the one before, else 0 */
    double *b, *l, *b_next, *l_next, *y; /* [slots] masses; [V + 2] emissions, 0 at index 0 */
} fsl_rescore_tree;

static ptrdiff_t fsl_rescore_shared(const int64_t *a, ptrdiff_t n, const int64_t *b, ptrdiff_t m)
{
    ptrdiff_t i = 0;
    while (i < n && i < m && a[i] == b[i]) i++;
    return i;
}

/* Adds label sequence k; paths [n, row] has the slots of the prefixes of those before it. */
static void fsl_rescore_add(fsl_rescore_tree *s, const fsl_rescore_task *o, ptrdiff_t k, int32_t *paths, ptrdiff_t row)
{
    const int64_t *labels = o->labels + k * o->row;
    const ptrdiff_t count = o->counts[k];
    ptrdiff_t shared = 0, like = 0;
    for (ptrdiff_t j = k - 1; j >= 0 && shared < count; j--) {
        const ptrdiff_t equal = fsl_rescore_shared(labels, count, o->labels + j * o->row, o->counts[j]);
        if (equal > shared) shared = equal, like = j;
    }
    int32_t *path = paths + k * row;
    for (ptrdiff_t i = 0; i < shared; i++) path[i] = paths[like * row + i];
    const int32_t from = shared ? path[shared - 1] : 0;
    if (shared < count && from != s->n - 1) {
        s->copy[s->n_chains] = (int32_t)s->n, s->parent[s->n_chains++] = from;
        s->u[s->n] = 0, s->skip[s->n++] = 0;
    }
    for (ptrdiff_t i = shared; i < count; i++) {
        s->skip[s->n] = i && labels[i] != labels[i - 1];
        s->u[s->n] = s->place[labels[i]], path[i] = (int32_t)s->n++;
    }
    s->end[k] = count ? path[count - 1] : 0;
}

/* Sets the emissions of a frame, whose sum is 1, and adds the logarithm of the divisor; returns 0 if they cannot be. */
static int fsl_rescore_emit(fsl_rescore_tree *s, const fsl_rescore_task *o, ptrdiff_t t, double *shift, double *lost,
                            double *product, double *exponent)
{
    const char *row = o->x + t * o->stride;
    double most = -INFINITY, sum = 0;
    int moved;
    for (ptrdiff_t i = 1; i <= s->used; i++) {
        const int32_t c = s->classes[i];
        s->y[i] = o->is_wide ? ((const double *)row)[c] : (double)((const float *)row)[c];
        most = fsl_max64(most, s->y[i]);
    }
    if (!(most > -INFINITY)) return 0;
    for (ptrdiff_t i = 1; i <= s->used; i++) {
        if (!o->is_probs) s->y[i] = fsl_exp64(fsl_max64(s->y[i] - most, -1000.0));
        sum += s->y[i];
    }
    if (!(sum > 0)) return 0;
    for (ptrdiff_t i = 1; i <= s->used; i++) {
        s->y[i] /= sum;
        if (s->y[i] > 0 && s->y[i] < FSL_RESCORE_LEAST_EMISSION) return 0;
    }
    if (!o->is_probs && !o->is_logits) fsl_add_exactly(shift, lost, most);
    *product = frexp(*product * sum, &moved);
    *exponent += moved;
    return 1;
}

/* Masses of the next frame; returns the largest one. */
static double fsl_rescore_step(ptrdiff_t n, const double *restrict b, const double *restrict l,
                               double *restrict b_next, double *restrict l_next, const double *restrict skip,
                               const int32_t *restrict u, const double *restrict y, double blank)
{
    double most = 0;
    FSL_SIMD(reduction(FSL_MAX : most))
    for (ptrdiff_t i = 1; i < n; i++) {
        const double as_label = (l[i] + b[i - 1] + skip[i] * l[i - 1]) * y[u[i]];
        const double as_blank = (b[i] + l[i]) * blank;
        l_next[i] = as_label < FSL_RESCORE_LEAST ? 0 : as_label;
        b_next[i] = as_blank < FSL_RESCORE_LEAST ? 0 : as_blank;
        const double larger = as_label > as_blank ? as_label : as_blank;
        most = larger > most ? larger : most;
    }
    return most;
}

/* Runs all frames, and sets out [n] to the log-probabilities if they can be told. */
static void fsl_rescore_run(fsl_rescore_tree *s, const fsl_rescore_task *o, double *out)
{
    double shift = 0, lost = 0, product = 1, exponent = 0, most = 1, scaled = 0;
    s->b[0] = 1;
    for (ptrdiff_t t = 0; t < o->frames; t++) {
        if (!(most > 0) || !fsl_rescore_emit(s, o, t, &shift, &lost, &product, &exponent)) return;
        if (most < 0x1p-32) {
            int moved;
            frexp(most, &moved);
            for (ptrdiff_t i = 1; i <= s->used; i++) s->y[i] *= fsl_pow2(-moved);
            scaled += moved;
            if (scaled < FSL_RESCORE_LEAST_LOG2) return; /* masses only become smaller */
        }
        for (ptrdiff_t i = 0; i < s->n_chains; i++) {
            s->b[s->copy[i]] = s->b[s->parent[i]];
            s->l[s->copy[i]] = s->l[s->parent[i]];
        }
        most = fsl_rescore_step(s->n, s->b, s->l, s->b_next, s->l_next, s->skip, s->u, s->y, s->y[1]);
        s->b_next[0] = s->b[0] * s->y[1] < FSL_RESCORE_LEAST ? 0 : s->b[0] * s->y[1];
        most = fsl_max64(most, s->b_next[0]);
        double *swap = s->b;
        s->b = s->b_next, s->b_next = swap;
        swap = s->l, s->l = s->l_next, s->l_next = swap;
    }
    const double least = FSL_RESCORE_LEAST_LOG2 + log2(3.0 * (double)(o->frames + 1) * (double)s->n);
    for (ptrdiff_t k = 0; k < o->n; k++) {
        const double mass = s->b[s->end[k]] + s->l[s->end[k]];
        if (mass > 0 && log2(mass) + scaled >= least)
            out[k] = log(mass) + log(product) + (scaled + exponent) * 0.69314718055994531 + (shift + lost);
    }
}

/* Log-probabilities of the label sequences of a tree; returns 0 if memory is exhausted. The classes have been set. */
static int fsl_rescore_group(fsl_rescore_tree *s, const fsl_rescore_task *o, double *out)
{
    ptrdiff_t slots = 1 + o->n, row = 0;
    for (ptrdiff_t k = 0; k < o->n; k++) {
        slots += o->counts[k];
        row = o->counts[k] > row ? o->counts[k] : row;
    }
    const size_t doubles = 5 * (size_t)slots, integers = (size_t)slots + (3 + (size_t)row) * (size_t)o->n;
    double *memory = calloc(doubles * sizeof(double) + integers * sizeof(int32_t), 1);
    if (!memory) return 0;
    s->b = memory, s->l = s->b + slots, s->b_next = s->l + slots, s->l_next = s->b_next + slots;
    s->skip = s->l_next + slots;
    s->u = (int32_t *)(memory + doubles), s->end = s->u + slots, s->copy = s->end + o->n, s->parent = s->copy + o->n;
    s->n = 1, s->n_chains = 0;
    for (ptrdiff_t k = 0; k < o->n; k++) fsl_rescore_add(s, o, k, s->parent + o->n, row);
    fsl_rescore_run(s, o, out);
    free(memory);
    return 1;
}

/* Sets out [n] to the log-probabilities of the label sequences, or to NaN where they cannot be told; those of logits
 * lack a number in common. Returns 0 if memory is exhausted. */
static int fsl_rescore(const fsl_rescore_task *o, double *out)
{
    fsl_rescore_tree s;
    int good = 1;
    double labels = 0;
    for (ptrdiff_t k = 0; k < o->n; k++) {
        labels += (double)o->counts[k];
        out[k] = NAN;
    }
    if ((double)o->frames * labels > FSL_RESCORE_LARGEST) return 1;
    double *memory = calloc((size_t)o->n_classes + 2, sizeof(double) + 2 * sizeof(int32_t));
    if (!memory) return 0;
    s.y = memory, s.classes = (int32_t *)(memory + o->n_classes + 2), s.place = s.classes + o->n_classes + 2;
    s.used = 1, s.classes[1] = (int32_t)o->blank, s.place[o->blank] = 1;
    for (ptrdiff_t k = 0; k < o->n; k++) {
        for (ptrdiff_t i = 0; i < o->counts[k]; i++) {
            const int64_t c = o->labels[k * o->row + i];
            if (!s.place[c]) s.classes[++s.used] = (int32_t)c, s.place[c] = (int32_t)s.used;
        }
    }
    for (ptrdiff_t k = 0; good && k < o->n; k += FSL_RESCORE_GROUP) {
        fsl_rescore_task group = *o;
        group.counts += k, group.labels += k * o->row;
        group.n = o->n - k < FSL_RESCORE_GROUP ? o->n - k : FSL_RESCORE_GROUP;
        good = fsl_rescore_group(&s, &group, out + k);
    }
    free(memory);
    return good;
}

#endif
