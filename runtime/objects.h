/* SPDX-License-Identifier: MIT
 *
 * objects.h: between objects.c (what is loaded) and symbols.c (what it says of names). What
 * safepoint.c needs of both is in safepoint.h, and what is said there of handlers holds here. */
#ifndef WEFT_OBJECTS_H
#define WEFT_OBJECTS_H

#include "safepoint.h"

#include <link.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One that the linker finds: in a static program dlsym() finds nothing. Not weak references: a
 * symbol that is weak here would be so in all that link-time optimisation puts beside it, and then
 * not be linked at all. */
typedef void Function(void);

/* ---- objects.c --------------------------------------------------------------- */

/* The objects that are never unloaded, n of them. Constant while there are handlers. */
const Object *objects_table(uint32_t *n);

/* ---- symbols.c --------------------------------------------------------------- */

/* Entry i of an object's dynamic section; false: it has no more. */
bool dynamic_entry(const Object *o, size_t i, ElfW(Dyn) * out);
/* What the first entry with this tag has; 0: there is none. */
uintptr_t dynamic_value(const Object *o, ElfW(Sxword) tag);
/* The string at offset; NULL: it is not there in full. */
const char *dynamic_string(const Object *o, uintptr_t offset);
/* What its dynamic section says of o. */
void tables_read(const Object *o, Tables *out);
/* Not in a handler. The givers that the loader knows by name, in place of all others; then those
 * in the table, too. false: there are more than can be kept. */
bool givers_init(void);
bool givers_init_table(void);

#endif
