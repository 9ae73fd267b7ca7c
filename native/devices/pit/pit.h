// The 8254 interval timer with port 61h (gate and output of channel 2, the speaker). Nothing ticks:
// counters and outputs are computed from virtual time when somebody looks, and channel 0 says when
// its output will next rise.
#pragma once

#include <array>
#include <cstdint>

#include "devices/device.h"

namespace node_mesh {

class Pit final : public PortDevice {
 public:
  static constexpr std::uint16_t base_port = 0x40;  // 4 ports
  static constexpr std::uint16_t control_port = 0x61;
  static constexpr unsigned irq = 0;
  static constexpr std::uint64_t frequency_hz = 1193182;

  explicit Pit(InterruptLines& lines) : lines_(lines) {}

  std::string_view name() const override { return "pit"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  std::uint64_t deadline_ns() const override;
  void advance(std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

 private:
  // How the guest transfers the two bytes of a count.
  enum class Access : std::uint8_t { low = 1, high = 2, both = 3 };

  struct Channel {
    std::uint8_t mode = 0;  // 0..5
    bool bcd = false;
    Access access = Access::both;
    bool loaded = false;  // a count was written since the control word
    bool gate = true;
    bool armed = false;  // counting; else `frozen_ticks` have passed
    std::uint32_t count = 0x10000;
    std::uint64_t start_tick = 0;
    std::uint64_t frozen_ticks = 0;
    bool write_high_next = false, read_high_next = false;
    std::uint8_t low_byte = 0;
    bool count_latched = false, status_latched = false;
    std::uint16_t latched_count = 0;
    std::uint8_t latched_status = 0;

    std::uint64_t elapsed(std::uint64_t tick) const;
    std::uint16_t value(std::uint64_t tick) const;
    bool output(std::uint64_t tick) const;
    bool one_shot() const { return mode != 2 && mode != 3; }
    std::uint64_t expiry_ticks() const;
    void set_control(std::uint8_t word);
    void load_count(std::uint16_t written, std::uint64_t tick);
    void write_byte(std::uint8_t byte, std::uint64_t tick);
    std::uint8_t read_byte(std::uint64_t tick);
    void latch_count(std::uint64_t tick);
    void latch_status(std::uint64_t tick);
    void set_gate(bool level, std::uint64_t tick);
    void save(StateWriter& out) const;
    void load(StateReader& in);
  };

  void write_control(std::uint8_t word, std::uint64_t tick);

  InterruptLines& lines_;
  std::array<Channel, 3> channels_{Channel{}, Channel{}, Channel{.gate = false}};
  std::uint8_t speaker_ = 0;      // port 61h bits 0 and 1
  std::uint64_t edges_told_ = 0;  // rising edges of channel 0 since it was loaded
};

}  // namespace node_mesh
