/* The selective scan on the CPU: see the text in scan/__init__.py for what it computes, and cpu.py for how it is built.
 *
 * One library per kind, chosen by macros: DOUBLE, COMPLEX, SCHEME (scheme.h), DELTA_FIXED (Delta the same at all times),
 * A_ALIKE (one transition for all states of a channel), B_CHANNEL and C_CHANNEL (a B or C per channel, the same at all times),
 * MEMBERS and NORMS (forward.h).
 *
 * A job's tasks are shared out among threads that live as long as the call.  What a task adds up is its own, so that results
 * do not depend on who takes which.
 */
#include "vector.h"
#include "scheme.h"
#include "tile.h"
#include "crew.h"
#include "forward.h"
#if MEMBERS == 1 && NORMS == 0
#include "backward.h"
#endif

/* Numbers below the smallest normal one are taken for zero in here, since they cost a hundred times as much; what the
 * calling thread had is restored. */
#if defined(__SSE__)
#include <xmmintrin.h>
static unsigned flush(void) { unsigned was = _mm_getcsr(); _mm_setcsr(was | 0x8040); return was; }
static void restore(unsigned was) { _mm_setcsr(was); }
#elif defined(__aarch64__)
static uint64_t flush(void) {
    uint64_t was;
    __asm__ volatile("mrs %0, fpcr" : "=r"(was));
    __asm__ volatile("msr fpcr, %0" : : "r"(was | 1ull << 24));
    return was;
}
static void restore(uint64_t was) { __asm__ volatile("msr fpcr, %0" : : "r"(was)); }
#else
static int flush(void) { return 0; }
static void restore(int was) { (void)was; }
#endif

int64_t job_bytes(void) { return sizeof(Job); }
int64_t vector_bytes(void) { return BYTES; }

/* Run a job's tasks.  Returns 1 if there is not enough memory for one thread's buffers. */
#define RUN(NAME, WORK, LAY, TASK)                                                        \
    static void NAME##_hand(Crew *crew, int64_t hand) {                                   \
        const Job *j = crew->job;                                                         \
        WORK w;                                                                           \
        Arena arena = {crew->memory + hand * crew->bytes};                                \
        LAY(j, &w, &arena);                                                               \
        const __typeof__(flush()) was = flush();                                          \
        for (int64_t task = first_task(crew, hand); task < crew->tasks; task = next_task(crew, task)) \
            TASK(j, &w, task / j->parts, task % j->parts);                                \
        restore(was);                                                                     \
    }                                                                                     \
    int NAME(const Job *j) {                                                              \
        WORK w;                                                                           \
        Arena arena = {NULL};                                                             \
        LAY(j, &w, &arena); /* to see how much it takes */                                \
        return together(j, NAME##_hand, (arena.at - (char *)NULL) + 64);                  \
    }

RUN(scan_forward, Forward, lay_forward, task_forward)
#if MEMBERS == 1 && NORMS == 0
RUN(scan_backward, Backward, lay_backward, task_backward)
#endif
