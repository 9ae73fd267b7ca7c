// Arithmetic fused with the conditional branch that follows: one dispatch instead of two, and the
// host's own flags decide the branch while they are still there. The guest's flags are kept all the
// same. A miss in the translation cache falls back to the plain pair.
#include <array>
#include <unordered_map>

#include "cpu/alu_handlers.h"
#include "cpu/decode.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

// The host's condition comes out beside the flags. One group for operations that only compare, one
// for those that change their first operand.
#define NM_COMPARE_ON(n, cc, text)       \
  if constexpr (kCondition / 2 == n) {   \
    asm(text " %[b], %[a]" NM_TAKE_FLAGS \
        : "=&a"(f), "=@cc" cc(taken)     \
        : [a] "q"(a), [b] "q"(b)         \
        : "cc");                         \
  }
#define NM_CHANGE_ON(n, cc, text)                 \
  if constexpr (kCondition / 2 == n) {            \
    asm(text " %[b], %[a]" NM_TAKE_FLAGS          \
        : [a] "+q"(a), "=&a"(f), "=@cc" cc(taken) \
        : [b] "q"(b)                              \
        : "cc");                                  \
  }
#define NM_EACH_CONDITION(group, text)                                             \
  group(0, "o", text) group(1, "c", text) group(2, "z", text) group(3, "be", text) \
      group(4, "s", text) group(5, "p", text) group(6, "l", text) group(7, "le", text)

// Runs the operation, keeps the flags, tells whether the condition holds.
template <class Op, unsigned kCondition, class T>
[[gnu::always_inline]] inline bool run_and_test(Core* c, T& a, T b) {
  u16 f = 0;
  bool taken = false;
  if constexpr (std::is_same_v<Op, OpCmp>) {
    NM_EACH_CONDITION(NM_COMPARE_ON, "cmp")
  } else if constexpr (std::is_same_v<Op, OpTest>) {
    NM_EACH_CONDITION(NM_COMPARE_ON, "test")
  } else if constexpr (std::is_same_v<Op, OpAdd>) {
    NM_EACH_CONDITION(NM_CHANGE_ON, "add")
  } else if constexpr (std::is_same_v<Op, OpSub>) {
    NM_EACH_CONDITION(NM_CHANGE_ON, "sub")
  } else {
    static_assert(std::is_same_v<Op, OpAnd>);
    NM_EACH_CONDITION(NM_CHANGE_ON, "and")
  }
  c->flags = f;
  return taken != ((kCondition & 1) != 0);
}

template <class Op, class T, unsigned kCondition, bool kImmediate>
void fused_r(Core* c, const Insn* i) {
  T value = get_reg<T>(c, i->reg);
  const T source = kImmediate ? static_cast<T>(i->imm) : get_reg<T>(c, i->src);
  const bool taken = run_and_test<Op, kCondition>(c, value, source);
  if constexpr (Op::writes) set_reg<T>(c, i->reg, value);
  if (taken) return branch_in_page(c, i + 1);
  NM_GO(i + 2);
}

template <class Op, class T, unsigned kCondition, bool kImmediate>
void fused_m(Core* c, const Insn* i) {
  u8* at;
  if (!tlb_hit<sizeof(T)>(c->tlb_read, effective_address<Ea::base>(c, i), at)) [[unlikely]] {
    return alu_m<Op, T, Ea::base, kImmediate, true>(c, i);
  }
  T value = *reinterpret_cast<T*>(at);
  const T source = kImmediate ? static_cast<T>(i->imm) : get_reg<T>(c, i->reg);
  if (run_and_test<Op, kCondition>(c, value, source)) return branch_in_page(c, i + 1);
  NM_GO(i + 2);
}

template <class T, unsigned kCondition>
void fused_cmp_rm(Core* c, const Insn* i) {
  u8* at;
  if (!tlb_hit<sizeof(T)>(c->tlb_read, effective_address<Ea::base>(c, i), at)) [[unlikely]] {
    return alu_rm<OpCmp, T, Ea::base, true>(c, i);
  }
  T value = get_reg<T>(c, i->reg);
  const T source = *reinterpret_cast<T*>(at);
  if (run_and_test<OpCmp, kCondition>(c, value, source)) return branch_in_page(c, i + 1);
  NM_GO(i + 2);
}

using ByCondition = std::array<Handler, 16>;
using FusionTable = std::unordered_map<Handler, ByCondition>;

template <class Op, class T, unsigned... kConditions>
void add_register_forms(FusionTable& table, std::integer_sequence<unsigned, kConditions...>) {
  table[alu_rr<Op, T>] = {fused_r<Op, T, kConditions, false>...};
  table[alu_ri<Op, T>] = {fused_r<Op, T, kConditions, true>...};
}
template <class Op, class T, unsigned... kConditions>
void add_memory_forms(FusionTable& table, std::integer_sequence<unsigned, kConditions...>) {
  table[alu_m<Op, T, Ea::base, false, false>] = {fused_m<Op, T, kConditions, false>...};
  table[alu_m<Op, T, Ea::base, true, false>] = {fused_m<Op, T, kConditions, true>...};
}
template <class T, unsigned... kConditions>
void add_width(FusionTable& table, std::integer_sequence<unsigned, kConditions...> all) {
  add_register_forms<OpCmp, T>(table, all);
  add_register_forms<OpTest, T>(table, all);
  add_memory_forms<OpCmp, T>(table, all);
  add_memory_forms<OpTest, T>(table, all);
  table[alu_rm<OpCmp, T, Ea::base, false>] = {fused_cmp_rm<T, kConditions>...};
  if constexpr (sizeof(T) >= 4) {
    add_register_forms<OpAdd, T>(table, all);
    add_register_forms<OpSub, T>(table, all);
    add_register_forms<OpAnd, T>(table, all);
  }
}

}  // namespace

Handler fused_handler(Handler first, int condition) {
  static const FusionTable table = [] {
    FusionTable made;
    constexpr auto all = std::make_integer_sequence<unsigned, 16>();
    add_width<u8>(made, all);
    add_width<u16>(made, all);
    add_width<u32>(made, all);
    add_width<u64>(made, all);
    return made;
  }();
  const auto found = table.find(first);
  return found == table.end() ? nullptr : found->second[static_cast<unsigned>(condition)];
}

}  // namespace node_mesh
