/* Log-probabilities of label sequences by all their alignments, for sequences that begin alike, as those of a beam do.
 *
 * The forward recursion of CTC runs over the tree of their prefixes, so a prefix in common is computed once. Masses are
 * float64 numbers with one exponent in common, and emissions of the classes that occur have the sum 1, so the mass of a
 * label sequence never grows from one frame to the next. Masses below 2^-range times the largest one are dropped. Of
 * large trees, only the slots between the first and the last mass of a chain are visited: a band, since few prefixes
 * are likely at a frame.
 *
 * At most 2 n masses are dropped at each of T frames, of n prefixes. A label sequence has a result if its probability
 * is 2^40 times as large as all that these masses can become: 3 T n 2^-range times the unit of the masses at their
 * frame, times a bound of the mass of the later frames. The bound is 1 or, for long sequences, that of
 * fsl_rescore_reach. Large trees are run with a small range, and once more with a range that suffices. If there is
 * none, the result is NaN. */
#ifndef FASTSEQLOSS_CTC_BEAM_RESCORE_H
#define FASTSEQLOSS_CTC_BEAM_RESCORE_H

#include <stdlib.h>

#include "simd/math.h"

#define FSL_RESCORE_MOST 0x1p300            /* mass at the start; the largest one is kept above 2^-32 times that */
#define FSL_RESCORE_LEAST_EMISSION 0x1p-300 /* products with the smallest mass are normal numbers */
#define FSL_RESCORE_LARGEST 5e8             /* slots or pairs of all frames, about a second, which no signal ends */

enum {
    FSL_RESCORE_GROUP = 64,   /* label sequences of a tree, each of which is compared with those before */
    FSL_RESCORE_SMALL = 256,  /* slots of a tree that are all visited at each frame */
    FSL_RESCORE_RANGE = 1000, /* the largest one; emissions below 2^-1074 are 0 */
    FSL_RESCORE_SHORT = 128,  /* range that large trees are run with first, and how many frames add 1: at a frame */
    FSL_RESCORE_FRAMES = 128, /* of a nanopore read, the bound of the later frames is 1/144 too large */
    FSL_RESCORE_DIGITS = 40   /* log2 of the ratio of a result to all that is dropped */
};

typedef struct { /* a sequence, and label sequences for it */
    const char *x;
    ptrdiff_t frames, n_classes, blank, stride; /* bytes from one row to the next */
    int is_logits, is_probs, is_wide;           /* kind of the scores; float64 */
    const int64_t *counts;                      /* [n] numbers of labels */
    const int64_t *labels;                      /* [n, row] */
    ptrdiff_t n, row;
} fsl_rescore_task;

typedef struct { /* slots from `first` up to `last`, after one for the masses of their parent */
    ptrdiff_t first, last;
    ptrdiff_t from, to, from_before, to_before; /* those with masses, at this frame and at the frame before */
} fsl_rescore_range;

typedef struct { /* labels one after the other */
    int32_t label, next; /* 0 for the end */
    double bound;        /* of the mass of the frames after a frame of the first one */
} fsl_rescore_pair;

