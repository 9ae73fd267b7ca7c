// Control and debug registers, descriptor table registers, CPUID, time stamps, HLT, CLI/STI, cache
// and TLB maintenance.
#include "cpu/debug_registers.h"
#include "cpu/decode.h"
#include "cpu/mmu.h"
#include "cpu/segmentation.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

// CR8 is another name of the local APIC's task priority register.
constexpr u64 task_priority_gpa = 0xfee00080;

void write_cr0(Core* c, const Insn* i, u64 value) {
  if (value >> 32) raise_error(c, i, vector::gp, 0);
  value |= cr0::et;
  if ((value & cr0::pg) && !(value & cr0::pe)) raise_error(c, i, vector::gp, 0);
  if ((value & cr0::nw) && !(value & cr0::cd)) raise_error(c, i, vector::gp, 0);
  if (!(value & cr0::pg)) {
    if (c->code64()) raise_error(c, i, vector::gp, 0);
    raise_unsupported(c, i, "the guest leaves long mode (CR0.PG cleared)");
  }
  const u64 changed = c->cr0 ^ value;
  c->cr0 = value;
  if (changed & cr0::wp) c->mmu->flush_everything();
  update_modes(c);
}

void write_cr4(Core* c, const Insn* i, u64 value) {
  if (value & ~cr4::supported) raise_error(c, i, vector::gp, 0);
  if (!(value & cr4::pae)) raise_error(c, i, vector::gp, 0);
  c->cr4 = value;
  update_modes(c);
}

void write_control(Core* c, const Insn* i, unsigned index, u64 value) {
  switch (index) {
    case 0:
      return write_cr0(c, i, value);
    case 2:
      c->cr2 = value;
      return;
    case 3:
      if (value >> physical_address_bits) raise_error(c, i, vector::gp, 0);
      c->mmu->load_cr3(value);
      return;
    case 4:
      return write_cr4(c, i, value);
    case 8:
      if (value > 15) raise_error(c, i, vector::gp, 0);
      c->cr8 = value;
      c->begin_bus_access(i);
      c->bus->mmio_write(task_priority_gpa, 4, value << 4);
      c->end_bus_access();
      return;
    default:
      raise(c, i, vector::ud);
  }
}

void mov_to_control(Core* c, const Insn* i) {
  require_cpl0(c, i);
  write_control(c, i, static_cast<unsigned>(i->imm), c->gpr[i->reg / 8]);
  return leave_behind(c, i);
}
void mov_from_control(Core* c, const Insn* i) {
  require_cpl0(c, i);
  u64 value = 0;
  switch (i->imm) {
    case 0:
      value = c->cr0;
      break;
    case 2:
      value = c->cr2;
      break;
    case 3:
      value = c->cr3;
      break;
    case 4:
      value = c->cr4;
      break;
    case 8:
      c->begin_bus_access(i);
      value = (c->bus->mmio_read(task_priority_gpa, 4) >> 4) & 15;
      c->end_bus_access();
      break;
    default:
      raise(c, i, vector::ud);
  }
  c->gpr[i->reg / 8] = value;
  NM_NEXT;
}

// DR4 and DR5 are DR6 and DR7, or undefined with CR4.DE.
unsigned debug_index(Core* c, const Insn* i) {
  require_cpl0(c, i);
  auto index = static_cast<unsigned>(i->imm);
  if (index == 4 || index == 5) {
    if (c->cr4 & cr4::de) raise(c, i, vector::ud);
    index += 2;
  }
  if (index > 7) raise(c, i, vector::ud);
  if (c->dr[7] & 0x2000) {  // general detect
    c->dr[7] &= ~u64{0x2000};
    c->dr[6] |= dr6::access;
    raise(c, i, vector::db);
  }
  return index;
}
void mov_to_debug(Core* c, const Insn* i) {
  const unsigned index = debug_index(c, i);
  u64 value = c->gpr[i->reg / 8];
  if (index >= 6) {
    if (value >> 32) raise_error(c, i, vector::gp, 0);
    value = index == 6 ? (value & 0xe00f) | dr6::fixed : (value & 0xffff2fff) | 0x400;
  }
  c->dr[index] = value;
  update_modes(c);
  return leave_behind(c, i);
}
void mov_from_debug(Core* c, const Insn* i) {
  const unsigned index = debug_index(c, i);
  c->gpr[i->reg / 8] = c->dr[index];
  NM_NEXT;
}

