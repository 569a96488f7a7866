/* Prefix beam search for CTC, one sequence at a time.
 *
 * A prefix carries the mass of its alignments that end in the blank, b, and in its last label, n. Emissions of a frame
 * are relative to its greatest score, so that weights need an exponent in common only, and masses are plain float64
 * numbers: beam.inc.h, which is compiled once more with logarithms in their place. A sequence whose masses leave the
 * range of float64 is searched by logarithms.
 *
 * Pruning of classes is exact. The beam-th best candidate of a frame is at least `tau`, the smallest over the prefixes
 * of the best of a few of each one's candidates, since these are different prefixes. Only classes whose emission times
 * the largest mass reaches tau can matter. */
#ifndef FASTSEQLOSS_CTC_BEAM_H
#define FASTSEQLOSS_CTC_BEAM_H

#include "ctc/beam_language.h"
#include "ctc/beam_tree.h"
#include "simd/math.h"

#define FSL_BEAM_LN2 0.69314718055994531

enum {
    FSL_BEAM_BLOCK = 64,    /* classes of a block, whose greatest score is known */
    FSL_BEAM_BUCKETS = 256, /* of weights, 32 for a factor of 2 */
    FSL_BEAM_FEW = 16,      /* classes that are all looked at */
    FSL_BEAM_DROPPED = 3,   /* candidates that are looked for one by one */
    FSL_BEAM_PORTION = 1 << 15 /* frames times prefixes of a call: about a millisecond */
};

typedef enum { FSL_BEAM_DONE, FSL_BEAM_PAUSED, FSL_BEAM_LEFT_RANGE, FSL_BEAM_NO_MEMORY } fsl_beam_status;

typedef struct { /* a prefix of the beam */
    double b, n, total;
    uint64_t children;  /* those in the beam, by label modulo 64 */
    int32_t node, last; /* last label, or -1 */
    int32_t parent;     /* place in the beam, or -1 */
    int32_t is_rounded; /* n may be up to as large as it is, and may be 0 */
    int32_t row;        /* of `rows`; -1 - the row of its parent if it has none yet */
    double told;        /* score of the labels by `rows` */
} fsl_beam_prefix;

typedef struct { /* masses of a prefix that stays as it is */
    double b, n, total;
    int32_t is_rounded;
} fsl_beam_masses;

typedef struct { /* a prefix that may enter the beam: prefix `from`, extended by a class, or by none if -1 */
    double weight;
    int32_t from, by;
} fsl_beam_candidate;

typedef struct { /* a class that may extend prefixes */
    double bound, emission; /* bound: emission times the largest score of a language model */
    int32_t label;
} fsl_beam_choice;

typedef struct { /* options, and the scores of a batch */
    ptrdiff_t n_classes, blank, stride; /* bytes from one row to the next */
    int is_logits, is_probs, is_wide; /* kind of the scores; float64 */
    int32_t beam, n_out;
    double class_threshold, beam_threshold; /* -inf and inf for none */
    int has_lm, has_rows;
    fsl_beam_language language;
    int by_logarithms; /* from the start */
    int is_unread;     /* scores may be invalid, and the log-probability of the best path is not known */
} fsl_beam_options;

typedef struct { /* memory of a worker, and the frame in progress */
    const fsl_beam_options *o;
    fsl_beam_tree tree;
    fsl_beam_prefix *prefixes, *next;         /* [beam] */
    fsl_beam_masses *stays;                   /* [beam] */
    fsl_beam_candidate *candidates;           /* [room] */
    fsl_beam_choice *choices;                 /* [V] */
    int32_t *classes;                    /* [V] */
    int32_t *edge;                       /* [room] */
    double *emissions;                   /* [V], of the frames in `seen` */
    int64_t *seen;                       /* [V] */
    double *maxima;                      /* [blocks] */
    double *ranked;                      /* [V] */
    double *bounds;                      /* [V], with rows */
    const double *best;                  /* [V], greatest score of each label */
    const double *rows; /* [beam, V + 1], scores by a model of the caller of the next label and of the end, or NULL */
    void *memory;
    int32_t n, n_candidates, n_choices, room;
    ptrdiff_t t; /* next frame */
    int64_t frame; /* frames looked at by the worker */
    int is_begun, by_logarithms; /* the sequence */
    int is_bad;           /* there is a score that is NaN or +inf, or a negative probability */
    double path, path_rest; /* log-probability of the best path of the frames read, and what it lacks by rounding */
    const void *x;        /* row */
    double most;          /* greatest score of the row */
    double log_most;      /* its logarithm, for probabilities */
    int32_t top;          /* best class other than the blank, or -1 */
    double top_score;     /* its score */
    double least, widest; /* tau; largest mass */
    double largest;       /* of best */
    double smallest;      /* mass of the beam, or 0 if there are masses that are not exact */
    int64_t exponent;     /* the masses are to be multiplied by 2^exponent */
} fsl_beam;

