/* The search of beam.h, by masses or, if FSL_BEAM_BY_LOGARITHMS is 1, by their logarithms. */

#undef FSL_BEAM_NAME
#undef FSL_BEAM_NONE
#undef FSL_BEAM_ONE
#undef FSL_BEAM_TIMES
#undef FSL_BEAM_PLUS
#undef FSL_BEAM_FROM_LOG

#if FSL_BEAM_BY_LOGARITHMS
#define FSL_BEAM_NAME(name) name##_logs
#define FSL_BEAM_NONE (-INFINITY)
#define FSL_BEAM_ONE 0.0
#define FSL_BEAM_TIMES(a, b) ((a) + (b))
#define FSL_BEAM_PLUS(a, b) fsl_beam_log_plus(a, b)
#define FSL_BEAM_FROM_LOG(x) (x)
#else
#define FSL_BEAM_NAME(name) name##_masses
#define FSL_BEAM_NONE 0.0
#define FSL_BEAM_ONE 1.0
#define FSL_BEAM_TIMES(a, b) ((a) * (b))
#define FSL_BEAM_PLUS(a, b) ((a) + (b))
#define FSL_BEAM_FROM_LOG(x) fsl_exp64(x)
#endif

/* Product of a mass and the bound of a class, and a little more, for roundings: products of three factors depend on
 * their order. */
FSL_INLINE double FSL_BEAM_NAME(fsl_beam_bounded)(double mass, double bound)
{
#if FSL_BEAM_BY_LOGARITHMS
    return mass + bound + 1e-15 * fabs(mass);
#else
    return mass * bound;
#endif
}

/* Emission of a class, relative to the greatest of the row. */
FSL_INLINE double FSL_BEAM_NAME(fsl_beam_emission)(fsl_beam *s, ptrdiff_t c)
{
    if (s->seen[c] == s->frame) return s->emissions[c];
    const double x = fsl_beam_score(s, c);
#if FSL_BEAM_BY_LOGARITHMS
    const double e = s->o->is_probs ? fsl_log64(x) - s->log_most : x - s->most;
#else
    double e;
    if (s->o->is_probs) {
        e = x / s->most;
        e = x > 0 && !(e > FSL_BEAM_FLOOR) ? FSL_BEAM_FLOOR : e;
    } else if (x - s->most > -667)
        e = fsl_exp_normal64(x - s->most);
    else
        e = x > -INFINITY ? FSL_BEAM_FLOOR : 0;
#endif
    s->seen[c] = s->frame;
    s->emissions[c] = e;
    return e;
}

/* Product of a mass and an emission, which is 0 only if one of them is. */
FSL_INLINE double FSL_BEAM_NAME(fsl_beam_product)(double mass, double emission)
{
    const double product = FSL_BEAM_TIMES(mass, emission);
#if FSL_BEAM_BY_LOGARITHMS
    return product;
#else
    return product < FSL_BEAM_FLOOR && mass > 0 && emission > 0 ? FSL_BEAM_FLOOR : product;
#endif
}

/* Mass of a prefix extended by a class. */
FSL_INLINE double FSL_BEAM_NAME(fsl_beam_extended)(const fsl_beam *s, const fsl_beam_prefix *p, int32_t label,
                                                   double emission)
{
    const double mass = FSL_BEAM_NAME(fsl_beam_product)(p->last == label ? p->b : p->total, emission);
    if (!s->o->has_lm) return mass;
    return FSL_BEAM_NAME(fsl_beam_product)(mass, FSL_BEAM_FROM_LOG(fsl_beam_log_lm_after(s, p, label)));
}

