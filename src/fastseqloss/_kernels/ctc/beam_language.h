/* Scores of labels by those before them: pairs of labels, and automata for words and n-grams. */
#ifndef FASTSEQLOSS_CTC_BEAM_LANGUAGE_H
#define FASTSEQLOSS_CTC_BEAM_LANGUAGE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "simd/compiler.h"

enum { FSL_BEAM_AUTOMATA = 4 }; /* boosted words, a lexicon, an n-gram of labels, or a speller and an n-gram of words */

/* An edge leads from a state to the next one by a label. Without an edge the fallback of the state is asked; it is -1
 * where the labels begin anew, and -2 where the label is forbidden. A label scores the change of the level, which holds
 * what has been paid for words that are not complete, and what the state that it leads to gains.
 *
 * A speller follows the labels of a word. Where the word ends, and after the last label, it is a label of the next
 * automaton, which has the scores of words, and the speller returns to state 0. */
typedef enum { FSL_BEAM_WORD_BEFORE = 1, FSL_BEAM_MOVES = 2, FSL_BEAM_WORD_AFTER = 4 } fsl_beam_action;

typedef struct {
    const int64_t *start, *label, *next, *fallback; /* [n + 1], [edges], [edges], [n]; labels of a state in order */
    const int64_t *word;   /* [n], of a speller: the word so far, or -1 for none */
    const int64_t *action; /* [V], of a speller: sums of fsl_beam_action; or NULL */
    const double *level, *gain, *end;               /* [n]; `end` is added after the last label */
} fsl_beam_automaton;

typedef struct {
    const double *bigram; /* [V + 1, V] with the bonus added, or NULL */
    const double *best;   /* [V], greatest score of each label */
    double bonus;         /* for each label, if bigram is NULL */
    ptrdiff_t n_classes;
    int n_automata;
    fsl_beam_automaton automata[FSL_BEAM_AUTOMATA];
} fsl_beam_language;

/* Reads the automata: numbers of states, of edges and of actions, and the arrays, one after the other. */
static void fsl_beam_read_language(fsl_beam_language *l, const int64_t *edges, ptrdiff_t size, const double *levels)
{
    const int64_t *end = edges + size;
    for (l->n_automata = 0; edges < end; l->n_automata++) {
        const int64_t n = edges[0], n_edges = edges[1], n_actions = edges[2];
        fsl_beam_automaton *a = &l->automata[l->n_automata];
        a->start = edges + 3;
        a->label = a->start + n + 1;
        a->next = a->label + n_edges;
        a->fallback = a->next + n_edges;
        a->word = a->fallback + n;
        a->action = n_actions ? a->word + n : NULL;
        edges = n_actions ? a->action + n_actions : a->word;
        a->level = levels;
        a->gain = levels + n;
        a->end = levels + 2 * n;
        levels += 3 * n;
    }
}

static double fsl_beam_move(const fsl_beam_automaton *a, int32_t *state, int32_t label)
{
    const int64_t from = *state;
    int64_t at = from, to = 0;
    while (at >= 0) {
        int64_t first = a->start[at], last = a->start[at + 1];
        const int64_t end = last;
        while (first < last) {
            const int64_t middle = first + (last - first) / 2;
            if (a->label[middle] < label)
                first = middle + 1;
            else
                last = middle;
        }
        if (first < end && a->label[first] == label) {
            to = a->next[first];
            break;
        }
        at = a->fallback[at];
    }
    if (at == -2) return -INFINITY;
    *state = (int32_t)to;
    return a->level[to] - a->level[from] + a->gain[to];
}

/* Score of the word that a speller has reached, 0 for none; the speller begins anew. */
static double fsl_beam_end_word(const fsl_beam_automaton *speller, int32_t *states)
{
    const int64_t word = speller->word[states[0]];
    const double paid = speller->level[states[0]];
    states[0] = 0;
    return word < 0 ? 0 : fsl_beam_move(speller + 1, &states[1], (int32_t)word) - paid;
}

/* Logarithm of the score of a label after `last` (-1 for none); the states move on. */
static double fsl_beam_log_lm(const fsl_beam_language *l, int32_t last, int32_t *states, int32_t label)
{
    const ptrdiff_t n = l->n_classes;
    double score = l->bigram ? l->bigram[(last < 0 ? n : last) * n + label] : l->bonus;
    for (int i = 0; i < l->n_automata; i++) {
        const fsl_beam_automaton *a = &l->automata[i];
        const int64_t action = a->action ? a->action[label] : FSL_BEAM_MOVES;
        if (action & FSL_BEAM_WORD_BEFORE) score += fsl_beam_end_word(a, &states[i]);
        if (action & FSL_BEAM_MOVES) score += fsl_beam_move(a, &states[i], label);
        if (action & FSL_BEAM_WORD_AFTER) score += fsl_beam_end_word(a, &states[i]);
        i += a->action != NULL;
    }
    return score;
}

/* Score that is added after the last label. */
static double fsl_beam_log_end(const fsl_beam_language *l, const int32_t *states)
{
    double score = 0;
    for (int i = 0; i < l->n_automata; i++) {
        const fsl_beam_automaton *a = &l->automata[i];
        if (a->action) {
            int32_t moved[2] = {states[i], states[i + 1]};
            score += fsl_beam_end_word(a, moved) + a[1].end[moved[1]];
            i++;
        } else
            score += a->end[states[i]];
    }
    return score;
}

/* Score of n labels. */
static double fsl_beam_log_lm_of(const fsl_beam_language *l, const int64_t *labels, int64_t n)
{
    int32_t states[FSL_BEAM_AUTOMATA] = {0}, last = -1;
    double score = 0;
    for (int64_t i = 0; i < n; i++) {
        score += fsl_beam_log_lm(l, last, states, (int32_t)labels[i]);
        last = (int32_t)labels[i];
    }
    return score + fsl_beam_log_end(l, states);
}

#endif
