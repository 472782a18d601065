# SPDX-License-Identifier: MIT
#
# stacks.py: how gdb sees the stack of a coroutine that does not run.
#
# Two things must look to gdb as if it did, in a core file as well, where nothing can be changed:
#
# Registers. gdb takes those of frame 0 from a thread. Those of frame 1 come from an unwinder, and
# one of ours (Carrier) says that the caller of the current thread's frame is the coroutine's
# innermost one. Its number, 1 or more if the thread is in inlined functions, is taken off in what
# is printed.
#
# Memory. A copied stack may lie in its block while the addresses at which it belongs are in use by
# another (runtime/copystack.c). gdb can be made to read memory from a file's read-only section
# ("trust-readonly-sections"): so the block becomes the only section of a file, at these addresses,
# for as long as the command takes. What gdb wrote there would hit the other: it may not.
#
# A coroutine that runs, or stands still with its thread, is looked at on that thread.
import contextlib
import os
import re
import struct
import tempfile

import gdb
import gdb.unwinder

from weftgdb.memory import Record, read
from weftgdb.runtime import FRAMES, On, arch_name, select_frame

RUNNING_MOST = 1 << 20  # bytes of the stack of one that runs, in core files


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Carrier(gdb.unwinder.Unwinder):
    """The caller of the current thread's frame is a coroutine's."""

    def __init__(self):
        super().__init__("weft")
        self.enabled = False

    def set(self, registers, stack):
        self.registers, self.id = registers, FrameId(gdb.Value(registers[stack] - 8), gdb.Value(0))
        frame = gdb.newest_frame()
        self.at = (int(frame.read_register("sp")), frame.pc())
        self.enabled = True
        gdb.invalidate_cached_frames()

    def clear(self):
        self.enabled = False
        gdb.invalidate_cached_frames()

    def __call__(self, pending):
        if self.at != (int(pending.read_register("sp")), int(pending.read_register("pc"))):
            return None
        info = pending.create_unwind_info(self.id)
        for name, value in self.registers.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info


def stack_file(addr, data):
    """An ELF file with one read-only section: data at addr."""
    machine = 183 if "aarch64" in arch_name() else 62
    names = b"\0.weft_stack\0.shstrtab\0"
    at = 64 + len(data)
    header = struct.pack("<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, 0, 0,
                         (at + len(names) + 7) & ~7, 0, 64, 0, 0, 64, 3, 2)
    sections = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), (1, 1, 2, addr, 64, len(data), 0, 0, 8, 0),
                (13, 3, 0, 0, at, len(names), 0, 0, 1, 0)]
    with tempfile.NamedTemporaryFile(prefix="weft-stack-", delete=False) as f:
        f.write(header + data + names + b"\0" * (-(at + len(names)) % 8))
        for s in sections:
            f.write(struct.pack("<IIQQQQIIQQ", *s))
    return f.name


class Overlay:
    """with Overlay(addr, data): gdb reads data there, and writes no memory."""

    SETTINGS = (("trust-readonly-sections", True), ("may-write-memory", False))

    def __init__(self, addr, data):
        self.addr, self.data = addr, data

    def __enter__(self):
        self.file = stack_file(self.addr, self.data)
        try:
            gdb.execute('add-symbol-file "%s" -s .weft_stack 0x%x' % (self.file, self.addr),
                        to_string=True)
        except BaseException:
            os.unlink(self.file)
            raise
        self.was = [(name, gdb.parameter(name)) for name, _ in self.SETTINGS]
        set_all(self.SETTINGS)

    def __exit__(self, *error):
        set_all(self.was)
        gdb.execute('remove-symbol-file "%s"' % self.file, to_string=True)
        os.unlink(self.file)


def set_all(settings):
    for name, value in settings:
        gdb.execute("set %s %s" % (name, "on" if value else "off"))


carrier = Carrier()
gdb.unwinder.register_unwinder(None, carrier, replace=True)

# What lets the program run: the thread that is selected would, not the coroutine.
RUNS = re.compile(r"(c|cont|continue|fg|s|step|stepi|si|n|next|nexti|ni|fin|finish|u|until|advance"
                  r"|j|jump|call|r|run|start|starti|signal|kill|k|detach|return|queue-signal"
                  r"|reverse-.*|record|rc|rs|rn|weft)\b")
STACK_COMMANDS = re.compile(r"(bt|backtrace|where|frame|f|up|down|faas|info +frame|info +f|i +f)\b")


def shift_output(text, by):
    """Its frames numbered from the coroutine's first; those before it are left out."""
    out, skip = [], False
    for line in text.splitlines(keepends=True):
        m = re.match(r"#(\d+)( +)(.*)", line, re.S)
        if m is not None:
            skip = int(m[1]) < by
            line = "#%-3d%s" % (int(m[1]) - by, m[3])
        line = re.sub(r"(^Stack level |^ inlined into frame )(\d+)",
                      lambda k: k[1] + str(int(k[2]) - by), line)
        if not skip:
            out.append(line)
    return "".join(out)


