// CRC-32C (Castagnoli, reflected, initial value and final complement all ones): finds every single
// flipped bit and every burst of up to 32 bits. Guards frames and chunks of the log.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace node_mesh {

std::uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace node_mesh