void op_clts(Core* c, const Insn* i) {
  require_cpl0(c, i);
  c->cr0 &= ~cr0::ts;
  update_modes(c);
  NM_NEXT;
}
template <class T>
void smsw_r(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, static_cast<T>(c->cr0));
  NM_NEXT;
}
template <Ea kEa>
void smsw_m(Core* c, const Insn* i) {
  store<u16>(c, i, effective_address<kEa>(c, i), static_cast<u16>(c->cr0));
  NM_NEXT;
}
// LMSW can set PE but not clear it, and reaches MP, EM and TS.
void load_msw(Core* c, const Insn* i, u16 value) {
  require_cpl0(c, i);
  write_cr0(c, i, (c->cr0 & ~u64{0xe}) | (value & 0xfu) | (c->cr0 & cr0::pe));
}
void lmsw_r(Core* c, const Insn* i) {
  load_msw(c, i, get_reg<u16>(c, i->reg));
  return leave_behind(c, i);
}
template <Ea kEa>
void lmsw_m(Core* c, const Insn* i) {
  require_cpl0(c, i);
  load_msw(c, i, load<u16>(c, i, effective_address<kEa>(c, i)));
  return leave_behind(c, i);
}

// SGDT SIDT LGDT LIDT: 16-bit limit and a base of 64 (or, outside 64-bit mode, 32) bits.
template <Ea kEa, bool kInterrupt>
void store_table(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  u8 image[10];
  const u16 limit = kInterrupt ? c->idt_limit : c->gdt_limit;
  const u64 base = kInterrupt ? c->idt_base : c->gdt_base;
  std::memcpy(image, &limit, 2);
  std::memcpy(image + 2, &base, 8);
  slow_write(c, i, va, image, c->code64() ? 10 : 6);
  NM_NEXT;
}
template <Ea kEa, bool kInterrupt>
void load_table(Core* c, const Insn* i) {
  require_cpl0(c, i);
  const u64 va = effective_address<kEa>(c, i);
  u8 image[10] = {};
  slow_read(c, i, va, image, c->code64() ? 10 : 6);
  u16 limit;
  u64 base;
  std::memcpy(&limit, image, 2);
  std::memcpy(&base, image + 2, 8);
  if (!is_canonical(base)) raise_error(c, i, vector::gp, 0);
  (kInterrupt ? c->idt_limit : c->gdt_limit) = limit;
  (kInterrupt ? c->idt_base : c->gdt_base) = base;
  NM_NEXT;
}

void op_invlpg(Core* c, const Insn* i) {  // translations are never stale
  require_cpl0(c, i);
  NM_NEXT;
}
void op_invalidate_caches(Core* c, const Insn* i) {
  require_cpl0(c, i);
  NM_NEXT;
}
template <Ea kEa>
void op_flush_line(Core* c, const Insn* i) {  // faults like a one-byte load
  load<u8>(c, i, effective_address<kEa>(c, i));
  NM_NEXT;
}

void op_cpuid(Core* c, const Insn* i) {
  const Bus::CpuidResult result =
      c->bus->cpuid(static_cast<u32>(c->gpr[rax]), static_cast<u32>(c->gpr[rcx]));
  c->gpr[rax] = result.eax;
  c->gpr[rbx] = result.ebx;
  c->gpr[rcx] = result.ecx;
  c->gpr[rdx] = result.edx;
  return leave_behind(c, i);
}

void op_rdtsc(Core* c, const Insn* i) {
  if ((c->cr4 & cr4::tsd) && c->cpl != 0) raise_error(c, i, vector::gp, 0);
  const u64 now = read_time_stamp(c, i);
  c->gpr[rax] = static_cast<u32>(now);
  c->gpr[rdx] = now >> 32;
  NM_NEXT;
}