/* Masses of a prefix that stays as it is, an extension of another one of the beam to it included. */
FSL_INLINE fsl_beam_masses FSL_BEAM_NAME(fsl_beam_stay)(fsl_beam *s, const fsl_beam_prefix *p, double blank)
{
    fsl_beam_masses stay = {FSL_BEAM_NAME(fsl_beam_product)(p->total, blank), FSL_BEAM_NONE, 0, p->is_rounded};
    if (p->last >= 0) {
        const double emission = FSL_BEAM_NAME(fsl_beam_emission)(s, p->last);
        const double kept = FSL_BEAM_NAME(fsl_beam_product)(p->n, emission);
        stay.n = kept;
        if (p->parent >= 0) {
            const fsl_beam_prefix *parent = &s->prefixes[p->parent];
            stay.n = FSL_BEAM_PLUS(kept, FSL_BEAM_NAME(fsl_beam_extended)(s, parent, p->last, emission));
        }
#if !FSL_BEAM_BY_LOGARITHMS
        if (stay.n < FSL_BEAM_ROUNDED && stay.n > 0)
            stay.is_rounded = 1;
        else if (kept <= 1e-17 * stay.n)
            stay.is_rounded = 0;
#endif
    }
    stay.total = FSL_BEAM_PLUS(stay.b, stay.n);
    return stay;
}

/* Masses of the prefixes that stay, and a bound `least` under the last mass that can enter the next beam. */
static void FSL_BEAM_NAME(fsl_beam_stays)(fsl_beam *s)
{
    const double blank = FSL_BEAM_NAME(fsl_beam_emission)(s, s->o->blank);
    const double top = s->top >= 0 ? FSL_BEAM_NAME(fsl_beam_emission)(s, s->top) : FSL_BEAM_NONE;
    double least = INFINITY, most = FSL_BEAM_NONE, widest = FSL_BEAM_NONE;
    for (int32_t j = 0; j < s->n; j++) {
        const fsl_beam_prefix *p = &s->prefixes[j];
        s->stays[j] = FSL_BEAM_NAME(fsl_beam_stay)(s, p, blank);
        double own = s->stays[j].total;
        if (s->top >= 0) {
            const double extended = FSL_BEAM_NAME(fsl_beam_extended)(s, p, s->top, top);
            int is_new = !(p->children >> (s->top & 63) & 1);
            if (!is_new && s->o->n_classes > 64) is_new = !fsl_beam_has_child(s, p, s->top);
            own = is_new & (extended > own) ? extended : own;
        }
        widest = fsl_max64(widest, p->total);
        least = fsl_min64(least, own);
        most = fsl_max64(most, own);
    }
    s->widest = widest;
    s->least = s->n == s->o->beam ? least : FSL_BEAM_NONE;
    if (s->o->beam_threshold < INFINITY)
        s->least = fsl_max64(s->least, FSL_BEAM_TIMES(most, FSL_BEAM_FROM_LOG(-s->o->beam_threshold)));
}

/* Least score of a class that can matter: its emission times the largest mass reaches `least`. A little lower, for
 * roundings. */
static double FSL_BEAM_NAME(fsl_beam_least_score)(const fsl_beam *s)
{
    if (s->o->n_classes <= FSL_BEAM_FEW || !(s->least > FSL_BEAM_NONE)) return -INFINITY;
    const double lm = s->o->has_lm ? s->largest : 0;
#if FSL_BEAM_BY_LOGARITHMS
    const double log_ratio = s->least - s->widest - lm - 1e-15 * (fabs(s->least) + fabs(s->widest) + fabs(lm));
#else
    const double log_ratio = fsl_log64(s->least / s->widest) - lm;
#endif
    if (s->o->is_probs) return s->most * fsl_exp64(log_ratio - 1e-6);
    return s->most + log_ratio - 1e-6 - 1e-6 * fabs(s->most);
}

