// Guest memory as instruction handlers see it. The fast path is a lookup in the translation cache;
// a handler that misses jumps to its own slow twin (the same template with kSlow), whose accesses
// are calls that cannot miss. So the fast handlers have no stack frame at all.
#pragma once

#include <cstring>

#include "cpu/core.h"
#include "cpu/exceptions.h"

namespace node_mesh {

// Effective address forms: [base + disp] (also RIP-relative), everything, 32-bit address size.
enum class Ea : u8 { base, full, narrow };

template <Ea kEa>
[[gnu::always_inline]] inline u64 effective_offset(const Core* c, const Insn* i) {
  u64 at = get_reg<u64>(c, i->base) + static_cast<u64>(static_cast<s64>(i->disp));
  if constexpr (kEa == Ea::base) return at;
  at += get_reg<u64>(c, i->index) << i->scale;
  if constexpr (kEa == Ea::narrow) {
    at = (i->extra & insn_address16) ? static_cast<u16>(at) : static_cast<u32>(at);
  }
  return at;
}
template <Ea kEa>
[[gnu::always_inline]] inline u64 effective_address(const Core* c, const Insn* i) {
  const u64 at = effective_offset<kEa>(c, i);
  if constexpr (kEa == Ea::base) return at;
  const u64 linear = at + get_reg<u64>(c, i->seg);
  if constexpr (kEa == Ea::narrow) return c->code64() ? linear : static_cast<u32>(linear);
  return linear;
}

[[gnu::always_inline]] inline TlbEntry* tlb_entry(const TlbTable& table, u64 va) {
  return reinterpret_cast<TlbEntry*>(reinterpret_cast<u8*>(table.entries) +
                                     tlb_offset(va, table.mask));
}
// Gives the host address of kSize bytes at `va`; false when the slow path has to look.
template <u64 kSize>
[[gnu::always_inline]] inline bool tlb_hit(const TlbTable& table, u64 va, u8*& at) {
  const TlbEntry* entry = tlb_entry(table, va);
  at = reinterpret_cast<u8*>(va + entry->addend);
  return entry->tag == ((va + (kSize - 1)) & ~page_mask);
}
// The same with null for a miss, where that is as good.
template <u64 kSize>
[[gnu::always_inline]] inline u8* tlb_lookup(const TlbTable& table, u64 va) {
  u8* at;
  return tlb_hit<kSize>(table, va, at) ? at : nullptr;
}

// The slow path: any alignment, page crossings, device memory; faults unwind.
void slow_read(Core* c, const Insn* i, u64 va, void* into, unsigned size);
void slow_write(Core* c, const Insn* i, u64 va, const void* from, unsigned size);
// Raises whatever a write of `size` bytes would raise, changing nothing but accessed/dirty bits.
void probe_write(Core* c, const Insn* i, u64 va, unsigned size);
void probe_read(Core* c, const Insn* i, u64 va, unsigned size);
// The same, and also runs the instruction alone now if the store will ask for it: afterwards
// slow_write() of the same bytes cannot unwind.
void probe_store(Core* c, const Insn* i, u64 va, unsigned size);
// Reads for a read-modify-write: faults as the write would.
void slow_read_for_write(Core* c, const Insn* i, u64 va, void* into, unsigned size);

template <class T>
T slow_load(Core* c, const Insn* i, u64 va) {
  T value;
  slow_read(c, i, va, &value, sizeof(T));
  return value;
}
template <class T>
T slow_load_for_write(Core* c, const Insn* i, u64 va) {
  T value;
  slow_read_for_write(c, i, va, &value, sizeof(T));
  return value;
}
template <class T>
void slow_store(Core* c, const Insn* i, u64 va, T value) {
  slow_write(c, i, va, &value, sizeof(T));
}

// For instructions that are not worth a fast and a slow twin: try the cache, else call.
template <class T>
inline T load(Core* c, const Insn* i, u64 va) {
  if (const u8* at = tlb_lookup<sizeof(T)>(c->tlb_read, va)) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  return slow_load<T>(c, i, va);
}
template <class T>
inline void store(Core* c, const Insn* i, u64 va, T value) {
  if (u8* at = tlb_lookup<sizeof(T)>(c->tlb_write, va)) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  slow_store<T>(c, i, va, value);
}

// Descriptor tables and task state: supervisor accesses whatever the privilege level.
void system_read(Core* c, const Insn* i, u64 va, void* into, unsigned size);
void system_write(Core* c, const Insn* i, u64 va, const void* from, unsigned size);

// Fast/slow access inside a handler template with a last parameter kSlow; `slow_twin` is the same
// handler with kSlow = true.
#define NM_LOAD(Type, name, va, slow_twin)                                 \
  Type name;                                                               \
  if constexpr (kSlow) {                                                   \
    name = slow_load<Type>(c, i, va);                                      \
  } else {                                                                 \
    u8* name##_at;                                                         \
    if (!tlb_hit<sizeof(Type)>(c->tlb_read, va, name##_at)) [[unlikely]] { \
      return slow_twin(c, i);                                              \
    }                                                                      \
    name = *reinterpret_cast<const Type*>(name##_at);                      \
  }
#define NM_STORE(Type, va, value, slow_twin)                                \
  if constexpr (kSlow) {                                                    \
    slow_store<Type>(c, i, va, value);                                      \
  } else {                                                                  \
    u8* stored_at;                                                          \
    if (!tlb_hit<sizeof(Type)>(c->tlb_write, va, stored_at)) [[unlikely]] { \
      return slow_twin(c, i);                                               \
    }                                                                       \
    *reinterpret_cast<Type*>(stored_at) = (value);                          \
  }

// Going on to the next instruction. Sanitized builds cannot rely on tail calls: there the run loop
// is the trampoline.
#ifdef NM_TRAMPOLINE
#define NM_GO(target)         \
  do {                        \
    c->trampoline = (target); \
    return;                   \
  } while (0)
#else
#define NM_GO(target)                   \
  do {                                  \
    const Insn* go_target = (target);   \
    return go_target->fn(c, go_target); \
  } while (0)
#endif
#define NM_NEXT NM_GO(i + 1)

}  // namespace node_mesh
