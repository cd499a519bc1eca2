/* The selective scan on the CPU: see the text in scan/__init__.py for what it computes, and cpu.py for how it is built.
 *
 * One library per kind, chosen by macros: DOUBLE, COMPLEX, SCHEME (scheme.h), DELTA_FIXED (Delta the same at all times),
 * A_ALIKE (one transition for all states of a channel), B_CHANNEL and C_CHANNEL (a B or C per channel, the same at all times),
 * MEMBERS and NORMS (forward.h).
 *
 * Threads call the same function with the same job and take its tasks in turn.  What a task adds up is its own, so that
 * results do not depend on who takes which.
 */
#include "vector.h"
#include "scheme.h"
#include "tile.h"
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

/* Run tasks of a job until none is left.  Returns 1 if there is not enough memory for the buffers. */
#define RUN(NAME, WORK, LAY, TASK)                                                        \
    int NAME(Job *j) {                                                                    \
        WORK w;                                                                           \
        Arena arena = {NULL};                                                                 \
        LAY(j, &w, &arena); /* once to see how much it takes */                           \
        const size_t bytes = (size_t)(arena.at - (char *)NULL) + 64;                      \
        char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);                         \
        if (!memory) return 1;                                                            \
        arena.at = memory;                                                                \
        LAY(j, &w, &arena);                                                               \
        const __typeof__(flush()) was = flush();                                          \
        int64_t task;                                                                     \
        while ((task = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->groups * j->parts) \
            TASK(j, &w, task / j->parts, task % j->parts);                                \
        restore(was);                                                                     \
        free(memory);                                                                     \
        return 0;                                                                         \
    }

RUN(scan_forward, Forward, lay_forward, task_forward)
#if MEMBERS == 1 && NORMS == 0
RUN(scan_backward, Backward, lay_backward, task_backward)
#endif
