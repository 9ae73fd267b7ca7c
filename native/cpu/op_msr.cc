// RDMSR and WRMSR. Registers of devices come first (the bus), then those of the CPU; unknown ones
// are general protection faults, as on a CPU that does not have them.
#include "cpu/decode.h"
#include "cpu/mmu.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

enum MsrIndex : u32 {
  msr_tsc = 0x10,
  msr_platform_id = 0x17,
  msr_tsc_adjust = 0x3b,
  msr_microcode_revision = 0x8b,
  msr_sysenter_cs = 0x174,
  msr_sysenter_esp = 0x175,
  msr_sysenter_eip = 0x176,
  msr_misc_enable = 0x1a0,
  msr_pat = 0x277,
  msr_efer = 0xc0000080,
  msr_star = 0xc0000081,
  msr_lstar = 0xc0000082,
  msr_cstar = 0xc0000083,
  msr_sfmask = 0xc0000084,
  msr_fs_base = 0xc0000100,
  msr_gs_base = 0xc0000101,
  msr_kernel_gs_base = 0xc0000102,
  msr_tsc_aux = 0xc0000103,
};

// The plain 64-bit registers: null for everything that needs more than a store.
u64* plain_register(Core* c, u32 index) {
  switch (index) {
    case msr_star:
      return &c->star;
    case msr_sysenter_cs:
      return &c->sysenter_cs;
    case msr_misc_enable:
      return &c->misc_enable;
    case msr_tsc_adjust:
      return &c->tsc_offset;
    default:
      return nullptr;
  }
}
// Registers that hold an address.
u64* address_register(Core* c, u32 index) {
  switch (index) {
    case msr_lstar:
      return &c->lstar;
    case msr_cstar:
      return &c->cstar;
    case msr_sysenter_esp:
      return &c->sysenter_esp;
    case msr_sysenter_eip:
      return &c->sysenter_eip;
    case msr_fs_base:
      return &c->seg_base[seg_fs];
    case msr_gs_base:
      return &c->seg_base[seg_gs];
    case msr_kernel_gs_base:
      return &c->kernel_gs_base;
    default:
      return nullptr;
  }
}

u64 read_own_register(Core* c, const Insn* i, u32 index) {
  if (const u64* at = plain_register(c, index)) return *at;
  if (const u64* at = address_register(c, index)) return *at;
  switch (index) {
    case msr_tsc:
      return read_time_stamp(c, i);
    case msr_efer:
      return c->efer;
    case msr_sfmask:
      return c->sfmask;
    case msr_tsc_aux:
      return c->tsc_aux;
    case msr_pat:
      return c->pat;
    case msr_platform_id:
    case msr_microcode_revision:
      return 0;
    default:
      raise_error(c, i, vector::gp, 0);
  }
}

void write_efer(Core* c, const Insn* i, u64 value) {
  constexpr u64 writable = efer::sce | efer::lme | efer::nxe;
  if (value & ~(writable | efer::lma)) raise_error(c, i, vector::gp, 0);
  // Paging is always on here, so long mode cannot be switched.
  if ((value ^ c->efer) & efer::lme) raise_error(c, i, vector::gp, 0);
  const u64 before = c->efer;
  c->efer = (value & writable) | (before & efer::lma);
  if ((before ^ c->efer) & efer::nxe) c->mmu->flush_everything();
}

bool valid_pat(u64 value) {
  for (unsigned shift = 0; shift < 64; shift += 8) {
    const u64 type = (value >> shift) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

void write_own_register(Core* c, const Insn* i, u32 index, u64 value) {
  if (u64* at = plain_register(c, index)) {
    *at = value;
    if (index == msr_tsc_adjust) c->want_reschedule();
    return;
  }
  if (u64* at = address_register(c, index)) {
    if (!is_canonical(value)) raise_error(c, i, vector::gp, 0);
    *at = value;
    return;
  }
  switch (index) {
    case msr_tsc:
      c->tsc_offset += value - read_time_stamp(c, i);
      c->want_reschedule();
      return;
    case msr_efer:
      return write_efer(c, i, value);
    case msr_sfmask:
      c->sfmask = static_cast<u32>(value);
      return;
    case msr_tsc_aux:
      c->tsc_aux = static_cast<u32>(value);
      return;
    case msr_pat:
      if (!valid_pat(value)) raise_error(c, i, vector::gp, 0);
      c->pat = value;
      return;
    case msr_microcode_revision:
      return;
    default:
      raise_error(c, i, vector::gp, 0);
  }
}

void op_rdmsr(Core* c, const Insn* i) {
  require_cpl0(c, i);
  const auto index = static_cast<u32>(c->gpr[rcx]);
  u64 value = 0;
  c->begin_bus_access(i);
  const bool of_device = c->bus->msr_read(index, value);
  c->end_bus_access();
  if (!of_device) value = read_own_register(c, i, index);
  c->gpr[rax] = static_cast<u32>(value);
  c->gpr[rdx] = value >> 32;
  return leave_behind(c, i);
}

void op_wrmsr(Core* c, const Insn* i) {
  require_cpl0(c, i);
  const auto index = static_cast<u32>(c->gpr[rcx]);
  const u64 value = (c->gpr[rdx] << 32) | static_cast<u32>(c->gpr[rax]);
  c->begin_bus_access(i);
  const bool of_device = c->bus->msr_write(index, value);
  c->end_bus_access();
  if (!of_device) write_own_register(c, i, index, value);
  return leave_behind(c, i);
}

void op_rdpmc(Core* c, const Insn* i) { raise_error(c, i, vector::gp, 0); }

template <Handler kHandler>
Handler select_last(Decoding& d) {
  d.ends_block = true;
  return kHandler;
}

}  // namespace

void register_msr(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_RDMSR] = select_last<op_rdmsr>;
  table[ZYDIS_MNEMONIC_WRMSR] = select_last<op_wrmsr>;
  table[ZYDIS_MNEMONIC_RDPMC] = select_last<op_rdpmc>;
}

}  // namespace node_mesh
