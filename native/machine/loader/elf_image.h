// Reads a 64-bit x86 ELF kernel: which pieces of the file go to which guest-physical addresses, and
// where execution begins. Nothing in the file is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

namespace node_mesh {

struct ElfSegment {
  std::uint64_t gpa = 0;
  std::span<const std::byte> bytes;  // of the file
  std::uint64_t memory_bytes = 0;    // at least bytes.size(); the rest is zero
};

struct ElfImage {
  std::uint64_t entry = 0;  // guest-physical, inside a segment
  std::vector<ElfSegment> segments;
  std::uint64_t end() const;  // one past the highest address
};

bool looks_like_elf(std::span<const std::byte> file);
// Errors are the reason alone. The image points into `file`.
std::expected<ElfImage, std::string> read_elf(std::span<const std::byte> file);

}  // namespace node_mesh