/* ---- order -------------------------------------------------------------------------------- */

FSL_INLINE int fsl_beam_before(const fsl_beam_candidate *a, const fsl_beam_candidate *b)
{
    if (a->weight != b->weight) return a->weight > b->weight;
    return a->from != b->from ? a->from < b->from : a->by < b->by;
}

FSL_INLINE int fsl_beam_choice_before(const fsl_beam_choice *a, const fsl_beam_choice *b)
{
    return a->bound != b->bound ? a->bound > b->bound : a->label < b->label;
}

/* Shell's sort of n elements a[i] by before(a[i], a[k]), a total order. */
#define FSL_BEAM_SORT(type, a, n, before)                                                           \
    for (int32_t gap = (n) > 8 ? (n) / 2 : 1; gap; gap = gap > 2 ? (int32_t)(gap / 2.25) : gap / 2) \
        for (int32_t i_ = gap; i_ < (n); i_++) {                                                    \
            const type moved = (a)[i_];                                                             \
            int32_t k_ = i_;                                                                        \
            for (; k_ >= gap && before(moved, (a)[k_ - gap]); k_ -= gap) (a)[k_] = (a)[k_ - gap];   \
            (a)[k_] = moved;                                                                        \
        }

static void fsl_beam_sort_choices(fsl_beam_choice *a, int32_t n)
{
#define FSL_CHOICE_BEFORE(x, y) fsl_beam_choice_before(&(x), &(y))
    FSL_BEAM_SORT(fsl_beam_choice, a, n, FSL_CHOICE_BEFORE)
#undef FSL_CHOICE_BEFORE
}

/* Sorts indices of candidates, the last one in order first. */
static void fsl_beam_sort_last_first(const fsl_beam_candidate *candidates, int32_t *a, int32_t n)
{
#define FSL_AFTER(x, y) fsl_beam_before(&candidates[y], &candidates[x])
    FSL_BEAM_SORT(int32_t, a, n, FSL_AFTER)
#undef FSL_AFTER
}

/* ---- tree -------------------------------------------------------------------------------- */

/* Removes nodes that no prefix of the beam begins with. Parents come before their children. */
static void fsl_beam_prune(fsl_beam_tree *tree, fsl_beam_prefix *prefixes, int32_t n_prefixes)
{
    int32_t *moved = tree->place, n = 0;
    for (int32_t i = 0; i < tree->n; i++) moved[i] = -1;
    for (int32_t j = 0; j < n_prefixes; j++)
        for (int32_t i = prefixes[j].node; i >= 0 && moved[i] < 0; i = tree->parent[i]) moved[i] = 0;
    moved[0] = 0;
    for (int32_t i = 0; i < tree->n; i++) {
        if (moved[i] < 0) continue;
        moved[i] = n;
        tree->parent[n] = tree->parent[i] < 0 ? -1 : moved[tree->parent[i]];
        for (int k = 0; k < FSL_BEAM_AUTOMATA; k++)
            tree->states[n * FSL_BEAM_AUTOMATA + k] = tree->states[i * FSL_BEAM_AUTOMATA + k];
        tree->label[n++] = tree->label[i];
    }
    for (int32_t j = 0; j < n_prefixes; j++) prefixes[j].node = moved[prefixes[j].node];
    tree->n = n;
    for (int32_t i = 0; i < n; i++) tree->place[i] = -1;
    for (int32_t j = 0; j < n_prefixes; j++) tree->place[prefixes[j].node] = j;
    fsl_beam_rehash(tree);
}

