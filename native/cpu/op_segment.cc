// Segment registers and the system segments: MOV/PUSH/POP Sreg, LDS.., LAR LSL VERR VERW, LLDT LTR
// SLDT STR, SWAPGS, ARPL.
#include "cpu/decode.h"
#include "cpu/segmentation.h"
#include "cpu/stack.h"
#include "cpu/threading.h"

namespace node_mesh {

Handler select_control_move(Decoding& d);

namespace {

unsigned segment_of(ZydisRegister reg) {
  switch (reg) {
    case ZYDIS_REGISTER_ES:
      return seg_es;
    case ZYDIS_REGISTER_CS:
      return seg_cs;
    case ZYDIS_REGISTER_SS:
      return seg_ss;
    case ZYDIS_REGISTER_DS:
      return seg_ds;
    case ZYDIS_REGISTER_FS:
      return seg_fs;
    default:
      return seg_gs;
  }
}
bool is_segment(const ZydisDecodedOperand& operand) {
  return operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value >= ZYDIS_REGISTER_ES &&
         operand.reg.value <= ZYDIS_REGISTER_GS;
}

// Loading SS holds interrupts back for one instruction. Data segments matter to blocks outside
// 64-bit mode only through their bases, which are read when used; SS there decides the stack's
// width.
void finish_segment_load(Core* c, const Insn* i, unsigned index) {
  c->icount -= i->left - 1u;
  c->rip = next_address(c, i);
  if (index == seg_ss) c->shadow_at = c->icount;
}
void mov_to_segment_r(Core* c, const Insn* i) {
  const auto index = static_cast<unsigned>(i->imm);
  load_data_segment(c, i, index, get_reg<u16>(c, i->src));
  finish_segment_load(c, i, index);
  NM_LEAVE;
}
template <Ea kEa>
void mov_to_segment_m(Core* c, const Insn* i) {
  const auto index = static_cast<unsigned>(i->imm);
  load_data_segment(c, i, index, load<u16>(c, i, effective_address<kEa>(c, i)));
  finish_segment_load(c, i, index);
  NM_LEAVE;
}
template <class T>
void mov_from_segment_r(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, c->segments[i->imm].selector);
  NM_NEXT;
}
template <Ea kEa>
void mov_from_segment_m(Core* c, const Insn* i) {
  store<u16>(c, i, effective_address<kEa>(c, i), c->segments[i->imm].selector);
  NM_NEXT;
}

Handler select_segment_move(Decoding& d) {
  const bool to = is_segment(d.operands[0]);
  d.out.imm = segment_of(d.operands[to ? 0 : 1].reg.value);
  if (to && d.out.imm == seg_cs) return nullptr;  // #UD
  d.ends_block = to;
  const unsigned other = to ? 1 : 0;
  if (d.is_memory(other)) {
    const u64 index = d.out.imm;
    d.memory(other);
    d.out.imm = index;
    return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
      return to ? mov_to_segment_m<kEa> : mov_from_segment_m<kEa>;
    });
  }
  if (to) {
    d.out.src = d.gpr(1);
    return mov_to_segment_r;
  }
  d.out.reg = d.gpr(0);
  return by_wide_width(d.width(0), []<class T>() -> Handler { return mov_from_segment_r<T>; });
}

Selector plain_mov, plain_push, plain_pop;

Handler select_any_mov(Decoding& d) {
  if (const Handler handler = plain_mov(d)) return handler;
  d.out.extra = 0;
  if (is_segment(d.operands[0]) || is_segment(d.operands[1])) return select_segment_move(d);
  return select_control_move(d);
}

template <class T>
void push_segment(Core* c, const Insn* i) {
  push<T>(c, i, c->segments[i->imm].selector);
  NM_NEXT;
}
template <class T>
void pop_segment(Core* c, const Insn* i) {
  const auto index = static_cast<unsigned>(i->imm);
  const auto selector = static_cast<u16>(peek_stack<T>(c, i, 0));
  load_data_segment(c, i, index, selector);
  move_stack(c, sizeof(T));
  finish_segment_load(c, i, index);
  NM_LEAVE;
}
Handler select_any_push(Decoding& d) {
  if (!is_segment(d.operands[0])) return plain_push(d);
  d.out.imm = segment_of(d.operands[0].reg.value);
  d.out.extra = insn_stack_segment;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return push_segment<T>; });
}
Handler select_any_pop(Decoding& d) {
  if (!is_segment(d.operands[0])) return plain_pop(d);
  d.ends_block = true;
  d.out.imm = segment_of(d.operands[0].reg.value);
  d.out.extra = insn_stack_segment;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return pop_segment<T>; });
}

