// Unpacks the compressed payload of a bzImage. The payload comes from a file that anybody may have
// made: sizes are limited before anything is allocated, and the result must be exactly as long as
// the file says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

namespace node_mesh {

// The largest kernels of distributions unpack to about 100 MiB; refused above.
inline constexpr std::uint64_t unpacked_kernel_bytes_max = 512ull << 20;

struct UnpackedKernel {
  std::unique_ptr<std::byte[]> bytes;
  std::size_t size = 0;
  std::span<const std::byte> view() const { return {bytes.get(), size}; }
};

// `payload` ends with the unpacked size, 32 bits. Errors are the reason alone.
std::expected<UnpackedKernel, std::string> unpack_kernel(std::span<const std::byte> payload);

}  // namespace node_mesh