/* Makes room for one more node for each prefix; returns 0 if memory is exhausted. */
static int fsl_beam_make_room(fsl_beam *s)
{
    fsl_beam_tree *tree = &s->tree;
    if (tree->n + s->o->beam <= tree->most) return 1;
    fsl_beam_prune(tree, s->prefixes, s->n);
    if (tree->n + s->o->beam <= tree->most / 2) return 1;
    if (tree->most > INT32_MAX / 2) return 0;
    return fsl_beam_grow(tree, 2 * tree->most);
}

/* ---- rows --------------------------------------------------------------------------------- */

#include "simd/float32.inc.h"
#include "ctc/beam_rows.inc.h"
#include "simd/float64.inc.h"
#include "ctc/beam_rows.inc.h"

FSL_INLINE double fsl_beam_score(const fsl_beam *s, ptrdiff_t c)
{
    return s->o->is_wide ? ((const double *)s->x)[c] : (double)((const float *)s->x)[c];
}

/* Reads the greatest score of the row, and the best class other than the blank. */
static void fsl_beam_read_row(fsl_beam *s)
{
    const ptrdiff_t n = s->o->n_classes, blank = s->o->blank, home = blank / FSL_BEAM_BLOCK * FSL_BEAM_BLOCK;
    const ptrdiff_t n_home = n - home < FSL_BEAM_BLOCK ? n - home : FSL_BEAM_BLOCK;
    const ptrdiff_t n_blocks = (n + FSL_BEAM_BLOCK - 1) / FSL_BEAM_BLOCK;
    const double least = s->o->is_probs ? 0 : -INFINITY;
    double *of_home = &s->maxima[home / FSL_BEAM_BLOCK];
    ptrdiff_t best = 0;
    if (s->o->is_wide) {
        const double *x = s->x;
        if (n_blocks > 1) fsl_beam_maxima_f64(x, n, least, s->maxima, &s->is_bad);
        *of_home = fsl_beam_greatest_f64(x + home, n_home, blank - home, least, &s->is_bad);
    } else {
        const float *x = s->x;
        if (n_blocks > 1) fsl_beam_maxima_f32(x, n, least, s->maxima, &s->is_bad);
        *of_home = fsl_beam_greatest_f32(x + home, n_home, blank - home, least, &s->is_bad);
    }
    for (ptrdiff_t i = 1; i < n_blocks; i++) best = s->maxima[i] > s->maxima[best] ? i : best;
    s->top = -1;
    s->top_score = s->maxima[best];
    if (s->top_score > least) {
        const ptrdiff_t from = best * FSL_BEAM_BLOCK;
        s->top = (int32_t)(s->o->is_wide ? fsl_beam_class_of_f64(s->x, from, blank, s->top_score)
                                         : fsl_beam_class_of_f32(s->x, from, blank, s->top_score));
    }
    s->most = fsl_max64(s->top_score, fsl_beam_score(s, blank));
    s->log_most = s->o->is_probs ? fsl_log64(s->most) : s->most;
    s->is_bad |= !(fsl_beam_score(s, blank) >= least && s->most < INFINITY);
    fsl_add_exactly(&s->path, &s->path_rest, s->log_most);
}

/* Least score with log-probability class_threshold, but no more than that of the best class. */
static double fsl_beam_least_tried(const fsl_beam *s)
{
    double least = s->o->class_threshold;
    if (least == -INFINITY) return least;
    if (s->o->is_probs)
        least = fsl_exp64(least);
    else if (s->o->is_logits) {
        const ptrdiff_t n = s->o->n_classes;
        const double most = s->most;
        least += most + fsl_log64(s->o->is_wide ? fsl_beam_sum_f64(s->x, n, most) : fsl_beam_sum_f32(s->x, n, most));
    }
    return fsl_min64(least, s->top_score);
}

