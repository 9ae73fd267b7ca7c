// The state of the software CPU: registers and the caches' entry points that handlers use. Plain
// data, laid out so that the registers lie within the first 256 bytes (operand offsets are a byte).
// The functions that act on it live beside their subject: mmu.h, block_cache.h, exceptions.h, ...
#pragma once

#include <setjmp.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "cpu/bus.h"
#include "cpu/cpu.h"
#include "cpu/fpu_state.h"
#include "cpu/insn.h"
#include "cpu/types.h"
#include "machine/guest_memory.h"

namespace node_mesh {

class Mmu;
struct Preemption;
class BlockCache;
class UserEngine;

enum Gpr : unsigned { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi };
enum SegmentIndex : unsigned { seg_es, seg_cs, seg_ss, seg_ds, seg_fs, seg_gs, segment_count };

// Status flags as LAHF and SETO give them: AH in the high byte, OF in bit 0.
namespace status {
inline constexpr u16 of = 0x0001, cf = 0x0100, pf = 0x0400, af = 0x1000, zf = 0x4000, sf = 0x8000;
}
// RFLAGS bits that are kept apart from the status flags.
namespace rflags {
inline constexpr u64 cf = 1, fixed = 2, pf = 4, af = 0x10, zf = 0x40, sf = 0x80, of = 0x800;
inline constexpr u64 tf = 0x100, interrupt = 0x200, df = 0x400, iopl = 0x3000, nt = 0x4000;
inline constexpr u64 rf = 0x10000, vm = 0x20000, ac = 0x40000, id = 0x200000;
inline constexpr u64 status_bits = cf | pf | af | zf | sf | of;
inline constexpr u64 system_bits = tf | interrupt | df | iopl | nt | rf | ac | id;
}  // namespace rflags
namespace cr0 {
inline constexpr u64 pe = 1, mp = 2, em = 4, ts = 8, et = 0x10, ne = 0x20, wp = 0x10000;
inline constexpr u64 am = 0x40000, nw = 0x20000000, cd = 0x40000000, pg = 0x80000000;
}  // namespace cr0
namespace cr4 {
inline constexpr u64 tsd = 4, de = 8, pse = 0x10, pae = 0x20, pge = 0x80, pce = 0x100;
inline constexpr u64 osfxsr = 0x200, osxmmexcpt = 0x400;
inline constexpr u64 supported = tsd | de | pse | pae | pge | pce | osfxsr | osxmmexcpt;
}  // namespace cr4
namespace efer {
inline constexpr u64 sce = 1, lme = 0x100, lma = 0x400, nxe = 0x800;
}
namespace vector {
inline constexpr u8 de = 0, db = 1, nmi = 2, bp = 3, of = 4, br = 5, ud = 6, nm = 7, df = 8;
inline constexpr u8 ts = 10, np = 11, ss = 12, gp = 13, pf = 14, mf = 16, ac = 17, xm = 19;
}  // namespace vector

struct TlbEntry {
  u64 tag = no_address;  // virtual page
  u64 addend = 0;        // host address minus virtual address
};
struct JumpEntry {
  u64 va = no_address;
  Block* block = nullptr;
};
// Direct-mapped tables as handlers look into them: the mask is that of a byte offset, so the sizes
// can differ between the supervisor's caches and those of an address space.
static_assert(sizeof(TlbEntry) == 16 && sizeof(JumpEntry) == 16);
constexpr u64 table_mask(u64 slots) { return (slots - 1) << 4; }
constexpr u64 tlb_offset(u64 va, u64 mask) { return (va >> 8) & mask; }
constexpr u64 jump_offset(u64 va, u64 mask) { return ((va ^ (va >> 12)) << 4) & mask; }
struct TlbTable {
  TlbEntry* entries = nullptr;
  u64 mask = 0;
};
struct JumpTable {
  JumpEntry* entries = nullptr;
  u64 mask = 0;
};

struct Segment {
  u16 selector = 0;
  u16 attributes = 0;
  u32 limit = 0;
};

enum class EventKind : u8 { none, fault, trap, software, external };
struct PendingEvent {
  EventKind kind = EventKind::none;
  u8 vector = 0;
  bool has_error = false;
  u32 error = 0;
  u64 cr2 = 0;
  u8 length = 0;  // the event is behind an instruction of this many bytes, at RIP until delivered
};

// Why control came back to the run loop through unwind().
enum class Unwind : int { event = 1, alone, exit };

struct Core {
  // Reachable by operand offset.
  u64 gpr[16] = {};
  u64 zero = 0;
  u64 page_va = 0;  // linear address of the page that the running block lies in
  u64 two_gib = u64{1} << 31;
  u64 seg_base[segment_count] = {};

  // Hot.
  u64 icount = 0;              // the active counter: steps, or user_steps at CPL 3
  std::atomic<u64> event = 0;  // blocks are entered only while icount stays <= event
  TlbTable tlb_read, tlb_write;
  JumpTable jumps;
  u16 flags = 0;
  u8 cpl = 0;
  CodeMode code_mode = CodeMode::code64;
  bool sse_blocked = false;  // an SSE instruction would raise #UD or #NM
  bool alone = false;        // the running block is one instruction, chosen by the run loop
  u64 sysflags = 0;          // RFLAGS without the status bits and without the fixed bit
  u64 rip = 0;               // linear; exact only between blocks
  u64 code_base = 0;         // CS base outside 64-bit mode, else 0
  u64 stack_mask = 0;        // outside 64-bit mode: which bits of RSP move
  const Insn* trampoline = nullptr;
  FpuState fpu;