/* Classes that may extend prefixes, those with the largest bounds first. */
static void FSL_BEAM_NAME(fsl_beam_choose_classes)(fsl_beam *s)
{
    double least = FSL_BEAM_NAME(fsl_beam_least_score)(s);
    const int32_t most = s->o->beam + 1; /* choices where all are worth the same: one may be the last label */
    const int is_uniform = !s->o->has_lm || (!s->rows && !s->o->language.bigram && !s->o->language.n_automata);
    if (s->n < s->o->beam && is_uniform) least = fsl_max64(least, fsl_beam_rank_bound(s, most));
    least = fsl_max64(least, fsl_beam_least_tried(s));
    int32_t found = s->top >= 0 ? fsl_beam_gather_classes(s, least) : 0, n = 0;
    if (is_uniform && found > most) found = fsl_beam_thin(s, found, most);
    for (int32_t i = 0; i < found; i++) {
        fsl_beam_choice *choice = &s->choices[n];
        choice->label = s->classes[i];
        choice->emission = choice->bound = FSL_BEAM_NAME(fsl_beam_emission)(s, choice->label);
        if (s->o->has_lm) {
            const double lm = s->best[choice->label];
#if FSL_BEAM_BY_LOGARITHMS
            choice->bound += lm > -INFINITY ? lm + 1e-15 * (fabs(choice->emission) + fabs(lm)) : lm;
#else
            choice->bound = FSL_BEAM_NAME(fsl_beam_product)(choice->emission, fsl_exp64(lm)) * (1 + 1e-15);
#endif
        }
        n += choice->bound > FSL_BEAM_NONE;
    }
    fsl_beam_sort_choices(s->choices, n);
    s->n_choices = is_uniform && most < n ? most : n;
}

/* Bucket of a mass of `least` or more. */
FSL_INLINE int FSL_BEAM_NAME(fsl_beam_bucket)(double mass, double least)
{
#if FSL_BEAM_BY_LOGARITHMS
    const double bucket = (mass - least) * 46.16624130844683;
    return bucket < FSL_BEAM_BUCKETS - 1 ? (int)bucket : FSL_BEAM_BUCKETS - 1;
#else
    const uint64_t bucket = (fsl_bits64(mass) - fsl_bits64(least)) >> 47;
    return bucket < FSL_BEAM_BUCKETS - 1 ? (int)bucket : FSL_BEAM_BUCKETS - 1;
#endif
}

/* Keeps the best candidates, as many as the beam has places, in the order in which they are. */
static void FSL_BEAM_NAME(fsl_beam_select)(fsl_beam *s)
{
    int32_t counts[FSL_BEAM_BUCKETS], edge = 0, n_edge = 0, n = 0;
    int32_t dropped = s->n_candidates - s->o->beam; /* of the buckets that are left */
    double least = INFINITY;
    fsl_beam_candidate *c = s->candidates;
    if (dropped <= FSL_BEAM_DROPPED) {
        while (s->n_candidates > s->o->beam) fsl_beam_drop_last(s);
        return;
    }
    memset(counts, 0, sizeof counts);
    for (int32_t i = 0; i < s->n_candidates; i++) least = fsl_min64(least, c[i].weight);
    for (int32_t i = 0; i < s->n_candidates; i++) counts[FSL_BEAM_NAME(fsl_beam_bucket)(c[i].weight, least)]++;
    while (dropped > counts[edge]) dropped -= counts[edge++];
    for (int32_t i = 0; i < s->n_candidates; i++) {
        const int bucket = FSL_BEAM_NAME(fsl_beam_bucket)(c[i].weight, least);
        if (bucket < edge) continue;
        if (bucket == edge) s->edge[n_edge++] = n;
        c[n++] = c[i];
    }
    fsl_beam_sort_last_first(c, s->edge, n_edge);
    for (int32_t i = 0; i < dropped; i++) c[s->edge[i]].from = -1;
    s->n_candidates = 0;
    for (int32_t i = 0; i < n; i++) {
        c[s->n_candidates] = c[i];
        s->n_candidates += c[i].from >= 0;
    }
}