/* Classes whose score is at least `least`; those with probability 0 are left out. */
static int32_t fsl_beam_gather_classes(fsl_beam *s, double least)
{
    const ptrdiff_t n = s->o->n_classes, blank = s->o->blank;
    int32_t found = 0;
    const double possible = s->o->is_probs ? DBL_TRUE_MIN : -DBL_MAX;
    least = least > possible ? least : possible;
    for (ptrdiff_t start = 0; start < n; start += FSL_BEAM_BLOCK) {
        const ptrdiff_t stop = n - start < FSL_BEAM_BLOCK ? n : start + FSL_BEAM_BLOCK;
        if (s->maxima[start / FSL_BEAM_BLOCK] < least) continue;
        if (s->o->is_wide)
            found += fsl_beam_gather_f64(s->x, start, stop, blank, least, s->classes + found);
        else
            found += fsl_beam_gather_f32(s->x, start, stop, blank, least, s->classes + found);
    }
    return found;
}

/* The element of rank `rank` (0 for the greatest) of n; reorders them. */
static double fsl_beam_ranked(double *a, ptrdiff_t n, ptrdiff_t rank)
{
    ptrdiff_t first = 0, last = n - 1;
    while (first < last) {
        const double pivot = a[first + (last - first) / 2];
        ptrdiff_t i = first, k = last;
        while (i <= k) {
            while (a[i] > pivot) i++;
            while (a[k] < pivot) k--;
            if (i > k) break;
            const double moved = a[i];
            a[i++] = a[k];
            a[k--] = moved;
        }
        if (rank <= k)
            last = k;
        else if (rank >= i)
            first = i;
        else
            break;
    }
    return a[rank];
}

/* Leaves out those of n classes, more than `rank`, whose scores are less than that of rank `rank`, and a little lower,
 * for roundings; returns the number that is left. */
static int32_t fsl_beam_thin(fsl_beam *s, int32_t n, int32_t rank)
{
    int32_t left = 0;
    for (int32_t i = 0; i < n; i++) s->ranked[i] = fsl_beam_score(s, s->classes[i]);
    const double last = fsl_beam_ranked(s->ranked, n, rank - 1), least = last - 1e-6 * fabs(last);
    for (int32_t i = 0; i < n; i++) {
        s->classes[left] = s->classes[i];
        left += fsl_beam_score(s, s->classes[i]) >= least;
    }
    return left;
}

/* A score that `rank` or more classes reach, of the classes other than the blank: that many blocks have one. */
static double fsl_beam_rank_bound(const fsl_beam *s, int32_t rank)
{
    const ptrdiff_t n = s->o->n_classes;
    ptrdiff_t block = 1, n_blocks = 0;
    if (n <= rank) return -INFINITY;
    while (block < FSL_BEAM_BLOCK && n / (2 * block) >= 4 * (ptrdiff_t)rank) block *= 2;
    for (ptrdiff_t start = 0; start < n; start += block) {
        double most = -INFINITY;
        for (ptrdiff_t c = start; c < start + block && c < n; c++)
            most = c != s->o->blank ? fsl_max64(most, fsl_beam_score(s, c)) : most;
        s->ranked[n_blocks++] = most;
    }
    return fsl_beam_ranked(s->ranked, n_blocks, rank - 1);
}

/* States of a prefix. */
FSL_INLINE int32_t *fsl_beam_states(const fsl_beam *s, int32_t node)
{
    return s->tree.states + (ptrdiff_t)node * FSL_BEAM_AUTOMATA;
}

/* Score of a label after a prefix, or of the end if it is V, by a model of the caller. */
FSL_INLINE double fsl_beam_told(const fsl_beam *s, const fsl_beam_prefix *p, ptrdiff_t label)
{
    return s->rows ? s->rows[p->row * (s->o->n_classes + 1) + label] : 0;
}

/* Logarithm of the score of a label after a prefix. */
static double fsl_beam_log_lm_after(const fsl_beam *s, const fsl_beam_prefix *p, int32_t label)
{
    int32_t states[FSL_BEAM_AUTOMATA];
    memcpy(states, fsl_beam_states(s, p->node), sizeof states);
    return fsl_beam_told(s, p, label) + fsl_beam_log_lm(&s->o->language, p->last, states, label);
}

