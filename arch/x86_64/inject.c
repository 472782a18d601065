/* SPDX-License-Identifier: MIT
 *
 * inject.c: make interrupted code call a function. preempt.S has the picture. */
#include "arch/arch.h"

#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>

extern const char arch_inject_entry[];

enum {
    RED_ZONE = 128,
    GENERAL = 272 - RED_ZONE, /* what lies between the red zone and the XSAVE area */
    ALIGN = 64,
    CALLEE = 8 /* its return address */
};

/* The state components of XCR0. */
enum { XSTATE_PKRU = 1 << 9, XSTATE_TILES = 3 << 17 };

/* preempt.S knows this layout. Written by inject_init() with the same values whoever calls it,
 * size last: 0 until then, and for ever where there is no XSAVE. */
struct Xstate {
    uint32_t mask[2];
    _Atomic uint32_t size;
    uint32_t compact;
};
__attribute__((visibility("hidden"))) extern struct Xstate arch_xstate;
struct Xstate arch_xstate;

static void inject_init(void)
{
    uint32_t a, b, c, d, lo, hi;
    if (atomic_load_explicit(&arch_xstate.size, memory_order_acquire) != 0 ||
        __get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0 ||
        __get_cpuid_count(0xd, 0, &a, &b, &c, &d) == 0)
        return;
    uint32_t size = b; /* of all that XCR0 enables */
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    arch_xstate.mask[0] = lo & ~(uint32_t)(XSTATE_PKRU | XSTATE_TILES);
    arch_xstate.mask[1] = hi;
    __get_cpuid_count(0xd, 1, &a, &b, &c, &d);
    arch_xstate.compact = (a & 2) != 0;
    if (arch_xstate.compact && b > size)
        size = b;
    atomic_store_explicit(&arch_xstate.size, size, memory_order_release);
}

size_t arch_inject_space(void)
{
    inject_init();
    return RED_ZONE + GENERAL + ALIGN + CALLEE +
           atomic_load_explicit(&arch_xstate.size, memory_order_relaxed);
}

/* A shadow stack would have to know of the call. */
static bool has_shadow_stack(void)
{
    uint64_t ssp = 0;
    __asm__ volatile("rdsspq %0" : "+r"(ssp)); /* a nop without one */
    return ssp != 0;
}

/* The interrupted code uses AMX: it says so in the kernel's XSAVE area, which has marks at its end. */
static bool has_tiles(const ucontext_t *uc)
{
    enum { MARK_AT = 464, MARK = 0x46505853, COMPONENTS_AT = 512 };
    const char *fp = (const char *)uc->uc_mcontext.fpregs;
    uint32_t mark;
    uint64_t components;
    if (fp == NULL)
        return false;
    memcpy(&mark, fp + MARK_AT, sizeof(mark));
    if (mark != MARK)
        return false;
    memcpy(&components, fp + COMPONENTS_AT, sizeof(components));
    return (components & XSTATE_TILES) != 0;
}

/* The stack may have the address sanitizer's marks. */
__attribute__((no_sanitize("address"))) bool arch_inject(void *ucontext, void (*fn)(void))
{
    ucontext_t *uc = ucontext;
    greg_t *reg = uc->uc_mcontext.gregs;
    inject_init();
    if (atomic_load_explicit(&arch_xstate.size, memory_order_relaxed) == 0 || has_shadow_stack() ||
        has_tiles(uc))
        return false;
    uintptr_t *sp = (uintptr_t *)((uintptr_t)reg[REG_RSP] - RED_ZONE);
    *--sp = (uintptr_t)reg[REG_RIP];
    *--sp = (uintptr_t)fn;
    reg[REG_RSP] = (greg_t)sp;
    reg[REG_RIP] = (greg_t)arch_inject_entry;
    return true;
}

/* The stack may have the address sanitizer's marks. */
__attribute__((no_sanitize("address"))) bool arch_return_to_left(void *ucontext, uintptr_t *at,
                                                                 uintptr_t from)
{
    typedef uintptr_t __attribute__((may_alias)) Word;
    (void)ucontext;
    if (at == NULL || *(Word *)at != from || has_shadow_stack())
        return false;
    *(Word *)at = (uintptr_t)arch_left_entry;
    return true;
}