FSL_INLINE void FSL_BEAM_NAME(fsl_beam_propose)(fsl_beam *s, int32_t from, int32_t by, double weight)
{
    if (s->n_candidates == s->room) {
        FSL_BEAM_NAME(fsl_beam_select)(s);
        for (int32_t i = 0; i < s->n_candidates; i++)
            s->least = i && s->least < s->candidates[i].weight ? s->least : s->candidates[i].weight;
        if (weight < s->least) return;
    }
    s->candidates[s->n_candidates++] = (fsl_beam_candidate){weight, from, by};
}

/* All candidates that reach `least`: prefixes that stay, and their extensions that are not in the beam. */
static void FSL_BEAM_NAME(fsl_beam_propose_all)(fsl_beam *s)
{
    s->n_candidates = 0;
    for (int32_t j = 0; j < s->n; j++) {
        const fsl_beam_prefix *p = &s->prefixes[j];
        const double stay = s->stays[j].total;
        if (stay >= s->least && stay > FSL_BEAM_NONE) FSL_BEAM_NAME(fsl_beam_propose)(s, j, -1, stay);
        for (int32_t i = 0; i < s->n_choices; i++) {
            const fsl_beam_choice *choice = &s->choices[i];
            if (FSL_BEAM_NAME(fsl_beam_bounded)(p->total, choice->bound) < s->least) break;
            const double mass = FSL_BEAM_NAME(fsl_beam_extended)(s, p, choice->label, choice->emission);
            if (mass >= s->least && mass > FSL_BEAM_NONE && !fsl_beam_has_child(s, p, choice->label))
                FSL_BEAM_NAME(fsl_beam_propose)(s, j, choice->label, mass);
        }
    }
}

/* The next beam, from the candidates that are left; returns the largest mass. */
static double FSL_BEAM_NAME(fsl_beam_advance)(fsl_beam *s)
{
    fsl_beam_tree *tree = &s->tree;
    fsl_beam_prefix *next = s->next;
    double most = FSL_BEAM_NONE, least = INFINITY;
    int32_t is_rounded = 0;
    for (int32_t j = 0; j < s->n; j++) tree->place[s->prefixes[j].node] = -1;
    for (int32_t i = 0; i < s->n_candidates; i++) {
        const fsl_beam_candidate *c = &s->candidates[i];
        const fsl_beam_prefix *from = &s->prefixes[c->from];
        const fsl_beam_masses *stay = &s->stays[c->from];
        if (c->by < 0) {
            next[i] = (fsl_beam_prefix){stay->b, stay->n,          stay->total, 0,        from->node, from->last,
                                        -1,      stay->is_rounded, from->row,   from->told};
            is_rounded |= stay->is_rounded;
        } else {
            const int32_t node = fsl_beam_node(tree, from->node, c->by);
            next[i] = (fsl_beam_prefix){FSL_BEAM_NONE, c->weight, c->weight, 0, node, c->by, -1, 0, -1 - from->row, 0};
            if (s->o->has_lm) {
                memcpy(fsl_beam_states(s, node), fsl_beam_states(s, from->node), FSL_BEAM_AUTOMATA * sizeof(int32_t));
                fsl_beam_log_lm(&s->o->language, from->last, fsl_beam_states(s, node), c->by);
                next[i].told = from->told + fsl_beam_told(s, from, c->by);
            }
        }
        tree->place[next[i].node] = i;
        most = fsl_max64(most, c->weight);
        least = fsl_min64(least, c->weight);
    }
    s->smallest = is_rounded ? FSL_BEAM_NONE : least;
    s->next = s->prefixes;
    s->prefixes = next;
    s->n = s->n_candidates;
    return most;
}

/* Removes prefixes further below the best one than the threshold of the beam. */
static void FSL_BEAM_NAME(fsl_beam_cut)(fsl_beam *s)
{
    double most = FSL_BEAM_NONE;
    int32_t n = 0;
    if (s->o->beam_threshold == INFINITY) return;
    for (int32_t i = 0; i < s->n_candidates; i++) most = fsl_max64(most, s->candidates[i].weight);
    most = FSL_BEAM_TIMES(most, FSL_BEAM_FROM_LOG(-s->o->beam_threshold));
    for (int32_t i = 0; i < s->n_candidates; i++) {
        s->candidates[n] = s->candidates[i];
        n += s->candidates[i].weight >= most;
    }
    s->n_candidates = n;
}

