# SPDX-License-Identifier: MIT
#
# commands.py: info weft, and weft.
import collections
import fnmatch
import re

import gdb

from weftgdb.runtime import Runtime
from weftgdb.stacks import run_in, save_core, user_pc

GROUP_FROM = 1000  # so many coroutines are shown in groups, unless told otherwise


def need_run():
    if gdb.selected_thread() is None:
        raise gdb.GdbError("weft: the program is not being run")
    rt = Runtime()
    if not rt.sched["active"]:
        raise gdb.GdbError("weft: the program is not in weft_run()")
    return rt


class Filter:
    """Options that say which coroutines are meant, at the head of a text; rest is what follows."""

    WORD = re.compile(r"\s*(-\w+)(?:\s+|$)")
    VALUE = re.compile(r"(\"[^\"]*\"|'[^']*'|\S+)(?:\s+|$)")

    def __init__(self, text, flags=()):
        self.name, self.text, self.flags = None, None, set()
        while (m := self.WORD.match(text)) is not None:
            text = text[m.end():]
            if m[1] in flags:
                self.flags.add(m[1])
                continue
            value = self.VALUE.match(text)
            if m[1] not in ("-name", "-state") or value is None:
                raise gdb.GdbError("weft: what is %s?" % m[1])
            text = text[value.end():]
            if m[1] == "-name":
                self.name = value[1].strip("\"'")
            else:
                self.text = value[1].strip("\"'")
        self.rest = text.strip()

    def passes(self, g):
        return (self.name is None or fnmatch.fnmatchcase(g.name(), self.name)) and (
            self.text is None or self.text in g.state())