def selected_by(command, frame):
    """The frame that a command selects in order to show it; None: it is no such command."""
    m = re.fullmatch(r"(?:frame|f|frame +level|f +level) +(\d+)", command)
    if m is not None:
        return int(m[1])
    m = re.fullmatch(r"(up|down|frame|f)(?: +(\d+))?", command)
    if m is None:
        return None
    step = int(m[2] or 1)
    return frame + step if m[1] == "up" else max(0, frame - step) if m[1] == "down" else frame


def run_shifted(command, frame, by):
    """The command with frame selected; gdb counts that from the by-th on."""
    shown = selected_by(command, frame)
    select_frame((frame if shown is None else shown) + by)
    if by == 0 or not STACK_COMMANDS.match(command):
        gdb.execute("frame" if shown is not None else command)
        return
    m = re.fullmatch(r"((?:bt|backtrace|where|(?:info|i) +(?:frame|f))(?: +-?[a-z][-a-z]*)*)"
                     r" +(\d+)", command)
    command = "frame" if shown is not None else command if m is None else "%s %d" % (
        m[1], int(m[2]) + by)
    width = gdb.parameter("width")
    gdb.execute("set width 0")  # a line must not be broken before its number is changed
    try:
        text = gdb.execute(command, to_string=True)
    finally:
        gdb.execute("set width %s" % (width if width is not None else 0))
    gdb.write(shift_output(text, by))


def first_level(sp, pc):
    """The number of the coroutine's innermost frame."""
    level, frame = 0, gdb.newest_frame()
    while frame is not None:
        if frame.pc() == pc and int(frame.read_register("sp")) == sp:
            return level
        level, frame = level + 1, frame.older()
    raise gdb.GdbError("weft: gdb does not see the coroutine's frames")


@contextlib.contextmanager
def carried(g, saved):
    registers = g.registers(saved)
    _, _, pc, sp, _ = g.rt.frame
    may_call = gdb.parameter("may-call-functions")
    carrier.set(registers, sp)
    set_all([("may-call-functions", False)])
    try:
        yield first_level(registers[sp], registers[pc])
    finally:
        set_all([("may-call-functions", may_call)])
        carrier.clear()


@contextlib.contextmanager
def seen(g):
    """with seen(g) as level: gdb's frames from level on are those of g."""
    thread, saved = g.thread(), g.saved()
    if thread is None and saved is None:
        raise gdb.GdbError("weft: coroutine %d has no stack yet, or it is not here" % g["id"])
    with On(thread or gdb.selected_thread()):
        if thread is not None:
            yield 0
            return
        sp, hi, at = saved
        with Overlay(sp, read(at, hi - sp)) if at != sp else contextlib.nullcontext():
            with carried(g, saved) as level:
                yield level


def run_in(g, command, frame):
    """The command as if g were the current thread."""
    if RUNS.match(command):
        raise gdb.GdbError("weft: a coroutine cannot be run by itself")
    with seen(g) as level:
        run_shifted(command, frame, level)


def user_pc(g):
    """Where g is outside the runtime, by gdb's own unwinding, which takes a while; or None."""
    with seen(g) as level:
        select_frame(level)
        pcs, exact, frame = [], level == 0, gdb.selected_frame()
        for _ in range(FRAMES):
            if frame is None:
                break
            if frame.type() == gdb.SIGTRAMP_FRAME:
                pcs, exact = [], True  # it was interrupted there
            else:
                pcs.append(frame.pc())
            frame = frame.older()
        pc = g.rt.user_code(pcs, exact)
        return pcs[0] if pc is None and level == 0 and pcs else pc


# ---- core files ----


def stack_bytes(g):
    """(address, bytes) of what there is of g's stack at its own addresses."""
    if g["slot"] == 0:
        return
    hi = Record(g.rt, "Slot", g["slot"])["hi"]
    saved = g.saved()
    if saved is not None:
        if saved[0] == saved[2]:
            yield saved[0], read(saved[0], hi - saved[0])
        return
    for at in range((hi & -4096) - (0 if hi & 4095 else 4096), hi - RUNNING_MOST, -4096):
        try:  # it runs: from its end down to the guard
            yield at, read(at, min(4096, hi - at))
        except gdb.MemoryError:
            return


def save_core(rt, path):
    """gdb's gcore ends each mapping at the first page that cannot be read; from Linux 6.13 on
    guards are such pages, and have stacks above them."""
    gdb.execute("gcore " + path)
    with open(path, "r+b") as f:
        head = f.read(64)
        at, size, n = (struct.unpack_from("<Q", head, 32)[0],) + struct.unpack_from("<HH", head, 54)
        f.seek(at)
        loads = [struct.unpack_from("<IIQQQQQQ", f.read(size)) for _ in range(n)]
        loads = [(p[3], p[3] + p[5], p[2]) for p in loads if p[0] == 1]  # PT_LOAD
        for g in rt.coroutines():
            for addr, data in stack_bytes(g):
                for lo, hi, offset in loads:
                    if lo <= addr and addr + len(data) <= hi:
                        f.seek(offset + addr - lo)
                        f.write(data)
