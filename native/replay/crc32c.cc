#include "replay/crc32c.h"

#include <array>
#include <cstring>

namespace node_mesh {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value >> 1) ^ ((value & 1) ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}
constexpr auto table = make_table();

std::uint32_t by_table(std::uint32_t state, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    state = (state >> 8) ^ table[(state ^ static_cast<std::uint32_t>(byte)) & 0xff];
  }
  return state;
}

__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t state,
                                                               std::span<const std::byte> bytes) {
  std::uint64_t wide = state;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; i < bytes.size(); ++i) {
    narrow = __builtin_ia32_crc32qi(narrow, static_cast<std::uint8_t>(bytes[i]));
  }
  return narrow;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  return ~(has_instruction ? by_instruction(~0u, bytes) : by_table(~0u, bytes));
}

}  // namespace node_mesh
