# SPDX-License-Identifier: MIT
#
# runtime.py: the scheduler, threads and coroutines at one moment, and where their code is.
import os
import struct
import time

import gdb

from weftgdb.memory import Layout, Record, read, read_text, word

FRAMES = 64  # of a walk
INJECT_SIZE = 400  # more than arch_inject_entry has

# Where arch_switch keeps registers above the saved stack pointer (arch/*/arch_cpu.h), by the names
# that gdb has for them; the frame pointer, the first instruction, the stack pointer; the size.
FRAME_X86_64 = ({"r15": 8, "r14": 16, "r13": 24, "r12": 32, "rbx": 40, "rbp": 48, "rip": 56},
                "rbp", "rip", "rsp", 64)
FRAME_AARCH64 = (dict([("x29", 0), ("pc", 8), ("x30", 8)] +
                      [("x%d" % (19 + i), 16 + 8 * i) for i in range(10)]), "x29", "pc", "sp", 176)


class Runtime:
    """What the program's libweft says of itself, at one moment."""

    def __init__(self):
        layout, table = Layout.find()
        self.value, self.field = layout.value, layout.field
        self.library = gdb.solib_name(table)
        self.frame = FRAME_AARCH64 if "aarch64" in arch_name() else FRAME_X86_64
        self.sched = Record(self, "struct Sched", self.value["sched"])
        names = struct.unpack("<%dQ" % self.value["WHY_MAX"],
                              read(self.value["reason_name"], 8 * self.value["WHY_MAX"]))
        self.reasons = [read_text(n) if n else "waiting" for n in names]
        self.names, self.lines = {}, {}
        self.look_at_threads()

    def look_at_threads(self):
        """Ms, Ps, and which G is on which M."""
        self.ms, self.ps, self.on = [], [], {}
        at = self.sched["all_ms"]
        while at != 0:
            m = Record(self, "M", at)
            self.ms.append(m)
            self.on[m["g"]] = m
            at = m["all"]
        first = self.value["sched"] + self.field["struct Sched.p"][0]
        self.ps = [Record(self, "P", word(first + 8 * i)) for i in range(self.sched["np"])]
        self.p_of = {p["m"]: p for p in self.ps if p["m"] != 0}
        self.threads = {t.ptid[1]: t for t in gdb.selected_inferior().threads()}

    def coroutines(self):
        """All that are alive, but the runtime's own."""
        found, slab = [], word(self.value["slabs"])
        size = self.value["G"]
        state = self.field["G.state"][0]
        first = self.field["Slab.g[0]"][0]
        while slab != 0:
            head = read(slab, first)
            n = int.from_bytes(head[self.field["Slab.n"][0]:][:4], "little")
            data = read(slab + first, n * size)
            for i in range(n):
                if data[i * size + state] != self.value["G_DEAD"]:
                    g = Coroutine(self, slab + first + i * size, data[i * size:(i + 1) * size])
                    if not g["flags"] & self.value["G_OWN"]:
                        found.append(g)
            slab = int.from_bytes(head[self.field["Slab.next"][0]:][:8], "little")
        found.sort(key=lambda g: g["id"])
        return found

    def coroutine(self, ident):
        for g in self.coroutines():
            if g["id"] == ident:
                return g
        raise gdb.GdbError("weft: there is no coroutine %d" % ident)

    def now(self):
        """The time, or the latest that is told in a core file; True if it is the time."""
        connection = gdb.selected_inferior().connection
        if connection is not None and connection.type == "native":
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC), True
        return max([p["now"] for p in self.ps] + [self.sched["polled"]]), False

    # ---- code ----

    def functions(self, pc):
        if pc not in self.names:
            self.names[pc] = functions_at(pc)
        return self.names[pc]

    def function(self, pc):
        """The innermost that is not what weft.h has inlined."""
        names = self.functions(pc)
        return next((n for n in names if not n.startswith("weft_")), names[-1])

    def place(self, pc):
        """function (file:line) of a return address"""
        if pc not in self.lines:
            line = gdb.find_pc_line(pc - 1)
            where = ""
            if line.symtab is not None and line.line:
                where = " (%s:%d)" % (os.path.basename(line.symtab.filename), line.line)
            self.lines[pc] = self.function(pc - 1) + where
        return self.lines[pc]

    def user_code(self, pcs, first_is_exact):
        """Of code addresses, innermost first, the first outside the runtime, as one to look up.
        The first may be where a thread is; others are return addresses, but for what the
        runtime has interrupted."""
        if self.library is None and first_is_exact:
            return pcs[0] if pcs else None  # the runtime is a part of the program: cannot tell
        entered, injected = self.library is not None, first_is_exact
        for pc in pcs:
            at = pc if injected or pc == 0 else pc - 1
            injected = 0 < pc - self.value["arch_inject_entry"] < INJECT_SIZE
            if self.library is not None and gdb.solib_name(at) == self.library:
                continue
            if entered:
                return at
            entered = injected or self.functions(at)[-1].startswith("weft_")  # an archive's
        return None


