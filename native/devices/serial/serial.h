// A 16550A UART at COM1 as the guest's console. What the guest transmits leaves at once; what is
// typed waits in a bounded queue and enters the receive FIFO at the speed of a fast line, so that a
// pasted megabyte does not overrun a driver that was written for a real one. The other end of the
// line honours RTS: while the guest holds it low, input stays in the queue.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>

#include "devices/device.h"

namespace node_mesh {

class SerialOutput {
 public:
  virtual ~SerialOutput() = default;
  virtual void serial_output(std::byte value) = 0;
};

class Serial final : public PortDevice {
 public:
  static constexpr std::uint16_t base_port = 0x3f8;  // 8 ports
  static constexpr unsigned irq = 4;
  // Input waiting for the guest. At the cap further bytes are dropped, and the sender is told.
  static constexpr std::size_t input_bytes_max = std::size_t{1} << 20;
  static constexpr std::size_t fifo_bytes = 16;

  Serial(InterruptLines& lines, SerialOutput& output) : lines_(lines), output_(output) {}

  std::string_view name() const override { return "serial"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  std::uint64_t deadline_ns() const override;
  void advance(std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  // Bytes typed at the console; returns how many were taken, from the first.
  std::size_t input(std::span<const std::byte> bytes, std::uint64_t now_ns);
  std::uint64_t output_bytes() const { return output_bytes_; }

 private:
  bool fifo_enabled() const { return (fcr_ & 0x01) != 0; }
  bool loopback() const { return (mcr_ & 0x10) != 0; }
  bool divisor_latch() const { return (lcr_ & 0x80) != 0; }
  std::size_t fifo_limit() const { return fifo_enabled() ? fifo_bytes : 1; }
  std::size_t trigger_level() const;
  std::uint64_t character_ns() const;
  std::uint8_t line_status() const;
  std::uint8_t modem_status() const;
  std::uint8_t interrupt_id() const;
  bool may_receive() const;
  void receive_from_line(std::uint64_t now_ns);
  void push_received(std::uint8_t value);
  std::uint8_t read_register(unsigned index, std::uint64_t now_ns);
  void write_register(unsigned index, std::uint8_t value);
  void transmit(std::uint8_t value);
  void write_fifo_control(std::uint8_t value);
  void write_modem_control(std::uint8_t value);
  void update_irq();

  InterruptLines& lines_;
  SerialOutput& output_;
  std::uint8_t ier_ = 0, fcr_ = 0, lcr_ = 0x03, mcr_ = 0, scratch_ = 0;
  std::uint16_t divisor_ = 1;
  bool overrun_ = false;
  bool transmit_pending_ = false;  // "transmitter empty" waits to be told
  std::uint8_t modem_deltas_ = 0;
  std::array<std::uint8_t, fifo_bytes> fifo_{};
  std::uint8_t fifo_count_ = 0;
  std::uint64_t line_free_ns_ = 0;  // when the characters received last have gone over the line
  std::uint64_t output_bytes_ = 0;
  std::deque<std::uint8_t> queue_;
  bool irq_asserted_ = false;
};

}  // namespace node_mesh