// LES LDS LSS LFS LGS.
template <class T, Ea kEa>
void load_far_pointer(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T offset = load<T>(c, i, va);
  const u16 selector = load<u16>(c, i, va + sizeof(T));
  const auto index = static_cast<unsigned>(i->imm);
  load_data_segment(c, i, index, selector);
  set_reg<T>(c, i->reg, offset);
  c->icount -= i->left - 1u;
  c->rip = next_address(c, i);
  NM_LEAVE;
}
template <unsigned kIndex>
Handler select_far_pointer(Decoding& d) {
  if (!d.is_memory(1)) return nullptr;
  d.ends_block = true;
  d.memory(1);
  d.out.imm = kIndex;
  d.out.reg = d.gpr(0);
  return by_wide_width(d.zydis.operand_width, [&]<class T>() {
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return load_far_pointer<T, kEa>; });
  });
}

// LAR LSL VERR VERW look at a descriptor without faulting.
enum class Query : u8 { rights, limit, readable, writable };
template <Query kQuery>
bool query_allows(const Core* c, u16 selector, const Descriptor& d) {
  const bool inner = d.dpl() < c->cpl || d.dpl() < (selector & 3u);
  if constexpr (kQuery == Query::readable) {
    return d.is_segment() && d.readable() && (d.conforming() || !inner);
  }
  if constexpr (kQuery == Query::writable) return d.writable() && !inner;
  if (d.is_segment()) return d.conforming() || !inner;
  const unsigned type = d.type();
  const bool known =
      type == 2 || type == 9 || type == 11 || (kQuery == Query::rights && type == 12);
  return known && !inner;
}
template <Query kQuery>
void run_query(Core* c, const Insn* i, u16 selector, bool word) {
  Descriptor d;
  const bool found = (selector & 0xfffc) != 0 && read_descriptor(c, i, selector, d) &&
                     query_allows<kQuery>(c, selector, d);
  c->flags = static_cast<u16>((c->flags & ~status::zf) | (found ? status::zf : 0));
  if (!found || kQuery == Query::readable || kQuery == Query::writable) return;
  const u32 value = kQuery == Query::limit ? d.limit() : static_cast<u32>(d.low >> 32) & 0xf0ff00;
  if (word) {
    set_reg<u16>(c, i->reg, static_cast<u16>(value));
  } else {
    set_reg<u32>(c, i->reg, value);
  }
}
template <Query kQuery, bool kWord>
void query_r(Core* c, const Insn* i) {
  run_query<kQuery>(c, i, get_reg<u16>(c, i->src), kWord);
  NM_NEXT;
}
template <Query kQuery, Ea kEa, bool kWord>
void query_memory(Core* c, const Insn* i) {
  run_query<kQuery>(c, i, load<u16>(c, i, effective_address<kEa>(c, i)), kWord);
  NM_NEXT;
}
template <Query kQuery>
Handler select_query(Decoding& d) {
  constexpr bool has_result = kQuery == Query::rights || kQuery == Query::limit;
  const unsigned at = has_result ? 1 : 0;
  const bool word = d.zydis.operand_width == 16;
  if (has_result) d.out.reg = d.gpr(0);
  if (d.is_memory(at)) {
    d.memory(at);
    return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
      return word ? query_memory<kQuery, kEa, true> : query_memory<kQuery, kEa, false>;
    });
  }
  d.out.src = d.gpr(at);
  return word ? query_r<kQuery, true> : query_r<kQuery, false>;
}

// LLDT and LTR load a system segment; SLDT and STR store its selector.
template <bool kTask>
void load_system_segment(Core* c, const Insn* i, u16 selector) {
  require_cpl0(c, i);
  const u32 error = selector & 0xfffcu;
  if (error == 0) {
    if (kTask) raise_error(c, i, vector::gp, 0);
    c->ldtr = {selector, 0, 0};
    c->ldtr_base = 0;
    return;
  }
  Descriptor d;
  if ((selector & 4) || (error | 15u) > c->gdt_limit || !read_descriptor(c, i, selector, d)) {
    raise_error(c, i, vector::gp, error);
  }
  if (d.is_segment() || d.type() != (kTask ? 9u : 2u)) raise_error(c, i, vector::gp, error);
  if (!d.present()) raise_error(c, i, vector::np, error);
  if (!is_canonical(d.system_base())) raise_error(c, i, vector::gp, error);
  if constexpr (kTask) {
    mark_descriptor(c, i, selector, d, 41);  // busy
    c->tr = {selector, d.attributes(), d.limit()};
    c->tr_base = d.system_base();
  } else {
    c->ldtr = {selector, d.attributes(), d.limit()};
    c->ldtr_base = d.system_base();
  }
}
template <bool kTask>
void load_system_segment_r(Core* c, const Insn* i) {
  load_system_segment<kTask>(c, i, get_reg<u16>(c, i->reg));
  NM_NEXT;
}
template <bool kTask, Ea kEa>
void load_system_segment_m(Core* c, const Insn* i) {
  require_cpl0(c, i);
  load_system_segment<kTask>(c, i, load<u16>(c, i, effective_address<kEa>(c, i)));
  NM_NEXT;
}
template <bool kTask, class T>
void store_system_segment_r(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, kTask ? c->tr.selector : c->ldtr.selector);
  NM_NEXT;
}
template <bool kTask, Ea kEa>
void store_system_segment_m(Core* c, const Insn* i) {
  store<u16>(c, i, effective_address<kEa>(c, i), kTask ? c->tr.selector : c->ldtr.selector);
  NM_NEXT;
}
template <bool kTask, bool kLoad>
Handler select_system_segment(Decoding& d) {
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler {
      return kLoad ? load_system_segment_m<kTask, kEa> : store_system_segment_m<kTask, kEa>;
    });
  }
  d.out.reg = d.gpr(0);
  if (kLoad) return load_system_segment_r<kTask>;
  return by_wide_width(d.width(0),
                       []<class T>() -> Handler { return store_system_segment_r<kTask, T>; });
}

