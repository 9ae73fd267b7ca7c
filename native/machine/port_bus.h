// Which device answers at which I/O port. A device of 8-bit registers sees each byte of a wider
// access at its own port, as on the ISA bus; ports that nobody has read as all ones.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "devices/device.h"

namespace node_mesh {

class PortBus {
 public:
  enum class Width : std::uint8_t { byte_registers, any };

  // The ranges of two devices must not overlap.
  void add(PortDevice& device, std::uint16_t first, std::uint16_t count, Width width);
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns);
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns);

 private:
  struct Entry {
    PortDevice* device = nullptr;
    Width width = Width::byte_registers;
  };
  const Entry* entry_at(std::uint32_t port) const;

  std::array<std::uint8_t, 65536> index_{};  // 0 = nobody, else an entry counted from 1
  std::vector<Entry> entries_;
};

}  // namespace node_mesh
