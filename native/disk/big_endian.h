// Big-endian integers inside a block of bytes, as qcow2 has them. The offset was checked before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "machine/check.h"

namespace node_mesh {

inline std::uint64_t big_endian(std::span<const std::byte> bytes, std::size_t offset,
                                std::size_t count) {
  NM_CHECK(count <= 8 && offset <= bytes.size() && count <= bytes.size() - offset);
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i)
    value = value << 8 | static_cast<std::uint8_t>(bytes[offset + i]);
  return value;
}

inline std::uint32_t big_endian_32(std::span<const std::byte> bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(big_endian(bytes, offset, 4));
}

inline std::uint64_t big_endian_64(std::span<const std::byte> bytes, std::size_t offset) {
  return big_endian(bytes, offset, 8);
}

}  // namespace node_mesh
