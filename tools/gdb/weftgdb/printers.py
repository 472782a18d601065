# SPDX-License-Identifier: MIT
#
# printers.py: what print says of weft's objects; print/r shows them as they are.
#
# The words are those that include/weft.h publishes ("fast paths"), and the bits of mutex.c and
# rwmutex.c beside them.
import gdb

from weftgdb.memory import Layout, Record, read

WAITERS_MOST = 1000  # to be counted of one channel


class Printer:
    """An object of weft's in words; /r prints it as it is."""

    def __init__(self, text, value):
        self.text, self.value = text, value

    def to_string(self):
        return self.text(self.value)


def plural(n, one, many=None):
    return "%d %s" % (n, one if n == 1 else many or one + "s")


def chan_waiters(rt, head):
    ids, n = [], 0
    while head != 0 and n < WAITERS_MOST:
        w = Record(rt, "Wait", head)
        n += 1
        if len(ids) < 4:
            at, size = rt.field["G.id"]
            ids.append(str(int.from_bytes(read(w["g"] + at, size), "little")))
        head = w["next"]
    return "%d%s" % (n, "" if head == 0 else " or more"), ", ".join(ids) + (
        ", ..." if n > len(ids) else "")


def chan_text(value):
    addr = int(value)
    if addr == 0:
        return "nil channel"
    try:
        rt = Layout.find()[0]
        c = Record(rt, "weft_chan_t", addr)
        text = "%s channel 0x%x, " % ("closed" if c["closed"] else "open", addr)
        text += "%d of %d elements" % (c["count"], c["cap"]) if c["cap"] else "unbuffered"
        text += " of %s" % plural(c["elem_size"], "byte")
        for queue, who in (("recvq.head", "receiving"), ("sendq.head", "sending")):
            n, ids = chan_waiters(rt, c[queue])
            if ids:
                text += ", %s %s (%s)" % (n, who, ids)
        return text
    except (gdb.error, gdb.GdbError):
        return "channel 0x%x" % addr


def mutex_words(state):
    text = "locked" if state & 1 else "unlocked"
    if state >> 4:
        text += ", %d waiting" % (state >> 4)
    return text + (", starving" if state & 4 else "")


def mutex_text(v):
    return mutex_words(int(v["opaque"][0]))


def rwmutex_text(v):
    state = int(v["opaque"][2])
    readers = state >> 3
    if state & 1 and not readers:
        text = "locked for writing"
    else:
        text = "unlocked" if not readers else "locked by " + plural(readers, "reader")
        text += ", a writer waits" if state & 1 else ""
    return text + (", readers wait" if state & 2 else "")


def cond_text(v):
    return "%d waiting" % int(v["opaque"][0])


def once_text(v):
    return "done" if int(v["opaque"][2]) else "running" if int(v["opaque"][0]) & 1 else "not done"


def sem_text(v):
    state = int(v["opaque"][0])
    return "%d free" % (state >> 1) + (", some wait" if state & 1 else "")


def wg_text(v):
    state = int(v["opaque"][0])
    waiting = state & 0xffffffff
    return "counter %d" % (state >> 32) + (", %d waiting" % waiting if waiting else "")


PRINTERS = {"weft_mutex": mutex_text, "weft_rwmutex": rwmutex_text, "weft_cond": cond_text,
            "weft_once": once_text, "weft_sem": sem_text, "weft_wg": wg_text}


def weft_printer(value):
    kind = value.type.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_PTR and kind.target().strip_typedefs().tag == "weft_chan":
        return Printer(chan_text, value)
    text = PRINTERS.get(kind.tag) if kind.code == gdb.TYPE_CODE_STRUCT else None
    return Printer(text, value) if text is not None else None


def register():
    weft_printer.__name__ = "weft"
    gdb.pretty_printers[:] = [p for p in gdb.pretty_printers
                              if getattr(p, "__name__", "") != "weft"]
    gdb.pretty_printers.append(weft_printer)
