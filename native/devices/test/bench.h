// What device tests stand a device on: interrupt lines that write down what happens to them, and
// helpers to compare states.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "devices/device.h"

namespace node_mesh {

class RecordedLines final : public InterruptLines {
 public:
  void set_irq(unsigned irq, bool asserted) override {
    REQUIRE(irq < 16);
    if (asserted && !level[irq]) ++edges[irq];
    level[irq] = asserted;
  }
  std::array<bool, 16> level{};
  std::array<unsigned, 16> edges{};
};

class RecordedPower final : public PowerSwitch {
 public:
  void power_off() override { ++offs; }
  void reset() override { ++resets; }
  unsigned offs = 0, resets = 0;
};

inline std::vector<std::byte> state_of(const Device& device) {
  StateWriter out;
  device.save(out);
  return out.take();
}

// A fresh device that loads the state must have the very same state, and no shorter one may load.
inline void check_round_trip(const Device& device, Device& fresh) {
  const std::vector<std::byte> state = state_of(device);
  StateReader in(state);
  CHECK(fresh.load(in));
  CHECK(in.at_end());
  CHECK(state_of(fresh) == state);
  StateReader cut(std::span<const std::byte>(state).first(state.size() - 1));
  CHECK_FALSE(fresh.load(cut));
}

}  // namespace node_mesh