def arch_name():
    return gdb.selected_inferior().architecture().name()


def functions_at(pc):
    """The names of the functions at pc, those inlined into others first."""
    block, found = gdb.block_for_pc(pc), []
    while block is not None:
        if block.function is not None:
            found.append(block.function.print_name)
        block = block.superblock
    if found:
        return found
    text = gdb.execute("info symbol 0x%x" % pc, to_string=True)
    if text.startswith("No symbol"):
        return ["0x%x" % pc]
    return [text.split(" in section")[0].split(" + ")[0].strip()]


# ---- threads of gdb ----


class On:
    """with On(thread): it is the selected one meanwhile; frame and all come back."""

    def __init__(self, thread):
        self.thread = thread

    def __enter__(self):
        self.was = gdb.selected_thread()
        self.level = gdb.selected_frame().level()
        if self.was.num != self.thread.num:
            self.thread.switch()

    def __exit__(self, *error):
        if gdb.selected_thread() is None or self.was.num != gdb.selected_thread().num:
            self.was.switch()
        select_frame(self.level)


def select_frame(level):
    frame = gdb.newest_frame()
    while level > 0 and frame.older() is not None:
        frame, level = frame.older(), level - 1
    frame.select()


# ---- coroutines ----


class Coroutine(Record):
    def __init__(self, rt, addr, data):
        super().__init__(rt, "G", addr, data)

    def name(self):
        x = self["x"]
        if x == 0:
            return ""
        at, size = self.rt.field["Extra.name"]
        return read(x + at, size).split(b"\0")[0].decode(errors="replace")

    def state(self):
        v, state, reason = self.rt.value, self["state"], self["reason"]
        if state == v["G_RUNNING"]:
            return "syscall" if reason == v["WHY_SYSCALL"] else "running"
        if state == v["G_RUNNABLE"]:
            return "runnable, preempted" if reason == v["WHY_PREEMPTED"] else "runnable"
        return self.rt.reasons[reason] if reason < len(self.rt.reasons) else "waiting"

    def age(self, now):
        """ns since it parked; None: it has not."""
        return max(0, now - self["since"]) if self["state"] == self.rt.value["G_WAITING"] else None

    def m(self):
        return self.rt.on.get(self.addr)

    def thread(self):
        m = self.m()
        return self.rt.threads.get(m["tid"]) if m is not None else None

    def saved(self):
        """Its saved stack pointer, its stack's end, and where the bytes between lie; or None."""
        sp, slot = self["sp"], self["slot"]
        if sp == 0 or slot == 0 or self.m() is not None:
            return None
        v, field = self.rt.value, self.rt.field
        slot = Record(self.rt, "Slot", slot)
        at = sp
        if self["flags"] & v["G_COPIED"]:
            window = slot["chunk"] - field["Window.chunk"][0]
            resident = word(window + field["Window.resident"][0])
            if resident != self.addr:
                if self["block_size"] < slot["hi"] - sp:
                    return None
                at = self["block"]
        return sp, slot["hi"], at

    def registers(self, saved):
        sp, _, at = saved
        places, _, _, stack, size = self.rt.frame
        data = read(at, size)
        regs = {r: struct.unpack_from("<Q", data, o)[0] for r, o in places.items()}
        regs[stack] = sp + size
        return regs

    def chain(self):
        """Code addresses, innermost first, along the frame pointers that the runtime keeps:
        right up to the function that called it, which need not have one."""
        saved = self.saved()
        if saved is None:
            return []
        sp, hi, at = saved
        regs = self.registers(saved)
        _, fp_name, pc_name, stack, _ = self.rt.frame
        pcs, fp, low = [regs[pc_name]], regs[fp_name], regs[stack]
        data = read(at, min(hi - sp, 1024))
        # A park is a jump; what it returns to lies on the stack (on aarch64 in a frame record).
        if pcs[0] == self.rt.value["arch_parked"] and stack == "rsp":
            pcs.append(struct.unpack_from("<Q", data, low - sp)[0])
        while low <= fp <= hi - 16 and fp % 8 == 0 and len(pcs) < FRAMES:
            pair = data[fp - sp:fp - sp + 16] if fp - sp + 16 <= len(data) else read(
                at + fp - sp, 16)
            up, pc = struct.unpack("<QQ", pair)
            if pc < 4096:
                break
            pcs.append(pc)
            low, fp = fp + 16, up
        return pcs

    def created(self):
        pc, is_main = self["spawn_pc"], self["flags"] & self.rt.value["G_MAIN"]
        return "" if pc == 0 else self.rt.function(pc) if is_main else self.rt.place(pc)
