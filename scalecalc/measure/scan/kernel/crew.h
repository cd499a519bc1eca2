/* Threads that share the tasks of a job, for as long as it takes.
 *
 * They are started for each job, since a standing pool would not survive a fork.  Each begins at a place of its own, so that it
 * meets the rows that it had the last time, and goes on with what the others have not come to.  On a busy machine a thread may
 * get its turn long after the tasks are done: who has not begun by then is not waited for, and finds the crew closed.
 */
#if defined(__has_include)
#if __has_include(<pthread.h>)
#include <pthread.h>
#define THREADS 1
#endif
#endif

typedef struct Crew {
    const Job *job;
    void (*work)(struct Crew *, int64_t hand);
    int64_t tasks, most; /* hands */
    unsigned char *taken; /* by task */
    char *memory;         /* as many bytes for each hand */
    int64_t bytes;
#if THREADS
    int64_t begun, over, holding; /* hands that have begun, and are done; threads that still look at this */
    int closed;
    pthread_mutex_t lock;
    pthread_cond_t done;
#endif
} Crew;

/* The next task that nobody has taken, in a circle; the number of tasks if there is none. */
static int64_t task_from(Crew *crew, int64_t at) {
    for (int64_t k = 0; k < crew->tasks; k++) {
        const int64_t task = (at + k) % crew->tasks;
        if (!__atomic_exchange_n(crew->taken + task, 1, __ATOMIC_RELAXED)) return task;
    }
    return crew->tasks;
}
static int64_t first_task(Crew *crew, int64_t hand) { return task_from(crew, crew->tasks * hand / crew->most); }
static int64_t next_task(Crew *crew, int64_t last) { return task_from(crew, last + 1); }

#if THREADS
/* With the lock held, which is given back. */
static void let_go(Crew *crew) {
    const int64_t left = --crew->holding;
    pthread_mutex_unlock(&crew->lock);
    if (left) return;
    pthread_mutex_destroy(&crew->lock);
    pthread_cond_destroy(&crew->done);
    free(crew);
}
static void *hand(void *given) {
    Crew *crew = given;
    pthread_mutex_lock(&crew->lock);
    if (!crew->closed) {
        const int64_t own = ++crew->begun;
        pthread_mutex_unlock(&crew->lock);
        crew->work(crew, own);
        pthread_mutex_lock(&crew->lock);
        __atomic_add_fetch(&crew->over, 1, __ATOMIC_RELEASE);
        pthread_cond_signal(&crew->done);
    }
    let_go(crew);
    return NULL;
}
static void call_hands(Crew *crew) {
    pthread_attr_t alone;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->done, NULL);
    pthread_attr_init(&alone);
    pthread_attr_setdetachstate(&alone, PTHREAD_CREATE_DETACHED);
    crew->holding = crew->most; /* this thread, and those that it starts */
    for (int64_t k = 1; k < crew->most; k++) {
        pthread_t thread;
        if (!pthread_create(&thread, &alone, hand, crew)) continue;
        pthread_mutex_lock(&crew->lock); /* the system gives no more: the tasks are done without */
        crew->holding -= crew->most - k;
        pthread_mutex_unlock(&crew->lock);
        break;
    }
    pthread_attr_destroy(&alone);
}
static void close_crew(Crew *crew) {
    enum { LOOKS = 20000 }; /* some ten microseconds, about what it would take to be woken */
    pthread_mutex_lock(&crew->lock);
    crew->closed = 1;
    const int64_t begun = crew->begun; /* no more from now on */
    pthread_mutex_unlock(&crew->lock);
    for (int k = 0; k < LOOKS && __atomic_load_n(&crew->over, __ATOMIC_ACQUIRE) < begun; k++)
        ;
    pthread_mutex_lock(&crew->lock);
    while (crew->over < crew->begun) pthread_cond_wait(&crew->done, &crew->lock);
}
#endif

/* Work through a job's tasks.  Returns 1 if there is no memory for the buffers of a single hand. */
static int together(const Job *j, void (*work)(Crew *, int64_t), int64_t bytes) {
    Crew *crew = calloc(1, sizeof(Crew));
    if (!crew) return 1;
    bytes = (bytes + 63) / 64 * 64;
    *crew = (Crew){.job = j, .work = work, .tasks = j->groups * j->parts, .most = j->threads, .bytes = bytes};
    crew->taken = calloc(crew->tasks, 1);
    while (crew->most && !(crew->memory = aligned_alloc(64, crew->most * bytes))) crew->most--;
    char *memory = crew->memory;
    unsigned char *taken = crew->taken;
    const int missing = !memory || !taken;
#if THREADS
    if (!missing && crew->most > 1) {
        call_hands(crew);
        work(crew, 0);
        close_crew(crew);
        let_go(crew);
        crew = NULL;
    }
#endif
    if (!missing && crew) work(crew, 0);
    free(crew);
    free(memory);
    free(taken);
    return missing;
}
