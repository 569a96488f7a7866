/* The prefixes of a beam search as a tree, with a hash table of its nodes. */
#ifndef FASTSEQLOSS_CTC_BEAM_TREE_H
#define FASTSEQLOSS_CTC_BEAM_TREE_H

#include <stdlib.h>
#include <string.h>

#include "ctc/beam_language.h"

typedef struct { /* prefixes as a tree; node 0 is the empty one */
    int32_t *parent, *label, *place; /* [most]; place in the beam, or -1 */
    int32_t *states;                 /* [most, FSL_BEAM_AUTOMATA] */
    uint32_t *table;                 /* nodes + 1 by hash of parent and label, 0 where free */
    int32_t n, most;
    uint32_t mask; /* length of the table - 1 */
} fsl_beam_tree;

FSL_INLINE uint32_t fsl_beam_slot(const fsl_beam_tree *tree, int32_t parent, int32_t label)
{
    const uint64_t mixed = ((uint64_t)(uint32_t)parent << 32 | (uint32_t)label) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(mixed >> 32) & tree->mask;
}

FSL_INLINE void fsl_beam_enter(fsl_beam_tree *tree, int32_t node)
{
    uint32_t slot = fsl_beam_slot(tree, tree->parent[node], tree->label[node]);
    while (tree->table[slot]) slot = (slot + 1) & tree->mask;
    tree->table[slot] = (uint32_t)node + 1;
}

static void fsl_beam_rehash(fsl_beam_tree *tree)
{
    memset(tree->table, 0, ((size_t)tree->mask + 1) * sizeof(uint32_t));
    for (int32_t i = 1; i < tree->n; i++) fsl_beam_enter(tree, i);
}

/* Slot of a prefix extended by a label: of its node, or free. */
FSL_INLINE uint32_t fsl_beam_find(const fsl_beam_tree *tree, int32_t parent, int32_t label)
{
    uint32_t slot = fsl_beam_slot(tree, parent, label);
    for (; tree->table[slot]; slot = (slot + 1) & tree->mask) {
        const uint32_t node = tree->table[slot] - 1;
        if (tree->parent[node] == parent && tree->label[node] == label) break;
    }
    return slot;
}

/* Node of a prefix extended by a label: a prefix that returns gets the node that it had, since longer ones may hang
 * from it. */
static int32_t fsl_beam_node(fsl_beam_tree *tree, int32_t parent, int32_t label)
{
    const uint32_t slot = fsl_beam_find(tree, parent, label);
    if (tree->table[slot]) return (int32_t)(tree->table[slot] - 1);
    tree->parent[tree->n] = parent;
    tree->label[tree->n] = label;
    tree->place[tree->n] = -1;
    tree->table[slot] = (uint32_t)tree->n + 1;
    return tree->n++;
}

static int fsl_beam_grow(fsl_beam_tree *tree, int32_t most)
{
    int32_t *parent = realloc(tree->parent, (size_t)most * sizeof(int32_t));
    if (parent) tree->parent = parent;
    int32_t *label = realloc(tree->label, (size_t)most * sizeof(int32_t));
    if (label) tree->label = label;
    int32_t *place = realloc(tree->place, (size_t)most * sizeof(int32_t));
    if (place) tree->place = place;
    int32_t *states = realloc(tree->states, (size_t)most * FSL_BEAM_AUTOMATA * sizeof(int32_t));
    if (states) tree->states = states;
    uint32_t length = 1024;
    while (length < 2 * (uint32_t)most) length *= 2;
    uint32_t *table = realloc(tree->table, (size_t)length * sizeof(uint32_t));
    if (table) tree->table = table;
    if (!parent || !label || !place || !states || !table) return 0;
    tree->most = most;
    tree->mask = length - 1;
    fsl_beam_rehash(tree);
    return 1;
}

static int32_t fsl_beam_depth(const fsl_beam_tree *tree, int32_t node)
{
    int32_t n = 0;
    for (; node > 0; node = tree->parent[node]) n++;
    return n;
}

#endif