#if !FSL_BEAM_BY_LOGARITHMS
/* Scales the masses by a power of two if the largest one is far from 1; returns 0 if masses have left the range. */
static int fsl_beam_rescale(fsl_beam *s, double most)
{
    int exponent;
    if (!(s->smallest >= FSL_BEAM_SMALL * most))
        for (int32_t j = 0; j < s->n; j++) {
            const fsl_beam_prefix *p = &s->prefixes[j];
            if (p->total < FSL_BEAM_SMALL * most || (p->is_rounded && p->n > 1e-17 * p->total)) return 0;
        }
    if (most < 0x1p64 && most > 0x1p-64) return 1;
    frexp(most, &exponent);
    if (!(most < INFINITY) || exponent < -800) return 0;
    const double scale = ldexp(1, -exponent);
    s->exponent += exponent;
    for (int32_t j = 0; j < s->n; j++) {
        s->prefixes[j].b *= scale;
        s->prefixes[j].n *= scale;
        s->prefixes[j].total *= scale;
    }
    return 1;
}
#endif

/* Turns the masses into logarithms, with what the language adds at the end; drops prefixes that may not end. */
static void FSL_BEAM_NAME(fsl_beam_end)(fsl_beam *s)
{
    int32_t n = 0;
    for (int32_t j = 0; j < s->n; j++) {
        fsl_beam_prefix *p = &s->prefixes[j];
#if !FSL_BEAM_BY_LOGARITHMS
        p->total = fsl_log64(p->total) + (double)s->exponent * FSL_BEAM_LN2;
#endif
        if (s->o->has_lm) {
            const double told = fsl_beam_told(s, p, s->o->n_classes);
            p->told += told;
            p->total += told + fsl_beam_log_end(&s->o->language, fsl_beam_states(s, p->node));
        }
        s->prefixes[n] = *p;
        n += p->total > -INFINITY;
    }
    s->n = n;
}

/* Searches from frame s->t on to frame `stop`. */
static fsl_beam_status FSL_BEAM_NAME(fsl_beam_search)(fsl_beam *s, const void *x, ptrdiff_t stop)
{
    if (s->t == 0)
        s->prefixes[0] = (fsl_beam_prefix){FSL_BEAM_ONE, FSL_BEAM_NONE, FSL_BEAM_ONE, 0, 0, -1, -1, 0, 0, 0};
    for (; s->t < stop && (s->n || s->o->is_unread); s->t++) {
        s->x = (const char *)x + s->t * s->o->stride;
        s->frame++;
        if (!fsl_beam_make_room(s)) return FSL_BEAM_NO_MEMORY;
        fsl_beam_read_row(s);
        if (!(s->most > (s->o->is_probs ? 0 : -INFINITY)) || s->is_bad) s->n = 0;
        if (s->is_bad) break;
        if (!s->n) continue;
        fsl_beam_link(s);
        fsl_beam_bound_labels(s);
        FSL_BEAM_NAME(fsl_beam_stays)(s);
        FSL_BEAM_NAME(fsl_beam_choose_classes)(s);
        FSL_BEAM_NAME(fsl_beam_propose_all)(s);
        FSL_BEAM_NAME(fsl_beam_select)(s);
        FSL_BEAM_NAME(fsl_beam_cut)(s);
#if FSL_BEAM_BY_LOGARITHMS
        FSL_BEAM_NAME(fsl_beam_advance)(s);
#else
        const double most = FSL_BEAM_NAME(fsl_beam_advance)(s);
        if (s->n && !fsl_beam_rescale(s, most)) return FSL_BEAM_LEFT_RANGE;
#endif
    }
    return FSL_BEAM_DONE;
}
