// Arithmetic with exact flags: the host's own instruction computes, LAHF and SETO take its flags.
// Results that the architecture leaves undefined get one fixed value here, so that every host
// computes the same guest.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

// The 16 conditions in encoding order.
template <unsigned kCondition>
[[gnu::always_inline]] inline bool condition(u16 f) {
  bool result = false;
  switch (kCondition >> 1) {
    case 0:
      result = f & status::of;
      break;
    case 1:
      result = f & status::cf;
      break;
    case 2:
      result = f & status::zf;
      break;
    case 3:
      result = f & (status::zf | status::cf);
      break;
    case 4:
      result = f & status::sf;
      break;
    case 5:
      result = f & status::pf;
      break;
    case 6:
      result = ((f >> 15) ^ f) & 1;
      break;
    default:
      result = (((f >> 15) ^ f) & 1) | ((f >> 14) & 1);
      break;
  }
  return result != ((kCondition & 1) != 0);
}

#define NM_TAKE_FLAGS "\n\tlahf\n\tseto %%al"

// Two-operand operations. `run` is for a value in a register, `run_at` for one in memory.
#define NM_DEFINE_ALU(Name, text)                                                          \
  struct Name {                                                                            \
    static constexpr bool writes = true;                                                   \
    template <class T>                                                                     \
    [[gnu::always_inline]] static void run(Core* c, T& a, T b) {                           \
      u16 f;                                                                               \
      asm(text " %[b], %[a]" NM_TAKE_FLAGS : [a] "+q"(a), "=&a"(f) : [b] "q"(b) : "cc");   \
      c->flags = f;                                                                        \
    }                                                                                      \
    template <class T>                                                                     \
    [[gnu::always_inline]] static void run_at(Core* c, T* at, T b) {                       \
      u16 f;                                                                               \
      asm(text " %[b], %[a]" NM_TAKE_FLAGS : [a] "+m"(*at), "=&a"(f) : [b] "q"(b) : "cc"); \
      c->flags = f;                                                                        \
    }                                                                                      \
  };
#define NM_DEFINE_ALU_CARRY(Name, text)                              \
  struct Name {                                                      \
    static constexpr bool writes = true;                             \
    template <class T>                                               \
    [[gnu::always_inline]] static void run(Core* c, T& a, T b) {     \
      u16 f = c->flags;                                              \
      asm("btl $8, %k[f]\n\t" text " %[b], %[a]" NM_TAKE_FLAGS       \
          : [a] "+q"(a), [f] "+&a"(f)                                \
          : [b] "q"(b)                                               \
          : "cc");                                                   \
      c->flags = f;                                                  \
    }                                                                \
    template <class T>                                               \
    [[gnu::always_inline]] static void run_at(Core* c, T* at, T b) { \
      T value = *at;                                                 \
      run(c, value, b);                                              \
      *at = value;                                                   \
    }                                                                \
  };
#define NM_DEFINE_COMPARE(Name, text)                                                   \
  struct Name {                                                                         \
    static constexpr bool writes = false;                                               \
    template <class T>                                                                  \
    [[gnu::always_inline]] static void run(Core* c, T a, T b) {                         \
      u16 f;                                                                            \
      asm(text " %[b], %[a]" NM_TAKE_FLAGS : "=&a"(f) : [a] "q"(a), [b] "q"(b) : "cc"); \
      c->flags = f;                                                                     \
    }                                                                                   \
  };
NM_DEFINE_ALU(OpAdd, "add")
NM_DEFINE_ALU(OpSub, "sub")
NM_DEFINE_ALU(OpAnd, "and")
NM_DEFINE_ALU(OpOr, "or")
NM_DEFINE_ALU(OpXor, "xor")
NM_DEFINE_ALU_CARRY(OpAdc, "adc")
NM_DEFINE_ALU_CARRY(OpSbb, "sbb")
NM_DEFINE_COMPARE(OpCmp, "cmp")
NM_DEFINE_COMPARE(OpTest, "test")

// One-operand operations. INC and DEC leave CF alone, so it is put in place first.
#define NM_DEFINE_UNARY(Name, text)                                                             \
  struct Name {                                                                                 \
    template <class T>                                                                          \
    [[gnu::always_inline]] static void run(Core* c, T& a) {                                     \
      u16 f = c->flags;                                                                         \
      asm("btl $8, %k[f]\n\t" text " %[a]" NM_TAKE_FLAGS : [a] "+q"(a), [f] "+&a"(f) : : "cc"); \
      c->flags = f;                                                                             \
    }                                                                                           \
  };
NM_DEFINE_UNARY(OpInc, "inc")
NM_DEFINE_UNARY(OpDec, "dec")
NM_DEFINE_UNARY(OpNeg, "neg")
struct OpNot {
  template <class T>
  [[gnu::always_inline]] static void run(Core*, T& a) {
    a = static_cast<T>(~a);
  }
};

// SF, ZF and PF of a result, everything else clear.
template <class T>
inline u16 flags_of_result(T value) {
  u16 f;
  asm("test %[v], %[v]" NM_TAKE_FLAGS : "=&a"(f) : [v] "q"(value) : "cc");
  return static_cast<u16>(f & (status::sf | status::zf | status::pf));
}

}  // namespace node_mesh
