// Short names for the integer types that instruction handlers are full of.
#pragma once

#include <cstdint>
#include <type_traits>

namespace node_mesh {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using u128 = unsigned __int128;
using s128 = __int128;

inline constexpr u64 page_mask = 0xfff;
// Never an address and never aligned, so no lookup by page matches it. Lookups by exact address
// (the jump caches) need more: see TranslationSet::forget_jumps.
inline constexpr u64 no_address = (u64{1} << 63) + 1;

constexpr bool is_canonical(u64 va) {
  return static_cast<u64>(static_cast<s64>(va << 16) >> 16) == va;
}

}  // namespace node_mesh