void op_hlt(Core* c, const Insn* i) {
  require_cpl0(c, i);
  c->halted = true;
  return leave_behind(c, i);
}
void require_interrupt_privilege(Core* c, const Insn* i) {
  if (c->cpl > (c->sysflags & rflags::iopl) >> 12) raise_error(c, i, vector::gp, 0);
}
void op_cli(Core* c, const Insn* i) {
  require_interrupt_privilege(c, i);
  c->sysflags &= ~rflags::interrupt;
  NM_NEXT;
}
// The instruction after STI runs before an interrupt is taken.
void op_sti(Core* c, const Insn* i) {
  require_interrupt_privilege(c, i);
  const bool was_off = !(c->sysflags & rflags::interrupt);
  c->sysflags |= rflags::interrupt;
  c->icount -= i->left - 1u;
  c->rip = next_address(c, i);
  if (was_off) c->shadow_at = c->icount;
  NM_LEAVE;
}

Handler select_control(Decoding& d) {
  const bool to = d.zydis.opcode == 0x22 || d.zydis.opcode == 0x23;
  const bool debug = d.zydis.opcode == 0x21 || d.zydis.opcode == 0x23;
  const ZydisRegister special = d.operands[to ? 0 : 1].reg.value;
  d.out.reg = d.gpr(to ? 1 : 0);
  d.out.imm = static_cast<u64>(special - (debug ? ZYDIS_REGISTER_DR0 : ZYDIS_REGISTER_CR0));
  d.ends_block = to || d.out.imm == 8;
  if (debug) return to ? mov_to_debug : mov_from_debug;
  return to ? mov_to_control : mov_from_control;
}
template <Handler kHandler, bool kEnds>
Handler select_fixed(Decoding& d) {
  d.ends_block = kEnds;
  return kHandler;
}
Handler select_smsw(Decoding& d) {
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return smsw_m<kEa>; });
  }
  d.out.reg = d.gpr(0);
  return by_wide_width(d.width(0), []<class T>() -> Handler { return smsw_r<T>; });
}
Handler select_lmsw(Decoding& d) {
  d.ends_block = true;
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return lmsw_m<kEa>; });
  }
  d.out.reg = d.gpr(0);
  return lmsw_r;
}
template <bool kInterrupt, bool kLoad>
Handler select_table(Decoding& d) {
  if (!d.is_memory(0)) return nullptr;
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler {
    return kLoad ? load_table<kEa, kInterrupt> : store_table<kEa, kInterrupt>;
  });
}
Handler select_flush_line(Decoding& d) {
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_flush_line<kEa>; });
}

}  // namespace

u64 read_time_stamp(Core* c, const Insn* i) {
  const u64 steps = c->steps_before(i);
  // Nobody could say where in an uncounted stretch the clock was set; time stands still in it.
  if (!c->uncounted && c->bus->time_sync_due(steps)) {
    c->exit = RunExit::time_read;
    unwind(c, i, Unwind::exit);
  }
  return c->bus->time_stamp(steps) + c->tsc_offset;
}

// MOV to and from control registers comes with the mnemonic of every other MOV.
Handler select_control_move(Decoding& d) { return select_control(d); }

void register_system(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_CLTS] = select_fixed<op_clts, false>;
  table[ZYDIS_MNEMONIC_SMSW] = select_smsw;
  table[ZYDIS_MNEMONIC_LMSW] = select_lmsw;
  table[ZYDIS_MNEMONIC_SGDT] = select_table<false, false>;
  table[ZYDIS_MNEMONIC_SIDT] = select_table<true, false>;
  table[ZYDIS_MNEMONIC_LGDT] = select_table<false, true>;
  table[ZYDIS_MNEMONIC_LIDT] = select_table<true, true>;
  table[ZYDIS_MNEMONIC_INVLPG] = select_fixed<op_invlpg, false>;
  table[ZYDIS_MNEMONIC_WBINVD] = select_fixed<op_invalidate_caches, false>;
  table[ZYDIS_MNEMONIC_INVD] = select_fixed<op_invalidate_caches, false>;
  table[ZYDIS_MNEMONIC_CLFLUSH] = select_flush_line;
  table[ZYDIS_MNEMONIC_CPUID] = select_fixed<op_cpuid, true>;
  table[ZYDIS_MNEMONIC_RDTSC] = select_fixed<op_rdtsc, false>;
  table[ZYDIS_MNEMONIC_HLT] = select_fixed<op_hlt, true>;
  table[ZYDIS_MNEMONIC_CLI] = select_fixed<op_cli, false>;
  table[ZYDIS_MNEMONIC_STI] = select_fixed<op_sti, true>;
}

}  // namespace node_mesh