void op_swapgs(Core* c, const Insn* i) {
  require_cpl0(c, i);
  std::swap(c->seg_base[seg_gs], c->kernel_gs_base);
  NM_NEXT;
}
Handler select_swapgs(Decoding& d) { return d.code64() ? op_swapgs : nullptr; }

u16 adjust_rpl(Core* c, u16 mine, u16 other) {
  const bool lower = (mine & 3) < (other & 3);
  c->flags = static_cast<u16>((c->flags & ~status::zf) | (lower ? status::zf : 0));
  return lower ? static_cast<u16>((mine & ~3) | (other & 3)) : mine;
}
void arpl_r(Core* c, const Insn* i) {
  set_reg<u16>(c, i->reg, adjust_rpl(c, get_reg<u16>(c, i->reg), get_reg<u16>(c, i->src)));
  NM_NEXT;
}
template <Ea kEa>
void arpl_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const u16 mine = slow_load_for_write<u16>(c, i, va);
  const u16 before = c->flags;
  const u16 value = adjust_rpl(c, mine, get_reg<u16>(c, i->src));
  const u16 after = c->flags;
  c->flags = before;
  slow_store<u16>(c, i, va, value);
  c->flags = after;
  NM_NEXT;
}
Handler select_arpl(Decoding& d) {
  if (d.code64()) return nullptr;
  d.out.src = d.gpr(1);
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return arpl_m<kEa>; });
  }
  d.out.reg = d.gpr(0);
  return arpl_r;
}

}  // namespace

// Comes after the plain MOV, PUSH and POP have registered theirs.
void register_segments(SelectorTable& table) {
  plain_mov = table[ZYDIS_MNEMONIC_MOV];
  plain_push = table[ZYDIS_MNEMONIC_PUSH];
  plain_pop = table[ZYDIS_MNEMONIC_POP];
  table[ZYDIS_MNEMONIC_MOV] = select_any_mov;
  table[ZYDIS_MNEMONIC_PUSH] = select_any_push;
  table[ZYDIS_MNEMONIC_POP] = select_any_pop;
  table[ZYDIS_MNEMONIC_LES] = select_far_pointer<seg_es>;
  table[ZYDIS_MNEMONIC_LDS] = select_far_pointer<seg_ds>;
  table[ZYDIS_MNEMONIC_LSS] = select_far_pointer<seg_ss>;
  table[ZYDIS_MNEMONIC_LFS] = select_far_pointer<seg_fs>;
  table[ZYDIS_MNEMONIC_LGS] = select_far_pointer<seg_gs>;
  table[ZYDIS_MNEMONIC_LAR] = select_query<Query::rights>;
  table[ZYDIS_MNEMONIC_LSL] = select_query<Query::limit>;
  table[ZYDIS_MNEMONIC_VERR] = select_query<Query::readable>;
  table[ZYDIS_MNEMONIC_VERW] = select_query<Query::writable>;
  table[ZYDIS_MNEMONIC_LLDT] = select_system_segment<false, true>;
  table[ZYDIS_MNEMONIC_LTR] = select_system_segment<true, true>;
  table[ZYDIS_MNEMONIC_SLDT] = select_system_segment<false, false>;
  table[ZYDIS_MNEMONIC_STR] = select_system_segment<true, false>;
  table[ZYDIS_MNEMONIC_SWAPGS] = select_swapgs;
  table[ZYDIS_MNEMONIC_ARPL] = select_arpl;
}

}  // namespace node_mesh
