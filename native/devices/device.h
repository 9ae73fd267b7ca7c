// What every device is. A device is a function of its state, the guest's accesses and virtual time:
// it never looks at the host, never allocates at the guest's wish, and answers any access.
//
// Time: the machine stops exactly where virtual time reaches deadline_ns() and calls advance();
// before its deadline advance() changes nothing. So state does not depend on how often it is
// called.
#pragma once

#include <cstdint>
#include <string_view>

#include "devices/state.h"

namespace node_mesh {

inline constexpr std::uint64_t no_deadline = UINT64_MAX;
inline constexpr std::uint64_t ns_per_second = 1'000'000'000;

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  virtual std::uint64_t deadline_ns() const { return no_deadline; }
  virtual void advance(std::uint64_t now_ns) { static_cast<void>(now_ns); }
  virtual void save(StateWriter& out) const = 0;
  // False when the bytes are no state of this device; it is then in no defined state.
  virtual bool load(StateReader& in) = 0;
};

// Port I/O. `size` is 1, 2 or 4; values have no bits beyond it.
class PortDevice : public Device {
 public:
  virtual std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) = 0;
  virtual void write(std::uint16_t port, unsigned size, std::uint32_t value,
                     std::uint64_t now_ns) = 0;
};

// Memory-mapped I/O. `offset` counts from the start of the device's window; `size` is 1, 2, 4, 8.
class MmioDevice : public Device {
 public:
  virtual std::uint64_t read(std::uint64_t offset, unsigned size, std::uint64_t now_ns) = 0;
  virtual void write(std::uint64_t offset, unsigned size, std::uint64_t value,
                     std::uint64_t now_ns) = 0;
};

// The interrupt request lines of the ISA bus, 0..15. Level: true = asserted.
class InterruptLines {
 public:
  virtual ~InterruptLines() = default;
  virtual void set_irq(unsigned irq, bool asserted) = 0;
};

// Where a device says that the guest wants the machine off or reset. Takes effect behind the
// instruction that asked for it.
class PowerSwitch {
 public:
  virtual ~PowerSwitch() = default;
  virtual void power_off() = 0;
  virtual void reset() = 0;
};

}  // namespace node_mesh
