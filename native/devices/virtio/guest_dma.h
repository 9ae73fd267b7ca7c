// How devices reach guest memory. The machine's side marks pages dirty and tells the CPU about each
// write; all addresses come from the guest and are checked there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace node_mesh {

class GuestDma {
 public:
  virtual ~GuestDma() = default;
  virtual bool contains(std::uint64_t gpa, std::uint64_t bytes) const = 0;
  // False, and nothing is copied, when any byte lies outside RAM.
  virtual bool read(std::uint64_t gpa, std::span<std::byte> into) const = 0;
  virtual bool write(std::uint64_t gpa, std::span<const std::byte> from) = 0;
};

}  // namespace node_mesh
