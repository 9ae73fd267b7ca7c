// The MC146818 real-time clock with its 128 bytes of CMOS memory. The time of day is the machine's
// start time plus virtual time plus what the guest set; it never asks the host.
#pragma once

#include <array>
#include <cstdint>

#include "devices/device.h"
#include "devices/rtc/calendar.h"

namespace node_mesh {

class Rtc final : public PortDevice {
 public:
  static constexpr std::uint16_t base_port = 0x70;  // 2 ports
  static constexpr unsigned irq = 8;

  Rtc(InterruptLines& lines, std::uint64_t start_realtime_ns);

  std::string_view name() const override { return "rtc"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  std::uint64_t deadline_ns() const override;
  void advance(std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

 private:
  bool setting() const { return (b_ & 0x80) != 0; }
  std::uint64_t realtime_ns(std::uint64_t now_ns) const;
  std::uint64_t next_second_ns(std::uint64_t after_ns) const;
  std::uint64_t next_alarm_ns(std::uint64_t after_ns) const;
  std::uint64_t period_ns() const;
  void collect_flags(std::uint64_t now_ns);
  void update_irq();
  std::uint8_t read_register(unsigned index, std::uint64_t now_ns);
  void write_register(unsigned index, std::uint8_t value, std::uint64_t now_ns);
  void write_time_register(unsigned index, std::uint8_t value, std::uint64_t now_ns);
  void encode_time(const CivilTime& time);
  CivilTime decode_time() const;
  void start_clock(std::uint64_t now_ns);
  std::uint8_t encode(unsigned value) const;
  unsigned decode(std::uint8_t value) const;
  unsigned decode_hour(std::uint8_t value) const;

  InterruptLines& lines_;
  // Real time at virtual time 0, as the guest has set it; meaningless while it sets the clock.
  std::uint64_t base_realtime_ns_;
  std::array<std::uint8_t, 128> memory_{};
  std::uint8_t index_ = 0;
  std::uint8_t a_ = 0x26, b_ = 0x02, c_ = 0;
  std::uint64_t flags_from_ns_ = 0;  // what happened up to here is in register C
  bool irq_asserted_ = false;
};

}  // namespace node_mesh
