/* OpenMP regions of GNU's compiler on pthreads, in place of GNU's runtime, whose synchronisation ThreadSanitizer does not
 * recognise and reports at every region. Threads are started for each region and joined at its end.
 *
 *     gcc -fsanitize=thread -shared -fPIC -pthread tools/regions.c -o libregions.so
 *
 * builds the library; LD_PRELOAD loads it before modules built with -fopenmp. Nested regions have one thread. */
#include <pthread.h>
#include <stdlib.h>

enum { MOST = 256 };

typedef struct {
    void (*work)(void *);
    void *data;
    int number, threads;
} worker;

static _Thread_local int number = 0, threads_here = 1, asked_for = 0;

static void *run(void *given)
{
    const worker *const me = given;
    number = me->number;
    threads_here = me->threads;
    me->work(me->data);
    return NULL;
}

int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return threads_here; }
int omp_in_parallel(void) { return threads_here > 1; }
int omp_get_thread_limit(void) { return MOST; }
void omp_set_num_threads(int n) { asked_for = n; }
int omp_get_max_threads(void)
{
    const char *const said = getenv("OMP_NUM_THREADS");
    const int n = asked_for > 0 ? asked_for : said ? atoi(said) : 1;
    return n < 1 ? 1 : n > MOST ? MOST : n;
}
int omp_pause_resource_all(int kind) { (void)kind; return 0; } /* threads end with their region */

void GOMP_parallel(void (*work)(void *), void *data, unsigned asked, unsigned flags)
{
    pthread_t threads[MOST];
    worker workers[MOST];
    int n = asked ? (int)asked : omp_get_max_threads();
    const int own_number = number, own_threads = threads_here;
    (void)flags;
    if (omp_in_parallel()) n = 1;
    if (n > MOST) n = MOST;
    for (int i = 0; i < n; i++) workers[i] = (worker){work, data, i, n};
    for (int i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, run, &workers[i])) abort();
    run(&workers[0]);
    number = own_number;
    threads_here = own_threads;
    for (int i = 1; i < n; i++) pthread_join(threads[i], NULL);
}
