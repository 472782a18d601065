/* SPDX-License-Identifier: MIT
 *
 * cxx.c: the exceptions of C++ coroutines.
 *
 * A C++ runtime keeps, for each thread, the stack of exceptions that are being
 * caught and the number of those in flight (__cxa_get_globals, Itanium C++ ABI:
 * a pointer and an unsigned int, which is all there is of them on our processors).
 * They belong to the code that runs, so a switch of coroutines exchanges them: a
 * catch block may park. A coroutine that is held stays on its thread, with them.
 *
 * The runtime is found when a run begins; in a program that has none, or loads it
 * later, nothing is exchanged. No reference of ours pulls it in.
 */
#include "rt.h"

#include <dlfcn.h>

typedef struct {
    void *caught;
    unsigned int uncaught;
} CxxGlobals;
_Static_assert(sizeof(CxxGlobals) == sizeof(((G *)0)->cxx), "two words");

static void *(*get_globals)(void);

void cxx_init(void)
{
    void *sym = dlsym(RTLD_DEFAULT, "__cxa_get_globals");
    memcpy(&get_globals, &sym, sizeof sym);
}

void **cxx_of_thread(void)
{
    return get_globals != NULL ? get_globals() : NULL;
}

/* The personality of arch_left (preempt.S): what a callback throws through library code at the end of a run is
 * caught there, and nobody wants it any more. A program without an unwinder throws nothing, so the reference is weak. */
enum {
    PHASE_SEARCH = 1,
    PHASE_FORCED = 8,
    HANDLER_FOUND = 6,
    INSTALL_CONTEXT = 7,
    CONTINUE_UNWIND = 8
};
__attribute__((weak)) extern void _Unwind_SetIP(void *context, uintptr_t pc);
int cxx_left_personality(int version, int actions, uint64_t kind, void *exception, void *context)
{
    (void)version, (void)kind, (void)exception;
    if ((actions & PHASE_FORCED) != 0 || _Unwind_SetIP == NULL)
        return CONTINUE_UNWIND;
    if ((actions & PHASE_SEARCH) != 0)
        return HANDLER_FOUND;
    _Unwind_SetIP(context, (uintptr_t)arch_left_entry);
    return INSTALL_CONTEXT;
}
