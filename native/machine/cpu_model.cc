#include "machine/cpu_model.h"

#include <array>
#include <cstring>

namespace node_mesh {
namespace {

using Result = Bus::CpuidResult;

constexpr std::uint32_t bits(std::initializer_list<unsigned> numbers) {
  std::uint32_t value = 0;
  for (const unsigned number : numbers)
    value |= 1u << number;
  return value;
}

// An in-order part that operating systems treat as free of speculation bugs: family 6, model 0x1c,
// stepping 10. No barriers, no split page tables, no indirect-branch thunks in the guest.
constexpr std::uint32_t signature = 0x0001'06ca;

constexpr std::uint32_t max_basic_leaf = 0x16, max_extended_leaf = 0x8000'0008;

constexpr std::uint32_t features_ecx = bits({/* SSE3 */ 0, /* SSSE3 */ 9, /* CX16 */ 13,
                                             /* SSE4.1 */ 19, /* SSE4.2 */ 20, /* POPCNT */ 23,
                                             /* TSC deadline */ 24, /* HYPERVISOR */ 31});
constexpr std::uint32_t feature_apic = bits({9});
constexpr std::uint32_t features_edx =
    bits({/* FPU */ 0, /* DE */ 2, /* PSE */ 3, /* TSC */ 4, /* MSR */ 5, /* PAE */ 6, /* CX8 */ 8,
          /* PGE */ 13, /* CMOV */ 15, /* PAT */ 16, /* PSE36 */ 17, /* CLFLUSH */ 19,
          /* MMX */ 23, /* FXSR */ 24, /* SSE */ 25, /* SSE2 */ 26});

// One level of the cache hierarchy, leaf 4. Announced because C libraries tune their copies by it.
constexpr Result cache(std::uint32_t type, std::uint32_t level, std::uint32_t sets) {
  constexpr std::uint32_t ways = 8, line_bytes = 64;
  return {type | level << 5 | 1u << 8, (line_bytes - 1) | (ways - 1) << 22, sets - 1, 0};
}

Result cache_leaf(std::uint32_t subleaf) {
  switch (subleaf) {
    case 0:
      return cache(1, 1, 64);  // 32 KiB data
    case 1:
      return cache(2, 1, 64);  // 32 KiB instructions
    case 2:
      return cache(3, 2, 1024);  // 512 KiB unified
    default:
      return {};
  }
}

std::uint32_t word(const char* text) {
  std::uint32_t value = 0;
  std::memcpy(&value, text, sizeof value);
  return value;
}

Result brand_leaf(std::uint32_t index) {
  static constexpr std::array<char, 49> brand{"node-mesh virtual CPU v1"};
  const char* part = brand.data() + 16 * index;
  return {word(part), word(part + 4), word(part + 8), word(part + 12)};
}

Result basic_leaf(std::uint32_t leaf, std::uint32_t subleaf, bool apic_enabled) {
  switch (leaf) {
    case 0x00:
      return {max_basic_leaf, word("Genu"), word("ntel"), word("ineI")};
    case 0x01:
      return {signature, /* 1 logical CPU, 64-byte lines */ 1u << 16 | 8u << 8, features_ecx,
              features_edx | (apic_enabled ? feature_apic : 0)};
    case 0x02:
      return {0x0000'ff01, 0, 0, 0};  // "see leaf 4"
    case 0x04:
      return cache_leaf(subleaf);
    case 0x06:
      return {bits({/* ARAT: the APIC timer never stops */ 2}), 0, 0, 0};
    case 0x07:
      if (subleaf != 0) return {};
      return {0, bits({/* TSC_ADJUST */ 1, /* ERMS */ 9}), 0, bits({/* FSRM */ 4})};
    case 0x15:
      return {1, 40, 25'000'000, 0};  // TSC = 25 MHz crystal * 40 / 1 = 1 GHz
    case 0x16:
      return {1000, 1000, 100, 0};  // MHz: base, maximum, bus
    default:
      return {};
  }
}

Result extended_leaf(std::uint32_t leaf) {
  switch (leaf) {
    case 0x8000'0000:
      return {max_extended_leaf, 0, 0, 0};
    case 0x8000'0001:
      return {0, 0, bits({/* LAHF in 64-bit mode */ 0}),
              bits({/* SYSCALL */ 11, /* NX */ 20, /* 64-bit mode */ 29})};
    case 0x8000'0002:
    case 0x8000'0003:
    case 0x8000'0004:
      return brand_leaf(leaf - 0x8000'0002);
    case 0x8000'0006:
      return {0, 0, 512u << 16 | 6u << 12 | 64u, 0};  // L2: 512 KiB, 8 ways
    case 0x8000'0007:
      return {0, 0, 0, bits({/* invariant TSC */ 8})};
    case 0x8000'0008:
      return {40 | 48 << 8, 0, 0, 0};  // physical and linear address bits
    default:
      return {};
  }
}

}  // namespace

Bus::CpuidResult mesh_v1_cpuid(std::uint32_t leaf, std::uint32_t subleaf, bool apic_enabled) {
  if (leaf >= 0x8000'0000) return extended_leaf(leaf);
  if (leaf == 0x4000'0000) return {0x4000'0000, word("Node"), word("Mesh"), word("    ")};
  return basic_leaf(leaf, subleaf, apic_enabled);
}

}  // namespace node_mesh