/* ---- the beam ----------------------------------------------------------------------------- */

static void fsl_beam_begin(fsl_beam *s)
{
    s->tree.n = 1;
    s->tree.parent[0] = s->tree.label[0] = -1;
    s->tree.place[0] = 0;
    memset(s->tree.states, 0, FSL_BEAM_AUTOMATA * sizeof(int32_t));
    memset(s->tree.table, 0, ((size_t)s->tree.mask + 1) * sizeof(uint32_t));
    s->n = 1;
    s->exponent = 0;
    s->path = s->path_rest = s->is_bad = 0;
}

/* Finds the parent of each prefix, and notes the children of each one, that are in the beam. */
static void fsl_beam_link(fsl_beam *s)
{
    const fsl_beam_tree *tree = &s->tree;
    for (int32_t j = 0; j < s->n; j++) {
        fsl_beam_prefix *p = &s->prefixes[j];
        p->parent = p->node ? tree->place[tree->parent[p->node]] : -1;
        if (p->parent >= 0) s->prefixes[p->parent].children |= (uint64_t)1 << (p->last & 63);
    }
}

/* Finds the greatest score of each label after any prefix of the beam, or more. */
static void fsl_beam_bound_labels(fsl_beam *s)
{
    const ptrdiff_t n = s->o->n_classes;
    if (!s->o->has_lm || (s->best && !s->rows)) return;
    s->best = s->o->language.best;
    for (int32_t j = 0; s->rows && j < s->n; j++) {
        const double *row = s->rows + s->prefixes[j].row * (n + 1);
        for (ptrdiff_t c = 0; c < n; c++) s->bounds[c] = j ? fsl_max64(s->bounds[c], row[c]) : row[c];
    }
    for (ptrdiff_t c = 0; s->rows && c < n; c++) s->bounds[c] += s->best[c];
    if (s->rows) s->best = s->bounds;
    s->largest = s->best[0];
    for (ptrdiff_t c = 1; c < n; c++) s->largest = fsl_max64(s->largest, s->best[c]);
}

/* Finds memory for the rows of prefixes that have none: no other prefix of the beam has the same. Writes the sequence,
 * the row, the row of the prefix without its last label, and that label; returns how many there are. */
static ptrdiff_t fsl_beam_ask(fsl_beam *s, ptrdiff_t sequence, int64_t *asked)
{
    int32_t *used = s->edge, unused = 0;
    ptrdiff_t n = 0;
    memset(used, 0, (size_t)s->o->beam * sizeof *used);
    for (int32_t j = 0; j < s->n; j++)
        if (s->prefixes[j].row >= 0) used[s->prefixes[j].row] = 1;
    for (int32_t j = 0; j < s->n; j++) {
        fsl_beam_prefix *p = &s->prefixes[j];
        if (p->row >= 0) continue;
        while (used[unused]) unused++;
        const int64_t entry[4] = {sequence, unused, -1 - p->row, p->last};
        memcpy(asked + 4 * n++, entry, sizeof entry);
        p->row = unused++;
    }
    return n;
}

/* Returns 1 if a prefix extended by a label is in the beam. */
FSL_INLINE int fsl_beam_has_child(const fsl_beam *s, const fsl_beam_prefix *p, int32_t label)
{
    if (!(p->children >> (label & 63) & 1)) return 0;
    if (s->o->n_classes <= 64) return 1;
    const uint32_t node = s->tree.table[fsl_beam_find(&s->tree, p->node, label)];
    return node && s->tree.place[node - 1] >= 0;
}

/* Removes the last candidate in order, and keeps the order in which the others are. */
static void fsl_beam_drop_last(fsl_beam *s)
{
    fsl_beam_candidate *c = s->candidates;
    int32_t last = 0;
    for (int32_t i = 1; i < s->n_candidates; i++) last = fsl_beam_before(&c[last], &c[i]) ? i : last;
    s->n_candidates--;
    memmove(c + last, c + last + 1, (size_t)(s->n_candidates - last) * sizeof *c);
}

/* ---- the search, by masses and by logarithms ------------------------------------------------ */