def age_text(ns):
    if ns is None:
        return ""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if ns >= 2 * size * 10**9:
            return "%d %s" % (ns // (size * 10**9), unit)
    return "%d ms" % (ns // 10**6)


def print_table(head, rows):
    width = [max(len(r[i]) for r in [head] + rows) for i in range(len(head))]
    for r in [head] + rows:
        gdb.write("  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip() + "\n")


def function_text(g, thorough):
    """The function that g is in, outside of the library. Thorough: however long that takes."""
    if g["slot"] == 0:
        return g.rt.function(g["fn"]) + " (not begun)"
    try:
        pc = g.rt.user_code(g.chain(), False) if g.thread() is None else user_pc(g)
        if pc is None and thorough:
            pc = user_pc(g)
    except (gdb.error, gdb.GdbError):
        pc = None
    return g.rt.function(pc) if pc is not None else "?"


def where_text(rt, g):
    m = g.m()
    if m is None:
        return ""
    p, thread = rt.p_of.get(m.addr), g.thread()
    return " ".join(([] if p is None else ["P%d" % p["id"]]) + ["M%d" % m["id"]] +
                    ([] if thread is None else ["thread %d" % thread.num]))


class InfoWeft(gdb.Command):
    """Coroutines, processors and threads of a program that uses libweft."""

    def __init__(self):
        super().__init__("info weft", gdb.COMMAND_STATUS, prefix=True)


class InfoCoroutines(gdb.Command):
    """Coroutines of the program.
Usage: info weft coroutines [-name GLOB] [-state TEXT] [-group | -each]
-name: those whose name matches the pattern. -state: those whose state, or reason to wait, has
the text in it. -group: one line for all in the same state, in the same function, created at the
same place; this is how a thousand or more are shown, unless -each is given.
Function is where the coroutine is in code that is not libweft's."""

    def __init__(self):
        super().__init__("info weft coroutines", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rt = need_run()
        which = Filter(argument, ("-group", "-each"))
        if which.rest:
            raise gdb.GdbError("weft: what is %s?" % which.rest)
        gs = [g for g in rt.coroutines() if which.passes(g)]
        now, exact = rt.now()
        rows = [(g, g.state(), function_text(g, len(gs) < GROUP_FROM), g.created()) for g in gs]
        if "-group" in which.flags or len(gs) >= GROUP_FROM and "-each" not in which.flags:
            self.grouped(rows, now)
        else:
            print_table(("Id", "Name", "State", "Age", "On", "Function", "Created at"),
                        [(str(g["id"]), g.name(), state, age_text(g.age(now)), where_text(rt, g),
                          function, created) for g, state, function, created in rows])
        gdb.write("%d coroutine%s%s\n" % (len(gs), "" if len(gs) == 1 else "s", "" if exact else
                                          "; ages are those at the last look at the clock"))

    def grouped(self, all_rows, now):
        groups = collections.defaultdict(list)
        for g, state, function, created in all_rows:
            groups[state, function, created].append(g)
        rows = []
        for (state, function, created), of in sorted(groups.items(), key=lambda x: -len(x[1])):
            ages = [a for a in (g.age(now) for g in of) if a is not None]
            age = age_text(max(ages)) if ages else ""
            some = ",".join(str(g["id"]) for g in of[:3]) + (",..." if len(of) > 3 else "")
            rows.append((str(len(of)), state, age, function, created, some))
        print_table(("Count", "State", "Oldest", "Function", "Created at", "Ids"), rows)


class InfoProcs(gdb.Command):
    """Processors: the right to run coroutines, with their queues."""

    def __init__(self):
        super().__init__("info weft procs", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rt = need_run()
        states = {rt.value["P_IDLE"]: "idle", rt.value["P_RUNNING"]: "running"}
        ms = {m.addr: m for m in rt.ms}
        gs = {g.addr: g for g in rt.coroutines()}
        rows = []
        for p in rt.ps:
            if p["state"] == rt.value["P_DEAD"]:
                continue
            m = ms.get(p["m"])
            g = gs.get(m["g"]) if m is not None else None
            queued = (p["tail"] - p["head"]) % (1 << 32) + (p["runnext"] != 0)
            rows.append((str(p["id"]), states.get(p["state"], "?"),
                         "M%d" % m["id"] if m is not None else "",
                         "%d %s" % (g["id"], g.name()) if g is not None else "", str(queued),
                         str(p["timers.count"]), str(p["switches"])))
        print_table(("P", "State", "On", "Coroutine", "Queue", "Timers", "Switches"), rows)
        s = rt.sched
        gdb.write("%d procs; global queue %d, preempted %d, waiting for descriptors %d\n" %
                  (s["procs"], s["runq_n"], s["hogs_n"], s["waiters"]))


class InfoThreads(gdb.Command):
    """Threads that libweft knows, and what each does."""

    def __init__(self):
        super().__init__("info weft threads", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rt = need_run()
        gs = {g.addr: g for g in rt.coroutines()}
        rows = []
        for m in sorted(rt.ms, key=lambda m: m["id"]):
            g, p, thread = gs.get(m["g"]), rt.p_of.get(m.addr), rt.threads.get(m["tid"])
            rows.append(("%d" % m["id"], str(m["tid"]), str(thread.num) if thread else "",
                         "P%d" % p["id"] if p is not None else "",
                         "%d %s" % (g["id"], g.name()) if g is not None else "", what(rt, m, g)))
        print_table(("M", "Tid", "Thread", "P", "Coroutine", "Does"), rows)


def what(rt, m, g):
    if m["foreign"]:
        return "not weft's"
    if m["holds"]:
        return "stands still with its coroutine"
    if m["lease"] == rt.value["LEASE_TAKEN"]:
        return "in the kernel, its P was taken"
    if g is not None:
        return "in a declared blocking call" if m["declared"] else "runs it"
    return "idle" if m["in_bed"] else "looks for work" if m["spinning"] else "schedules"


class Weft(gdb.Command):
    """Run a command as if a coroutine were the current thread.
Usage: weft ID[.FRAME] COMMAND
       weft all [-name GLOB] [-state TEXT] COMMAND
       weft gcore FILE
FRAME is selected before: weft 12.3 info locals. Nothing in the program is changed, and it cannot
be continued or stepped so.
gcore: as gdb's, and the stacks that gdb leaves out because there are guards between them."""

    def __init__(self):
        super().__init__("weft", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        m = re.fullmatch(r"\s*gcore\s+(\S+)\s*", argument)
        if m is not None:
            save_core(need_run(), m[1])
            return
        m = re.match(r"\s*(?:(all)|(\d+)(?:\.(\d+))?)\s+(.+)", argument, re.S)
        if m is None:
            raise gdb.GdbError("Usage: weft ID[.FRAME] COMMAND, or weft all [-name GLOB] "
                               "[-state TEXT] COMMAND, or weft gcore FILE")
        rt = need_run()
        if m[1] is None:
            try:
                run_in(rt.coroutine(int(m[2])), m[4].strip(), int(m[3] or 0))
            except gdb.error as e:
                raise gdb.GdbError(str(e))
            return
        which = Filter(m[4])
        if not which.rest:
            raise gdb.GdbError("weft: which command?")
        for g in rt.coroutines():
            if which.passes(g):
                self.one_of_all(g, which.rest)

    def one_of_all(self, g, command):
        name = ' "%s"' % g.name() if g.name() else ""
        gdb.write("\nCoroutine %d%s [%s]:\n" % (g["id"], name, g.state()))
        try:
            run_in(g, command, 0)
        except (gdb.error, gdb.GdbError) as e:
            gdb.write("%s\n" % e)


def register():
    for command in (InfoWeft, InfoCoroutines, InfoProcs, InfoThreads, Weft):
        command()