typedef struct { /* slot 0 is the empty prefix; a chain of prefixes begins with a slot for the masses of its parent */
    ptrdiff_t n, n_chains, used; /* slots, chains with such a slot, classes */
    int32_t *u, *end;            /* [slots] class of a prefix; [n] slot of a label sequence */
    int32_t *copy, *parent;      /* [n] slot of a chain for its parent, and slot of the parent */
    int32_t *place, *classes;    /* [V] index of a class; [V + 2] classes from index 1 on, the blank first */
    double *skip;                /* [slots] 1 if a label differs from the one before, else 0 */
    double *b, *l, *b_next, *l_next, *y; /* [slots] masses; [V + 2] emissions, 0 at index 0 */
    double *after, *after_blank;         /* [V + 2] bounds of the frames after a label, and after a blank before it */
    double *scaled; /* [frames + 1] masses after so many frames are in units of 2^scaled / FSL_RESCORE_MOST */
    double least;   /* mass that is kept, 2^-range FSL_RESCORE_MOST */
    fsl_rescore_range *ranges;           /* [n_ranges] */
    ptrdiff_t n_ranges;
    double product, exponent, shift; /* of all divisors: product 2^exponent exp(shift) */
    double visited;                  /* slots and classes, of all frames */
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

/* Divides the slots into ranges: the chains, or a single one that is always visited. */
static void fsl_rescore_divide(fsl_rescore_tree *s)
{
    const int is_small = s->n <= FSL_RESCORE_SMALL;
    s->n_ranges = is_small ? 1 : s->n_chains + 1;
    for (ptrdiff_t i = 0; i < s->n_ranges; i++) {
        const ptrdiff_t first = i ? s->copy[i - 1] + 1 : 1;
        const ptrdiff_t last = i < s->n_ranges - 1 ? s->copy[i] : s->n;
        const ptrdiff_t to = is_small ? last : first;
        s->ranges[i] = (fsl_rescore_range){first, last, first, to, first, to};
    }
}

/* Replaces scores by exp(x - most), from 1e-304 to 1, and by 0 if that is below 2^-1074. */
static void fsl_rescore_exp(ptrdiff_t n, double *x, double most)
{
    FSL_SIMD()
    for (ptrdiff_t i = 0; i < n; i++) {
        const double e = fsl_exp_normal64(fsl_max64(x[i] - most, -700.0));
        x[i] = x[i] - most > -745.2 ? e : 0;
    }
}

/* Sets the emissions of a frame, whose sum is 1, and tells the divisors: exp(most), but for probabilities, and sum.
 * Returns 0 if they cannot be. */
static int fsl_rescore_emit(fsl_rescore_tree *s, const fsl_rescore_task *o, ptrdiff_t t, double *most, double *sum)
{
    const char *row = o->x + t * o->stride;
    int is_small = 0;
    *most = -INFINITY, *sum = 0;
    for (ptrdiff_t i = 1; i <= s->used; i++) {
        const int32_t c = s->classes[i];
        s->y[i] = o->is_wide ? ((const double *)row)[c] : (double)((const float *)row)[c];
        *most = fsl_max64(*most, s->y[i]);
    }
    if (!(*most > -INFINITY)) return 0;
    if (!o->is_probs) fsl_rescore_exp(s->used, s->y + 1, *most);
    for (ptrdiff_t i = 1; i <= s->used; i++) *sum += s->y[i];
    if (!(*sum > 0)) return 0;
    for (ptrdiff_t i = 1; i <= s->used; i++) {
        s->y[i] /= *sum;
        is_small |= s->y[i] > 0 && s->y[i] < FSL_RESCORE_LEAST_EMISSION;
    }
    return !is_small;
}

/* Masses of the next frame of slots `from` up to `to`; returns the largest one, or `most`. */
static double fsl_rescore_step(ptrdiff_t from, ptrdiff_t to, double least, double most, const double *restrict b,
                               const double *restrict l, double *restrict b_next, double *restrict l_next,
                               const double *restrict skip, const int32_t *restrict u, const double *restrict y)
{
    const double blank = y[1];
    FSL_SIMD(reduction(FSL_MAX : most))
    for (ptrdiff_t i = from; i < to; i++) {
        const double as_label = (l[i] + b[i - 1] + skip[i] * l[i - 1]) * y[u[i]];
        const double as_blank = (b[i] + l[i]) * blank;
        l_next[i] = as_label < least ? 0 : as_label;
        b_next[i] = as_blank < least ? 0 : as_blank;
        const double larger = as_label > as_blank ? as_label : as_blank;
        most = larger > most ? larger : most;
    }
    return most;
}

/* Masses of the next frame of a range; returns the largest one, or `most`. Slots whose masses are 0 are left out, but
 * not those that had masses at the frame before, which b_next and l_next still hold. */
static double fsl_rescore_visit(fsl_rescore_tree *s, fsl_rescore_range *r, double most)
{
    const int is_fed = s->b[r->first - 1] + s->l[r->first - 1] > 0;
    if (!is_fed && r->from == r->to && r->from_before == r->to_before) return most;
    ptrdiff_t from = r->from < r->from_before ? r->from : r->from_before;
    ptrdiff_t to = 1 + (r->to > r->to_before ? r->to : r->to_before);
    from = is_fed ? r->first : from, to = to < r->last ? to : r->last;
    most = fsl_rescore_step(from, to, s->least, most, s->b, s->l, s->b_next, s->l_next, s->skip, s->u, s->y);
    s->visited += (double)(to - from);
    if (s->n > FSL_RESCORE_SMALL) {
        while (from < to && !(s->b_next[from] + s->l_next[from] > 0)) from++;
        while (from < to && !(s->b_next[to - 1] + s->l_next[to - 1] > 0)) to--;
    }
    r->from_before = r->from, r->to_before = r->to, r->from = r->to = r->first;
    if (from < to) r->from = from, r->to = to;
    return most;
}

/* Masses of the next frame; returns the largest one. */
static double fsl_rescore_advance(fsl_rescore_tree *s)
{
    double most = s->b[0] * s->y[1];
    for (ptrdiff_t i = 0; i < s->n_chains; i++) {
        s->b[s->copy[i]] = s->b[s->parent[i]];
        s->l[s->copy[i]] = s->l[s->parent[i]];
    }
    most = most < s->least ? 0 : most;
    s->b_next[0] = most;
    for (ptrdiff_t i = 0; i < s->n_ranges; i++) most = fsl_rescore_visit(s, &s->ranges[i], most);
    double *swap = s->b;
    s->b = s->b_next, s->b_next = swap;
    swap = s->l, s->l = s->l_next, s->l_next = swap;
    s->visited += (double)s->used;
    return most;
}

static int fsl_rescore_pair_order(const void *a, const void *b)
{
    const fsl_rescore_pair *p = a, *q = b;
    if (p->label != q->label) return p->label < q->label ? -1 : 1;
    return (p->next > q->next) - (p->next < q->next);
}

/* Sets the pairs of neighbours, and of last labels and 0, that occur; returns their number. */
static ptrdiff_t fsl_rescore_find_pairs(const fsl_rescore_tree *s, const fsl_rescore_task *o, fsl_rescore_pair *pairs)
{
    ptrdiff_t n = 0, unique = 0;
    for (ptrdiff_t i = 2; i < s->n; i++) pairs[n++] = (fsl_rescore_pair){s->u[i - 1], s->u[i], 1};
    for (ptrdiff_t i = 0; i < s->n_chains; i++)
        if (s->copy[i] + 1 < s->n) pairs[n++] = (fsl_rescore_pair){s->u[s->parent[i]], s->u[s->copy[i] + 1], 1};
    for (ptrdiff_t k = 0; k < o->n; k++) pairs[n++] = (fsl_rescore_pair){s->u[s->end[k]], 0, 1};
    qsort(pairs, (size_t)n, sizeof *pairs, fsl_rescore_pair_order);
    for (ptrdiff_t i = 0; i < n; i++)
        if (pairs[i].label && (!unique || fsl_rescore_pair_order(&pairs[unique - 1], &pairs[i])))
            pairs[unique++] = pairs[i];
    return unique;
}

/* Bounds of an earlier frame from those of a later one, with the emissions of the latter; returns the largest one. */
static double fsl_rescore_precede(fsl_rescore_tree *s, fsl_rescore_pair *pairs, ptrdiff_t n)
{
    double largest = 0, *after = s->after, *after_blank = s->after_blank;
    for (ptrdiff_t i = 0; i <= s->used; i++) after[i] *= s->y[i], after_blank[i] *= s->y[1];
    for (ptrdiff_t i = 0; i < n; i++) {
        fsl_rescore_pair *p = &pairs[i];
        p->bound = s->y[p->label] * p->bound + after_blank[p->next] + (p->label != p->next ? after[p->next] : 0);
        largest = fsl_max64(largest, p->bound);
    }
    for (ptrdiff_t i = 0; i <= s->used; i++) {
        after_blank[i] += after[i], after[i] = 0;
        largest = fsl_max64(largest, after_blank[i]);
    }
    return largest;
}

/* Log2 of a bound of the mass that a mass of 1, in the units of any frame, can become. With the largest mass f_t(u, v)
 * of the alignments of the frames after t that follow a label u, before a label v, and g_t(v) of those that follow a
 * blank before a label v,
 *
 *     f_t(u, v) <= y(u) f_t+1(u, v) + y(blank) g_t+1(v) + [u != v] y(v) max_w f_t+1(v, w),
 *     g_t(v) <= y(blank) g_t+1(v) + y(v) max_w f_t+1(v, w),        f = g = 1 after the last frame,
 *
 * where y are the emissions of frame t + 1, and (v, w) is any pair of neighbours that occurs. Bounds may be raised, and
 * are kept far above the least float64. */
static double fsl_rescore_reach(fsl_rescore_tree *s, const fsl_rescore_task *o)
{
    double exponent = 0, reach = s->scaled[o->frames], most, sum;
    fsl_rescore_pair *pairs = malloc((size_t)(s->n + s->n_chains + o->n) * sizeof *pairs);
    if (!pairs) return 0;
    const ptrdiff_t n = fsl_rescore_find_pairs(s, o, pairs);
    for (ptrdiff_t i = 0; i <= s->used; i++) s->after[i] = s->after_blank[i] = 1;
    const ptrdiff_t frames = (double)n * (double)o->frames > FSL_RESCORE_LARGEST ? 0 : o->frames;
    reach = frames ? reach : 0;
    for (ptrdiff_t t = frames - 1; t > 0; t--) {
        double scale = 1;
        int moved;
        fsl_rescore_emit(s, o, t, &most, &sum);
        const double largest = fsl_rescore_precede(s, pairs, n);
        if (largest < 0x1p-4) {
            frexp(largest, &moved);
            scale = fsl_pow2(-moved), exponent += moved;
        }
        for (ptrdiff_t i = 0; i <= s->used; i++)
            s->after_blank[i] = fsl_max64(s->after_blank[i] * scale, FSL_RESCORE_LEAST_EMISSION);
        for (ptrdiff_t i = 0; i < n; i++) {
            fsl_rescore_pair *p = &pairs[i];
            p->bound = fsl_max64(p->bound * scale, FSL_RESCORE_LEAST_EMISSION);
            s->after[p->label] = fsl_max64(s->after[p->label], p->bound);
        }
        reach = fsl_max64(reach, s->scaled[t] + exponent);
    }
    free(pairs);
    return reach;
}

/* Sets out [n] to the log-probabilities of at least 2^least. Returns by how much log2 of the smallest one is below: 0
 * or less if all are set, infinity for a mass of 0. */
static double fsl_rescore_tell(const fsl_rescore_tree *s, const fsl_rescore_task *o, double least, double *out)
{
    const double scaled = s->scaled[o->frames];
    double lacking = -INFINITY;
    for (ptrdiff_t k = 0; k < o->n; k++) {
        const double mass = (s->b[s->end[k]] + s->l[s->end[k]]) / FSL_RESCORE_MOST;
        lacking = fsl_max64(lacking, mass > 0 ? least - log2(mass) - scaled : INFINITY);
        if (mass > 0 && log2(mass) + scaled >= least)
            out[k] = log(mass) + log(s->product) + (scaled + s->exponent) * 0.69314718055994531 + s->shift;
    }
    return lacking;
}

/* Runs all frames, or those before all masses are 0; returns 0 if emissions, or too many slots, end it. */
static int fsl_rescore_run(fsl_rescore_tree *s, const fsl_rescore_task *o)
{
    double shift = 0, lost = 0, most = FSL_RESCORE_MOST, best, sum;
    int moved;
    s->b[0] = FSL_RESCORE_MOST, s->product = 1, s->exponent = s->scaled[0] = s->visited = 0;
    for (ptrdiff_t t = 0; t < o->frames; t++) {
        if (!(most > 0)) break;
        if (s->visited > FSL_RESCORE_LARGEST || !fsl_rescore_emit(s, o, t, &best, &sum)) return 0;
        if (!o->is_probs && !o->is_logits) fsl_add_exactly(&shift, &lost, best);
        s->product = frexp(s->product * sum, &moved);
        s->exponent += moved;
        s->scaled[t + 1] = s->scaled[t];
        if (most < 0x1p-32 * FSL_RESCORE_MOST) {
            frexp(most / FSL_RESCORE_MOST, &moved);
            for (ptrdiff_t i = 1; i <= s->used; i++) s->y[i] *= fsl_pow2(-moved);
            s->scaled[t + 1] += moved;
        }
        most = fsl_rescore_advance(s);
    }
    s->shift = shift + lost;
    return 1;
}

/* Sets out [n] to the log-probabilities that can be told with a range. Returns the range that suffices for all,
 * infinity if masses are 0, or 0 if none does. */
static double fsl_rescore_within(fsl_rescore_tree *s, const fsl_rescore_task *o, double range, double *out)
{
    double least = FSL_RESCORE_DIGITS - range + log2(3.0 * (double)(o->frames + 1) * (double)s->n);
    s->least = fsl_pow2(-range) * FSL_RESCORE_MOST;
    fsl_rescore_divide(s);
    if (!fsl_rescore_run(s, o)) return 0;
    double lacking = fsl_rescore_tell(s, o, least, out);
    if (lacking > 0) {
        least += fsl_rescore_reach(s, o);
        lacking = fsl_rescore_tell(s, o, least, out);
    }
    return range + lacking;
}

/* Log-probabilities of the label sequences of a tree; returns 0 if memory is exhausted. The classes have been set. */
static int fsl_rescore_group(fsl_rescore_tree *s, const fsl_rescore_task *o, double *out)
{
    ptrdiff_t slots = 1 + o->n, row = 0;
    for (ptrdiff_t k = 0; k < o->n; k++) {
        slots += o->counts[k];
        row = o->counts[k] > row ? o->counts[k] : row;
    }
    if (slots > INT32_MAX) return 1;
    const size_t doubles = 5 * (size_t)slots + (size_t)o->frames + 1;
    const size_t integers = (size_t)slots + (3 + (size_t)row) * (size_t)o->n;
    const size_t ranges = ((size_t)o->n + 1) * sizeof(fsl_rescore_range);
    double *memory = calloc(doubles * sizeof(double) + ranges + integers * sizeof(int32_t), 1);
    if (!memory) return 0;
    s->b = memory, s->l = s->b + slots, s->b_next = s->l + slots, s->l_next = s->b_next + slots;
    s->skip = s->l_next + slots, s->scaled = s->skip + slots;
    s->ranges = (fsl_rescore_range *)(memory + doubles);
    s->u = (int32_t *)(s->ranges + o->n + 1);
    s->end = s->u + slots, s->copy = s->end + o->n, s->parent = s->copy + o->n;
    s->n = 1, s->n_chains = 0;
    for (ptrdiff_t k = 0; k < o->n; k++) fsl_rescore_add(s, o, k, s->parent + o->n, row);
    double range = FSL_RESCORE_RANGE;
    if (s->n > FSL_RESCORE_SMALL)
        range = fsl_min64(range, FSL_RESCORE_SHORT + (double)(o->frames / FSL_RESCORE_FRAMES));
    const double enough = ceil(fsl_rescore_within(s, o, range, out)) + 1;
    if (range < FSL_RESCORE_RANGE && enough > range + 1 && (enough <= FSL_RESCORE_RANGE || enough == INFINITY)) {
        memset(memory, 0, 4 * (size_t)slots * sizeof(double));
        fsl_rescore_within(s, o, fsl_min64(enough, FSL_RESCORE_RANGE), out);
    }
    free(memory);
    return 1;
}

/* Sets out [n] to the log-probabilities of the label sequences, or to NaN where they cannot be told; those of logits
 * lack a number in common. Returns 0 if memory is exhausted. */
static int fsl_rescore(const fsl_rescore_task *o, double *out)
{
    fsl_rescore_tree s;
    int good = 1;
    for (ptrdiff_t k = 0; k < o->n; k++) out[k] = NAN;
    const ptrdiff_t width = o->n_classes + 2;
    double *memory = calloc((size_t)width, 3 * sizeof(double) + 2 * sizeof(int32_t));
    if (!memory) return 0;
    s.y = memory, s.after = s.y + width, s.after_blank = s.after + width;
    s.classes = (int32_t *)(s.after_blank + width), s.place = s.classes + width;
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