  Segment segments[segment_count] = {};
  Segment tr, ldtr;
  u64 tr_base = 0, ldtr_base = 0;
  u64 gdt_base = 0, idt_base = 0;
  u16 gdt_limit = 0, idt_limit = 0;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  u64 dr[8] = {};
  u64 efer = 0, star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0;
  u64 tsc_offset = 0, tsc_aux = 0, pat = 0, misc_enable = 0;
  u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;

  u64 in_flight = 0;          // instructions counted but not retired, during a bus access
  u64 stretch_steps = 0;      // at CPL 3: steps before the current stretch
  u64 shadow_at = no_shadow;  // icount at which no interrupt is taken (after STI, MOV SS)
  bool halted = false;
  bool interrupt_line = false;
  bool stepping = false;        // TF or debug registers: one instruction at a time
  bool run_alone_next = false;  // the next instruction must run alone
  u64 debug_hits = 0;           // DR6 bits of data breakpoints hit by the running instruction
  std::atomic<bool> stop_requested = false;
  bool exit_wanted = false;
  RunExit exit = RunExit::limit;
  PendingEvent pending;
  EventKind delivering = EventKind::none;  // an event is on its way into the guest right now
  u8 delivering_vector = 0;
  // A stretch of user mode that an engine runs, or has run a part of (user_stretch.h).
  UserEngine* engine = nullptr;
  u64 hand_over_at = 0;          // user_steps at which the engine takes over
  bool hand_over_known = false;  // hand_over_at is that of this stretch
  bool uncounted = false;        // from user_steps == counted on nobody counted
  u64 counted = 0;
  u64 counted_first = 0;     // instructions that the next stretch must begin with in software
  bool preemptible = false;  // an uncounted stretch may be stopped by force (while recording)
  bool fpu_away = false;     // the engine has the FPU registers: see bring_fpu()
  std::atomic<bool> stop_deferred = false;  // to be asked for when the stretch ends
  std::string unsupported_reason;
  std::unique_ptr<Preemption> preemption;  // of RunExit::preempted, until it is taken
  jmp_buf unwind_target;

  GuestMemory* memory = nullptr;
  Bus* bus = nullptr;
  Mmu* mmu = nullptr;
  BlockCache* blocks = nullptr;

  static constexpr u64 no_shadow = ~u64{0};

  bool user() const { return cpl == 3; }
  u64 steps() const { return user() ? stretch_steps : icount; }
  // Steps retired before `i`, whose block was counted as a whole (null: at a boundary).
  u64 steps_before(const Insn* i) const {
    return user() ? stretch_steps : icount - (i == nullptr ? 0 : i->left);
  }
  // Around a call of the bus by instruction `i`: the position is exact meanwhile, and afterwards
  // the run may have to end because the machine wants to compute its deadlines anew.
  void begin_bus_access(const Insn* i) { in_flight = i == nullptr ? 0 : i->left; }
  void end_bus_access() {
    in_flight = 0;
    if (bus->reschedule_requested()) want_reschedule();
  }
  // What the guest did moves deadlines: the run ends behind this instruction.
  void want_reschedule() {
    exit_wanted = true;
    exit = RunExit::rescheduled;
  }
  bool code64() const { return code_mode == CodeMode::code64; }
  Position position() const {
    const u64 count = icount - in_flight;
    return user() ? Position{stretch_steps, uncounted ? counted : count} : Position{count, 0};
  }
  u64 read_rflags() const {
    return sysflags | rflags::fixed | ((flags >> 8) & 0xd5u) | ((flags & 1u) << 11);
  }
  // The instruction pointer as the guest sees it, for a linear address.
  u64 architectural_ip(u64 linear) const {
    return code64() ? linear : static_cast<u32>(linear - code_base);
  }
  u64 linear_ip(u64 ip) const { return code64() ? ip : code_base + static_cast<u32>(ip); }
};

constexpr u8 gpr_offset(unsigned index) { return static_cast<u8>(index * 8); }
inline constexpr u8 zero_offset = 128, page_va_offset = 136, two_gib_offset = 144;
constexpr u8 seg_offset(unsigned index) { return static_cast<u8>(152 + index * 8); }
static_assert(offsetof(Core, zero) == zero_offset);
static_assert(offsetof(Core, page_va) == page_va_offset);
static_assert(offsetof(Core, two_gib) == two_gib_offset);
static_assert(offsetof(Core, seg_base) == seg_offset(0));

constexpr u16 status_from_rflags(u64 value) {
  return static_cast<u16>(((value & 0xd5) << 8) | ((value >> 11) & 1));
}
inline void set_status(Core* c, u64 value) { c->flags = status_from_rflags(value); }

// Registers by operand offset.
template <class T>
[[gnu::always_inline]] inline T get_reg(const Core* c, u8 offset) {
  return *reinterpret_cast<const T*>(reinterpret_cast<const u8*>(c) + offset);
}
// A 32-bit write clears the upper half, as in the architecture.
template <class T>
[[gnu::always_inline]] inline void set_reg(Core* c, u8 offset, T value) {
  u8* at = reinterpret_cast<u8*>(c) + offset;
  if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<u64*>(at) = static_cast<u32>(value);
  } else {
    *reinterpret_cast<T*>(at) = value;
  }
}

// Called after CR0, CR4, EFER, RFLAGS.TF, DR7 or the privilege level changed.
void update_modes(Core* c);
// Writes RFLAGS bits under `mask` (status and system).
void write_rflags(Core* c, u64 value, u64 mask);

}  // namespace node_mesh
