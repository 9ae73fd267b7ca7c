// IN OUT INS OUTS. Each access ends the block: it may raise or drop the interrupt line. A repeated
// string instruction moves one item a step.
#include "cpu/decode.h"
#include "cpu/threading.h"
#include "cpu/user_stretch.h"

namespace node_mesh {
namespace {

// Ports are open at CPL <= IOPL, or when the task's permission bitmap says so.
void require_port(Core* c, const Insn* i, u16 port, unsigned size) {
  if (c->cpl <= (c->sysflags & rflags::iopl) >> 12) return;
  constexpr u64 bitmap_base_offset = 102;
  if (c->tr.limit < bitmap_base_offset + 1) raise_error(c, i, vector::gp, 0);
  u16 base;
  system_read(c, i, c->tr_base + bitmap_base_offset, &base, sizeof base);
  const u64 at = u64{base} + port / 8u;
  if (at + 1 > c->tr.limit) raise_error(c, i, vector::gp, 0);
  u16 bits;
  system_read(c, i, c->tr_base + at, &bits, sizeof bits);
  if ((bits >> (port & 7)) & ((1u << size) - 1)) raise_error(c, i, vector::gp, 0);
}

u64 port_read(Core* c, const Insn* i, u16 port, unsigned size) {
  require_counted(c, i);
  if (c->bus->time_sync_due(c->steps_before(i))) {
    c->exit = RunExit::time_read;
    unwind(c, i, Unwind::exit);
  }
  c->begin_bus_access(i);
  const u64 value = c->bus->pio_read(port, size);
  c->end_bus_access();
  return value;
}
void port_write(Core* c, const Insn* i, u16 port, unsigned size, u64 value) {
  require_counted(c, i);
  c->begin_bus_access(i);
  c->bus->pio_write(port, size, value);
  c->end_bus_access();
}

template <bool kImmediate>
u16 port_of(const Core* c, const Insn* i) {
  return kImmediate ? static_cast<u16>(i->imm) : static_cast<u16>(c->gpr[rdx]);
}
template <class T, bool kImmediate>
void op_in(Core* c, const Insn* i) {
  const u16 port = port_of<kImmediate>(c, i);
  require_port(c, i, port, sizeof(T));
  set_reg<T>(c, gpr_offset(rax), static_cast<T>(port_read(c, i, port, sizeof(T))));
  return leave_behind(c, i);
}
template <class T, bool kImmediate>
void op_out(Core* c, const Insn* i) {
  const u16 port = port_of<kImmediate>(c, i);
  require_port(c, i, port, sizeof(T));
  port_write(c, i, port, sizeof(T), get_reg<T>(c, gpr_offset(rax)));
  return leave_behind(c, i);
}

template <bool kOut>
Handler select_port(Decoding& d) {
  d.ends_block = true;
  const unsigned port_operand = kOut ? 0 : 1;
  const unsigned bits = d.width(1 - port_operand);
  const bool immediate = d.is_immediate(port_operand);
  if (immediate) d.out.imm = d.immediate(port_operand) & 0xff;
  return by_width(bits, [&]<class T>() -> Handler {
    if constexpr (sizeof(T) == 8) return nullptr;
    if constexpr (kOut) return immediate ? op_out<T, true> : op_out<T, false>;
    return immediate ? op_in<T, true> : op_in<T, false>;
  });
}

u64 address_mask(const Insn* i) {
  if (i->extra & insn_address32) return 0xffffffff;
  if (i->extra & insn_address16) return 0xffff;
  return ~u64{0};
}
void add_masked(Core* c, const Insn* i, unsigned reg, u64 delta) {
  const u64 mask = address_mask(i);
  const u64 moved = (c->gpr[reg] + delta) & mask;
  c->gpr[reg] = i->extra & insn_address16 ? (c->gpr[reg] & ~mask) | moved : moved;
}

template <class T, bool kOut>
void op_port_string(Core* c, const Insn* i) {
  const bool repeated = i->extra & insn_repeat;
  const u64 mask = address_mask(i);
  if (repeated && (c->gpr[rcx] & mask) == 0) return leave_behind(c, i);
  const auto port = static_cast<u16>(c->gpr[rdx]);
  require_port(c, i, port, sizeof(T));
  const unsigned pointer = kOut ? rsi : rdi;
  const u64 va = (c->gpr[pointer] & mask) + get_reg<u64>(c, i->seg);
  if constexpr (kOut) {
    port_write(c, i, port, sizeof(T), load<T>(c, i, va));
  } else {
    probe_write(c, i, va, sizeof(T));
    // The store may want to run alone; the port must not have been read by then.
    require_alone(c, i);
    store<T>(c, i, va, static_cast<T>(port_read(c, i, port, sizeof(T))));
  }
  const u64 size = sizeof(T);
  add_masked(c, i, pointer, c->sysflags & rflags::df ? u64{0} - size : size);
  if (repeated) {
    add_masked(c, i, rcx, ~u64{0});
    if ((c->gpr[rcx] & mask) != 0) {
      c->icount -= i->left - 1u;
      c->rip = c->page_va + i->offset;
      NM_LEAVE;
    }
  }
  return leave_behind(c, i);
}

template <class T, bool kOut>
Handler select_port_string(Decoding& d) {
  d.ends_block = true;
  const auto attributes = d.zydis.attributes;
  if (attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) {
    d.out.extra |= insn_repeat;
  }
  if (d.zydis.address_width == 32) d.out.extra |= insn_address32;
  if (d.zydis.address_width == 16) d.out.extra |= insn_address16;
  d.out.seg = d.code64() ? zero_offset : seg_offset(kOut ? seg_ds : seg_es);
  if (kOut && (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)) d.out.seg = seg_offset(seg_fs);
  if (kOut && (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)) d.out.seg = seg_offset(seg_gs);
  return op_port_string<T, kOut>;
}

}  // namespace

void register_io(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_IN] = select_port<false>;
  table[ZYDIS_MNEMONIC_OUT] = select_port<true>;
  table[ZYDIS_MNEMONIC_INSB] = select_port_string<u8, false>;
  table[ZYDIS_MNEMONIC_INSW] = select_port_string<u16, false>;
  table[ZYDIS_MNEMONIC_INSD] = select_port_string<u32, false>;
  table[ZYDIS_MNEMONIC_OUTSB] = select_port_string<u8, true>;
  table[ZYDIS_MNEMONIC_OUTSW] = select_port_string<u16, true>;
  table[ZYDIS_MNEMONIC_OUTSD] = select_port_string<u32, true>;
}

}  // namespace node_mesh