FSL_INLINE double fsl_beam_log_plus(double a, double b)
{
    const double most = a > b ? a : b, least = a > b ? b : a;
    return least == -INFINITY ? most : most + log1p(exp(least - most));
}

/* Masses below FSL_BEAM_FLOOR are replaced by it, unless they are 0. The replacement is an upper bound, which
 * has no effect while it stays under 1e-17 of the mass of its prefix; otherwise, or if a prefix with a mass below
 * FSL_BEAM_SMALL is kept, the sequence is searched by logarithms. */
#define FSL_BEAM_FLOOR 1e-290
#define FSL_BEAM_SMALL 1e-250
#define FSL_BEAM_ROUNDED 1e-270

#define FSL_BEAM_BY_LOGARITHMS 0
#include "ctc/beam.inc.h"
#undef FSL_BEAM_BY_LOGARITHMS
#define FSL_BEAM_BY_LOGARITHMS 1
#include "ctc/beam.inc.h"
#undef FSL_BEAM_BY_LOGARITHMS

/* ---- memory ------------------------------------------------------------------------------- */

static void fsl_beam_free(fsl_beam *s)
{
    free(s->memory);
    free(s->tree.parent);
    free(s->tree.label);
    free(s->tree.place);
    free(s->tree.states);
    free(s->tree.table);
}

FSL_INLINE void *fsl_beam_take(char **at, size_t n, size_t size)
{
    char *start = *at;
    *at += (n * size + 63) / 64 * 64;
    return start;
}

/* Arrays in memory from `start` on; returns their size. */
static size_t fsl_beam_lay_out(fsl_beam *s, char *start)
{
    const size_t beam = (size_t)s->o->beam, n = (size_t)s->o->n_classes;
    char *at = start;
    s->room = 4 * s->o->beam + 64;
    s->prefixes = fsl_beam_take(&at, beam, sizeof(fsl_beam_prefix));
    s->stays = fsl_beam_take(&at, beam, sizeof(fsl_beam_masses));
    s->next = fsl_beam_take(&at, beam, sizeof(fsl_beam_prefix));
    s->candidates = fsl_beam_take(&at, (size_t)s->room, sizeof(fsl_beam_candidate));
    s->edge = fsl_beam_take(&at, (size_t)s->room, sizeof(int32_t));
    s->choices = fsl_beam_take(&at, n, sizeof(fsl_beam_choice));
    s->classes = fsl_beam_take(&at, n + 1, sizeof(int32_t));
    s->emissions = fsl_beam_take(&at, n, sizeof(double));
    s->seen = fsl_beam_take(&at, n, sizeof(int64_t));
    s->maxima = fsl_beam_take(&at, n / FSL_BEAM_BLOCK + 1, sizeof(double));
    s->ranked = fsl_beam_take(&at, n, sizeof(double));
    s->bounds = fsl_beam_take(&at, s->o->has_rows ? n : 0, sizeof(double));
    return (size_t)(at - start);
}

/* Allocates the memory of a worker, all zeros; returns 0 if memory is exhausted. */
static int fsl_beam_allocate(fsl_beam *s, const fsl_beam_options *o)
{
    memset(s, 0, sizeof *s);
    s->o = o;
    const size_t size = fsl_beam_lay_out(s, NULL);
    s->memory = calloc(size + 64, 1);
    if (!s->memory) return 0;
    fsl_beam_lay_out(s, (char *)(((uintptr_t)s->memory + 63) / 64 * 64));
    return fsl_beam_grow(&s->tree, 4 * o->beam + 1024);
}

/* ---- results ------------------------------------------------------------------------------ */

/* Returns 1 if prefix a comes before b among the results: greater mass, then shorter, then smaller labels. */
static int fsl_beam_is_better(const fsl_beam_tree *tree, const fsl_beam_prefix *a, const fsl_beam_prefix *b)
{
    if (a->total != b->total) return a->total > b->total;
    const int32_t n = fsl_beam_depth(tree, a->node), m = fsl_beam_depth(tree, b->node);
    if (n != m) return n < m;
    int32_t i = a->node, k = b->node;
    if (i == k) return 0;
    while (tree->parent[i] != tree->parent[k]) i = tree->parent[i], k = tree->parent[k];
    return tree->label[i] < tree->label[k];
}

static void fsl_beam_sort_prefixes(fsl_beam *s)
{
#define FSL_IS_BETTER(x, y) fsl_beam_is_better(&s->tree, &(x), &(y))
    FSL_BEAM_SORT(fsl_beam_prefix, s->prefixes, s->n, FSL_IS_BETTER)
#undef FSL_IS_BETTER
}

/* Writes the best prefixes: the table of the lattice of n_out label sequences, of `most` labels at most, for the same
 * `frames` (numbers of frames, starts of the labels, numbers of labels, frames needed, labels), their scores [n_out],
 * and the language scores in them [n_out]. Returns how many there are; others are empty. */
static int32_t fsl_beam_write_results(fsl_beam *s, ptrdiff_t frames, ptrdiff_t most, int64_t *table, double *scores)
{
    const int32_t n_out = s->o->n_out, n = s->n < n_out ? s->n : n_out;
    fsl_beam_sort_prefixes(s);
    for (int32_t i = 0; i < n_out; i++) {
        const fsl_beam_prefix *prefix = &s->prefixes[i];
        const int32_t depth = i < n ? fsl_beam_depth(&s->tree, prefix->node) : 0;
        int32_t at = depth, later = -1;
        int64_t *labels = table + 4 * n_out + i * most;
        table[i] = frames;
        table[n_out + i] = i * most;
        table[2 * n_out + i] = table[3 * n_out + i] = at;
        if (i >= n) continue;
        for (int32_t node = prefix->node; node > 0; node = s->tree.parent[node]) {
            labels[--at] = s->tree.label[node];
            table[3 * n_out + i] += labels[at] == later;
            later = s->tree.label[node];
        }
        scores[i] = prefix->total;
        scores[n_out + i] = s->o->has_lm ? fsl_beam_log_lm_of(&s->o->language, labels, depth) + prefix->told : 0;
    }
    return n;
}

/* Begins the search of a sequence. */
static void fsl_beam_start(fsl_beam *s, int by_logarithms)
{
    fsl_beam_begin(s);
    s->t = 0;
    s->by_logarithms = by_logarithms;
    s->is_begun = 1;
}

/* Searches one sequence, some frames of it, and may have to be called again: with rows after each frame, the last one
 * included. Scores [1 + 2 n_out] are the log-probability of the best path, which is set to NaN for bad scores, and the
 * results, which are relative to the sum of the greatest scores or log-probabilities of the frames. */
static fsl_beam_status fsl_beam_search(fsl_beam *s, const void *x, ptrdiff_t frames, ptrdiff_t most, int64_t *table,
                                       double *scores, int64_t *found)
{
    const ptrdiff_t portion = s->rows ? 1 : 1 + FSL_BEAM_PORTION / (s->o->beam + s->o->n_classes / 16);
    if (!s->is_begun) fsl_beam_start(s, s->o->by_logarithms);
    const ptrdiff_t first = s->t;
    const ptrdiff_t stop = frames - s->t < portion ? frames : s->t + portion;
    fsl_beam_status status = s->by_logarithms ? fsl_beam_search_logs(s, x, stop) : fsl_beam_search_masses(s, x, stop);
    if (status == FSL_BEAM_LEFT_RANGE) {
        fsl_beam_start(s, 1);
        return FSL_BEAM_PAUSED;
    }
    const int goes_on = s->n || (s->o->is_unread && !s->is_bad);
    if (status == FSL_BEAM_DONE && (s->rows ? first : s->t) < frames && goes_on) return FSL_BEAM_PAUSED;
    if (status != FSL_BEAM_DONE) s->n = 0;
    if (s->by_logarithms)
        fsl_beam_end_logs(s);
    else
        fsl_beam_end_masses(s);
    if (s->o->is_unread) scores[0] = s->is_bad ? NAN : s->path + s->path_rest;
    *found = fsl_beam_write_results(s, frames, most, table, scores + 1);
    s->is_begun = 0;
    return status;
}

#endif
